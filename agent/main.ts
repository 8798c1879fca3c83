import type { Clock } from '../host/clock.ts';
import { silenceGrpcLog } from '../host/grpc-logging.ts';
import type { Log } from '../host/log.ts';
import { MetricsRegistry } from '../host/metrics.ts';
import type { Random } from '../host/random.ts';
import { KEDGE_VERSION } from '../host/version.ts';
import { Wakeup } from '../host/wakeup.ts';
import type { GetAgentStatusResponse } from '../proto/gen/kedge/v1/agent.ts';
import { Agent } from './agent.ts';
import { agentMetrics } from './agent-metrics.ts';
import { readBootstrapBundle } from './bootstrap-bundle.ts';
import { CaClient } from './ca-client.ts';
import { CANARY_TIMEOUT_MS, dialProxy } from './canary-probe.ts';
import { CanaryRunner } from './canary-runner.ts';
import type { AgentConfig } from './config.ts';
import { sleepUntilDeadline } from './deadline.ts';
import { registerEvidenceMetrics } from './evidence-metrics.ts';
import { type OpenFeeds, openFeeds } from './feeds.ts';
import { IdentityCache } from './identity-cache.ts';
import { identityDocument } from './identity-document.ts';
import { caIdentitySource } from './identity-source.ts';
import { type AgentState, INITIAL_STATE } from './state.ts';
import { agentStatus } from './status.ts';
import { readToken } from './token-file.ts';
import { runWatch } from './watch.ts';

