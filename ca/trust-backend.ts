import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../host/clock.ts';
import type { Log } from '../host/log.ts';
import type { MetricsRegistry } from '../host/metrics.ts';
import type { Random } from '../host/random.ts';
import type { Secret } from '../pki/secret.ts';
import type { Cluster } from './cluster.ts';
import type { CaConfig, SealingKeyConfig } from './config.ts';
import { readOrCreateSealingKey } from './keys/sealing-key.ts';
import { openOrCreateSealingKey, openSealingKey, type Transit } from './keys/sealing-key-transit.ts';
import type { KubernetesApi } from './kubernetes/kubernetes-api.ts';
import { patiently } from './patience.ts';
import { SqliteTrustStore } from './store/sqlite-trust-store.ts';
import type { TrustStore } from './store/trust-store.ts';

/** What {@link openTrustBackend} needs. */
export interface TrustBackendOptions {
  readonly config: CaConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly registry: MetricsRegistry;
  /** Ends the wait for what is broken in a cluster. */
  readonly signal: AbortSignal;
  /** The API of the cluster; undefined where the configuration needs none. */
  readonly kubernetes: KubernetesApi | undefined;
  /** Told for what the cluster's parts are waited. */
  readonly onFailure: (reason: string) => void;
}

/** Where the trust state is, the key that seals what is in it, and the cluster where it is in one. */
export interface TrustBackend {
  readonly store: TrustStore;
  readonly sealingKey: Secret;
  readonly otherSealingKeys: readonly Secret[];
  /** Null: all of it is in the data folder. */
  readonly cluster: Cluster | null;
  /** Closes the store. */
  close(): Promise<void>;
}

/** Opens what the configuration names. Of a cluster, what is missing or broken is waited for. */
export async function openTrustBackend(options: TrustBackendOptions): Promise<TrustBackend> {
  return options.config.store.kind === 'kubernetes'
    ? clusterBackend(options, options.config.store.secret)
    : embeddedBackend(options);
}

async function embeddedBackend(options: TrustBackendOptions): Promise<TrustBackend> {
  const { config, clock, random, signal } = options;
  const path = join(config.dataFolder, 'trust.sqlite');
  const { sealingKey } = config;
  if (sealingKey.kind !== 'file') throw new TypeError('a sealing key in a Secret needs a cluster');
  await using vault = await openTransit(options);
  const { transit } = vault;
  const other = async (key: SealingKeyConfig): Promise<Secret> => {
    if (key.kind !== 'file') throw new TypeError('a sealing key in a Secret needs a cluster');
    return openSealingKey(key.path, transit, signal);
  };
  // A trust store that is there was sealed with a key that must be there: a new one could not open it.
  const mayCreate = sealingKey.mayCreate && !existsSync(path);
  const makesSealed = mayCreate && transit !== null && !existsSync(sealingKey.path);
  const key = makesSealed
    ? await openOrCreateSealingKey(sealingKey.path, transit, random, signal)
    : mayCreate && transit === null
      ? await readOrCreateSealingKey(sealingKey.path, random)
      : await openSealingKey(sealingKey.path, transit, signal);
  const otherSealingKeys = await Promise.all(config.otherSealingKeys.map(other));
  const store = new SqliteTrustStore({ path, clock, random });
  return { store, sealingKey: key, otherSealingKeys, cluster: null, close: () => store.close() };
}

/** Vault's transit engine for as long as sealing keys are opened; null where none is configured. */
async function openTransit({
  config,
  clock,
  random,
  log,
}: TrustBackendOptions): Promise<AsyncDisposable & { readonly transit: Transit | null }> {
  const { transit, upstream } = config;
  const settings = upstream.vault;
  if (transit === null || settings === null) {
    return { transit: null, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const { openVaultAccess } = await import('./upstream/vault/open-vault.ts');
  const { VaultTransit } = await import('./upstream/vault/vault-transit.ts');
  const access = openVaultAccess({ settings, clock, random, log });
  const { session } = access;
  return {
    transit: new VaultTransit({ session, ...transit }),
    [Symbol.asyncDispose]: () => access.close(),
  };
}

/** Whatever only a cluster needs is loaded here, and not by a CA that has none. */
async function clusterBackend(options: TrustBackendOptions, secret: string): Promise<TrustBackend> {
  const { config, clock, random, log, registry, signal, onFailure, kubernetes } = options;
  if (kubernetes === undefined) throw new TypeError('a trust state in a cluster needs the API of one');
  const { openCluster } = await import('./cluster.ts');
  const cluster = openCluster({ api: kubernetes, config, secret, clock, random, log, registry });
  const { store } = cluster;
  await using vault = await openTransit(options);
  const { transit } = vault;
  try {
    const [sealingKey, ...otherSealingKeys] = await patiently(
      { clock, random, log, signal, onFailure },
      async () => [
        await sealingKeyIn(cluster, transit, config.sealingKey, signal),
        ...(await Promise.all(
          config.otherSealingKeys.map((other) => sealingKeyIn(cluster, transit, other, signal)),
        )),
      ],
    );
    if (sealingKey === undefined) throw new TypeError('there is no sealing key');
    return { store, sealingKey, otherSealingKeys, cluster, close: () => store.close() };
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function sealingKeyIn(
  cluster: Cluster,
  transit: Transit | null,
  sealingKey: SealingKeyConfig,
  signal: AbortSignal,
): Promise<Secret> {
  return sealingKey.kind === 'secret'
    ? cluster.sealingKey(sealingKey.name, signal)
    : openSealingKey(sealingKey.path, transit, signal);
}
