import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../host/clock.ts';
import { errnoOf } from '../host/errno.ts';
import { silenceGrpcLog } from '../host/grpc-logging.ts';
import type { Log } from '../host/log.ts';
import { MetricsRegistry } from '../host/metrics.ts';
import type { Random } from '../host/random.ts';
import { KEDGE_VERSION } from '../host/version.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import { type CaAddresses, CaApi } from './api/api.ts';
import { DevelopmentAttestor } from './attest/development-attestor.ts';
import { DevelopmentIssuer } from './attest/development-issuer.ts';
import { AuthorityEngine } from './authority/engine.ts';
import type { LifecycleSettings } from './authority/lifecycle-settings.ts';
import { phaseChanges } from './authority/phase-changes.ts';
import { emptyTrustState } from './authority/trust-state.ts';
import { registerCaMetrics } from './ca-metrics.ts';
import type { CaConfig } from './config.ts';
import { Fleet } from './fleet/fleet.ts';
import { coverageOf } from './fleet/fleet-coverage.ts';
import { fileAuditFolder } from './issue/audit-folder.ts';
import { AuditLog } from './issue/audit-log.ts';
import { auditEntry } from './issue/audit-record.ts';
import { registerIssuanceMetrics } from './issue/issuance-metrics.ts';
import { IssuingService } from './issue/issuing-service.ts';
import { RefusalLog } from './issue/refusal.ts';
import { SealedKeyManager } from './keys/sealed-key-manager.ts';
import { readOrCreateSealingKey, readSealingKey } from './keys/sealing-key.ts';
import { openPolicy, type PolicySource } from './policy-source.ts';
import { DataFolderLock } from './store/data-folder-lock.ts';
import { SqliteTrustStore } from './store/sqlite-trust-store.ts';
import { SelfSignedUpstream } from './upstream/self-signed-upstream.ts';

/** What {@link startCa} is given. */
export interface CaProcessOptions {
  readonly config: CaConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Ends a start that waits for its upstream. */
  readonly signal?: AbortSignal;
}

/** A CA at work. */
export interface RunningCa extends CaAddresses {
  /** Drains and ends, as {@link startCa} says. Harmless when repeated. */
  close(): Promise<void>;
}

/**
 * Starts a CA: the composition root, and the only file of `ca/` that knows the concrete backends.
 *
 * Start; what fails undoes what came before it, and nothing is listened on before step 5:
 *  1. hold the data folder: one CA at a time
 *  2. read the keys and the policy, find the end of the audit log
 *  3. open the trust store, and run the lifecycle until an issuer can sign
 *  4. build issuing, fleet and API
 *  5. issue the CA's own SVID, then listen: ready
 *
 * Drain, by `close()`, within `config.drainTimeoutMs`:
 *  1. `/readyz` fails, health says NOT_SERVING, no connection is accepted
 *  2. Watch streams end with `shutting_down`: agents go to another replica, or come back
 *  3. requests that wait are issued and answered; new ones are refused with `shutting_down`
 *  4. what is still connected is cut
 *  5. the lifecycle stops, then the store is closed
 *  6. the audit log is flushed and closed, then the data folder is let go
 */
