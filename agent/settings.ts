import { FILES_PRESET_NAMES, KEY_FORMATS, RELOAD_SIGNALS } from './feed/files-preset.ts';

/**
 * Every setting of the agent, in one table: the command line, the environment, the config file, `--help` and
 * `docs/cli.md` are all made from it.
 */

/** What a setting holds, and how it is written on the command line and in the environment. */
export type SettingType =
  /** Any text. */
  | 'text'
  /** A path, absolute or from the working folder. */
  | 'path'
  /** `host:port`. */
  | 'address'
  /** As in `90s`; milliseconds once read. */
  | 'duration'
  /** A whole number. */
  | 'integer'
  /** Set or not. */
  | 'flag'
  /** Permission bits in octal, as in `0660`. */
  | 'mode'
  /** `uid:gid`, `uid`, or `:gid`. */
  | 'owner'
  /** Program and arguments, as a JSON array of strings. */
  | 'argv'
  /** One of `choices`. */
  | 'choice'
  /** Absolute paths of Unix sockets and `127.0.0.1:port`, separated by commas, or as a JSON array. */
  | 'local addresses';

/** One setting. */
export interface AgentSetting {
  /** In the config file. */
  readonly key: string;
  readonly type: SettingType;
  /** What the value is, as help shows it. */
  readonly value: string;
  /** The agent does not start without it. */
  readonly required?: boolean;
  /** As it would be written; absent = off. */
  readonly default?: string;
  /** Bounds: of an integer, or of a duration in milliseconds. */
  readonly min?: number;
  readonly max?: number;
  readonly choices?: readonly string[];
  /** One line, lower case, no full stop. */
  readonly help: string;
}

