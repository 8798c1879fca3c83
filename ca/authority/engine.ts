import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { sleepUntilOrJumpBack } from '../../host/wall-clock-sleep.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import type { SigningIssuer } from '../issue/signing-issuer.ts';
import type { TrustStore } from '../store/trust-store.ts';
import type { Coverage } from './coverage.ts';
import { checkLifecycleSettings, type LifecycleSettings } from './lifecycle-settings.ts';
import type { MintingOptions } from './minting.ts';
import { Reconciler, type Wait } from './reconciler.ts';
import { changeTrustState } from './state-change.ts';
import { TrustHolder, type TrustListener } from './trust-holder.ts';
import type { TrustState } from './trust-state.ts';
import type { TrustView } from './trust-view.ts';
import { UpstreamObserver } from './upstream-observer.ts';
import { isUsable } from './usable-authority.ts';

/** What an {@link AuthorityEngine} is made of. The engine closes none of it. */
export interface AuthorityEngineOptions extends MintingOptions {
  readonly store: TrustStore;
  /** What the fleet holds now. */
  readonly coverage: () => Coverage;
  readonly clock: Clock;
  readonly log: Log;
  readonly settings: LifecycleSettings;
  /**
   * Lets a start wait for what does not pass by itself either, instead of rejecting: where whoever starts the process
   * would only start it again. Default false.
   */
  readonly patient?: boolean;
  /** How long one call to the store may take, milliseconds. Default 10 s. */
  readonly storeTimeoutMs?: number;
  /** How long it may take to get an anchor or an issuer, milliseconds. Default 60 s. */
  readonly mintTimeoutMs?: number;
}

/** How the engine is, for `/readyz` and for people. */
export interface AuthorityHealth {
  /** Whether SVIDs can be signed. */
  readonly ok: boolean;
  /** Whether something keeps the lifecycle from going on; what it has still serves while `ok`. */
  readonly degraded: boolean;
  /** What is wrong, or what comes next. */
  readonly reason: string;
}

const STORE_TIMEOUT_MS = 10_000;
/** Base and ceiling of the waits after a failure, milliseconds. */
const BACKOFF = { baseMs: 500, capMs: 30_000 } as const;

/** What waiting does not cure. A CA that starts says so at once; one that runs goes on with what it has. */
const LASTING: readonly ErrorCode[] = [
  'trust_domain_mismatch',
  'trust_state_invalid',
  'store_corrupt',
  'store_newer_version',
  'key_sealed',
  'key_not_found',
  'key_algorithm_unsupported',
  'issuer_unavailable',
];

interface Failure {
  readonly error: unknown;
  readonly sinceMs: number;
}

/**
 * Drives the lifecycle of the trust domain's authorities, and shows what to sign with and what to trust.
 *
 * Any number of replicas run one each on the same store. With the store or the upstream away it retries with
 * back-off and jitter, and the view stays: signing goes on as long as the issuer is valid.
 */
export class AuthorityEngine {
  readonly #options: AuthorityEngineOptions;
  readonly #holder: TrustHolder;
  readonly #reconciler: Reconciler;
  readonly #observer: UpstreamObserver;
  /** Wakes the loop when another replica has changed the state. */
  readonly #changes = new Wakeup();
  readonly #stopping = new AbortController();
  #loops: Promise<unknown> = Promise.resolve();
  /** Null while the last pass went well. */
  #failure: Failure | null = null;
  /** What the last good pass waits for. */
  #wait: Wait | null = null;

