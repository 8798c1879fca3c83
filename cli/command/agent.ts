import {
  AGENT_SETTING_LIST,
  type AgentSetting,
  CONFIG_FILE_ENVIRONMENT,
  CONFIG_FILE_FLAG,
  flagOf,
} from '../../agent/settings.ts';
import { jsonLog } from '../../host/log.ts';
import type { Arguments } from '../arguments.ts';
import type { Command, OptionSpec } from '../command.ts';
import { aborted, drainSignal } from '../signals.ts';

/** `kedge agent`. */
export const agentCommand: Command = {
  name: 'agent',
  summary: 'run the agent of one workload: token to X.509-SVID, rotation, and the feeds to its proxy',
  description: [
    'Exchanges the token of a workload for an X.509-SVID, renews it in time, and brings it to the proxy beside it: over the SPIFFE Workload API and Envoy SDS on a Unix socket (--socket), as files with a hook (--files-folder), by the runtime API of HAProxy (--haproxy-sockets), or several of them. With --canary-address it dials the proxy, and tells whether that uses the newest. With the CA away it serves what it has until that expires, and never longer.',
    `Each option is also read from the environment, --ca-address as KEDGE_AGENT_CA_ADDRESS, and from a JSON file that --${CONFIG_FILE_FLAG} or ${CONFIG_FILE_ENVIRONMENT} names, as "caAddress". The command line wins over the environment, the environment over the file.`,
    'Logs are JSON lines on standard error. SIGTERM and SIGINT end the agent in order: streams are closed and the socket is removed; files stay for the proxy. A second signal ends it at once.',
  ],
  positionals: [],
  options: [
    { name: CONFIG_FILE_FLAG, value: 'file', help: 'JSON file with settings' },
    ...AGENT_SETTING_LIST.map(optionOf),
  ],
  examples: [
    [
      'kedge agent --trust-domain example.org --token-file ./token --bootstrap-bundle ./bundle.pem --socket /tmp/kedge/web.sock',
      'serve the Workload API of one workload',
    ],
  ],
  no: 'it cannot start: the socket is in use, or a folder is not usable',
  async run({ args, terminal, clock, random }) {
    const loading = import('../../agent/main.ts');
    // Whatever is wrong with it is told where it is awaited.
    loading.catch(() => {});
    const { loadAgentConfig } = await import('../../agent/config.ts');
    const config = await loadAgentConfig({ flags: flagsOf(args), env: terminal.env });
    const log = jsonLog({ level: config.logLevel, write: terminal.stderr, now: () => clock.now() });
    using drain = drainSignal();
    const { startAgent } = await loading;
    const agent = await startAgent({ config, clock, random, log });
    const { spareMemory, trimHeapAtRest } = await import('../../host/heap-trim.ts');
    spareMemory();
    void trimHeapAtRest(clock, drain.signal);
    await aborted(drain.signal);
    log.info('agent.draining', { signal: drain.signal.reason });
    await agent.close();
    return 0;
  },
};

function optionOf(setting: AgentSetting): OptionSpec {
  return {
    name: flagOf(setting),
    help: setting.required === true ? `${setting.help} (required)` : setting.help,
    ...(setting.type === 'flag' ? {} : { value: setting.value }),
    ...(setting.choices === undefined ? {} : { choices: setting.choices }),
    ...(setting.default === undefined ? {} : { default: setting.default }),
  };
}

/** The settings that the command line gave, as the agent's configuration takes them. */
function flagsOf(args: Arguments): ReadonlyMap<string, string> {
  const names = [CONFIG_FILE_FLAG, ...AGENT_SETTING_LIST.map(flagOf)];
  return new Map(names.filter((name) => args.has(name)).map((name) => [name, args.value(name) ?? 'true']));
}
