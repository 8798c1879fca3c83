import type { Server } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import type { Readiness } from '../../host/http-endpoint.ts';
import type { Log } from '../../host/log.ts';
import type { MetricsRegistry } from '../../host/metrics.ts';
import type { Random } from '../../host/random.ts';
import { SpiffeId } from '../../pki/spiffe-id.ts';
import type { Attestor } from '../attest/attestor.ts';
import { clusterTemplates } from '../attest/cluster-templates.ts';
import type { AuthorityEngine } from '../authority/engine.ts';
import { renewalsDue } from '../authority/renewals.ts';
import type { RewrappedKeys } from '../authority/rewrap-keys.ts';
import type { CaConfig } from '../config.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { coverageOf, fleetCoverage } from '../fleet/fleet-coverage.ts';
import type { FleetView } from '../fleet/fleet-view.ts';
import type { AuditLog } from '../issue/audit-log.ts';
import type { AuditEntry } from '../issue/audit-record.ts';
import type { StoreStatus } from '../../proto/gen/kedge/v1/admin.ts';
import type { IssuingService } from '../issue/issuing-service.ts';
import type { PolicySource } from '../policy-source.ts';
import { getBundle, getStatus } from './admin-service.ts';
import { AdminSocket } from './admin-socket.ts';
import { type ApiMetrics, registerApiGauges, registerApiMetrics } from './api-metrics.ts';
import { CurrentBundle } from './bundle-message.ts';
import { caIdentityDocument } from './ca-identity-document.ts';
import { HalfSentCalls } from './half-sent-calls.ts';
import { HealthService } from './health-service.ts';
import { issueX509Svid } from './identity-service.ts';
import { rotationMethods } from './rotation-service.ts';
import { adminServer, agentServer } from './server.ts';
import { CA_PATH, ServingIdentity } from './serving-identity.ts';
import { type ServingCertificate, TlsListener } from './tls-listener.ts';
import { WatchService } from './watch-service.ts';
import { DownstreamServer, type DownstreamServerOptions } from '../downstream/downstream-server.ts';
import { rewrapMethod } from './rewrap-method.ts';

/** What a {@link CaApi} is made of. It closes none of it. */
export interface CaApiOptions {
  readonly config: CaConfig;
  readonly engine: AuthorityEngine;
  readonly issuing: IssuingService;
  /** Takes what is issued and reported. */
  readonly fleet: Fleet;
  /** Who is live: the same fleet, or what all replicas and the cluster know. */
  readonly liveFleet: FleetView;
  readonly store: () => StoreStatus;
  /** Where nested CAs connect; null: nowhere. */
  readonly downstream: Pick<DownstreamServerOptions, 'address' | 'service' | 'nested' | 'state'> | null;
  /** Seals the keys of the trust state under the present sealing key. */
  readonly rewrapKeys: (signal: AbortSignal) => Promise<RewrappedKeys>;
  readonly attestor: Attestor;
  readonly policy: PolicySource;
  readonly audit: Pick<AuditLog, 'available' | 'head' | 'note'>;
  readonly registry: MetricsRegistry;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Where a CA can be reached. */
export interface CaAddresses {
  /** `host:port`. */
  readonly grpcAddress: string;
  /** Absolute path. */
  readonly adminSocket: string;
  /** `host:port` for nested CAs; null: there is none. */
  readonly downstreamAddress: string | null;
}

/** How often readiness is brought to those who watch the health service, milliseconds. */
const HEALTH_MS = 1_000;
/** How often calls that owe their message are looked at, milliseconds. */
const HALF_SENT_MS = 1_000;
/** How often instances that hold nothing any more are forgotten, milliseconds. */
const PRUNE_MS = 60_000;

/** What of a CA agents and operators talk to. */
export class CaApi {
  readonly #options: CaApiOptions;
  readonly #metrics: ApiMetrics;
  readonly #bundle: CurrentBundle;
  readonly #halfSent: HalfSentCalls;
  readonly #health: HealthService;
  readonly #watch: WatchService;
  readonly #serving: ServingIdentity;
  readonly #agents: Server;
  readonly #operators: Server;
  readonly #stop = new AbortController();
  #phase: 'starting' | 'serving' | 'draining' = 'starting';
  /** Null until the CA has its own SVID. */
  #listener: TlsListener | null = null;
  #downstream: DownstreamServer | null = null;
  #loops: Promise<unknown> = Promise.resolve();
  readonly #opened = new AsyncDisposableStack();