export async function startCa(options: CaProcessOptions): Promise<RunningCa> {
  const { config, clock, random, log } = options;
  const { trustDomain, dataFolder, limits } = config;
  silenceGrpcLog();
  const registry = new MetricsRegistry();
  await using undo = new AsyncDisposableStack();

  const lock = DataFolderLock.acquire(dataFolder);
  undo.defer(() => lock.release());

  const metrics = registerIssuanceMetrics(registry);
  const storePath = join(dataFolder, 'trust.sqlite');
  const auditPath = join(dataFolder, 'audit');
  await makeFolder(auditPath);
  const audit = await AuditLog.open({
    folder: fileAuditFolder(auditPath),
    clock,
    log,
    onCommit: (commit) => metrics.auditCommitted(commit),
  });
  undo.defer(() => audit.close());
  const refusals = new RefusalLog({ audit, metrics, clock, log });
  undo.defer(() => refusals.close());
  const [sealingKey, tokens, policy] = await Promise.all([
    // A trust store that is there was sealed with a key that must be there: a new one could not open it.
    existsSync(storePath)
      ? readSealingKey(config.sealingKeyFile)
      : readOrCreateSealingKey(config.sealingKeyFile, random),
    DevelopmentIssuer.open({ folder: dataFolder, issuer: config.attest.issuer, clock, random }),
    openPolicy(config, clock, log),
  ]);
  auditPolicyChanges(policy, audit, clock);

  const store = new SqliteTrustStore({ path: storePath, clock, random });
  undo.defer(() => store.close());
  const fleet = new Fleet({ maxInstances: limits.instances, trust: () => engine.knownState, log });
  const keys = new SealedKeyManager({ trustDomain: trustDomain.name, sealingKey, random });
  const { keyAlgorithm, uriNameConstraints } = config.anchor;
  const engine = new AuthorityEngine({
    store,
    keys,
    upstream: new SelfSignedUpstream({ trustDomain, keys, keyAlgorithm, random, uriNameConstraints }),
    trustDomain,
    issuerKeyAlgorithm: config.issuer.keyAlgorithm,
    settings: lifecycleSettings(config),
    coverage: () => coverageOf(fleet.instances(), clock.now()),
    clock,
    random,
    log,
  });
  auditPhaseChanges(engine, audit, clock, trustDomain.name);
  undo.defer(() => engine.stop());
  await engine.start(options.signal ?? new AbortController().signal);

  const { cluster, audience, leewayMs } = config.attest;
  const { issuer, publicKey, kid } = tokens;
  const attestor = new DevelopmentAttestor({ cluster, issuer, audience, publicKey, kid, clock, leewayMs });
  const issuing = new IssuingService({
    trustDomain,
    template: config.svid.idTemplate,
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
  const api = new CaApi({
    config,
    engine,
    issuing,
    fleet,
    attestor,
    policy,
    audit,
    registry,
    clock,
    random,
    log,
  });
  registerCaMetrics(registry, {
    trustView: () => engine.current(),
    fleet,
    ready: () => api.readiness().ready,
    policyCurrent: () => policy.message().error === '',
    clock,
  });
  undo.defer(() => api.close());
  const addresses = await api.start();
  log.info('ca.started', { version: KEDGE_VERSION, trustDomain: trustDomain.name, dataFolder, ...addresses });

  const opened = undo.move();
  const end = async (): Promise<void> => {
    log.info('ca.draining', { timeoutMs: config.drainTimeoutMs });
    const drained = new AbortController();
    const deadline = new AbortController();
    const timer = clock.sleep(config.drainTimeoutMs, drained.signal).then(
      () => deadline.abort(),
      () => {},
    );
    await api.drain(deadline.signal);
    drained.abort();
    await timer;
    await opened.disposeAsync();
    log.info('ca.stopped', { inTime: !deadline.signal.aborted });
  };
  let ending: Promise<void> | null = null;
  return { ...addresses, close: () => (ending ??= end()) };
}

function lifecycleSettings(config: CaConfig): LifecycleSettings {
  return {
    anchorLifetimeMs: config.anchor.lifetimeMs,
    issuerLifetimeMs: config.issuer.lifetimeMs,
    issuerRenewAfterMs: config.issuer.renewAfterMs,
    maxSvidTtlMs: config.svid.ttlMs,
    backdateMs: config.svid.backdateMs,
    clockSkewMs: config.clockSkewMs,
  };
}

function auditPolicyChanges(policy: PolicySource, audit: AuditLog, clock: Clock): void {
  policy.onChange(({ file, sha256, error }) => {
    const event = error === null ? 'policy.loaded' : 'policy.refused';
    audit.note(auditEntry(event, clock.now(), { file, sha256, error }));
  });
}

function auditPhaseChanges(
  engine: AuthorityEngine,
  audit: AuditLog,
  clock: Clock,
  trustDomain: string,
): void {
  let known = emptyTrustState(trustDomain);
  engine.onChange(({ state }) => {
    for (const { authority, id, change } of phaseChanges(known, state)) {
      const fields = { authority, id, sequence: state.sequence };
      audit.note(auditEntry(`authority.${change}`, clock.now(), fields));
    }
    known = state;
  });
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
