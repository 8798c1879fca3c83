import { ERROR_TABLE, type ErrorCode } from '../pki/error-table.ts';
import { isKedgeError, KedgeError, quote } from '../pki/kedge-error.ts';
import { ErrorInfo, RetryInfo, Status } from '../proto/gen/google/rpc/status.ts';
import { GRPC_STATUS, grpcStatusName } from './grpc-status.ts';
import { errorFields, type Log } from './log.ts';
import type { Random } from './random.ts';

/** Metadata key of the encoded google.rpc.Status. */
export const STATUS_DETAILS_KEY = 'grpc-status-details-bin';

/** `domain` of every ErrorInfo that Kedge sends: its `reason` is one of Kedge's error codes. */
export const ERROR_DOMAIN = 'kedge';

const ERROR_INFO_TYPE = 'type.googleapis.com/google.rpc.ErrorInfo';
const RETRY_INFO_TYPE = 'type.googleapis.com/google.rpc.RetryInfo';

/** The longest message that is sent or taken from a server, characters. */
const MESSAGE_CHARS = 1024;
/** The longest google.rpc.Status that is read, bytes: all trailers of a call fit in `LIMITS.metadataBytes`. */
const DETAILS_BYTES = 8 * 1024;
/** The longest wait that a server may ask for; a longer one is cut to it. */
const RETRY_AFTER_CAP_MS = 3_600_000;

/** An error as it leaves the process. */
export interface GrpcRefusal {
  /** Numeric gRPC status. */
  readonly status: number;
  /** The code that the caller sees; `internal` where details stay here. */
  readonly code: ErrorCode;
  /** `grpc-message`: what was wrong and what to do, printable. */
  readonly message: string;
  /** google.rpc.Status with ErrorInfo and RetryInfo, encoded: the value of {@link STATUS_DETAILS_KEY}. */
  readonly details: Uint8Array;
}

/** What {@link refusalOf} needs. */
export interface RefusalContext {
  /** Takes the details of internal errors. */
  readonly log: Log;
  /** Makes the incident ids. */
  readonly random: Random;
}

/**
 * The one way from an error to a gRPC refusal.
 *
 * A public error leaves with its message and hint. An internal one, and anything that is no KedgeError, leaves as
 * `internal error, incident <id>`; what it was is one line of the log under that id.
 */
export function refusalOf(error: unknown, context: RefusalContext): GrpcRefusal {
  if (isKedgeError(error) && error.spec.exposure === 'public') {
    const { code, hint, retryAfterMs } = error;
    const message = hint === undefined ? error.message : `${error.message}; ${hint}`;
    return encodeRefusal(code, printable(message), hint, retryAfterMs);
  }
  const incident = Buffer.from(context.random.bytes(8)).toString('hex');
  context.log.error('grpc.internal_error', { incident, error: errorFields(error) });
  const retryAfterMs = isKedgeError(error) ? error.retryAfterMs : undefined;
  return encodeRefusal('internal', `internal error, incident ${incident}`, undefined, retryAfterMs);
}

function encodeRefusal(
  code: ErrorCode,
  message: string,
  hint: string | undefined,
  retryAfterMs: number | undefined,
): GrpcRefusal {
  const status = GRPC_STATUS[ERROR_TABLE[code].status];
  const info = ErrorInfo.encode({
    reason: code,
    domain: ERROR_DOMAIN,
    metadata: hint === undefined ? {} : { hint: printable(hint) },
  });
  const details = [{ typeUrl: ERROR_INFO_TYPE, value: info.finish() }];
  if (retryAfterMs !== undefined) {
    const ms = Math.max(0, Math.ceil(retryAfterMs));
    const retry = RetryInfo.encode({
      retryDelay: { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 },
    });
    details.push({ typeUrl: RETRY_INFO_TYPE, value: retry.finish() });
  }
  return { status, code, message, details: Status.encode({ code: status, message, details }).finish() };
}

/** A failed call as grpc-js reports it; the part of its `ServiceError` that is read here. */
export interface GrpcFailure {
  readonly code: number;
  readonly details: string;
  readonly metadata?: { get(key: string): readonly (string | Buffer)[] } | undefined;
}

