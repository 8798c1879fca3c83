import type { ConfigKey } from '../../ca/config-key.ts';
import { CONFIG_KEYS } from '../../ca/config-keys.ts';
import { jsonLog } from '../../host/log.ts';
import type { Arguments } from '../arguments.ts';
import type { Command, OptionSpec } from '../command.ts';
import { DATA_OPTION } from '../data-folder.ts';
import { aborted, drainSignal } from '../signals.ts';

const CONFIG_OPTION: OptionSpec = {
  name: 'config',
  value: 'file',
  env: 'KEDGE_CONFIG',
  help: 'YAML file with the configuration; docs/configuration.md has every key',
};

/** The keys of the configuration that have an option, with it. */
const FLAGS = CONFIG_KEYS.flatMap((key) => (key.flag === undefined ? [] : [{ ...key, flag: key.flag }]));

/** `kedge ca`. */
export const caCommand: Command = {
  name: 'ca',
  summary: 'run the identity CA',
  description: [
    'Issues X.509-SVIDs to the agents of workloads whose token proves who they are, keeps the trust anchors and issuers of one trust domain, and rotates issuers by itself. Everything has a default; without any option it runs on loopback for the trust domain example.org, with its data in ./.kedge and the local development issuer for tokens.',
    'An option wins over the same key of the configuration file. Operators ask the running CA over the admin socket in its data folder: kedge status, kedge bundle show.',
    'Logs are JSON lines on standard error. SIGTERM and SIGINT drain: no new request is taken, those that wait are answered, streams are told to go elsewhere. A second signal ends the CA at once.',
  ],
  positionals: [],
  options: [CONFIG_OPTION, ...FLAGS.map(optionOf)],
  examples: [
    ['kedge ca', 'try it on this machine'],
    ['kedge ca --config /etc/kedge/ca.yaml', 'as configured'],
    ['kedge ca --svid-ttl 1h --data /var/lib/kedge', 'without a file'],
  ],
  no: 'it cannot start: another CA has the data folder, a port is taken, or the trust store is not usable',
  async run({ args, terminal, clock, random }) {
    const loading = import('../../ca/main.ts');
    // Whatever is wrong with it is told where it is awaited.
    loading.catch(() => {});
    const { loadCaConfig } = await import('../../ca/config.ts');
    const config = await loadCaConfig({ file: args.value(CONFIG_OPTION.name), flags: flagsOf(args) });
    const log = jsonLog({ level: config.logLevel, write: terminal.stderr, now: () => clock.now() });
    using drain = drainSignal();
    const { startCa } = await loading;
    try {
      const auditLines = (lines: Uint8Array): void => terminal.stdout(Buffer.from(lines).toString('utf8'));
      const ca = await startCa({ config, clock, random, log, signal: drain.signal, auditLines });
      await aborted(drain.signal);
      await ca.close();
    } catch (error) {
      // Told to end before it had started: nothing is left open, and nothing went wrong.
      if (!drain.signal.aborted) throw error;
    }
    return 0;
  },
};

function optionOf({ flag, value, means, default: byDefault }: ConfigKey & { flag: string }): OptionSpec {
  const words = value.split(', ');
  return {
    name: flag,
    value,
    ...(words.length > 1 ? { choices: words } : {}),
    help: means,
    default: byDefault,
    ...(flag === DATA_OPTION.name && DATA_OPTION.env !== undefined ? { env: DATA_OPTION.env } : {}),
  };
}

/** What the command line sets, by the key of the configuration. */
function flagsOf(args: Arguments): ReadonlyMap<string, string> {
  return new Map(
    FLAGS.flatMap(({ key, flag }) => {
      const value = args.value(flag);
      return value === undefined ? [] : [[key, value] as const];
    }),
  );
}
