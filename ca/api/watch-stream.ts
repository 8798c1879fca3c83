import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import { type RefusalContext, refusalOf } from '../../host/grpc-errors.ts';
import { decodeMessage } from '../../host/grpc-service.ts';
import { serviceError } from '../../host/grpc-service-error.ts';
import { type GrpcStatus, grpcStatusName } from '../../host/grpc-status.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { WatchRequest, WatchResponse } from '../../proto/gen/kedge/v1/identity.ts';
import type { WorkloadInstance } from '../attest/attestor.ts';
import type { RenewalDue } from '../authority/renewals.ts';
import type { FleetSession } from '../fleet/fleet.ts';
import { type ReportedState, readReport } from '../fleet/reported-state.ts';
import type { BundleMessage } from './bundle-message.ts';
import { checkMessageSize } from './unary-method.ts';

/** The gRPC side of one Watch stream, with its messages encoded. */
export type WatchCall = ServerDuplexStream<Buffer, Uint8Array>;

/** What a {@link WatchStream} is made of. */
export interface WatchStreamOptions extends RefusalContext {
  readonly call: WatchCall;
  readonly clock: Clock;
  /** The bundle that the agent is to hold now. */
  readonly bundle: () => BundleMessage;
  /** Cuts the connection of an agent that reads nothing: no status would reach it. */
  readonly disconnect: () => void;
  /** Told of what the stream is refused for, before it is over; not of an end that was to be expected. */
  readonly onRefusal: (error: unknown) => void;
  /** Told once, when the stream is over: nothing of it counts any more. */
  readonly onEnd: (status: GrpcStatus) => void;
  /** Told once, later, when gRPC is done with it too. */
  readonly onClosed: () => void;
  /** Counts a message of an instance. Throws `report_rate_exceeded`. */
  readonly countReport: (instance: WorkloadInstance) => void;
  /** Told of each report that was taken. */
  readonly onReport: () => void;
}

/** What attestation gave a stream. */
export interface WatchIdentity {
  readonly instance: WorkloadInstance;
  readonly session: FleetSession;
}

/** The first report is due so long after the stream was opened, milliseconds. */
const FIRST_REPORT_MS = 10_000;
/** An agent that leaves a message unread for so long is disconnected, milliseconds. */
const STALL_MS = 30_000;

/**
 * One agent's Watch stream: takes its reports, gives it the newest bundle and the newest renewal request.
 *
 * At most one message is on its way; what changes meanwhile replaces what waits. So a slow agent costs one message of
 * memory and gets the newest state, never a backlog.
 */
export class WatchStream {
  readonly #options: WatchStreamOptions;
  readonly #openedAtMs: number;
  #identity: WatchIdentity | null = null;
  #report: ReportedState | null = null;
  /** When the stream was over, on the monotonic clock; null = it is not. */
  #overAtMs: number | null = null;
  /** Since when a message has not been taken, on the monotonic clock; null = none is on its way. */
  #writingSinceMs: number | null = null;
  #sentBundle: BundleMessage | null = null;
  #renewal: RenewalDue | null = null;
  /** The issuer that the agent was last asked to renew under. */
  #askedFor: string | null = null;

