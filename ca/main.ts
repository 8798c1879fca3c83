import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../host/clock.ts';
import { errnoOf } from '../host/errno.ts';
import { silenceGrpcLog } from '../host/grpc-logging.ts';
import { HttpEndpoint } from '../host/http-endpoint.ts';
import type { Log } from '../host/log.ts';
import { MetricsRegistry } from '../host/metrics.ts';
import type { Random } from '../host/random.ts';
import { KEDGE_VERSION } from '../host/version.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import type { StoreStatus } from '../proto/gen/kedge/v1/admin.ts';
import { addressText, type CaAddresses, CaApi, type CaApiOptions } from './api/api.ts';
import { needsKubernetes } from './attest/attest-settings.ts';
import { clusterTemplates } from './attest/cluster-templates.ts';
import { DevelopmentAttestor } from './attest/development-attestor.ts';
import { DevelopmentIssuer } from './attest/development-issuer.ts';
import type { Attestation } from './attest/open-attestation.ts';
import type { Coverage } from './authority/coverage.ts';
import { AuthorityEngine } from './authority/engine.ts';
import type { LifecycleSettings } from './authority/lifecycle-settings.ts';
import { mintUnder } from './authority/minting.ts';
import { rewrapKeys } from './authority/rewrap-keys.ts';
import type { TrustState } from './authority/trust-state.ts';
import { auditPhaseChanges, auditPolicyChanges } from './audit-changes.ts';
import { registerCaMetrics } from './ca-metrics.ts';
import type { CaConfig } from './config.ts';
import type { ListenAddress } from './config-settings.ts';
import { DownstreamService } from './downstream/downstream-service.ts';
import { NestedCas } from './downstream/nested-cas.ts';
import { nestedReport } from './downstream/nested-report.ts';
import { Fleet } from './fleet/fleet.ts';
import { fleetCoverage } from './fleet/fleet-coverage.ts';
import { fileAuditFolder } from './issue/audit-folder.ts';
import { AuditLog } from './issue/audit-log.ts';
import { registerIssuanceMetrics } from './issue/issuance-metrics.ts';
import { recallFleet } from './fleet-recall.ts';
import { IssuingService } from './issue/issuing-service.ts';
import { RefusalLog } from './issue/refusal.ts';
import { openKeys } from './key-backend.ts';
import type { KubernetesApi } from './kubernetes/kubernetes-api.ts';
import { openPolicy } from './policy-source.ts';
import { DataFolderLock } from './store/data-folder-lock.ts';
import { ObservedTrustStore } from './store/observed-trust-store.ts';
import { openTrustBackend } from './trust-backend.ts';
import { openUpstreams } from './upstream-backend.ts';
import type { WebhookParts } from './webhook/open-webhook.ts';
import type { Webhook } from './webhook/webhook.ts';

/** What {@link startCa} is given. */
export interface CaProcessOptions {
  readonly config: CaConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Ends a start that waits for its upstream. */
  readonly signal?: AbortSignal;
  /** Takes the lines of the audit log that are durable, where the configuration asks for that. */
  readonly auditLines?: (lines: Uint8Array) => void;
  /** The API of the cluster. Default: what configuration and environment name, opened where it is needed. */
  readonly kubernetes?: KubernetesApi | undefined;
}

/** A CA at work. */
export interface RunningCa extends CaAddresses {
  /** `host:port`. */
  readonly httpAddress: string;
  /** `host:port`; null where there is no webhook. */
  readonly webhookAddress: string | null;
  /** Drains and ends, as {@link startCa} says. Harmless when repeated. */
  close(): Promise<void>;
}

