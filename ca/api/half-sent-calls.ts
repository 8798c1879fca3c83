import type { Clock } from '../../host/clock.ts';
import { KedgeError } from '../../pki/kedge-error.ts';

/** A call whose message has not come whole. */
export interface HalfSentCall {
  /** Ends the call with a refusal. */
  refuse(error: KedgeError): void;
  /** Ends the call and frees what has come of its message. */
  cut(): void;
}

/** Holder of the calls that need no token. No workload instance has that name: theirs hold a slash. */
export const ANYONE = '';

/**
 * Half-sent calls at once: of everyone without a token together, and of each attested workload instance. More than
 * one connection can have, for clients send the headers of several calls before the first message.
 */
export const HALF_SENT_CALLS = { anyone: 64, instance: 64 } as const;

/** A message must be whole so many milliseconds after its headers. */
export const MESSAGE_TIMEOUT_MS = 10_000;

/**
 * The calls that were let in by their headers and still owe their message: few for each holder, and none for long.
 *
 * When a holder has too many, its oldest is cut and not the new one refused: an honest call sends its message right
 * behind its headers and is gone before its turn comes, so that who stalls crowds out nobody but others who stall.
 */
export class HalfSentCalls {
  readonly #clock: Clock;
  /** By holder; of each its calls in the order in which they came, with that time on the monotonic clock. */
  readonly #byHolder = new Map<string, Map<HalfSentCall, number>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How many calls owe their message. */
  get size(): number {
    let size = 0;
    for (const calls of this.#byHolder.values()) size += calls.size;
    return size;
  }

  add(holder: string, call: HalfSentCall): void {
    const calls = this.#byHolder.get(holder) ?? new Map<HalfSentCall, number>();
    const max = holder === ANYONE ? HALF_SENT_CALLS.anyone : HALF_SENT_CALLS.instance;
    if (calls.size >= max) {
      const [oldest] = calls.keys();
      if (oldest !== undefined) this.#end(holder, oldest, crowdedOut(max));
    }
    calls.set(call, this.#clock.monotonic());
    this.#byHolder.set(holder, calls);
  }

  /** The message has come, or the call is over. Harmless when repeated. */
  delete(holder: string, call: HalfSentCall): void {
    const calls = this.#byHolder.get(holder);
    calls?.delete(call);
    if (calls?.size === 0) this.#byHolder.delete(holder);
  }

  /** Cuts the calls that are overdue. Call it each second. */
  sweep(): void {
    const overdueMs = this.#clock.monotonic() - MESSAGE_TIMEOUT_MS;
    for (const [holder, calls] of this.#byHolder) {
      for (const [call, sinceMs] of calls) {
        if (sinceMs <= overdueMs) this.#end(holder, call, overdue());
      }
    }
  }

  #end(holder: string, call: HalfSentCall, error: KedgeError): void {
    this.delete(holder, call);
    call.refuse(error);
    // A refusal alone frees nothing: grpc-js keeps what has come until the peer ends its side too.
    call.cut();
  }
}

function crowdedOut(max: number): KedgeError {
  return new KedgeError('overloaded', `over ${max} calls of this caller have not sent their message`, {
    hint: 'send the message together with its headers',
    retryAfterMs: 1_000,
  });
}

function overdue(): KedgeError {
  const message = `the message of the call did not come within ${MESSAGE_TIMEOUT_MS / 1000} s`;
  return new KedgeError('deadline_exceeded', message, { hint: 'try again' });
}