  constructor(options: CaApiOptions) {
    const { config, engine, issuing, fleet, liveFleet, attestor, policy, audit, registry } = options;
    const { clock, random, log } = options;
    this.#options = options;
    this.#metrics = registerApiMetrics(registry);
    const templates = clusterTemplates(config);
    this.#halfSent = new HalfSentCalls(clock);
    const context = { log, random, metrics: this.#metrics };
    this.#bundle = new CurrentBundle({
      read: () => engine.current().bundle,
      refreshHintSeconds: config.refreshHintSeconds,
    });
    this.#health = new HealthService(context);
    this.#watch = new WatchService({
      ...context,
      attestor,
      spiffeIdOf: (instance) => templates.apply(instance, config.trustDomain),
      policy: () => policy.current,
      bundle: this.#bundle,
      renewalsDue: () =>
        renewalsDue(
          engine.current().state,
          // Each replica paces those that are connected to it: together they can serve as many as they ask.
          coverageOf(fleet.instances(), clock.now()),
          clock.now(),
          config.limits.renewalsPerSecond,
        ),
      fleet,
      refuse: (refusal) => issuing.refuse(refusal),
      clock,
      disconnect: (peer) => this.#listener?.disconnect(peer),
      maxStreams: config.limits.watchStreams,
    });
    this.#serving = new ServingIdentity({
      issue: (csr) =>
        issuing.issueOwn({
          spiffeId: SpiffeId.of(config.trustDomain, CA_PATH),
          csr,
          grant: { ttlMs: config.svid.ttlMs, keyTypes: new Set(['ec-p256']), dnsNames: [] },
        }),
      issuerId: () => engine.signingIssuer()?.issuer.id ?? null,
      onCertificate: (certificate, notAfterMs) => {
        this.#metrics.servingCertificate(notAfterMs);
        this.#listener?.use(certificate);
        this.#downstream?.use(certificate);
      },
      clock,
      random,
      log,
    });
    this.#agents = agentServer({
      calls: {
        ...context,
        halfSent: this.#halfSent,
        disconnect: (peer) => this.#listener?.disconnect(peer),
      },
      issue: issueX509Svid({ attestor, issuing, fleet, bundle: this.#bundle, clock }),
      watch: this.#watch,
      health: this.#health,
    });
    const status = getStatus({
      trustState: () => engine.current().state,
      instances: () => liveFleet.instances(),
      fleetComplete: () => liveFleet.complete,
      store: options.store,
      policy: () => policy.message(),
      audit: () => ({ records: BigInt(audit.head.seq), head: audit.head.hash }),
      lifecycle: () => engine.health().reason,
      clock,
      startedAtMs: clock.now(),
    });
    const rotation = {
      engine,
      coverage: () => fleetCoverage(liveFleet, clock.now()),
      evidence: config.rotation.evidence,
      upstream: config.upstream.kind,
      note: (entry: AuditEntry) => audit.note(entry),
      clock,
    };
    this.#operators = adminServer(
      // Whoever can open the socket of the operators may read the keys beside it as well.
      { ...context, halfSent: this.#halfSent, disconnect: () => {} },
      {
        status,
        bundle: getBundle(this.#bundle),
        rewrap: rewrapMethod({ rewrap: options.rewrapKeys, audit, clock }),
        ...rotationMethods(rotation),
      },
    );
    registerApiGauges(registry, {
      connections: () => this.#listener?.connections ?? 0,
      watchStreams: () => this.#watch.streams,
    });
  }

  /** Whether the CA can issue now. */
  readiness(): Readiness {
    const { audit, engine } = this.#options;
    if (this.#phase !== 'serving') return { ready: false, reason: this.#phase };
    if (!audit.available) return { ready: false, reason: 'the audit log cannot be written' };
    const { ok, reason } = engine.health();
    return { ready: ok, reason };
  }

  /** What agents are shown, as the document `/identity`: see {@link caIdentityDocument}. */
  identity(): string {
    const { engine, clock } = this.#options;
    return caIdentityDocument({
      svid: this.#serving.svid,
      bundle: engine.current().bundle,
      nowMs: clock.now(),
    });
  }

  /**
   * Opens for service. What was opened before a failure is closed again. Call it once.
   *
   * 1. the CA's own SVID is issued
   * 2. admin socket, then gRPC: who can connect is served
   */
  async start(): Promise<CaAddresses> {
    try {
      return await this.#open();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /**
   * Ends service: readiness and health fail, no connection is accepted, streams end with `shutting_down`, what waits
   * is answered. Resolves when the last client is gone, or when `signal` aborts.
   */
  async drain(signal: AbortSignal): Promise<void> {
    this.#phase = 'draining';
    this.#health.close();
    this.#listener?.stopListening();
    this.#watch.close();
    const answered = this.#options.issuing.drain().then(() => this.#listener?.drained());
    const late = new Promise<void>((resolve) =>
      signal.addEventListener('abort', () => resolve(), { once: true }),
    );
    if (!signal.aborted) await Promise.race([answered, late]);
  }

  /** Cuts what is still connected and closes every address. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loops;
    await this.#opened.disposeAsync();
  }

  async #openDownstream(certificate: ServingCertificate): Promise<string | null> {
    const { downstream, clock, log, random } = this.#options;
    if (downstream === null) return null;
    const server = new DownstreamServer({
      ...downstream,
      calls: { log, random, metrics: this.#metrics, halfSent: this.#halfSent },
      certificate,
      onRefused: (bound) => this.#metrics.connectionRefused(bound),
      clock,
    });
    this.#opened.defer(() => server.close());
    const port = await server.listen();
    this.#downstream = server;
    return addressText(downstream.address.host, port);
  }

  async #open(): Promise<CaAddresses> {
    const { config, engine, fleet, policy, clock } = this.#options;
    const { listen, dataFolder, limits } = config;
    const certificate = await this.#serving.renew();
    const listener = new TlsListener({
      server: this.#agents,
      maxConnections: limits.connections,
      maxConnectionsPerAddress: limits.connectionsPerAddress,
      onRefused: (bound) => this.#metrics.connectionRefused(bound),
      certificate,
    });
    this.#listener = listener;
    const admin = await AdminSocket.open(dataFolder, this.#operators);
    this.#opened.defer(() => admin.close());
    this.#opened.defer(() => listener.close());
    const grpcPort = await listener.listen(listen.grpc.host, listen.grpc.port);
    const downstreamAddress = await this.#openDownstream(certificate);
    this.#opened.defer(
      engine.onChange(() => {
        this.#serving.issuerChanged();
        this.#watch.trustChanged();
      }),
    );
    this.#loops = Promise.all([
      this.#serving.run(this.#stop.signal),
      this.#watch.run(this.#stop.signal),
      policy.follow(this.#stop.signal),
      every(clock, HEALTH_MS, this.#stop.signal, () => this.#health.set(this.readiness().ready)),
      every(clock, HALF_SENT_MS, this.#stop.signal, () => this.#halfSent.sweep()),
      every(clock, PRUNE_MS, this.#stop.signal, () => fleet.prune(clock.now())),
    ]);
    this.#phase = 'serving';
    this.#health.set(this.readiness().ready);
    return {
      grpcAddress: addressText(listen.grpc.host, grpcPort),
      downstreamAddress,
      adminSocket: admin.path,
    };
  }
}

/** Does `action` each `ms` milliseconds until the signal aborts. */
async function every(clock: Clock, ms: number, signal: AbortSignal, action: () => void): Promise<void> {
  while (!signal.aborted) {
    await clock.sleep(ms, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    if (!signal.aborted) action();
  }
}

/** `host:port`, an IPv6 host in brackets. */
export function addressText(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