/**
 * Starts a CA: the composition root. Only this file, `trust-backend.ts`, `key-backend.ts`,
 * `upstream-backend.ts` and `cluster.ts` know the backends.
 *
 * Start; what fails undoes what came before it:
 *  1. hold the data folder: one CA at a time
 *  2. read the policy, find the end of the audit log
 *  3. listen for /livez, /readyz and /metrics: whoever waits for the CA is told for what the CA waits
 *  4. open trust store and sealing key, and run the lifecycle until an issuer can sign
 *  5. build issuing, fleet and API
 *  6. where it is configured, issue the webhook's certificate, and listen for the API server: a pod that is created
 *     while a Service leads here to no listener would start without an agent
 *  7. issue the CA's own SVID, then listen for agents: ready
 *
 * With the trust state in a cluster, step 4 waits for what is broken to be mended, however long: see `patience.ts`.
 *
 * Drain, by `close()`, within `config.drainTimeoutMs`:
 *  1. `/readyz` fails, health says NOT_SERVING, no connection is accepted, nor one of the API server
 *  2. Watch streams end with `shutting_down`: agents go to another replica, or come back
 *  3. requests that wait are issued and answered; new ones are refused with `shutting_down`
 *  4. what is still connected is cut
 *  5. what runs in the cluster stops, then the lifecycle, then the store is closed
 *  6. /livez ends, the audit log is flushed and closed, then the data folder is let go
 */