/** The codes for failures that the other side did not explain in Kedge's terms. */
export interface PeerCodes {
  /** No connection, or one that broke. */
  readonly unreachable: ErrorCode;
  /** An answer that makes no sense from this peer. */
  readonly invalid: ErrorCode;
}

/**
 * The way back: a failed call as a KedgeError with the code, hint and retryAfterMs that the server gave.
 *
 * Nothing of the server is trusted: a code that is not in the table, an ErrorInfo of another domain and details
 * that do not parse count as absent; the status alone then chooses the code, by `peer` where it must. Every text
 * is bounded and printable. The cause is the failure itself.
 */
export function errorOfGrpc(failure: GrpcFailure, peer: PeerCodes): KedgeError {
  const { code, hint, retryAfterMs } = readDetails(failure);
  const options = {
    cause: failure,
    ...(hint === undefined ? {} : { hint }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
  if (code !== undefined) {
    const suffix = hint === undefined ? '' : `; ${hint}`;
    const message = printable(failure.details);
    return new KedgeError(
      code,
      message.endsWith(suffix) ? message.slice(0, message.length - suffix.length) : message,
      options,
    );
  }
  const status = grpcStatusName(failure.code);
  return new KedgeError(
    codeOfStatus(failure.code, peer),
    `the server answered ${status}: ${quote(failure.details, 200)}`,
    options,
  );
}

/** Whether `error` is a failed call as grpc-js reports it. */
export function isGrpcFailure(error: unknown): error is GrpcFailure & Error {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'number' &&
    'details' in error &&
    typeof error.details === 'string'
  );
}

function codeOfStatus(status: number, peer: PeerCodes): ErrorCode {
  switch (status) {
    case GRPC_STATUS.UNAVAILABLE:
      return peer.unreachable;
    case GRPC_STATUS.DEADLINE_EXCEEDED:
      return 'deadline_exceeded';
    case GRPC_STATUS.CANCELLED:
      return 'cancelled';
    case GRPC_STATUS.RESOURCE_EXHAUSTED:
      return 'overloaded';
    case GRPC_STATUS.UNIMPLEMENTED:
      return 'unimplemented';
    default:
      return peer.invalid;
  }
}

interface Details {
  readonly code: ErrorCode | undefined;
  readonly hint: string | undefined;
  readonly retryAfterMs: number | undefined;
}

const NO_DETAILS: Details = { code: undefined, hint: undefined, retryAfterMs: undefined };

function readDetails(failure: GrpcFailure): Details {
  const bytes = failure.metadata?.get(STATUS_DETAILS_KEY)[0];
  if (!(bytes instanceof Uint8Array) || bytes.length > DETAILS_BYTES) return NO_DETAILS;
  try {
    let { code, hint, retryAfterMs }: Details = NO_DETAILS;
    for (const { typeUrl, value } of Status.decode(bytes).details) {
      if (typeUrl === ERROR_INFO_TYPE) {
        const info = ErrorInfo.decode(value);
        if (info.domain !== ERROR_DOMAIN || !Object.hasOwn(ERROR_TABLE, info.reason)) continue;
        code = info.reason as ErrorCode;
        hint = Object.hasOwn(info.metadata, 'hint') ? printable(info.metadata['hint'] ?? '') : undefined;
      } else if (typeUrl === RETRY_INFO_TYPE) {
        const { retryDelay } = RetryInfo.decode(value);
        if (retryDelay === undefined) continue;
        const ms = Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1_000_000;
        retryAfterMs = Math.min(RETRY_AFTER_CAP_MS, Math.max(0, ms));
      }
    }
    return { code, hint, retryAfterMs };
  } catch {
    // Details are a courtesy: without them the status still says enough.
    return NO_DETAILS;
  }
}

/** Bounded, well-formed, and without characters that a terminal or a log would obey. */
function printable(text: string): string {
  const cut = text.length > MESSAGE_CHARS ? `${text.slice(0, MESSAGE_CHARS)}...` : text;
  return cut.toWellFormed().replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ');
}
