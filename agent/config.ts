import type { LogLevel } from '../host/log.ts';
import { isKedgeError, KedgeError, quote } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { SpiffeId, TrustDomain } from '../pki/spiffe-id.ts';
import { type JsonValue, parseStrictJson } from '../pki/strict-json.ts';
import { isDnsName } from '../pki/dns-name.ts';
import type { SvidWish } from './ca-client.ts';
import { type FilesConfig, filesConfigOf } from './files-config.ts';
import { type CanaryConfig, canaryConfigOf } from './canary-config.ts';
import type { SdsSettings } from './feed/sds-feed.ts';
import { parseSdsNames } from './feed/sds-names.ts';
import { readSettingValue, type SettingSource, type SettingValue } from './setting-value.ts';
import {
  AGENT_SETTING_LIST,
  type AgentSettingKey,
  CONFIG_FILE_ENVIRONMENT,
  CONFIG_FILE_FLAG,
  environmentNameOf,
  flagOf,
} from './settings.ts';
import { type HaproxyConfig, haproxyConfigOf } from './haproxy-config.ts';
import { readSmallFile } from '../host/small-file.ts';

/** The configuration of an agent: checked, complete, frozen. Paths are absolute. */
export interface AgentConfig {
  /** `host:port`. */
  readonly caAddress: string;
  readonly trustDomain: TrustDomain;
  readonly tokenFile: string;
  readonly bootstrapBundle: string;
  readonly expectedId?: SpiffeId;
  readonly issueTimeoutMs: number;
  /** What is asked of the CA with each CSR. */
  readonly wish: SvidWish;
  /** The Workload API; absent = not served. */
  readonly workloadApi?: {
    readonly socketPaths: readonly string[];
    readonly socketMode: number;
    readonly maxStreams: number;
    /** Envoy SDS, on the same sockets. */
    readonly sds: SdsSettings;
  };
  /** The files feed; absent = not written. */
  readonly files?: FilesConfig;
  /** The HAProxy feed; absent = no HAProxy. */
  readonly haproxy?: HaproxyConfig;
  readonly cache?: { readonly folder: string; readonly allowDisk: boolean };
  /** Absent = the proxy is not dialed. */
  readonly canary?: CanaryConfig;
  /** `host:port` of /metrics, /livez and /readyz; absent = not served. */
  readonly httpAddress?: string;
  readonly logLevel: LogLevel;
}

/** Where {@link loadAgentConfig} looks, the first that has a setting wins. */
export interface AgentConfigSources {
  /** By flag name, without dashes; a flag without value is `true`. */
  readonly flags: ReadonlyMap<string, string>;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * The configuration from flags, then `KEDGE_AGENT_*`, then the config file that `--config` or `KEDGE_AGENT_CONFIG`
 * names (a JSON object). Throws `config_invalid`, or `file_unreadable` for the config file.
 */
export async function loadAgentConfig({ flags, env }: AgentConfigSources): Promise<AgentConfig> {
  const file = flags.get(CONFIG_FILE_FLAG) ?? env[CONFIG_FILE_ENVIRONMENT];
  const fromFile = file === undefined || file === '' ? new Map<string, Found>() : await readConfigFile(file);
  const values = new Map<AgentSettingKey, SettingValue>();
  for (const setting of AGENT_SETTING_LIST) {
    const found =
      sourced(flags.get(flagOf(setting)), `--${flagOf(setting)}`) ??
      sourced(env[environmentNameOf(setting)] || undefined, environmentNameOf(setting)) ??
      fromFile.get(setting.key) ??
      sourced(setting.default, 'the default');
    if (found !== undefined) values.set(setting.key, readSettingValue(setting, found.text, found.source));
    else if (setting.required === true) {
      throw new KedgeError('config_invalid', `${setting.key} is missing`, {
        hint: `give --${flagOf(setting)} <${setting.value}>, or set ${environmentNameOf(setting)}`,
      });
    }
  }
  return configOf(values);
}

interface Found {
  readonly text: string;
  readonly source: SettingSource;
}

function sourced(text: string | undefined, source: SettingSource): Found | undefined {
  return text === undefined ? undefined : { text, source };
}

async function readConfigFile(path: string): Promise<Map<string, Found>> {
  const bytes = await readSmallFile(path, LIMITS.configFileBytes, 'config file');
  let document: JsonValue;
  try {
    document = parseStrictJson(bytes, { maxDepth: 3, code: 'config_invalid' });
  } catch (cause) {
    if (!isKedgeError(cause)) throw cause;
    throw new KedgeError('config_invalid', `${path}: ${cause.message}`, {
      hint: 'give one JSON object',
      cause,
    });
  }
  if (!(document instanceof Map)) {
    throw new KedgeError('config_invalid', `${path}: there is no JSON object`, {
      hint: 'give one JSON object',
    });
  }
  const text = Buffer.from(bytes).toString('utf8');
  const found = new Map<string, Found>();
  for (const [key, value] of document as ReadonlyMap<string, JsonValue>) {
    const source = `${path} line ${lineOf(text, key)}`;
    if (!AGENT_SETTING_LIST.some((setting) => setting.key === key)) {
      throw new KedgeError('config_invalid', `${source}: ${quote(key)} is no setting`, {
        hint: `allowed are ${AGENT_SETTING_LIST.map((setting) => setting.key).join(', ')}`,
      });
    }
    found.set(key, { text: textOf(value, key, source), source });
  }
  return found;
}

/** A value of the config file as it would be written on the command line. */
function textOf(value: JsonValue, key: string, source: SettingSource): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return JSON.stringify(value);
  if (typeof value === 'object' && value !== null && 'source' in value) return value.source;
  throw new KedgeError('config_invalid', `${source}: ${key} does not take null or an object`, {
    hint: 'allowed is a string, a number, true, false, or an array of strings; leave the key out for the default',
  });
}

