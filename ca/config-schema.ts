import * as z from 'zod';
import { formatDuration, parseDurationMs } from '../host/duration.ts';
import { LOG_LEVELS } from '../host/log.ts';
import { isKedgeError, KedgeError, quote } from '../pki/kedge-error.ts';
import { isDnsName } from '../pki/dns-name.ts';
import { SpiffeId, TrustDomain } from '../pki/spiffe-id.ts';
import { ATTESTOR_KINDS, KEY_LOCATIONS } from './attest/attest-settings.ts';
import { MAX_LEEWAY_MS } from './attest/jwt.ts';
import { isLabelName, isSubdomainName } from './attest/kubernetes-names.ts';
import { impossibilities } from './config-checks.ts';
import { CONFIG_KEYS } from './config-keys.ts';
import { type CaSettings, type ListenAddress, merged, STORE_KINDS } from './config-settings.ts';
import { ADDRESS, IMAGE, QUANTITY, type ValueForm } from './inject/annotation-values.ts';
import { KEY_MANAGER_KINDS } from './keys/key-manager.ts';
import { AGENT_LOG_LEVELS, IMAGE_PULL_POLICIES, SIDECAR_SETTINGS } from './inject/injection-settings.ts';
import { FAILURE_POLICIES } from './inject/webhook-configuration.ts';
import { DISK_MODES } from './upstream/disk/disk-settings.ts';
import { UPSTREAM_KINDS } from './upstream/upstream-kinds.ts';
import { VAULT_LOGINS } from './upstream/vault/vault-config.ts';
import { closedObject, readYaml } from './yaml-document.ts';

const DAY_MS = 86_400_000;
/** A CA above takes what a nested one has said for a minute. */
const MAX_NESTED_POLL_MS = 30_000;
/** The name of an instance in the trust state has no more characters. */
const MAX_NESTED_NAME = 800;
/** While the sealing key is changed there are two. */
const MAX_OTHER_SEALING_KEYS = 8;

/** A value that one of our own parsers reads from text; its refusal becomes the issue. */
function parsed<T>(parse: (text: string) => T): z.ZodType<T> {
  return z.string().transform((text, context) => {
    try {
      return parse(text);
    } catch (error) {
      if (!isKedgeError(error)) throw error;
      context.addIssue({
        code: 'custom',
        message: error.hint === undefined ? error.message : `${error.message}; ${error.hint}`,
      });
      return z.NEVER;
    }
  });
}

/** A duration within bounds; `wholeSeconds` because certificates count in seconds. */
function duration(minMs: number, maxMs: number, wholeSeconds = true): z.ZodType<number> {
  return parsed((text) => {
    const ms = parseDurationMs(text);
    const problem =
      ms < minMs || ms > maxMs
        ? `is not within ${formatDuration(minMs)} and ${formatDuration(maxMs)}`
        : wholeSeconds && ms % 1_000 !== 0
          ? 'is not a whole number of seconds'
          : null;
    if (problem === null) return ms;
    throw new KedgeError('config_invalid', `${quote(text)} ${problem}`);
  });
}