/** What {@link startAgent} is given. */
export interface AgentProcessOptions {
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** An agent at work. */
export interface RunningAgent {
  /** As of now. */
  readonly state: AgentState;
  /** The text of all metrics. */
  metricsText(): string;
  /** Port of the HTTP endpoint; undefined where it is not served. */
  readonly httpPort: number | undefined;
  /** Ends everything: streams are told, the socket is removed, files stay for the proxy. */
  close(): Promise<void>;
}

/** How long the token that was read at the start counts as read anew, milliseconds. */
const EARLY_TOKEN_MS = 1_000;

/**
 * Starts an agent: the composition root; `feeds.ts`, its other part, is the only place that knows the concrete feeds.
 *
 * Resolves when its feeds are open, whether or not the CA can be reached. Throws what makes starting senseless, with
 * everything closed again: a socket in use, an unusable cache folder, an HTTP address in use.
 *
 * Connecting to the CA, claiming the socket and looking at the cache all go on at once: the first SVID is awaited by a
 * pod that does nothing until then.
 */
export async function startAgent(options: AgentProcessOptions): Promise<RunningAgent> {
  const { config, clock, random, log } = options;
  const { trustDomain, expectedId } = config;
  silenceGrpcLog();
  const stop = new AbortController();
  const closers: (() => Promise<void> | void)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0)) await close();
  };
  const client = new CaClient({
    address: config.caAddress,
    trustDomain,
    readBootstrap: () => readBootstrapBundle(config.bootstrapBundle),
    clock,
    wish: config.wish,
  });
  closers.push(() => client.close());
  client.warmUp();
  const readOwnToken = tokenReader(config.tokenFile, clock);
  try {
    const registry = new MetricsRegistry();
    const reportWakeup = new Wakeup();
    const canary = canaryOf(options, () => reportWakeup.wake());
    // The socket is served before there is an agent: until then it has nothing.
    let agent: Agent | null = null;
    const status = (): GetAgentStatusResponse =>
      agentStatus({
        trustDomain,
        state: agent?.state ?? INITIAL_STATE,
        feeds: agent?.feeds ?? [],
        failure: agent?.failure ?? null,
        canary: canary?.result ?? null,
        nowMs: clock.now(),
      });
    const onConsumersChange = (): void => reportWakeup.wake();
    let open: OpenFeeds | null = null;
    const metrics = agentMetrics(registry, () => open?.streams ?? 0);
    const opening = openFeeds({
      config,
      clock,
      random,
      log,
      status,
      isReady: () => agent?.unready === null,
      onConsumersChange,
      onNack: (secret) => metrics.sdsNacks.add({ secret }),
      onRefusal: (code) => metrics.refusals.add({ code }),
    });
    const [feeds, cache] = await bothOrNeither(
      opening.then((opened) => {
        closers.push(() => opened.close());
        open = opened;
        return opened;
      }),
      config.cache === undefined ? Promise.resolve(undefined) : IdentityCache.open(config.cache),
    );
    const expected = expectedId === undefined ? {} : { expectedId };
    const made = new Agent({
      source: caIdentitySource({
        client,
        readToken: readOwnToken,
        trustDomain,
        ...expected,
        timeoutMs: config.issueTimeoutMs,
        clock,
        random,
      }),
      feeds: feeds.all,
      reportWakeup,
      trustDomain,
      ...expected,
      trust: client,
      ...(cache === undefined ? {} : { cache }),
      ...(canary === undefined ? {} : { canary }),
      agentVersion: KEDGE_VERSION,
      clock,
      random,
      log,
      metrics,
    });
    agent = made;
    registerEvidenceMetrics(registry, () => ({
      newest: made.state.generation,
      feeds: made.feeds,
      canary: canary?.result ?? null,
    }));
    await made.restore();
    const running = made.run(stop.signal);
    const showingHealth = showHealth(feeds, reportWakeup, clock, stop.signal);
    const watching = watchOnceServing(made, reportWakeup, client, readOwnToken, options, stop.signal);
    closers.unshift(async () => {
      stop.abort(new Error('the agent is closing'));
      await Promise.all([running, watching, showingHealth]);
    });
    const httpPort =
      config.httpAddress === undefined
        ? undefined
        : await listenHttp(config.httpAddress, options, made, registry, (close) => closers.push(close));
    log.info('agent.started', {
      version: KEDGE_VERSION,
      ca: config.caAddress,
      feeds: feeds.all.map(({ name }) => name),
      httpPort,
    });
    return {
      get state() {
        return made.state;
      },
      metricsText: () => registry.render(),
      httpPort,
      async close() {
        await closeAll();
        log.info('agent.stopped');
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

function canaryOf(
  { config, clock, random, log }: AgentProcessOptions,
  onChange: () => void,
): CanaryRunner | undefined {
  if (config.canary === undefined) return undefined;
  const { target, intervalMs } = config.canary;
  return new CanaryRunner({
    dial: (svid, signal) => dialProxy({ target, svid, timeoutMs: CANARY_TIMEOUT_MS, clock }, signal),
    intervalMs,
    clock,
    random,
    log,
    onChange,
  });
}

/** Reads the token anew each time; for the first time at once, while the rest of the agent is still being made. */
function tokenReader(path: string, clock: Clock): () => Promise<string> {
  const staleAtMs = clock.monotonic() + EARLY_TOKEN_MS;
  let early: Promise<string> | null = readToken(path);
  // Whoever asks for it is told.
  early.catch(() => {});
  return () => {
    const token = early !== null && clock.monotonic() < staleAtMs ? early : readToken(path);
    early = null;
    return token;
  };
}

/** Both results once both are settled, so that nothing goes on behind the back of whoever closes up. */
async function bothOrNeither<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([a, b]);
  return await Promise.all([a, b]);
}

/** Serves /metrics, /livez and /readyz; gives the port. Loaded only where it is asked for. */
async function listenHttp(
  address: string,
  { config, clock }: AgentProcessOptions,
  agent: Agent,
  registry: MetricsRegistry,
  opened: (close: () => Promise<void>) => void,
): Promise<number> {
  const { HttpEndpoint } = await import('../host/http-endpoint.ts');
  const colon = address.lastIndexOf(':');
  const endpoint = new HttpEndpoint({
    clock,
    metrics: () => registry.render(),
    readiness: () => ({ ready: agent.unready === null, reason: agent.unready ?? 'ready' }),
    documents: new Map([['/identity', () => identityDocument(agent.state, config.trustDomain)]]),
  });
  const port = await endpoint.listen(
    address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'),
    Number(address.slice(colon + 1)),
  );
  opened(() => endpoint.close());
  return port;
}

/** Tells those who watch gRPC health, at each change of what the feeds have. Never rejects. */
async function showHealth(
  feeds: OpenFeeds,
  changes: Wakeup,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const seen = changes.generation;
    feeds.refreshHealth();
    // Only the end of the agent makes this reject; the loop sees it.
    await changes.sleep(seen, (end) => sleepUntilDeadline(clock, null, end), signal).catch(() => {});
  }
}

/** Watches from the first identity on: until then the agent has nothing to report, and its attempts come first. */
async function watchOnceServing(
  agent: Agent,
  reportWakeup: Wakeup,
  client: CaClient,
  readOwnToken: () => Promise<string>,
  { clock, random, log }: AgentProcessOptions,
  signal: AbortSignal,
): Promise<void> {
  try {
    while (agent.state.phase !== 'serving') {
      const seen = reportWakeup.generation;
      await reportWakeup.sleep(seen, (end) => sleepUntilDeadline(clock, null, end), signal);
    }
  } catch {
    return;
  }
  await runWatch(
    {
      client,
      readToken: readOwnToken,
      report: () => agent.report(),
      wakeup: reportWakeup,
      onBundle: (bundle) => agent.receiveBundle(bundle),
      onRenewalRequest: (request, caNowMs) => agent.receiveRenewalRequest(request, caNowMs),
      clock,
      random,
      log,
    },
    signal,
  );
}
