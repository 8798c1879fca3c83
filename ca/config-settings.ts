import type { LogLevel } from '../host/log.ts';
import type { SpiffeId, TrustDomain } from '../pki/spiffe-id.ts';
import type { AgentLogLevel, ImagePullPolicy, SidecarSetting } from './inject/injection-settings.ts';
import type { FailurePolicy } from './inject/webhook-configuration.ts';
import type { AttestorKind, IssuerEntry } from './attest/attest-settings.ts';
import type { AuthorityKeyAlgorithm, KeyManagerKind } from './keys/key-manager.ts';
import type { GateEvidence } from './authority/gates.ts';
import type { DiskMode } from './upstream/disk/disk-settings.ts';
import type { UpstreamKind } from './upstream/upstream-authority.ts';
import type { VaultConfig } from './upstream/vault/vault-config.ts';

/** Where the trust state is. */
export const STORE_KINDS = ['sqlite', 'kubernetes'] as const;
export type StoreKind = (typeof STORE_KINDS)[number];

/** A host and a port to listen on; port 0 = any that is free. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** The bounds that an operator can move. */
export interface CaLimits {
  readonly queue: number;
  readonly instanceQueue: number;
  readonly connections: number;
  readonly connectionsPerAddress: number;
  readonly watchStreams: number;
  readonly instances: number;
  readonly renewalsPerSecond: number;
}

/** The keys `keys.pkcs11`. */
export interface Pkcs11Config {
  readonly module: string;
  readonly token: string;
  readonly pinFile: string;
  readonly timeout?: number | undefined;
}

/** The keys `upstream.kedge`. */
export interface KedgeUpstreamConfig {
  readonly address: ListenAddress;
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly bundleFile: string;
  readonly timeout?: number | undefined;
  readonly pollInterval?: number | undefined;
}

/** The keys `upstream.disk`. */
export interface DiskConfig {
  readonly mode?: DiskMode | undefined;
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly passphraseFile?: string | undefined;
  readonly anchorsFile?: string | undefined;
  readonly pollInterval?: number | undefined;
}