export const AGENT_SETTINGS = [
  {
    key: 'caAddress',
    type: 'address',
    value: 'host:port',
    default: '127.0.0.1:8443',
    help: 'gRPC address of the CA',
  },
  {
    key: 'trustDomain',
    type: 'text',
    value: 'name',
    required: true,
    help: 'trust domain of the CA and of this workload, without spiffe://',
  },
  {
    key: 'tokenFile',
    type: 'path',
    value: 'file',
    required: true,
    help: 'file with the bearer token of this workload; read anew for each call',
  },
  {
    key: 'bootstrapBundle',
    type: 'path',
    value: 'file',
    required: true,
    help: 'trust anchors of the CA, as PEM or as a SPIFFE bundle; read at start, and when the CA no longer verifies',
  },
  {
    key: 'expectedSpiffeId',
    type: 'text',
    value: 'spiffe id',
    help: 'refuse to serve any other SPIFFE ID than this',
  },
  {
    key: 'svidTtl',
    type: 'duration',
    value: 'duration',
    min: 1_000,
    max: 31_536_000_000,
    help: "lifetime of the SVID to ask the CA for; the CA's policy bounds it, and absent leaves it to that",
  },
  {
    key: 'dnsNames',
    type: 'text',
    value: 'names',
    help: "names to ask for as DNS SANs beside those that the CA's policy gives, separated by commas; it must allow each",
  },
  {
    key: 'issueTimeout',
    type: 'duration',
    value: 'duration',
    default: '10s',
    min: 100,
    max: 120_000,
    help: 'longest that one exchange with the CA may take',
  },
  {
    key: 'socket',
    type: 'path',
    value: 'path',
    help: 'Unix socket of the SPIFFE Workload API and of Envoy SDS; absent = not served',
  },
  {
    key: 'socketMode',
    type: 'mode',
    value: 'octal',
    default: '0660',
    help: 'permission bits of the socket: who may write may get the identity',
  },
  {
    key: 'maxStreams',
    type: 'integer',
    value: 'number',
    default: '128',
    min: 1,
    max: 10_000,
    help: 'streams and connections that the Workload API and SDS serve at once',
  },
  {
    key: 'istioSocket',
    type: 'path',
    value: 'path',
    help: "a second socket that serves the same, where Istio's proxy looks for one; absent = not served",
  },
  {
    key: 'sdsSvidName',
    type: 'text',
    value: 'name',
    default: 'default',
    help: 'name of the SVID as an SDS resource, beside its SPIFFE ID; - = none',
  },
  {
    key: 'sdsBundleName',
    type: 'text',
    value: 'name',
    default: 'ROOTCA',
    help: 'name of the own trust bundle as an SDS resource, beside spiffe://<trust domain>; - = none',
  },
  {
    key: 'sdsAllBundlesName',
    type: 'text',
    value: 'name',
    default: 'ALL',
    help: 'name of the bundles of all trust domains as one SDS resource; - = none',
  },
  {
    key: 'sdsDisableSpiffeCertValidation',
    type: 'flag',
    value: '',
    help: "write SDS validation contexts as plain trusted_ca, not for Envoy's SPIFFE validator",
  },
  {
    key: 'filesFolder',
    type: 'path',
    value: 'folder',
    help: 'folder for the files of the preset; absent = not written',
  },
  {
    key: 'filesPreset',
    type: 'choice',
    value: 'preset',
    default: 'plain',
    choices: FILES_PRESET_NAMES,
    help: 'the server that reads the files; docs/feeds.md has the files of each',
  },
  {
    key: 'filesKeyFormat',
    type: 'choice',
    value: 'format',
    default: 'pkcs8',
    choices: KEY_FORMATS,
    help: 'how the private key is written',
  },
  {
    key: 'filesKeyMode',
    type: 'mode',
    value: 'octal',
    default: '0600',
    help: 'permission bits of the files that hold the key',
  },
  {
    key: 'filesOwner',
    type: 'owner',
    value: 'uid:gid',
    help: 'owner, group (:gid) or both of the files; absent = the user that runs the agent',
  },
  {
    key: 'filesBundleDocument',
    type: 'flag',
    value: '',
    help: 'write bundle.json, a SPIFFE bundle document, too',
  },
  {
    key: 'hook',
    type: 'argv',
    value: 'json array',
    help: 'program and arguments to run, without a shell, after the files have changed; exit 0 = loaded',
  },
  {
    key: 'hookTimeout',
    type: 'duration',
    value: 'duration',
    default: '30s',
    min: 100,
    max: 50_000,
    help: 'longest that the hook may run before it is killed',
  },
  {
    key: 'hookPidFile',
    type: 'path',
    value: 'file',
    help: 'file with the id of the process to signal after the files have changed, instead of a hook',
  },
  {
    key: 'hookSignal',
    type: 'choice',
    value: 'signal',
    choices: RELOAD_SIGNALS,
    help: 'the signal that makes that process load its files; absent = that of the preset',
  },
  {
    key: 'haproxySockets',
    type: 'local addresses',
    value: 'addresses',
    help: 'stats sockets of HAProxy, level admin: paths or 127.0.0.1:port, separated by commas; absent = no HAProxy',
  },
  {
    key: 'haproxyFolder',
    type: 'path',
    value: 'folder',
    help: 'folder for svid.pem, crt-list.txt, ca.pem and crl.pem, under the same path for HAProxy',
  },
  {
    key: 'haproxyKeyMode',
    type: 'mode',
    value: 'octal',
    default: '0600',
    help: 'permission bits of svid.pem, which holds the key',
  },
  {
    key: 'haproxyOwner',
    type: 'owner',
    value: 'uid:gid',
    help: 'owner of these files; absent = the user that runs the agent',
  },
  {
    key: 'haproxyCrl',
    type: 'flag',
    value: '',
    help: 'replace crl.pem in HAProxy too; its configuration must name it, and it must be 3.2.8 or newer of 3.2, or 3.3 or newer',
  },
  {
    key: 'haproxyServerLinesOnly',
    type: 'flag',
    value: '',
    help: 'only server lines name svid.pem: a HAProxy before 3.0 then needs no crt-list',
  },
  {
    key: 'haproxyTimeout',
    type: 'duration',
    value: 'duration',
    default: '2s',
    min: 100,
    max: 10_000,
    help: 'longest that one command to HAProxy may take',
  },
  {
    key: 'haproxyMaxCommand',
    type: 'integer',
    value: 'bytes',
    default: '16384',
    min: 4096,
    max: 131_072,
    help: 'longest command that HAProxy takes: its tune.bufsize',
  },
  {
    key: 'cacheFolder',
    type: 'path',
    value: 'folder',
    help: 'private folder in memory that keeps the identity over restarts of the agent; absent = none',
  },
  {
    key: 'cacheAllowDisk',
    type: 'flag',
    value: '',
    help: 'accept a cache folder that is not memory-backed: keys then reach the disk',
  },
  {
    key: 'canaryAddress',
    type: 'address',
    value: 'ip:port',
    help: 'port of the proxy to dial as a client, to prove that it uses the newest SVID; absent = off',
  },
  {
    key: 'canaryProtocol',
    type: 'choice',
    value: 'protocol',
    default: 'http',
    choices: ['http', 'tls'],
    help: 'what the canary speaks: a HEAD request, or the handshake alone where the proxy checks clients in it',
  },
  {
    key: 'canaryPath',
    type: 'text',
    value: 'path',
    default: '/',
    help: 'path of that request',
  },
  {
    key: 'canaryInterval',
    type: 'duration',
    value: 'duration',
    default: '60s',
    min: 1_000,
    max: 86_400_000,
    help: 'time between canaries; each new SVID or bundle is tried at once too',
  },
  {
    key: 'canaryAllowRemote',
    type: 'flag',
    value: '',
    help: 'accept a canary address that is not loopback: the SVID is presented there',
  },
  {
    key: 'httpAddress',
    type: 'address',
    value: 'host:port',
    help: 'HTTP address of /metrics, /livez and /readyz; absent = not served',
  },
  {
    key: 'logLevel',
    type: 'choice',
    value: 'level',
    default: 'info',
    choices: ['debug', 'info', 'warn', 'error'],
    help: 'lines below this level are not written',
  },
] as const satisfies readonly AgentSetting[];

/** The key of a setting. */
export type AgentSettingKey = (typeof AGENT_SETTINGS)[number]['key'];

/** The same table without the literal types, for whoever walks it. */
export const AGENT_SETTING_LIST: readonly (AgentSetting & { readonly key: AgentSettingKey })[] =
  AGENT_SETTINGS;

/** On the command line, without the dashes: `caAddress` is `ca-address`. */
export function flagOf(setting: Pick<AgentSetting, 'key'>): string {
  return setting.key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** In the environment: `caAddress` is `KEDGE_AGENT_CA_ADDRESS`. */
export function environmentNameOf(setting: Pick<AgentSetting, 'key'>): string {
  return `KEDGE_AGENT_${flagOf(setting).replaceAll('-', '_').toUpperCase()}`;
}

/** The flag and the environment variable that name the config file. */
export const CONFIG_FILE_FLAG = 'config';
export const CONFIG_FILE_ENVIRONMENT = 'KEDGE_AGENT_CONFIG';
