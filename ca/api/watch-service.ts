import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../host/clock.ts';
import { errorFields } from '../../host/log.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { SpiffeId } from '../../pki/spiffe-id.ts';
import type { Attestor, WorkloadInstance } from '../attest/attestor.ts';
import type { RenewalDue } from '../authority/renewals.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Policy } from '../issue/policy.ts';
import type { Refusal } from '../issue/refusal.ts';
import { bearerTokenOf } from './bearer-token.ts';
import type { CurrentBundle } from './bundle-message.ts';
import { InstanceStreams } from './instance-streams.ts';
import { ReportRates } from './report-rate.ts';
import { addressOf, checkSizes, type HandlerContext } from './unary-method.ts';
import { type WatchCall, WatchStream } from './watch-stream.ts';

/** What a {@link WatchService} is made of. */
export interface WatchServiceOptions extends HandlerContext {
  readonly attestor: Attestor;
  /** The SPIFFE ID of an instance. Throws `spiffe_id_template_mismatch`. */
  readonly spiffeIdOf: (instance: WorkloadInstance) => SpiffeId;
  /** The policy in force; another object after each change. */
  readonly policy: () => Policy;
  readonly bundle: CurrentBundle;
  /** Who is to renew at this moment. */
  readonly renewalsDue: () => readonly RenewalDue[];
  readonly fleet: Fleet;
  /** Counts and records what is refused. */
  readonly refuse: (refusal: Refusal) => void;
  readonly clock: Clock;
  /** Cuts the connection that a peer (`address:port`) made. */
  readonly disconnect: (peer: string) => void;
  /** Streams over all instances. */
  readonly maxStreams: number;
}

const API = 'kedge.v1';

/** What is known of whoever opened a stream; attestation adds to it, and what it adds outlives a refusal. */
interface Caller {
  readonly address: string;
  instance?: WorkloadInstance;
  spiffeId?: SpiffeId;
}

/** How often streams are looked at, milliseconds. */
const SWEEP_MS = 1_000;
/** Streams that are pushed to in one turn of the event loop. */
const PUSH_SLICE = 256;
/** What an agent beyond the bounds is told to wait, milliseconds. */
const RETRY_AFTER_MS = 5_000;

/**
 * `kedge.v1.Identity/Watch`: keeps agents and CA in step.
 *
 * A stream is bound to the instance that its token proved when it was opened, and ends with that token: agents come
 * back with the current one, so that a pod that is gone cannot go on reporting.
 */
export class WatchService {
  readonly #options: WatchServiceOptions;
  readonly #streams = new Set<WatchStream>();
  readonly #byInstance = new InstanceStreams<WatchStream>();
  readonly #rates: ReportRates;
  /** The policy that every open stream has passed. */
  #policy: Policy;
  #closed = false;
  /** How many times everyone was to be pushed to. */
  #pushes = 0;
  /** Someone reported, or the trust state changed, since renewals were worked out last. */
  #renewalsStale = true;

  constructor(options: WatchServiceOptions) {
    this.#options = options;
    this.#policy = options.policy();
    this.#rates = new ReportRates(options.clock);
  }

  /** How many streams are open. */
  get streams(): number {
    return this.#streams.size;
  }

  /** The handler of the method. */
  open(call: WatchCall): void {
    const { clock, log, random, bundle, metrics, disconnect, refuse } = this.#options;
    const peer = call.getPeer();
    const caller: Caller = { address: addressOf(peer) };
    const stream = new WatchStream({
      call,
      clock,
      log,
      random,
      bundle: () => bundle.get(),
      disconnect: () => disconnect(peer),
      countReport: (instance) => this.#rates.take(instance),
      onReport: () => {
        this.#renewalsStale = true;
      },
      onRefusal: (error) => {
        const { address, instance, spiffeId } = caller;
        refuse({ event: 'watch.refused', api: API, error, instance, spiffeId, peer: { address } });
      },
      onEnd: (status) => {
        this.#byInstance.delete(stream);
        metrics.callEnded('kedge.v1.Identity/Watch', status);
      },
      onClosed: () => this.#streams.delete(stream),
    });
    this.#streams.add(stream);
    this.#admit(stream, call, caller).catch((error: unknown) => stream.refuse(error));
  }

