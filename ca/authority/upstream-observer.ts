import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { withDeadline } from '../../host/deadline.ts';
import { errorFields, type Log } from '../../host/log.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { equalBytes } from '../../pki/bytes.ts';
import { checkedAnchor, type MintingOptions } from './minting.ts';
import type { TrustState } from './trust-state.ts';
import type { UpstreamSight } from './upstream-sight.ts';

/** What an {@link UpstreamObserver} is made of. It closes none of it. */
export interface UpstreamObserverOptions extends MintingOptions {
  /** The newest trust state; null before the first was read. */
  readonly state: () => TrustState | null;
  /** Told each time that the sight has changed. */
  readonly onChange: () => void;
  readonly clock: Clock;
  readonly log: Log;
  /** How long one look may take, milliseconds. */
  readonly timeoutMs: number;
}

/** An upstream that says nothing is asked so often, milliseconds. */
const LOOK_MS = 300_000;
const BACKOFF = { baseMs: 1_000, capMs: 60_000 } as const;

/**
 * Looks at what the upstream authority offers: an anchor, or an issuer, that the trust domain has not yet. It runs
 * beside the lifecycle and holds up nothing: while the upstream does not answer, the last sight stays.
 */
export class UpstreamObserver {
  readonly #options: UpstreamObserverOptions;
  readonly #looks = new Wakeup();
  #sight: UpstreamSight;
  /** Why the last look failed; null = it did not. */
  #failure: string | null = null;

  constructor(options: UpstreamObserverOptions) {
    this.#options = options;
    const { upstream, formerUpstreams = [] } = options;
    this.#sight = {
      kind: upstream.kind,
      givesIssuers: upstream.givenIssuer !== undefined,
      mintable: [upstream, ...formerUpstreams].map(({ kind }) => kind),
      offered: null,
      issuerUnder: [],
    };
  }

  /** What was seen last. An anchor of it may be in the trust state by now. */
  get sight(): UpstreamSight {
    return this.#sight;
  }

  /** What is wrong at the upstream, in words; null = nothing. */
  get problem(): string | null {
    const { upstream } = this.#options;
    const problem = this.#failure ?? upstream.problem?.() ?? null;
    return problem === null ? null : `upstream authority (${upstream.kind}): ${problem}`;
  }

  /** Has the upstream looked at soon. */
  look(): void {
    this.#looks.wake();
  }

  /** Looks whenever there may be something to see, until the signal aborts. An upstream of our own offers nothing. */
  async run(signal: AbortSignal): Promise<void> {
    if (this.#options.upstream.kind === 'self') return;
    await Promise.all([this.#look(signal), this.#follow(signal)]);
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const generation = this.#looks.generation;
      try {
        await this.#lookOnce(signal);
        if (failures > 0) log.info('upstream.recovered');
        failures = 0;
        this.#failure = null;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        this.#failure = error instanceof Error ? error.message : 'unknown';
        log.warn('upstream.look_failed', { ...errorFields(error), failures });
      }
      const waitMs = failures === 0 ? LOOK_MS : Math.ceil(backoffMs(failures, BACKOFF, random));
      await this.#looks
        .sleep(generation, (signal) => clock.sleep(waitMs, signal), signal)
        .catch((error: unknown) => {
          if (!signal.aborted) throw error;
        });
    }
  }

  async #lookOnce(signal: AbortSignal): Promise<void> {
    const { state: current, clock, timeoutMs, upstream, onChange } = this.#options;
    const state = current();
    if (state === null) return;
    const nowMs = clock.now();
    const known = state.anchors.map(({ certificate }) => certificate);
    const deadline = { clock, timeoutMs, what: `the upstream authority (${upstream.kind})` };
    const seen = await withDeadline(deadline, signal, async (signal) => {
      const offered = await upstream.newAnchor({ known, notBeforeMs: nowMs, notAfterMs: nowMs }, signal);
      return { offered, issuerUnder: await this.#issuerUnder(state, signal) };
    });
    const offered = seen.offered === null ? null : checkedAnchor(seen.offered, nowMs, this.#options);
    const before = this.#sight;
    this.#sight = { ...before, offered, issuerUnder: seen.issuerUnder };
    const isSame =
      equalBytes(before.offered?.certificate ?? NOTHING, offered?.certificate ?? NOTHING) &&
      before.issuerUnder.join() === seen.issuerUnder.join();
    if (isSame) return;
    this.#options.log.info('upstream.changed', {
      kind: upstream.kind,
      anchor: offered?.id ?? null,
      issuerUnder: seen.issuerUnder,
    });
    onChange();
  }

  /** Under which anchors of the trust state the upstream gives an issuer that is not known. */
  async #issuerUnder(state: TrustState, signal: AbortSignal): Promise<readonly string[]> {
    const { upstream } = this.#options;
    const known = state.issuers.map(({ certificate }) => certificate);
    const under: string[] = [];
    for (const anchor of state.anchors.filter(({ upstream: kind }) => kind === upstream.kind)) {
      const given = (await upstream.givenIssuer?.({ anchor, known }, signal)) ?? null;
      if (given !== null) under.push(anchor.id);
    }
    return under;
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { upstream, clock, random, log } = this.#options;
    let attempt = 0;
    while (!signal.aborted) {
      try {
        for await (const _ of upstream.watch(signal)) {
          attempt = 0;
          this.look();
        }
      } catch (error) {
        if (signal.aborted) return;
        log.warn('upstream.watch_failed', errorFields(error));
      }
      if (signal.aborted) return;
      attempt += 1;
      await clock.sleep(Math.ceil(backoffMs(attempt, BACKOFF, random)), signal).catch(() => undefined);
    }
  }
}

const NOTHING = new Uint8Array();
