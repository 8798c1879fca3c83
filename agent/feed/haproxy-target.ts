import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { Wakeup } from '../../host/wakeup.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { type Deadline, instantOf, msUntil } from '../deadline.ts';
import { expiryOf } from '../renewal.ts';
import type { HaproxyMaterial } from './haproxy-material.ts';
import { type AskHaproxy, emptyLedger, type HaproxyFiles, updateHaproxy } from './haproxy-update.ts';

/** How often a HAProxy that has everything is asked whether it still is the same one, milliseconds. */
export const POLL_MS = 2_000;
/** Waits between tries after a failure. */
const RETRY_BACKOFF = { baseMs: 200, capMs: 2_000 };

/** How long a transaction under way may still take when the agent ends, milliseconds. */
const CLOSE_GRACE_MS = 3_000;

/** Failures after which HAProxy goes on with what it had in use. */
const STILL_IN_USE: ReadonlySet<ErrorCode> = new Set([
  'haproxy_refused',
  'haproxy_payload_too_large',
  'haproxy_reload_needed',
]);

/** What a {@link HaproxyTarget} is made of. */
export interface HaproxyTargetOptions {
  /** Printable ASCII, at most 64 characters. */
  readonly name: string;
  /** Sends one command; throws as `askHaproxy` does. */
  readonly ask: (command: string, signal: AbortSignal) => Promise<string>;
  readonly files: HaproxyFiles;
  /** What takes the place of a certificate that has expired while the next one is not taken. */
  readonly placeholder: HaproxyMaterial;
  /** Longest command that HAProxy takes, bytes. */
  readonly maxCommandBytes: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Called after each change of what this target has. */
  readonly onChange: () => void;
}

/** The certificate in use, and until when it may be. */
interface InUse {
  readonly material: HaproxyMaterial;
  /** Null = for ever: the placeholder. */
  readonly expiry: Deadline | null;
}

interface Waiter {
  readonly material: HaproxyMaterial;
  readonly settle: (error: unknown) => void;
}

/**
 * Keeps one HAProxy at the newest material, by itself: through its restarts, refusals and silences, and without a
 * regard for any other HAProxy. The newest wins: what is offered while HAProxy is busy replaces what waited.
 *
 * HAProxy never goes on with a certificate that has expired: where it does not take the next one, it is brought the
 * placeholder when the one in use ends.
 */
export class HaproxyTarget {
  readonly name: string;
  readonly #options: HaproxyTargetOptions;
  readonly #wakeup = new Wakeup();
  readonly #ledger = emptyLedger();
  /** Ends the loop after the attempt under way. */
  readonly #stop = new AbortController();
  /** Ends the attempt under way. */
  readonly #kill = new AbortController();
  readonly #running: Promise<void>;
  readonly #waiters = new Set<Waiter>();
  #wanted: HaproxyMaterial | null = null;
  #loaded: HaproxyMaterial | null = null;
  #inUse: InUse | null = null;
  #errorCode: ErrorCode | null = null;
  #failures = 0;

  constructor(options: HaproxyTargetOptions) {
    this.name = options.name;
    this.#options = options;
    this.#running = this.#run();
  }

  /**
   * What HAProxy was last shown to have in use, whole; null = nothing, or it cannot be shown now. A refusal leaves it as
   * it is: the older one is still in use.
   */
  get loaded(): HaproxyMaterial | null {
    return this.#loaded;
  }

  /** Why it has not what it is to hold; null = it has, or has not been tried yet. */
  get errorCode(): ErrorCode | null {
    return this.#errorCode;
  }

  /**
   * Makes `material` what HAProxy is to hold. Resolves when it was shown to hold it; rejects with the error of the
   * first try that failed, when something newer was offered, or with the reason of `signal`. In any case it is tried
   * again until it is there.
   */
  async bring(material: HaproxyMaterial, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#wanted === material && this.#loaded === material) return;
    this.#wanted = material;
    const settled = Promise.withResolvers<void>();
    const waiter: Waiter = {
      material,
      settle: (error) => (error === null ? settled.resolve() : settled.reject(error)),
    };
    const abort = (): void => settled.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    this.#waiters.add(waiter);
    this.#wakeup.wake();
    try {
      await settled.promise;
    } finally {
      this.#waiters.delete(waiter);
      signal.removeEventListener('abort', abort);
    }
  }

  /**
   * Ends the work on this HAProxy. A transaction under way is finished, so that none is left open, unless HAProxy takes
   * longer than {@link CLOSE_GRACE_MS}: that one is dropped by the next agent.
   */
  async close(): Promise<void> {
    const reason = new KedgeError('cancelled', 'the agent is closing');
    this.#stop.abort(reason);
    const timer = new AbortController();
    this.#options.clock.sleep(CLOSE_GRACE_MS, timer.signal).then(
      () => this.#kill.abort(reason),
      () => {},
    );
    await this.#running;
    timer.abort();
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const seen = this.#wakeup.generation;
      await this.#attempt(this.#wanted, this.#kill.signal);
      const waitMs = Math.min(this.#failures === 0 ? POLL_MS : this.#backoffMs(), this.#msUntilExpiry());
      try {
        await this.#wakeup.sleep(seen, (end) => clock.sleep(waitMs, end), signal);
      } catch {
        // Only the end ends this sleep early; the loop sees it.
      }
    }
    for (const { settle } of this.#waiters) settle(signal.reason);
  }