/** `host:port`, with an IPv6 host in brackets. */
function parseAddress(text: string): ListenAddress {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new KedgeError('config_invalid', `${quote(text)} is not an address`, {
      hint: 'write host:port, as in 127.0.0.1:8443 or [::1]:8443; port 0 takes any that is free',
    });
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

const path = z
  .string()
  .min(1, 'an empty path')
  .max(4_096)
  .refine((text) => !text.includes('\0'), 'a path with a NUL');
const text = z.string().min(1, 'an empty text').max(1_024);
const whole = (min: number, max: number): z.ZodType<number> =>
  z
    .int({ error: (issue) => `${String(issue.input).slice(0, 40)} is not a whole number` })
    .min(min)
    .max(max);
const keyAlgorithm = z.enum(['ec-p256', 'ec-p384', 'rsa-3072']);

/** A text in one of the forms that annotations take too. */
const formed = ({ allowed, read }: ValueForm): z.ZodType<string> =>
  z.string().refine((text) => read(text) !== null, {
    error: (issue) => `${quote(String(issue.input))} is not ${allowed}`,
  });
const labelName = z
  .string()
  .refine(isLabelName, 'not a name of Kubernetes: lower-case letters, digits and "-", at most 63');
const isWebhookUrl = (text: string): boolean => {
  const host = /^https:\/\/([a-z0-9.-]{1,253})(?::[1-9]\d{0,4})?\/mutate$/.exec(text)?.[1];
  return host !== undefined && isDnsName(host);
};
/** Of a mount or a key: it becomes a part of a path. */
const transitName = z
  .string()
  .regex(
    /^[\w.-]{1,128}(?:\/[\w.-]{1,128}){0,7}$/,
    'not letters, digits, "-", "_" and ".", parts divided by "/"',
  );
/** The SPIFFE ID of a nested CA, which the trust state may have to hold as a name. */
function nestedName(text: string): SpiffeId {
  if (text.length <= MAX_NESTED_NAME) return SpiffeId.parse(text);
  throw new KedgeError('config_invalid', `${quote(text)} is over ${MAX_NESTED_NAME} characters`);
}
const objectName = z
  .string()
  .refine(isSubdomainName, 'not a name of Kubernetes: lower-case letters, digits, "-" and "."');

const SHAPE = {
  trustDomain: parsed((name) => TrustDomain.parse(name)).optional(),
  dataFolder: path.optional(),
  logLevel: z.enum(LOG_LEVELS).optional(),
  listen: closedObject({
    grpc: parsed(parseAddress).optional(),
    http: parsed(parseAddress).optional(),
  }).optional(),
  svid: closedObject({
    ttl: duration(1_000, 366 * DAY_MS).optional(),
    backdate: duration(0, DAY_MS).optional(),
    idTemplate: text.optional(),
    allowSharedIds: z.boolean().optional(),
  }).optional(),
  issuer: closedObject({
    lifetime: duration(2_000, 3_660 * DAY_MS).optional(),
    renewAfter: duration(1_000, 3_660 * DAY_MS).optional(),
    keyAlgorithm: keyAlgorithm.optional(),
    keyManager: z.enum(KEY_MANAGER_KINDS).optional(),
  }).optional(),
  anchor: closedObject({
    lifetime: duration(2_000, 36_500 * DAY_MS).optional(),
    renewAfter: duration(1_000, 36_500 * DAY_MS).optional(),
    keyAlgorithm: keyAlgorithm.optional(),
    keyManager: z.enum(KEY_MANAGER_KINDS).optional(),
    uriNameConstraints: z.boolean().optional(),
  }).optional(),
  upstream: closedObject({
    kind: z.enum(UPSTREAM_KINDS).optional(),
    disk: closedObject({
      mode: z.enum(DISK_MODES).optional(),
      certificateFile: path,
      keyFile: path,
      passphraseFile: path.optional(),
      anchorsFile: path.optional(),
      pollInterval: duration(100, 3_600_000, false).optional(),
    }).optional(),
    vault: closedObject({
      address: text,
      namespace: text.optional(),
      mount: text.optional(),
      issuerRef: text.optional(),
      signPath: text.optional(),
      anchorsFile: path.optional(),
      pollInterval: duration(1_000, 3_600_000, false).optional(),
      login: z.enum(VAULT_LOGINS),
      loginMount: text.optional(),
      role: text.optional(),
      tokenFile: path.optional(),
      roleIdFile: path.optional(),
      secretIdFile: path.optional(),
      authoritiesFile: path.optional(),
      serverName: z.string().refine(isDnsName, 'not a host name').optional(),
      certificateFile: path.optional(),
      keyFile: path.optional(),
      timeout: duration(100, 300_000, false).optional(),
    }).optional(),
    kedge: closedObject({
      address: parsed(parseAddress),
      certificateFile: path,
      keyFile: path,
      bundleFile: path,
      timeout: duration(100, 300_000, false).optional(),
      pollInterval: duration(100, MAX_NESTED_POLL_MS, false).optional(),
    }).optional(),
  }).optional(),
  rotation: closedObject({
    automatic: z.boolean().optional(),
    evidence: z.enum(['best', 'proven']).optional(),
  }).optional(),
  downstream: closedObject({
    address: parsed(parseAddress).optional(),
    allow: z.array(parsed(nestedName)).max(256).optional(),
  }).optional(),
  bundle: closedObject({ refreshHint: duration(1_000, 7 * DAY_MS).optional() }).optional(),
  clockSkew: duration(0, DAY_MS, false).optional(),
  attest: closedObject({
    cluster: text.optional(),
    issuer: text.optional(),
    audience: text.optional(),
    leeway: duration(0, MAX_LEEWAY_MS, false).optional(),
    kind: z.enum(ATTESTOR_KINDS).optional(),
    allowUnboundTokens: z.boolean().optional(),
    reviewReuse: duration(0, 10_000, false).optional(),
    reviewsAtOnce: whole(1, 1_000).optional(),
    issuers: z
      .array(
        closedObject({
          issuer: text,
          cluster: text,
          audience: text.optional(),
          idTemplate: text.optional(),
          keys: z.enum(KEY_LOCATIONS).optional(),
          keysUrl: text.optional(),
          keysFile: path.optional(),
          authoritiesFile: path.optional(),
          tokenFile: path.optional(),
          tokenReview: z.boolean().optional(),
        }),
      )
      .max(64)
      .optional(),
  }).optional(),
  webhook: closedObject({
    address: parsed(parseAddress).optional(),
    configuration: objectName.optional(),
    namespace: labelName.optional(),
    service: labelName.optional(),
    servicePort: whole(1, 65_535).optional(),
    url: z
      .string()
      .max(1_024)
      .refine(isWebhookUrl, 'not an https URL of a host name with the path /mutate')
      .optional(),
    failurePolicy: z.enum(FAILURE_POLICIES).optional(),
    timeout: duration(1_000, 30_000).optional(),
  }).optional(),
  injection: closedObject({
    image: formed(IMAGE).optional(),
    imagePullPolicy: z.enum(IMAGE_PULL_POLICIES).optional(),
    caAddress: formed(ADDRESS).optional(),
    sidecar: z.enum(SIDECAR_SETTINGS).optional(),
    tokenTtl: duration(600_000, DAY_MS).optional(),
    clusterTrustBundle: z.boolean().optional(),
    logLevel: z.enum(AGENT_LOG_LEVELS).optional(),
    cpuRequest: formed(QUANTITY).optional(),
    memoryRequest: formed(QUANTITY).optional(),
    memoryLimit: formed(QUANTITY).optional(),
    userId: whole(1, 4_294_967_294).optional(),
    httpHost: z.enum(['0.0.0.0', '[::]']).optional(),
    httpPort: whole(0, 65_535).optional(),
  }).optional(),
  kubernetes: closedObject({
    kubeconfig: path.optional(),
    context: text.optional(),
    timeout: duration(100, 300_000, false).optional(),
    connections: whole(1, 1_000).optional(),
  }).optional(),
  policy: closedObject({ file: path.optional() }).optional(),
  store: closedObject({
    kind: z.enum(STORE_KINDS).optional(),
    secret: objectName.optional(),
  }).optional(),
  keys: closedObject({
    sealingKeyFile: path.optional(),
    sealingKeySecret: objectName.optional(),
    otherSealingKeyFiles: z.array(path).max(MAX_OTHER_SEALING_KEYS).optional(),
    otherSealingKeySecrets: z.array(objectName).max(MAX_OTHER_SEALING_KEYS).optional(),
    transit: closedObject({ mount: transitName.optional(), key: transitName }).optional(),
    pkcs11: closedObject({
      module: path,
      token: z.string().min(1, 'an empty label').max(32),
      pinFile: path,
      timeout: duration(100, 300_000, false).optional(),
    }).optional(),
  }).optional(),
  fleet: closedObject({ replica: objectName.optional() }).optional(),
  audit: closedObject({ standardOutput: z.boolean().optional() }).optional(),
  limits: closedObject({
    queue: whole(1, 1_000_000).optional(),
    instanceQueue: whole(1, 1_000).optional(),
    connections: whole(1, 1_000_000).optional(),
    connectionsPerAddress: whole(1, 1_000_000).optional(),
    watchStreams: whole(1, 1_000_000).optional(),
    instances: whole(1, 10_000_000).optional(),
    renewalsPerSecond: whole(1, 100_000).optional(),
  }).optional(),
  drain: closedObject({ timeout: duration(0, 3_600_000, false).optional() }).optional(),
};

/** The schema of the file: what it takes, and nothing else. */
export const configSchema: z.ZodType<CaSettings> = closedObject(SHAPE);

/** Reads the text of a configuration file. `flags` count when values are weighed against one another. */
export function readSettings(text: string, file: string, flags: CaSettings): CaSettings {
  const whole = configSchema.superRefine((settings, context) => {
    for (const { key, message } of impossibilities(merged(settings, flags))) {
      context.addIssue({ code: 'custom', path: key.split('.'), message });
    }
  });
  return readYaml(text, file, whole);
}

/** Reads what a command line sets, by dotted key. Throws `config_invalid`, naming the options. */
export function readFlags(flags: ReadonlyMap<string, string>): CaSettings {
  const settings = new Map<string, Record<string, unknown>>();
  const top: Record<string, unknown> = {};
  for (const [key, value] of flags) {
    const [group = '', name] = key.split('.');
    if (!CONFIG_KEYS.some((known) => known.key === key)) throw new TypeError(`no configuration key ${key}`);
    if (name === undefined) {
      top[group] = value;
    } else {
      const members = settings.get(group) ?? {};
      members[name] = value;
      settings.set(group, members);
    }
  }
  const result = configSchema.safeParse({ ...top, ...Object.fromEntries(settings) });
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => {
    const key = path.join('.');
    const flag = CONFIG_KEYS.find((known) => known.key === key)?.flag;
    return `${flag === undefined ? key : `--${flag}`}: ${message}`;
  });
  throw new KedgeError('config_invalid', problems.join('; '), { hint: 'correct the command line' });
}
