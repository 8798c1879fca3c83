import { backoffMs } from '../../../host/backoff.ts';
import type { Clock } from '../../../host/clock.ts';
import { errorFields, type Log } from '../../../host/log.ts';
import type { Random } from '../../../host/random.ts';
import { Wakeup } from '../../../host/wakeup.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import type { JsonMembers } from './vault-answer.ts';
import type { VaultCall, VaultClient } from './vault-client.ts';
import { isGood, logIn, renew, type VaultLease } from './vault-login.ts';
import type { VaultLogin } from './vault-settings.ts';

/** What a {@link VaultSession} is made of. */
export interface VaultSessionOptions {
  readonly client: VaultClient;
  readonly login: VaultLogin;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** A lease with the moments of our monotonic clock at which something is due, milliseconds. */
interface Held {
  readonly lease: VaultLease;
  /** Renewal, or a new login; infinite for a token without an end. */
  readonly renewAtMs: number;
  readonly endsAtMs: number;
}

/** Of a lease's time, what passes before it is renewed. */
const RENEW_AFTER = 2 / 3;
/** A renewal that gives less than this share of what the login gave has met the token's longest life. */
const WORTHWHILE = 0.5;
/** A token counts as ended that much early: a call takes its time. */
const END_MARGIN_MS = 5_000;
/** A token without an end is looked at again that often: its file may hold another. */
const LOOK_AGAIN_MS = 300_000;
const BACKOFF = { baseMs: 1_000, capMs: 60_000 } as const;

/**
 * A token of Vault that is good: logs in when it is first needed, renews before it ends, logs in again where that is
 * no longer possible, or where Vault suddenly takes it no more. Any number of callers; one login at a time.
 */
export class VaultSession {
  readonly #options: VaultSessionOptions;
  #held: Held | null = null;
  /** What the login gave, seconds. */
  #grantedSeconds = 0;
  #pending: Promise<Held> | null = null;
  /** Tells the loop that keeps the token alive that there is another one. */
  readonly #changes = new Wakeup();

  constructor(options: VaultSessionOptions) {
    this.#options = options;
  }

  /**
   * Makes a call with the token. A token that turns out to be good no more is replaced, and the call made once
   * again; a good one that may not is `vault_forbidden`. Throws what {@link logIn} and the client throw.
   */
  async call(call: Omit<VaultCall, 'token'>, signal: AbortSignal): Promise<JsonMembers> {
    const { client } = this.#options;
    const held = await this.#current(signal);
    const { token } = held.lease;
    try {
      return await client.call({ ...call, token }, signal);
    } catch (error) {
      if (!isKedgeError(error, 'vault_forbidden') || (await isGood(token, client, signal))) throw error;
      if (this.#held === held) this.#held = null;
      const { token: next } = (await this.#current(signal)).lease;
      // The same token from the same file: nothing else will come of it.
      if (next === token) throw error;
      return client.call({ ...call, token: next }, signal);
    }
  }

  /** Keeps the token alive, from the first login on, until `signal` aborts. Never rejects. */
  async keepAlive(signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const { generation } = this.#changes;
      const dueMs = this.#held?.renewAtMs ?? Number.POSITIVE_INFINITY;
      const waitMs =
        failures > 0
          ? backoffMs(failures, BACKOFF, random)
          : Math.min(Math.max(dueMs - clock.monotonic(), 0), LOOK_AGAIN_MS);
      const sleep = (end: AbortSignal): Promise<void> => clock.sleep(waitMs, end);
      const isOther = await this.#changes.sleep(generation, sleep, signal).catch(() => false);
      if (signal.aborted) return;
      if (this.#held === null || isOther) continue;
      try {
        if (this.#options.login.kind === 'token') await this.#followFile(signal);
        if (clock.monotonic() >= this.#held.renewAtMs) await this.#refresh(signal);
        failures = 0;
      } catch (error) {
        failures += 1;
        if (!signal.aborted) log.warn('vault.token_not_renewed', { ...errorFields(error), failures });
      }
    }
  }

  /** The token in force, after what was due. */
  async #current(signal: AbortSignal): Promise<Held> {
    const { clock } = this.#options;
    const held = this.#held;
    if (held !== null && clock.monotonic() < held.renewAtMs) return held;
    try {
      return await this.#refresh(signal);
    } catch (error) {
      signal.throwIfAborted();
      // It could not be renewed in time, but still is good.
      if (held !== null && clock.monotonic() < held.endsAtMs) return held;
      throw error;
    }
  }

  /** Renews, or logs in; one at a time, for all who wait. */
  async #refresh(signal: AbortSignal): Promise<Held> {
    for (;;) {
      signal.throwIfAborted();
      const own = this.#pending === null;
      this.#pending ??= this.#next(this.#held, signal).finally(() => {
        this.#pending = null;
      });
      try {
        return await this.#pending;
      } catch (error) {
        // What ended may have been another caller, whose login this one only waited for.
        if (own || isKedgeError(error)) throw error;
      }
    }
  }

  async #next(held: Held | null, signal: AbortSignal): Promise<Held> {
    const { client, clock, log, login } = this.#options;
    if (held !== null && held.lease.renewable && clock.monotonic() < held.endsAtMs) {
      try {
        const lease = await renew(held.lease.token, client, signal);
        if (lease.seconds >= this.#grantedSeconds * WORTHWHILE) return this.#hold(lease);
      } catch (error) {
        if (!isKedgeError(error, 'vault_forbidden', 'vault_refused')) throw error;
        log.info('vault.token_not_renewable', errorFields(error));
      }
    }
    const lease = await logIn(login, client, signal);
    this.#grantedSeconds = lease.seconds;
    log.info('vault.logged_in', {
      login: login.kind,
      leaseSeconds: lease.seconds,
      renewable: lease.renewable,
    });
    return this.#hold(lease);
  }

  #hold(lease: VaultLease): Held {
    const nowMs = this.#options.clock.monotonic();
    const lifeMs = lease.seconds === 0 ? Number.POSITIVE_INFINITY : lease.seconds * 1_000;
    const marginMs = Math.min(END_MARGIN_MS, lifeMs / 10);
    this.#changes.wake();
    this.#held = { lease, renewAtMs: nowMs + lifeMs * RENEW_AFTER, endsAtMs: nowMs + lifeMs - marginMs };
    return this.#held;
  }

  /** Another token in the file takes the place of the one in use, without waiting for its end. */
  async #followFile(signal: AbortSignal): Promise<void> {
    const { client, login } = this.#options;
    const held = this.#held;
    if (held === null) return;
    const lease = await logIn(login, client, signal);
    if (lease.token === held.lease.token || this.#held !== held) return;
    this.#grantedSeconds = lease.seconds;
    this.#hold(lease);
  }
}