  /** Pushes the bundle to everyone who was sent another one, and renewal requests to those who are due. */
  trustChanged(): void {
    this.#renewalsStale = true;
    this.#pushes += 1;
    void this.#pushAll(this.#pushes);
  }

  /** Looks at the streams each second until the signal aborts: overdue ones, renewals, denied identities. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#options.clock.sleep(SWEEP_MS, signal);
        this.sweep();
      } catch (error) {
        if (signal.aborted) return;
        this.#options.log.error('watch.sweep_failed', { error: errorFields(error) });
      }
    }
  }

  /** One look at the streams. */
  sweep(): void {
    const policy = this.#options.policy();
    const isNew = policy !== this.#policy;
    this.#policy = policy;
    for (const stream of this.#streams) {
      stream.sweep();
      if (isNew && !stream.over && stream.identity !== null)
        this.#checkAgain(stream, stream.identity.instance);
    }
    this.#rates.prune();
    if (this.#renewalsStale) this.#askForRenewals();
  }

  /** Ends every stream; new ones are refused. Agents come back to another replica, or after the restart. */
  close(): void {
    this.#closed = true;
    for (const stream of this.#streams) stream.dismiss(shuttingDown());
  }

  /** In slices, so that requests for SVIDs do not wait for thousands of streams. A later push takes over. */
  async #pushAll(push: number): Promise<void> {
    let done = 0;
    for (const stream of [...this.#streams]) {
      stream.push();
      done += 1;
      if (done % PUSH_SLICE === 0) await nextTurn();
      if (push !== this.#pushes) return;
    }
  }

  /** Begins the stream once its token was accepted. Throws what it is refused for. */
  async #admit(stream: WatchStream, call: WatchCall, caller: Caller): Promise<void> {
    const { attestor, spiffeIdOf, fleet, clock, maxStreams } = this.#options;
    if (this.#closed) throw shuttingDown();
    if (this.#streams.size > maxStreams) {
      throw new KedgeError('overloaded', `the CA has ${maxStreams} streams open, its limit`, {
        hint: 'try again, or another replica',
        retryAfterMs: RETRY_AFTER_MS,
      });
    }
    checkSizes(null, call.metadata);
    const leave = new AbortController();
    call.once('cancelled', () => leave.abort(new KedgeError('cancelled', 'the caller left')));
    const { address } = caller;
    const instance = await attestor.attest(bearerTokenOf(call.metadata), { address }, leave.signal);
    caller.instance = instance;
    const spiffeId = spiffeIdOf(instance);
    caller.spiffeId = spiffeId;
    this.#checkPolicy(instance);
    if (this.#closed) throw shuttingDown();
    // It ended while its token was looked at: its session would take the place of that of a live stream.
    if (stream.over) return;
    this.#byInstance.add(instance, stream, RETRY_AFTER_MS);
    stream.begin({ instance, session: fleet.connect(instance, spiffeId.toString(), clock.now()) });
  }

  #askForRenewals(): void {
    this.#renewalsStale = false;
    const dues = new Map(this.#options.renewalsDue().map((due) => [due.instanceId, due]));
    if (dues.size === 0) return;
    for (const stream of this.#streams) {
      const due = dues.get(stream.identity?.instance.podUid ?? '');
      if (due !== undefined) stream.askToRenew(due);
    }
  }

  /** Throws `identity_denied`, and what the policy cannot decide. */
  #checkPolicy(instance: WorkloadInstance): void {
    const decision = this.#options.policy().decide(instance);
    if (decision.kind === 'granted') return;
    throw new KedgeError('identity_denied', 'the policy denies this identity', {
      hint: `the policy's reason: ${decision.reason}`,
    });
  }

  #checkAgain(stream: WatchStream, instance: WorkloadInstance): void {
    try {
      this.#checkPolicy(instance);
    } catch (error) {
      stream.refuse(error);
    }
  }
}

function shuttingDown(): KedgeError {
  return new KedgeError('shutting_down', 'this CA is shutting down', {
    hint: 'connect again',
    retryAfterMs: 1_000,
  });
}
