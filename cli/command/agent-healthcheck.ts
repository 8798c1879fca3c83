import { parseDurationMs } from '../../host/duration.ts';
import { type Command, OUTPUT_OPTION } from '../command.ts';
import { socketTarget } from '../endpoint-socket.ts';
import { isServing } from '../health-client.ts';
import { TIMEOUT_OPTION, WORKLOAD_SOCKET_OPTION } from '../workload-socket.ts';

/** `kedge agent healthcheck`. */
export const agentHealthcheckCommand: Command = {
  name: 'agent healthcheck',
  summary: 'ask whether an agent serves an identity now',
  description: [
    'Asks the health service on the Workload API socket of an agent. An agent is healthy exactly while it serves an identity that has not expired, and each of its feeds has put that where its consumers find it.',
  ],
  positionals: [],
  options: [WORKLOAD_SOCKET_OPTION, { ...TIMEOUT_OPTION, default: '2s' }, OUTPUT_OPTION],
  examples: [
    ['kedge agent healthcheck --socket /run/kedge/workload.sock', 'as the readiness probe of a pod'],
  ],
  no: 'the agent does not answer, or serves no identity',
  async run({ args, output, terminal }) {
    const timeoutMs = parseDurationMs(args.value('timeout') ?? '2s');
    const serving = await isServing(socketTarget(args.value('socket')), timeoutMs);
    if (output === 'json') terminal.stdout(`${JSON.stringify({ serving })}\n`);
    else terminal.stdout(serving ? 'the agent serves an identity\n' : 'the agent serves no identity\n');
    return serving ? 0 : 1;
  },
};