export async function startCa(options: CaProcessOptions): Promise<RunningCa> {
  const { config, clock, random, log } = options;
  const { trustDomain, dataFolder, limits } = config;
  const signal = options.signal ?? new AbortController().signal;
  silenceGrpcLog();
  const registry = new MetricsRegistry();
  await using undo = new AsyncDisposableStack();

  const lock = DataFolderLock.acquire(dataFolder);
  undo.defer(() => lock.release());

  const metrics = registerIssuanceMetrics(registry);
  const auditPath = join(dataFolder, 'audit');
  await makeFolder(auditPath);
  const audit = await AuditLog.open({
    folder: fileAuditFolder(auditPath),
    clock,
    log,
    onCommit: (commit) => metrics.auditCommitted(commit),
    ...(config.audit.standardOutput && options.auditLines !== undefined
      ? { onLines: options.auditLines }
      : {}),
  });
  undo.defer(() => audit.close());
  const refusals = new RefusalLog({ audit, metrics, clock, log });
  undo.defer(() => refusals.close());
  const policy = await openPolicy(config, clock, log);
  auditPolicyChanges(policy, audit, clock);

  let waitsFor = 'starting';
  const running: { api: CaApi | null; engine: AuthorityEngine | null } = { api: null, engine: null };
  const http = new HttpEndpoint({
    clock,
    metrics: () => registry.render(),
    readiness: () =>
      running.api?.readiness() ?? { ready: false, reason: running.engine?.health().reason ?? waitsFor },
    documents: new Map([['/identity', () => running.api?.identity() ?? '{"phase":"starting"}\n']]),
  });
  undo.defer(() => http.close());
  const httpPort = await http.listen(config.listen.http.host, config.listen.http.port);
  const httpAddress = addressText(config.listen.http.host, httpPort);

  const kubernetes = options.kubernetes ?? (await openKubernetesApi(options, registry, undo));
  if (needsKubernetes(config.attest)) waitsFor = 'waiting for the Kubernetes API server';
  const attestation = await openAttestor({ ...options, registry, signal, kubernetes });
  undo.defer(() => attestation.close());
  const backend = await openTrustBackend({
    ...options,
    kubernetes,
    registry,
    signal,
    onFailure: (reason) => {
      waitsFor = reason;
    },
  });
  undo.defer(() => backend.close());
  const { sealingKey, otherSealingKeys, cluster } = backend;
  const store = new ObservedTrustStore({ store: backend.store, registry, log });
  const trust = () => engine.knownState;
  const fleet = new Fleet({ maxInstances: limits.instances, trust, log });
  const liveFleet = cluster?.fleet({ local: fleet, trust }) ?? fleet;
  const keys = await openKeys({ config, sealingKey, otherSealingKeys, clock, random });
  undo.defer(() => keys.close());
  const { anchors, importer } = keys;
  const upstreams = await openUpstreams({
    config,
    keys: anchors,
    importer,
    clock,
    random,
    log,
    registry,
    nestedReport: () => nestedReport(trust(), coverage()),
  });
  undo.defer(() => upstreams.close());
  fleet.awaitHistory('the audit log was not read yet for SVIDs from before the start');
  const nested = new NestedCas(config.downstream?.allow ?? [], clock);
  const coverage = (): Coverage => nested.in(fleetCoverage(liveFleet, clock.now()), trust());
  const engine = new AuthorityEngine({
    store,
    keys: keys.issuers,
    upstream: upstreams.upstream,
    formerUpstreams: upstreams.formerUpstreams,
    trustDomain,
    issuerKeyAlgorithm: config.issuer.keyAlgorithm,
    settings: lifecycleSettings(config, cluster === null),
    coverage,
    // Whoever starts a pod whose process ended starts it again: it waits, and says why.
    patient: cluster !== null,
    clock,
    random,
    log,
  });
  running.engine = engine;
  auditPhaseChanges(engine, audit, clock, trustDomain.name);
  undo.defer(() => engine.stop());
  await engine.start(signal);
  const recalling = new AbortController();
  // In a cluster as well: an instance that was issued an SVID just before a crash may hold it, whatever it reported.
  const recalled = recallFleet(
    { fleet, folder: fileAuditFolder(auditPath), ttlMs: config.svid.ttlMs, clock, log },
    recalling.signal,
  );
  undo.defer(() => {
    recalling.abort();
    return recalled;
  });

  const issuing = new IssuingService({
    trustDomain,
    template: clusterTemplates(config),
    policy: () => policy.current,
    signingIssuer: () => engine.signingIssuer(),
    audit,
    refusals,
    clock,
    random,
    metrics,
    backdateMs: config.svid.backdateMs,
    queueCapacity: limits.queue,
    instanceQueueCapacity: limits.instanceQueue,
  });
  const downstreamOf = (address: ListenAddress): CaApiOptions['downstream'] => {
    const state = (): TrustState => engine.current().state;
    const service = new DownstreamService({
      trustDomain,
      nested,
      state,
      mint: (anchor, request, signal) => mintUnder(anchor, request, upstreams, signal),
      maxLifetimeMs: config.issuer.lifetimeMs,
      audit,
      clock,
    });
    return { address, service, nested, state };
  };
  const api = new CaApi({
    config,
    engine,
    issuing,
    fleet,
    liveFleet,
    store: () => storeStatus(config, store),
    downstream: config.downstream === null ? null : downstreamOf(config.downstream.address),
    rewrapKeys: (signal) => rewrapKeys({ store, rewrap: keys.rewrap }, signal),
    attestor: attestation.attestor,
    policy,
    audit,
    registry,
    clock,
    random,
    log,
  });
  registerCaMetrics(registry, {
    trustView: () => engine.current(),
    upstreamOk: () => (upstreams.upstream.problem?.() ?? null) === null,
    fleet,
    liveFleet,
    ready: () => api.readiness().ready,
    gateEvidence: config.rotation.evidence,
    policyCurrent: () => policy.message().error === '',
    clock,
  });
  const webhook = await openWebhook({ ...options, kubernetes }, { engine, issuing, registry });
  undo.defer(() => webhook?.close());
  const webhookAddress = (await webhook?.start()) ?? null;
  running.api = api;
  undo.defer(() => api.close());
  const addresses = { ...(await api.start()), httpAddress };
  if (cluster !== null) {
    cluster.start(engine);
    undo.defer(() => cluster.stop());
  }
  log.info('ca.started', {
    version: KEDGE_VERSION,
    trustDomain: trustDomain.name,
    dataFolder,
    ...addresses,
    ...(webhookAddress === null ? {} : { webhookAddress }),
  });

  const opened = undo.move();
  const end = async (): Promise<void> => {
    log.info('ca.draining', { timeoutMs: config.drainTimeoutMs });
    const drained = new AbortController();
    const deadline = new AbortController();
    const timer = clock.sleep(config.drainTimeoutMs, drained.signal).then(
      () => deadline.abort(),
      () => {},
    );
    webhook?.drain();
    await api.drain(deadline.signal);
    drained.abort();
    await timer;
    await opened.disposeAsync();
    log.info('ca.stopped', { inTime: !deadline.signal.aborted });
  };
  let ending: Promise<void> | null = null;
  return { ...addresses, webhookAddress, close: () => (ending ??= end()) };
}