/** What a file or a command line sets: the keys of the file, each value read and checked by itself. */
export interface CaSettings {
  readonly trustDomain?: TrustDomain | undefined;
  readonly dataFolder?: string | undefined;
  readonly logLevel?: LogLevel | undefined;
  readonly listen?:
    | { readonly grpc?: ListenAddress | undefined; readonly http?: ListenAddress | undefined }
    | undefined;
  readonly svid?:
    | {
        readonly ttl?: number | undefined;
        readonly backdate?: number | undefined;
        readonly idTemplate?: string | undefined;
        readonly allowSharedIds?: boolean | undefined;
      }
    | undefined;
  readonly issuer?:
    | {
        readonly lifetime?: number | undefined;
        readonly renewAfter?: number | undefined;
        readonly keyAlgorithm?: AuthorityKeyAlgorithm | undefined;
        readonly keyManager?: KeyManagerKind | undefined;
      }
    | undefined;
  readonly anchor?:
    | {
        readonly lifetime?: number | undefined;
        readonly renewAfter?: number | undefined;
        readonly keyAlgorithm?: AuthorityKeyAlgorithm | undefined;
        readonly keyManager?: KeyManagerKind | undefined;
        readonly uriNameConstraints?: boolean | undefined;
      }
    | undefined;
  readonly upstream?:
    | {
        readonly kind?: UpstreamKind | undefined;
        readonly disk?: DiskConfig | undefined;
        readonly vault?: VaultConfig | undefined;
        readonly kedge?: KedgeUpstreamConfig | undefined;
      }
    | undefined;
  readonly rotation?:
    | { readonly automatic?: boolean | undefined; readonly evidence?: GateEvidence | undefined }
    | undefined;
  readonly downstream?:
    | { readonly address?: ListenAddress | undefined; readonly allow?: readonly SpiffeId[] | undefined }
    | undefined;
  readonly bundle?: { readonly refreshHint?: number | undefined } | undefined;
  readonly clockSkew?: number | undefined;
  readonly attest?:
    | {
        readonly cluster?: string | undefined;
        readonly issuer?: string | undefined;
        readonly audience?: string | undefined;
        readonly leeway?: number | undefined;
        readonly kind?: AttestorKind | undefined;
        readonly allowUnboundTokens?: boolean | undefined;
        readonly reviewReuse?: number | undefined;
        readonly reviewsAtOnce?: number | undefined;
        readonly issuers?: readonly IssuerEntry[] | undefined;
      }
    | undefined;
  readonly webhook?:
    | {
        readonly address?: ListenAddress | undefined;
        readonly configuration?: string | undefined;
        readonly namespace?: string | undefined;
        readonly service?: string | undefined;
        readonly servicePort?: number | undefined;
        readonly url?: string | undefined;
        readonly failurePolicy?: FailurePolicy | undefined;
        readonly timeout?: number | undefined;
      }
    | undefined;
  readonly injection?:
    | {
        readonly image?: string | undefined;
        readonly imagePullPolicy?: ImagePullPolicy | undefined;
        readonly caAddress?: string | undefined;
        readonly sidecar?: SidecarSetting | undefined;
        readonly tokenTtl?: number | undefined;
        readonly clusterTrustBundle?: boolean | undefined;
        readonly logLevel?: AgentLogLevel | undefined;
        readonly cpuRequest?: string | undefined;
        readonly memoryRequest?: string | undefined;
        readonly memoryLimit?: string | undefined;
        readonly userId?: number | undefined;
        readonly httpHost?: '0.0.0.0' | '[::]' | undefined;
        readonly httpPort?: number | undefined;
      }
    | undefined;
  readonly kubernetes?:
    | {
        readonly kubeconfig?: string | undefined;
        readonly context?: string | undefined;
        readonly timeout?: number | undefined;
        readonly connections?: number | undefined;
      }
    | undefined;
  readonly policy?: { readonly file?: string | undefined } | undefined;
  readonly store?:
    | { readonly kind?: StoreKind | undefined; readonly secret?: string | undefined }
    | undefined;
  readonly keys?:
    | {
        readonly sealingKeyFile?: string | undefined;
        readonly sealingKeySecret?: string | undefined;
        readonly otherSealingKeyFiles?: readonly string[] | undefined;
        readonly otherSealingKeySecrets?: readonly string[] | undefined;
        readonly transit?: { readonly mount?: string | undefined; readonly key: string } | undefined;
        readonly pkcs11?: Pkcs11Config | undefined;
      }
    | undefined;
  readonly fleet?: { readonly replica?: string | undefined } | undefined;
  readonly audit?: { readonly standardOutput?: boolean | undefined } | undefined;
  readonly limits?: { readonly [K in keyof CaLimits]?: number | undefined } | undefined;
  readonly drain?: { readonly timeout?: number | undefined } | undefined;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** The lifetimes that must fit into one another, milliseconds, with their defaults. */
export interface Lifetimes {
  readonly svidTtlMs: number;
  readonly backdateMs: number;
  readonly issuerLifetimeMs: number;
  readonly renewAfterMs: number;
  readonly anchorLifetimeMs: number;
  readonly anchorRenewAfterMs: number;
}

/** The lifetimes that `settings` give. Those that follow from others do so here. */
export function lifetimesOf({ svid = {}, issuer = {}, anchor = {} }: CaSettings): Lifetimes {
  const svidTtlMs = svid.ttl ?? DAY_MS;
  const issuerLifetimeMs = issuer.lifetime ?? 30 * DAY_MS;
  const anchorLifetimeMs = anchor.lifetime ?? 5 * 365 * DAY_MS;
  return {
    svidTtlMs,
    backdateMs: svid.backdate ?? Math.min(2 * MINUTE_MS, svidTtlMs),
    issuerLifetimeMs,
    renewAfterMs: issuer.renewAfter ?? Math.floor((issuerLifetimeMs * 2) / 3),
    anchorLifetimeMs,
    anchorRenewAfterMs: anchor.renewAfter ?? Math.floor((anchorLifetimeMs * 2) / 3),
  };
}

/** `over` wins, key by key. */
export function merged(under: CaSettings, over: CaSettings): CaSettings {
  const result: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const below: unknown = result[key];
    result[key] = isGroup(below) && isGroup(value) ? { ...below, ...value } : value;
  }
  return result;
}

/** Whether a value is a group of keys. */
export function isGroup(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
