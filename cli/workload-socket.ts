import type { OptionSpec } from './command.ts';

/** The option that names a Workload API socket. */
export const WORKLOAD_SOCKET_OPTION: OptionSpec = {
  name: 'socket',
  value: 'address',
  env: 'SPIFFE_ENDPOINT_SOCKET',
  help: 'the Workload API: unix:///absolute/path, tcp://IP:port, or an absolute path',
};

/** How long a command waits for an answer, as an option. */
export const TIMEOUT_OPTION: OptionSpec = {
  name: 'timeout',
  value: 'duration',
  default: '10s',
  help: 'how long to wait for an answer',
};