  /** Throws `config_invalid` for settings under which no fleet could live. */
  constructor(options: AuthorityEngineOptions) {
    checkLifecycleSettings(options.settings);
    this.#options = options;
    this.#holder = new TrustHolder(options);
    const { mintTimeoutMs = 60_000 } = options;
    this.#observer = new UpstreamObserver({
      ...options,
      state: () => this.knownState,
      onChange: () => this.#changes.wake(),
      timeoutMs: mintTimeoutMs,
    });
    this.#reconciler = new Reconciler({
      ...options,
      holder: this.#holder,
      minting: options,
      upstreamSight: () => this.#observer.sight,
      onRefused: () => this.#observer.look(),
      storeTimeoutMs: options.storeTimeoutMs ?? STORE_TIMEOUT_MS,
      mintTimeoutMs,
    });
  }

  /**
   * Resolves once an issuer can sign, having made anchor and issuer where there are none; then goes on by itself, also
   * with what could not be done at first, such as to have a next issuer minted.
   * Rejects at once with an error that waiting does not cure, unless it is `patient`; retries others until `signal`
   * aborts, and rejects with the last of them. Call it once.
   */
  async start(signal: AbortSignal): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#pass(signal);
        this.#requireIssuer();
        break;
      } catch (error) {
        const lasting = !(this.#options.patient ?? false) && isKedgeError(error, ...LASTING);
        if (signal.aborted || lasting) throw error;
        // What could not be done is not needed yet: an upstream that is away keeps nobody from signing.
        if (this.signingIssuer() !== null) {
          this.#noteFailure(error);
          break;
        }
        await this.#backOff(attempt, error, signal).catch(() => Promise.reject(error));
      }
    }
    const { signal: stop } = this.#stopping;
    this.#loops = Promise.all([this.#drive(stop), this.#follow(stop), this.#observer.run(stop)]);
  }

  /** Resolves when nothing runs any more. The view stays. Harmless when repeated. */
  async stop(): Promise<void> {
    this.#stopping.abort(new KedgeError('shutting_down', 'the authority engine stops'));
    await this.#loops;
  }

  /**
   * What to trust and what to sign with, now. `signingIssuer` is null while no issuer may sign (expired, tainted,
   * key not usable). Throws `issuer_unavailable` before the first state was read.
   */
  current(): TrustView {
    const view = this.#holder.view;
    if (view === null) {
      throw new KedgeError('issuer_unavailable', 'the CA has not read its trust state yet', {
        retryAfterMs: 1_000,
      });
    }
    const { signingIssuer } = view;
    // Looked at each time: no timer is as sure as that, with a clock that may jump.
    if (signingIssuer === null || isUsable(signingIssuer.issuer, this.#options.clock.now())) return view;
    return { ...view, signingIssuer: null };
  }

  /** The newest trust state that was read; null before the first. Cheap. */
  get knownState(): TrustState | null {
    return this.#holder.view?.state ?? null;
  }

  /** The issuer that signs now, or null. Cheap. */
  signingIssuer(): SigningIssuer | null {
    return this.#holder.view === null ? null : this.current().signingIssuer;
  }

  /** Calls `listener` with each new view, at once after it is in force. Gives what ends that. */
  onChange(listener: TrustListener): () => void {
    return this.#holder.onChange(listener);
  }

  /**
   * Changes the trust state as an operator asks; the lifecycle goes on from there at once. Gives the state that is
   * stored then. Errors as {@link changeTrustState} has them.
   */
  async change(change: (state: TrustState) => TrustState, signal: AbortSignal): Promise<TrustState> {
    const { store, clock, storeTimeoutMs: timeoutMs = STORE_TIMEOUT_MS } = this.#options;
    const knownSequence = this.current().bundle.sequence;
    try {
      return await changeTrustState({ store, clock, timeoutMs, knownSequence }, change, signal);
    } finally {
      this.#changes.wake();
    }
  }

  health(): AuthorityHealth {
    const ok = this.signingIssuer() !== null;
    const failure = this.#failure;
    if (failure !== null) {
      const since = new Date(failure.sinceMs).toISOString();
      const what = failure.error instanceof Error ? failure.error.message : 'unknown';
      return { ok, degraded: true, reason: `since ${since}: ${what}` };
    }
    const { problem } = this.#observer;
    const reason = this.#wait?.reason ?? 'not started';
    return problem === null
      ? { ok, degraded: false, reason }
      : { ok, degraded: true, reason: `${reason}; ${problem}` };
  }

  /** Runs the lifecycle, for ever: sleeps until it is due or another replica has changed the state. */
  async #drive(signal: AbortSignal): Promise<void> {
    let attempt = 0;
    while (!signal.aborted) {
      try {
        const generation = this.#changes.generation;
        const { untilMs } = await this.#pass(signal);
        attempt = 0;
        const { clock } = this.#options;
        const sleep = (until: AbortSignal): Promise<void> => sleepUntilOrJumpBack(clock, untilMs, until);
        await this.#changes.sleep(generation, sleep, signal);
      } catch (error) {
        attempt += 1;
        await this.#backOff(attempt, error, signal).catch(() => undefined);
      }
    }
  }

  /** Watches the store, for ever. That it cannot is found again, and reported, by the pass which that wakes. */
  async #follow(signal: AbortSignal): Promise<void> {
    let attempt = 0;
    while (!signal.aborted) {
      try {
        for await (const { version } of this.#options.store.watch(signal)) {
          attempt = 0;
          if (version !== this.#holder.version) this.#changes.wake();
        }
      } catch (error) {
        if (signal.aborted) return;
        attempt += 1;
        this.#options.log.warn('trust_store.watch_failed', errorFields(error));
        this.#changes.wake();
        const waitMs = Math.ceil(backoffMs(attempt, BACKOFF, this.#options.random));
        await this.#options.clock.sleep(waitMs, signal).catch(() => undefined);
      }
    }
  }

  async #pass(signal: AbortSignal): Promise<Wait> {
    const wait = await this.#reconciler.reconcile(signal);
    if (this.#failure !== null) this.#options.log.info('authority_engine.recovered');
    this.#failure = null;
    this.#wait = wait;
    return wait;
  }

  /** Throws unless an issuer can sign; it may pass when one is about to. */
  #requireIssuer(): void {
    if (this.signingIssuer() !== null) return;
    const reason = this.#wait?.reason ?? '';
    throw new KedgeError('issuer_unavailable', `the CA has no issuer that may sign: ${reason}`, {
      hint: 'check the clock of this machine; an expired or tainted trust anchor must be rotated',
    });
  }

  #noteFailure(error: unknown): void {
    this.#failure = { error, sinceMs: this.#failure?.sinceMs ?? this.#options.clock.now() };
  }

  async #backOff(attempt: number, error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { clock, log, random } = this.#options;
    this.#noteFailure(error);
    const retryAfterMs = isKedgeError(error) ? error.retryAfterMs : undefined;
    const waitMs = Math.ceil(backoffMs(attempt, BACKOFF, random, retryAfterMs));
    log.warn('authority_engine.failed', { ...errorFields(error), attempt, retryInMs: waitMs });
    await clock.sleep(waitMs, signal);
  }
}