function lineOf(text: string, key: string): number {
  const at = text.search(new RegExp(`${JSON.stringify(key).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}\\s*:`));
  return at < 0 ? 1 : text.slice(0, at).split('\n').length;
}

/** The most DNS names that a CA takes in a request. */
const MAX_DNS_NAMES = 16;

/** Throws `config_invalid`. */
function wishOf(ttlMs: SettingValue | undefined, names: string | undefined): SvidWish {
  const dnsNames = names?.split(',') ?? [];
  const bad = dnsNames.find((name) => !isDnsName(name));
  if (bad !== undefined || dnsNames.length > MAX_DNS_NAMES) {
    const problem = bad === undefined ? `has ${dnsNames.length} names` : `does not take ${quote(bad)}`;
    throw new KedgeError('config_invalid', `dnsNames ${problem}`, {
      hint: `allowed are up to ${MAX_DNS_NAMES} DNS names, lower case, without wildcard, separated by commas`,
    });
  }
  return { ttlSeconds: typeof ttlMs === 'number' ? Math.ceil(ttlMs / 1_000) : 0, dnsNames };
}

function configOf(values: ReadonlyMap<AgentSettingKey, SettingValue>): AgentConfig {
  const text = (key: AgentSettingKey): string | undefined => values.get(key) as string | undefined;
  const number = (key: AgentSettingKey): number => values.get(key) as number;
  const flag = (key: AgentSettingKey): boolean => values.get(key) === true;
  const trustDomain = named('trustDomain', 'a trust domain, as in example.org', () =>
    TrustDomain.parse(text('trustDomain') ?? ''),
  );
  const expected = text('expectedSpiffeId');
  const expectedId =
    expected === undefined
      ? undefined
      : named('expectedSpiffeId', 'a SPIFFE ID, as in spiffe://example.org/ns/shop/sa/cart', () =>
          SpiffeId.parse(expected),
        );
  if (expectedId !== undefined && !expectedId.trustDomain.equals(trustDomain)) {
    throw new KedgeError(
      'config_invalid',
      `expectedSpiffeId is of ${quote(expectedId.trustDomain.name)}, trustDomain is ${quote(trustDomain.name)}`,
      { hint: 'both must be of the same trust domain' },
    );
  }
  const [socketPath, folder, cacheFolder] = [text('socket'), text('filesFolder'), text('cacheFolder')];
  const socketPaths = [socketPath, text('istioSocket')].filter((path) => path !== undefined);
  if (new Set(socketPaths).size !== socketPaths.length) {
    throw new KedgeError('config_invalid', 'socket and istioSocket are the same', {
      hint: 'give one of them, or two different paths: both serve the same',
    });
  }
  const haproxy = haproxyConfigOf(values);
  if (socketPaths.length === 0 && folder === undefined && haproxy === undefined) {
    throw new KedgeError('config_invalid', 'none of socket, filesFolder and haproxySockets is set', {
      hint: 'give --socket, --files-folder, --haproxy-sockets, or several: without a feed nobody gets the identity',
    });
  }
  const files = filesConfigOf(values);
  const httpAddress = text('httpAddress');
  const canary = canaryConfigOf({
    address: text('canaryAddress'),
    protocol: text('canaryProtocol'),
    path: text('canaryPath'),
    intervalMs: number('canaryInterval'),
    allowRemote: flag('canaryAllowRemote'),
  });
  return Object.freeze({
    caAddress: text('caAddress') ?? '',
    trustDomain,
    tokenFile: text('tokenFile') ?? '',
    bootstrapBundle: text('bootstrapBundle') ?? '',
    ...(expectedId === undefined ? {} : { expectedId }),
    issueTimeoutMs: number('issueTimeout'),
    wish: wishOf(values.get('svidTtl'), text('dnsNames')),
    ...(socketPaths.length === 0
      ? {}
      : {
          workloadApi: {
            socketPaths,
            socketMode: number('socketMode'),
            maxStreams: number('maxStreams'),
            sds: {
              names: parseSdsNames({
                svid: text('sdsSvidName') ?? '',
                bundle: text('sdsBundleName') ?? '',
                allBundles: text('sdsAllBundlesName') ?? '',
              }),
              isValidatorDisabled: flag('sdsDisableSpiffeCertValidation'),
            },
          },
        }),
    ...(files === undefined ? {} : { files }),
    ...(haproxy === undefined ? {} : { haproxy }),
    ...(cacheFolder === undefined
      ? {}
      : { cache: { folder: cacheFolder, allowDisk: flag('cacheAllowDisk') } }),
    ...(canary === undefined ? {} : { canary }),
    ...(httpAddress === undefined ? {} : { httpAddress }),
    logLevel: (text('logLevel') ?? 'info') as LogLevel,
  });
}

/** An error of a value's own parser as one of the configuration. */
function named<T>(key: AgentSettingKey, allowed: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    if (!isKedgeError(cause)) throw cause;
    throw new KedgeError('config_invalid', `${key}: ${cause.message}`, {
      hint: `allowed is ${allowed}`,
      cause,
    });
  }
}