  #backoffMs(): number {
    // Never at once: a HAProxy that refuses is not to be kept busy by it.
    return RETRY_BACKOFF.baseMs / 2 + backoffMs(this.#failures, RETRY_BACKOFF, this.#options.random);
  }

  /** Of a certificate in use that has not expired yet; a poll comes in time for all others. */
  #msUntilExpiry(): number {
    const expiry = this.#inUse?.expiry ?? null;
    const leftMs = expiry === null ? 0 : msUntil(expiry, instantOf(this.#options.clock));
    return leftMs > 0 ? leftMs : Number.POSITIVE_INFINITY;
  }

  async #attempt(material: HaproxyMaterial | null, signal: AbortSignal): Promise<void> {
    let fault: unknown = null;
    try {
      await this.#update(material, signal);
    } catch (error) {
      if (signal.aborted) return;
      // A process that went silent may be another one next time; after a refusal it is the same.
      if (isKedgeError(error, 'haproxy_answer_invalid')) this.#ledger.crls = null;
      fault = error;
      if (this.#hasExpired()) await this.#replaceExpired(signal);
    }
    if (fault === null) this.#succeeded(material);
    else this.#failed(material, fault);
    for (const waiter of this.#waiters) if (waiter.material === material) waiter.settle(fault);
    for (const waiter of this.#waiters) if (waiter.material !== this.#wanted) waiter.settle(outdated());
  }

  async #update(material: HaproxyMaterial | null, signal: AbortSignal): Promise<void> {
    const { ask, files, maxCommandBytes, clock, log } = this.#options;
    const askNow: AskHaproxy = (command) => ask(command, signal);
    const onLeftover = ({ kind, path }: { kind: string; path: string }): void =>
      log.warn('haproxy.transaction_dropped', { consumer: this.name, kind, path });
    try {
      await updateHaproxy({ ask: askNow, files, maxCommandBytes, onLeftover }, material, this.#ledger);
    } finally {
      const { certificate } = this.#ledger;
      const notAfterMs = certificate?.snapshot?.svid.notAfterMs;
      if (certificate === null) this.#inUse = null;
      else if (certificate !== this.#inUse?.material) {
        const expiry = notAfterMs === undefined ? null : expiryOf(notAfterMs, instantOf(clock));
        this.#inUse = { material: certificate, expiry };
      }
    }
  }

  #hasExpired(): boolean {
    const expiry = this.#inUse?.expiry ?? null;
    return expiry !== null && msUntil(expiry, instantOf(this.#options.clock)) <= 0;
  }

  /** The one in use has expired, and HAProxy does not take the next one: it serves nothing instead. */
  async #replaceExpired(signal: AbortSignal): Promise<void> {
    const { placeholder, log } = this.#options;
    try {
      await this.#update(placeholder, signal);
    } catch (error) {
      // Its CAs or CRLs were not taken; what counts is the certificate.
      if (this.#ledger.certificate !== placeholder) {
        log.error('haproxy.withdrawal_failed', { consumer: this.name, error: errorFields(error) });
        return;
      }
    }
    this.#loaded = null;
    log.warn('haproxy.withdrawn', { consumer: this.name });
  }

  #succeeded(material: HaproxyMaterial | null): void {
    this.#failures = 0;
    const changed = this.#errorCode !== null || this.#loaded !== material;
    if (this.#loaded !== material && material !== null) {
      const generation = material.snapshot?.generation ?? null;
      this.#options.log.info('haproxy.loaded', { consumer: this.name, generation });
    }
    this.#errorCode = null;
    this.#loaded = material;
    if (changed) this.#options.onChange();
  }

  #failed(material: HaproxyMaterial | null, error: unknown): void {
    const { log, onChange } = this.#options;
    this.#failures += 1;
    const errorCode = isKedgeError(error) ? error.code : 'feed_failed';
    // Of a withdrawal only the CAs wait for a reload: the SVID is out of use.
    const isWithdrawn = errorCode === 'haproxy_reload_needed' && material?.snapshot === null;
    const isStillInUse = STILL_IN_USE.has(errorCode) && !isWithdrawn;
    const changed = this.#errorCode !== errorCode || (this.#loaded !== null && !isStillInUse);
    this.#errorCode = errorCode;
    if (!isStillInUse) this.#loaded = null;
    if (!changed) return;
    // Once for each reason: a HAProxy that is down for an hour is one line, not 1,800.
    const generation = material?.snapshot?.generation ?? null;
    log.warn('haproxy.failed', { consumer: this.name, generation, error: errorFields(error) });
    onChange();
  }
}

function outdated(): KedgeError {
  return new KedgeError('feed_failed', 'a newer identity was offered to HAProxy');
}
