import type { Clock } from '../host/clock.ts';
import type { Log } from '../host/log.ts';
import type { MetricsRegistry } from '../host/metrics.ts';
import type { Random } from '../host/random.ts';
import type { CaConfig } from './config.ts';
import type { NestedReport } from './downstream/nested-report.ts';
import type { KeyImporter, KeyManager } from './keys/key-manager.ts';
import { SelfSignedUpstream } from './upstream/self-signed-upstream.ts';
import type { UpstreamAuthority, UpstreamKind } from './upstream/upstream-authority.ts';

/** What {@link openUpstreams} needs. */
export interface UpstreamsOptions {
  readonly config: CaConfig;
  /** Makes and holds the anchors' keys of `self`. */
  readonly keys: KeyManager;
  /** Takes the issuers' keys that an upstream gives. */
  readonly importer: KeyImporter;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly registry: MetricsRegistry;
  /** What our fleet holds, for a CA above; null before there is a trust state. */
  readonly nestedReport: () => NestedReport | null;
}

/** The upstream authority that is configured, and those that the CA may still have authorities of. */
export interface Upstreams {
  readonly upstream: UpstreamAuthority;
  /** Of other kinds. `self` is always among all of them: it needs nothing but its keys. */
  readonly formerUpstreams: readonly UpstreamAuthority[];
  close(): Promise<void>;
}

/** Opens what the configuration names; of what it does not name nothing is loaded. */
export async function openUpstreams(options: UpstreamsOptions): Promise<Upstreams> {
  const { kind } = options.config.upstream;
  await using undo = new AsyncDisposableStack();
  const all = [
    self(options),
    ...(await disk(options)),
    ...(await vault(options, undo)),
    ...(await kedge(options)),
  ];
  const upstream = all.find((one) => one.kind === kind);
  if (upstream === undefined) throw new TypeError(`the upstream authority ${kind} is not configured`);
  const opened = undo.move();
  return {
    upstream,
    formerUpstreams: all.filter((one) => one !== upstream),
    close: () => opened.disposeAsync(),
  };
}

type Opened = UpstreamAuthority & { readonly kind: UpstreamKind };

function self({ config, keys, random }: UpstreamsOptions): Opened {
  const { trustDomain } = config;
  const { keyAlgorithm, uriNameConstraints } = config.anchor;
  return new SelfSignedUpstream({ trustDomain, keys, keyAlgorithm, random, uriNameConstraints });
}

async function disk({ config, importer, clock, random, log }: UpstreamsOptions): Promise<readonly Opened[]> {
  const { trustDomain, upstream } = config;
  const settings = upstream.disk;
  if (settings === null) return [];
  const { DiskSource } = await import('./upstream/disk/disk-source.ts');
  const { DiskUpstream } = await import('./upstream/disk/disk-upstream.ts');
  const source = new DiskSource({ settings, trustDomain, clock, log });
  return [new DiskUpstream({ settings, source, trustDomain, keys: importer, clock, random })];
}

async function vault(options: UpstreamsOptions, undo: AsyncDisposableStack): Promise<readonly Opened[]> {
  const { config, clock, random, log, registry } = options;
  const { trustDomain, upstream } = config;
  const settings = upstream.vault;
  if (settings === null) return [];
  const { openVaultAccess } = await import('./upstream/vault/open-vault.ts');
  const { registerVaultMetrics } = await import('./upstream/vault/vault-metrics.ts');
  const { VaultUpstream } = await import('./upstream/vault/vault-upstream.ts');
  const onCall = registerVaultMetrics(registry, () => access.client.clockSkewMs);
  const access = openVaultAccess({ settings, clock, random, log, onCall });
  undo.defer(() => access.close());
  return [new VaultUpstream({ settings, trustDomain, ...access, clock, random, log })];
}

async function kedge({ config, nestedReport, clock, log }: UpstreamsOptions): Promise<readonly Opened[]> {
  const { trustDomain, upstream } = config;
  const settings = upstream.kedge;
  if (settings === null) return [];
  const { KedgeClient } = await import('./upstream/kedge/kedge-client.ts');
  const { KedgeUpstream } = await import('./upstream/kedge/kedge-upstream.ts');
  const client = new KedgeClient({ settings, trustDomain, clock });
  return [new KedgeUpstream({ client, report: nestedReport, pollMs: settings.pollMs, clock, log })];
}