/** The webhook, where the configuration has one; nothing of it is loaded otherwise. */
async function openWebhook(
  options: CaProcessOptions,
  parts: Pick<WebhookParts, 'engine' | 'issuing' | 'registry'>,
): Promise<Webhook | null> {
  const { config, kubernetes } = options;
  if (config.webhook === null) return null;
  if (kubernetes === undefined) throw new TypeError('a webhook without a client for the API server');
  const { openWebhook: open } = await import('./webhook/open-webhook.ts');
  return open({ ...options, ...parts, kubernetes, settings: config.webhook });
}

/** The API of the cluster, where anything needs it. What that takes is loaded only then. */
async function openKubernetesApi(
  { config, clock, log }: CaProcessOptions,
  registry: MetricsRegistry,
  undo: AsyncDisposableStack,
): Promise<KubernetesApi | undefined> {
  const isNeeded =
    needsKubernetes(config.attest) || config.store.kind === 'kubernetes' || config.webhook !== null;
  if (!isNeeded) return undefined;
  const { openKubernetes } = await import('./kubernetes/open-kubernetes.ts');
  const { registerKubernetesMetrics } = await import('./kubernetes/kubernetes-metrics.ts');
  const onCall = registerKubernetesMetrics(registry);
  const environment = process.env;
  const api = await openKubernetes({ settings: config.kubernetes, environment, clock, log, onCall });
  undo.defer(() => api.close());
  return api;
}

/** Attestation as configured. */
async function openAttestor(
  options: CaProcessOptions & { readonly registry: MetricsRegistry; readonly signal: AbortSignal },
): Promise<Attestation> {
  const { config, kubernetes, clock, random, log, registry, signal } = options;
  const { kind, cluster, issuer, audience, leewayMs } = config.attest;
  if (kind === 'development') {
    const folder = config.dataFolder;
    const { publicKey, kid } = await DevelopmentIssuer.open({ folder, issuer, clock, random });
    const attestor = new DevelopmentAttestor({ cluster, issuer, audience, publicKey, kid, clock, leewayMs });
    return { attestor, close: () => Promise.resolve() };
  }
  const { openAttestation } = await import('./attest/open-attestation.ts');
  const { timeoutMs } = config.kubernetes;
  return openAttestation({
    settings: config.attest,
    api: kubernetes,
    timeoutMs,
    registry,
    clock,
    random,
    log,
    signal,
  });
}

function storeStatus({ store: { kind } }: CaConfig, store: ObservedTrustStore): StoreStatus {
  const { bytes, limitBytes } = store.fill;
  return { kind, bytes: BigInt(bytes), limitBytes: BigInt(limitBytes) };
}

/** In a cluster there may be other replicas, which hear of a step a little later. */
const CLUSTER_SETTLE_MS = 15_000;

function lifecycleSettings(config: CaConfig, isAlone: boolean): LifecycleSettings {
  return {
    anchorLifetimeMs: config.anchor.lifetimeMs,
    issuerLifetimeMs: config.issuer.lifetimeMs,
    issuerRenewAfterMs: config.issuer.renewAfterMs,
    maxSvidTtlMs: config.svid.ttlMs,
    backdateMs: config.svid.backdateMs,
    clockSkewMs: config.clockSkewMs,
    rotation: {
      ...config.rotation,
      anchorRenewAfterMs: config.anchor.renewAfterMs,
      settleMs: isAlone ? 0 : CLUSTER_SETTLE_MS,
    },
  };
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new KedgeError('file_unwritable', `cannot make the folder ${quote(path, 200)}`, {
      hint: `make the data folder writable for the user that runs the CA (${errnoOf(cause) ?? 'unknown'})`,
      cause,
    });
  }
}