  constructor(options: WatchStreamOptions) {
    this.#options = options;
    this.#openedAtMs = options.clock.monotonic();
    options.call.on('cancelled', () => this.#finish('CANCELLED'));
    options.call.on('close', () => {
      this.#finish('CANCELLED');
      options.onClosed();
    });
  }

  get over(): boolean {
    return this.#overAtMs !== null;
  }

  /** Null until the token was accepted. */
  get identity(): WatchIdentity | null {
    return this.#identity;
  }

  /** Begins: the token was accepted, and the stream is not over. Until then nothing is read. */
  begin(identity: WatchIdentity): void {
    const { call } = this.#options;
    this.#identity = identity;
    call.on('data', (bytes: Buffer) => this.#onMessage(bytes));
    // An agent that sends no more is leaving.
    call.on('end', () => {
      if (this.over) return;
      this.#finish('OK');
      call.end();
    });
  }

  /** Sends what is newer than what the agent was sent. */
  push(): void {
    if (this.#report !== null && this.#writingSinceMs === null) this.#writeNext();
  }

  /** Asks the agent to renew; once for each issuer. */
  askToRenew(due: RenewalDue): void {
    if (this.#askedFor === due.authorityKeyId) return;
    this.#askedFor = due.authorityKeyId;
    this.#renewal = due;
    this.push();
  }

  /** Ends the stream with a refusal: of the call, or of what the agent sent. */
  refuse(error: unknown): void {
    if (this.over) return;
    this.#options.onRefusal(error);
    this.dismiss(error);
  }

  /** Ends the stream because its time is over: `error` tells the agent to come back, and nothing was refused. */
  dismiss(error: unknown): void {
    if (this.over) return;
    const refusal = refusalOf(error, this.#options);
    this.#finish(grpcStatusName(refusal.status));
    this.#options.call.emit('error', serviceError(refusal));
  }

  /** Looks whether the stream is overdue. */
  sweep(): void {
    const nowMs = this.#options.clock.monotonic();
    // A status waits behind the message that is not read, so that a refused stream can stall as well.
    const stalledSinceMs = this.#overAtMs ?? this.#writingSinceMs;
    if (stalledSinceMs !== null && nowMs - stalledSinceMs > STALL_MS) {
      this.#options.log.warn('watch.stalled', { instance: this.#identity?.instance.podUid });
      this.#finish('CANCELLED');
      this.#options.disconnect();
    } else if (this.over) {
      return;
    } else if (this.#report === null && nowMs - this.#openedAtMs > FIRST_REPORT_MS) {
      this.refuse(
        new KedgeError('report_invalid', 'the stream was opened without a report', {
          hint: 'send a Report as the first message',
        }),
      );
    } else if (
      this.#identity !== null &&
      this.#options.clock.now() >= this.#identity.instance.tokenExpiresAtMs
    ) {
      this.dismiss(
        new KedgeError('token_expired', 'the token that opened the stream has expired', {
          hint: 'open a new stream with the current token',
        }),
      );
    }
  }

  #onMessage(bytes: Buffer): void {
    const identity = this.#identity;
    if (this.over || identity === null) return;
    try {
      this.#options.countReport(identity.instance);
      checkMessageSize(bytes);
      const { report } = decodeMessage(WatchRequest, bytes);
      if (report === undefined) {
        throw new KedgeError('report_invalid', 'the message holds no report', {
          hint: 'send a Report in each message, the first one at once',
        });
      }
      const state = readReport(report);
      if (state.bundleSequence < (this.#report?.bundleSequence ?? 0)) {
        throw new KedgeError(
          'report_invalid',
          `the report's bundle_sequence went back from ${this.#report?.bundleSequence} to ${state.bundleSequence}`,
          { hint: 'an agent that lost what it held opens a new stream' },
        );
      }
      this.#report = state;
      identity.session.report(state, this.#options.clock.now());
      this.#options.onReport();
      this.push();
    } catch (error) {
      this.refuse(error);
    }
  }

  #writeNext(): void {
    if (this.over) return;
    const { call, clock } = this.#options;
    const message = this.#takeNext();
    if (message === null) return;
    this.#writingSinceMs = clock.monotonic();
    call.write(message, () => {
      this.#writingSinceMs = null;
      this.#writeNext();
    });
  }

  #takeNext(): Uint8Array | null {
    const serverTimeMs = BigInt(this.#options.clock.now());
    const bundle = this.#options.bundle();
    if (bundle !== this.#sentBundle) {
      this.#sentBundle = bundle;
      const tail = WatchResponse.encode({ message: undefined, serverTimeMs }).finish();
      return Buffer.concat([bundle.watchField, tail]);
    }
    if (this.#renewal === null) return null;
    const { authorityKeyId, notBeforeMs, notAfterMs } = this.#renewal;
    this.#renewal = null;
    const value = {
      authorityKeyId: Buffer.from(authorityKeyId, 'hex'),
      window: { notBeforeMs: BigInt(notBeforeMs), notAfterMs: BigInt(notAfterMs) },
    };
    return WatchResponse.encode({ message: { $case: 'renewal', value }, serverTimeMs }).finish();
  }

  #finish(status: GrpcStatus): void {
    if (this.over) return;
    this.#overAtMs = this.#options.clock.monotonic();
    this.#identity?.session.close(this.#options.clock.now());
    this.#options.onEnd(status);
  }
}
