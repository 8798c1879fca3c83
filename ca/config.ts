import { readFile, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { errnoOf } from '../host/errno.ts';
import type { LogLevel } from '../host/log.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { TrustDomain } from '../pki/spiffe-id.ts';
import type { AttestSettings, IssuerEntry } from './attest/attest-settings.ts';
import { DEVELOPMENT_ISSUER } from './attest/development-issuer.ts';
import type { KeyLocation } from './attest/key-source.ts';
import { DEFAULT_SPIFFE_ID_TEMPLATE, SpiffeIdTemplate } from './attest/spiffe-id-template.ts';
import { impossibilities } from './config-checks.ts';
import {
  type CaLimits,
  type CaSettings,
  isGroup,
  type ListenAddress,
  lifetimesOf,
  merged,
} from './config-settings.ts';
import type { GateEvidence } from './authority/gates.ts';
import { injectionSettings, type WebhookSettings, webhookSettings } from './inject/injection-config.ts';
import type { InjectionSettings } from './inject/injection-settings.ts';
import type { AuthorityKeyAlgorithm, KeyManagerKind } from './keys/key-manager.ts';
import { type Pkcs11Settings, pkcs11Settings } from './keys/pkcs11/pkcs11-config.ts';
import { SEALING_KEY_SECRET, TRUST_STATE_SECRET } from './kubernetes/cluster-names.ts';
import { diskSettings } from './upstream/disk/disk-config.ts';
import { kedgeUpstreamSettings } from './upstream/kedge/kedge-config.ts';
import type { KedgeUpstreamSettings } from './upstream/kedge/kedge-settings.ts';
import type { DiskSettings } from './upstream/disk/disk-settings.ts';
import type { UpstreamKind } from './upstream/upstream-authority.ts';
import { vaultSettings } from './upstream/vault/vault-config.ts';
import type { VaultSettings } from './upstream/vault/vault-settings.ts';
import { DEFAULT_KUBERNETES_SETTINGS, type KubernetesSettings } from './kubernetes/kubernetes-settings.ts';

/** Everything that a CA is configured by. Deeply frozen. Times are milliseconds, paths absolute. */
export interface CaConfig {
  readonly trustDomain: TrustDomain;
  readonly dataFolder: string;
  readonly logLevel: LogLevel;
  readonly listen: { readonly grpc: ListenAddress; readonly http: ListenAddress };
  readonly svid: {
    readonly ttlMs: number;
    readonly backdateMs: number;
    readonly idTemplate: SpiffeIdTemplate;
  };
  readonly issuer: {
    readonly lifetimeMs: number;
    readonly renewAfterMs: number;
    readonly keyAlgorithm: AuthorityKeyAlgorithm;
    /** Where the keys of new issuers are made. */
    readonly keyManager: KeyManagerKind;
  };
  readonly anchor: {
    readonly lifetimeMs: number;
    readonly renewAfterMs: number;
    readonly keyAlgorithm: AuthorityKeyAlgorithm;
    /** Where the keys of new anchors are made. */
    readonly keyManager: KeyManagerKind;
    readonly uriNameConstraints: boolean;
  };
  readonly upstream: {
    readonly kind: UpstreamKind;
    /** Null: no files are configured, neither for `kind` nor as what the CA moves away from. */
    readonly disk: DiskSettings | null;
    /** Null: no Vault is configured, likewise. */
    readonly vault: VaultSettings | null;
    /** Null: no CA above is configured. */
    readonly kedge: KedgeUpstreamSettings | null;
  };
  readonly rotation: { readonly automatic: boolean; readonly evidence: GateEvidence };
  /** Null: no CA stands under this one. */
  readonly downstream: { readonly address: ListenAddress; readonly allow: readonly string[] } | null;
  readonly refreshHintSeconds: number;
  readonly clockSkewMs: number;
  /** Null: no webhook. */
  readonly webhook: WebhookSettings | null;
  readonly injection: InjectionSettings;
  readonly attest: AttestSettings;
  readonly kubernetes: KubernetesSettings;
  /** Null: no policy file. */
  readonly policyFile: string | null;
  readonly store: StoreConfig;
  readonly sealingKey: SealingKeyConfig;
  /** Sealing keys that older keys may be sealed under, or that other replicas seal under already. */
  readonly otherSealingKeys: readonly SealingKeyConfig[];
  /** Vault's transit engine, which sealing keys in files may be sealed by; null: none. */
  readonly transit: { readonly mount: string; readonly key: string } | null;
  /** Null: no token is configured. */
  readonly pkcs11: Pkcs11Settings | null;
  /** What this replica is called among those that share the trust state. */
  readonly replica: string;
  readonly audit: { readonly standardOutput: boolean };
  readonly limits: CaLimits;
  readonly drainTimeoutMs: number;
}

/** Where the trust state is: the file in the data folder, or a Secret in the namespace of the CA. */
export type StoreConfig =
  | { readonly kind: 'sqlite' }
  | { readonly kind: 'kubernetes'; readonly secret: string };

/** Where the sealing key is. */
export type SealingKeyConfig =
  | { readonly kind: 'file'; readonly path: string; readonly mayCreate: boolean }
  | { readonly kind: 'secret'; readonly name: string };

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;

/** Where the configuration comes from. */
export interface CaConfigSources {
  /** Path of the YAML file; undefined = none, everything has a default. */
  readonly file?: string | undefined;
  /** What the command line sets, by dotted key (`svid.ttl`), as text. It wins over the file. */
  readonly flags?: ReadonlyMap<string, string> | undefined;
}

/**
 * Reads the configuration: raw, validated, frozen. Throws `config_invalid` with every problem that was found, each
 * with file, line, key, value and what is allowed; `file_unreadable`.
 */
export async function loadCaConfig({ file, flags = new Map() }: CaConfigSources): Promise<CaConfig> {
  if (file === undefined && flags.size === 0) return configOf({}, process.cwd());
  // YAML and its validation cost a start some 50 ms: only whoever configures something pays.
  const { readFlags, readSettings } = await import('./config-schema.ts');
  const fromFlags = readFlags(flags);
  if (file === undefined) return configOf(fromFlags, process.cwd());
  const fromFile = readSettings(await readConfigFile(file), file, fromFlags);
  const folder = dirname(resolve(file));
  // A path in a file is relative to that file, a path on a command line to where it was typed.
  return configOf(merged(withPaths(fromFile, folder), withPaths(fromFlags, process.cwd())), folder);
}

/**
 * The configuration that `settings` give, with a default for everything else. Relative paths start at `folder`.
 * Throws `config_invalid` for values that exclude one another.
 */
export function configOf(settings: CaSettings, folder: string): CaConfig {
  const problems = impossibilities(settings);
  if (problems.length > 0) {
    throw new KedgeError(
      'config_invalid',
      problems.map(({ key, message }) => `${key}: ${message}`).join('; '),
    );
  }
  const { svid = {}, issuer = {}, anchor = {}, kubernetes = {}, limits = {} } = settings;
  const dataFolder = resolve(folder, settings.dataFolder ?? '.kedge');
  const times = lifetimesOf(settings);
  return deepFreeze({
    trustDomain: settings.trustDomain ?? TrustDomain.parse('example.org'),
    dataFolder,
    logLevel: settings.logLevel ?? 'info',
    listen: {
      grpc: settings.listen?.grpc ?? { host: '127.0.0.1', port: 8443 },
      http: settings.listen?.http ?? { host: '127.0.0.1', port: 9443 },
    },
    svid: {
      ttlMs: times.svidTtlMs,
      backdateMs: times.backdateMs,
      idTemplate: SpiffeIdTemplate.parse(svid.idTemplate ?? DEFAULT_SPIFFE_ID_TEMPLATE, {
        allowSharedIds: svid.allowSharedIds ?? false,
      }),
    },
    issuer: {
      lifetimeMs: times.issuerLifetimeMs,
      renewAfterMs: times.renewAfterMs,
      keyAlgorithm: issuer.keyAlgorithm ?? 'ec-p256',
      keyManager: issuer.keyManager ?? 'store',
    },
    anchor: {
      lifetimeMs: times.anchorLifetimeMs,
      renewAfterMs: times.anchorRenewAfterMs,
      keyAlgorithm: anchor.keyAlgorithm ?? 'ec-p256',
      keyManager: anchor.keyManager ?? 'store',
      uriNameConstraints: anchor.uriNameConstraints ?? false,
    },
    upstream: {
      kind: settings.upstream?.kind ?? 'self',
      disk: settings.upstream?.disk === undefined ? null : diskSettings(settings.upstream.disk, folder),
      vault: settings.upstream?.vault === undefined ? null : vaultSettings(settings.upstream.vault, folder),
      kedge:
        settings.upstream?.kedge === undefined
          ? null
          : kedgeUpstreamSettings(settings.upstream.kedge, folder),
    },
    rotation: {
      automatic: settings.rotation?.automatic ?? true,
      evidence: settings.rotation?.evidence ?? 'best',
    },
    downstream:
      settings.downstream?.address === undefined
        ? null
        : {
            address: settings.downstream.address,
            allow: (settings.downstream.allow ?? []).map((id) => id.toString()),
          },
    refreshHintSeconds: Math.ceil((settings.bundle?.refreshHint ?? 5 * MINUTE_MS) / SECOND_MS),
    clockSkewMs: settings.clockSkew ?? Math.min(5 * MINUTE_MS, times.issuerLifetimeMs / 10),
    webhook: webhookSettings(settings),
    injection: injectionSettings(settings),
    attest: attestSettings(settings, folder),
    kubernetes: {
      kubeconfig: kubernetes.kubeconfig === undefined ? null : resolve(folder, kubernetes.kubeconfig),
      context: kubernetes.context ?? null,
      timeoutMs: kubernetes.timeout ?? DEFAULT_KUBERNETES_SETTINGS.timeoutMs,
      connections: kubernetes.connections ?? DEFAULT_KUBERNETES_SETTINGS.connections,
    },
    policyFile: settings.policy?.file === undefined ? null : resolve(folder, settings.policy.file),
    store:
      settings.store?.kind === 'kubernetes'
        ? { kind: 'kubernetes', secret: settings.store.secret ?? TRUST_STATE_SECRET }
        : { kind: 'sqlite' },
    sealingKey: sealingKeyOf(settings, folder, dataFolder),
    otherSealingKeys: [
      ...(settings.keys?.otherSealingKeyFiles ?? []).map((file) => ({
        kind: 'file' as const,
        path: resolve(folder, file),
        mayCreate: false,
      })),
      ...(settings.keys?.otherSealingKeySecrets ?? []).map((name) => ({ kind: 'secret' as const, name })),
    ],
    transit:
      settings.keys?.transit === undefined
        ? null
        : { mount: settings.keys.transit.mount ?? 'transit', key: settings.keys.transit.key },
    pkcs11: settings.keys?.pkcs11 === undefined ? null : pkcs11Settings(settings.keys.pkcs11, folder),
    replica: settings.fleet?.replica ?? hostname(),
    audit: { standardOutput: settings.audit?.standardOutput ?? false },
    limits: {
      queue: limits.queue ?? 4_096,
      instanceQueue: limits.instanceQueue ?? 8,
      connections: limits.connections ?? 20_000,
      connectionsPerAddress: limits.connectionsPerAddress ?? 512,
      watchStreams: limits.watchStreams ?? 20_000,
      instances: limits.instances ?? 100_000,
      renewalsPerSecond: limits.renewalsPerSecond ?? 500,
    },
    drainTimeoutMs: settings.drain?.timeout ?? 20 * SECOND_MS,
  });
}

/**
 * A file of its own for a key that several replicas need would be another key in each: with the trust state in the
 * Kubernetes API a file is only read, and without one the key is in a Secret too.
 */
function sealingKeyOf(
  { keys = {}, store }: CaSettings,
  folder: string,
  dataFolder: string,
): SealingKeyConfig {
  const isShared = store?.kind === 'kubernetes';
  if (keys.sealingKeyFile !== undefined) {
    return { kind: 'file', path: resolve(folder, keys.sealingKeyFile), mayCreate: !isShared };
  }
  return isShared
    ? { kind: 'secret', name: keys.sealingKeySecret ?? SEALING_KEY_SECRET }
    : { kind: 'file', path: join(dataFolder, 'sealing-key'), mayCreate: true };
}

function attestSettings({ attest = {}, svid = {} }: CaSettings, folder: string): AttestSettings {
  const kind = attest.kind ?? 'development';
  const audience = attest.audience ?? 'kedge';
  return {
    kind,
    cluster: attest.cluster ?? (kind === 'development' ? 'development' : 'kubernetes'),
    issuer: attest.issuer ?? DEVELOPMENT_ISSUER,
    audience,
    leewayMs: attest.leeway ?? 30 * SECOND_MS,
    unbound: attest.allowUnboundTokens === true ? 'take the ServiceAccount for the instance' : 'refuse',
    reviewReuseMs: attest.reviewReuse ?? 5 * SECOND_MS,
    reviewsAtOnce: attest.reviewsAtOnce ?? 32,
    issuers: (attest.issuers ?? []).map((entry) => ({
      issuer: entry.issuer,
      cluster: entry.cluster,
      audience: entry.audience ?? audience,
      idTemplate: SpiffeIdTemplate.parse(entry.idTemplate ?? svid.idTemplate ?? DEFAULT_SPIFFE_ID_TEMPLATE, {
        allowSharedIds: svid.allowSharedIds ?? false,
      }),
      keys: keyLocation(entry, folder),
      tokenReview: entry.tokenReview ?? false,
    })),
  };
}

function keyLocation(entry: IssuerEntry, folder: string): KeyLocation {
  const { keys = 'discovery', issuer, keysUrl = '', keysFile = '', authoritiesFile, tokenFile } = entry;
  const access = {
    authoritiesFile: authoritiesFile === undefined ? null : resolve(folder, authoritiesFile),
    tokenFile: tokenFile === undefined ? null : resolve(folder, tokenFile),
  };
  switch (keys) {
    case 'kubernetes':
      return { kind: 'kubernetes' };
    case 'file':
      return { kind: 'file', path: resolve(folder, keysFile) };
    case 'url':
      return { kind: 'url', url: keysUrl, ...access };
    case 'discovery':
      return { kind: 'discovery', issuer, ...access };
    default:
      keys satisfies never;
      throw new TypeError('unreachable');
  }
}

/** The same settings with their paths made absolute. Those in `attest.issuers` are in a file only. */
function withPaths(settings: CaSettings, folder: string): CaSettings {
  const absolute = (path: string | undefined): string | undefined =>
    path === undefined ? undefined : resolve(folder, path);
  const { dataFolder, kubernetes, policy, keys } = settings;
  return {
    ...settings,
    ...(dataFolder === undefined ? {} : { dataFolder: absolute(dataFolder) }),
    ...(kubernetes?.kubeconfig === undefined
      ? {}
      : { kubernetes: { ...kubernetes, kubeconfig: absolute(kubernetes.kubeconfig) } }),
    ...(policy === undefined ? {} : { policy: { ...policy, file: absolute(policy.file) } }),
    ...(keys === undefined ? {} : { keys: { ...keys, sealingKeyFile: absolute(keys.sealingKeyFile) } }),
  };
}

async function readConfigFile(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > LIMITS.configFileBytes) {
      throw new KedgeError('config_invalid', `${path} is over ${LIMITS.configFileBytes} bytes`);
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (cause) {
    if (cause instanceof KedgeError) throw cause;
    if (cause instanceof TypeError) throw new KedgeError('config_invalid', `${path} is not UTF-8`, { cause });
    throw new KedgeError('file_unreadable', `cannot read the configuration file ${quote(path, 200)}`, {
      hint: `check the path and its permissions (${errnoOf(cause) ?? 'unknown'})`,
      cause,
    });
  }
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (isGroup(part)) deepFreeze(part);
  return Object.freeze(value);
}
