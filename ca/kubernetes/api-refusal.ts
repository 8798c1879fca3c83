import type { ErrorCode } from '../../pki/error-table.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { isJsonObject, type JsonMembers } from './api-answer.ts';
import type { AccessQuestion } from './kubernetes-api.ts';

/** A request, for what is said of its refusal. */
export interface RefusedRequest {
  /** In words, as it begins a message: `get secrets/kedge-trust`. */
  readonly what: string;
  /** What RBAC was asked; undefined for a path outside the object APIs. */
  readonly access: AccessQuestion | undefined;
  /** True where the API server's message may quote a secret. */
  readonly sensitive: boolean;
}

/** An answer that is no success. */
export interface RefusedAnswer {
  readonly status: number;
  /** The `retry-after` header. */
  readonly retryAfter: string | undefined;
  readonly body: Uint8Array;
}

const MESSAGE_CHARS = 300;
/** A longer wait than an hour is cut to it: whoever waits must look again some time. */
const RETRY_AFTER_CAP_MS = 3_600_000;

/**
 * The error that an answer other than 2xx means. The body counts as a `Status` object where it is one; anything else,
 * such as the HTML of a proxy, counts by its HTTP status alone and is not repeated.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/, apimachinery `metav1.Status`.
 */
export function refusalOfAnswer(answer: RefusedAnswer, request: RefusedRequest): KedgeError {
  const status = statusOf(answer.body);
  return refusal(answer.status, status, request, retryAfterMs(answer.retryAfter, status));
}

/** The error that an `ERROR` event of a watch means: a Status object with the code that HTTP would have had. */
export function refusalOfEvent(object: unknown, request: RefusedRequest): KedgeError {
  const status = isStatus(object) ? object : undefined;
  const code = status?.['code'];
  return refusal(typeof code === 'number' ? code : 0, status, request, retryAfterMs(undefined, status));
}

function refusal(
  httpStatus: number,
  status: JsonMembers | undefined,
  request: RefusedRequest,
  retryMs: number | undefined,
): KedgeError {
  const reason = typeof status?.['reason'] === 'string' ? status['reason'] : '';
  const text = typeof status?.['message'] === 'string' ? status['message'] : '';
  const said = request.sensitive || text === '' ? quote(reason, 64) : quote(text, MESSAGE_CHARS);
  const code = codeOf(httpStatus, reason);
  const hint = hintOf(code, request);
  return new KedgeError(
    code,
    `${request.what}: the API server answered ${httpStatus}${status === undefined ? '' : ` ${said}`}`,
    {
      ...(hint === undefined ? {} : { hint }),
      ...(retryMs === undefined ? {} : { retryAfterMs: retryMs }),
    },
  );
}

function codeOf(httpStatus: number, reason: string): ErrorCode {
  switch (httpStatus) {
    case 401:
      return 'kubernetes_unauthorized';
    case 403:
      return 'kubernetes_forbidden';
    case 404:
      return 'kubernetes_not_found';
    case 409:
      return reason === 'AlreadyExists' ? 'kubernetes_exists' : 'kubernetes_conflict';
    case 410:
      return 'kubernetes_gone';
    case 429:
      return 'kubernetes_throttled';
    case 408:
      return 'kubernetes_unavailable';
    default:
      if (httpStatus >= 500 && httpStatus <= 599) return 'kubernetes_unavailable';
      return httpStatus >= 400 && httpStatus <= 499 ? 'kubernetes_refused' : 'kubernetes_answer_invalid';
  }
}

const HINTS: ReadonlyMap<ErrorCode, string> = new Map([
  ['kubernetes_unauthorized', 'check the ServiceAccount token, or the credentials in the kubeconfig'],
  [
    'kubernetes_answer_invalid',
    'check that the address is that of a Kubernetes API server, and what proxies stand before it',
  ],
]);

function hintOf(code: ErrorCode, { access }: RefusedRequest): string | undefined {
  if (code !== 'kubernetes_forbidden') return HINTS.get(code);
  return access === undefined ? 'grant these credentials the path' : missingRule(access);
}

/** The RBAC rule that allows what was refused, in words to paste: `kubernetes_forbidden`'s hint. */
export function missingRule(access: AccessQuestion): string {
  const { verb, group, resource, subresource, namespace, name } = access;
  const full = subresource === undefined ? resource : `${resource}/${subresource}`;
  const where = namespace === undefined ? 'a ClusterRole' : `a Role in namespace ${quote(namespace)}`;
  const names = name === undefined || verb === 'create' ? '' : `, resourceNames: [${quote(name)}]`;
  return `grant by ${where}: apiGroups: [${quote(group)}], resources: [${quote(full)}], verbs: [${quote(verb)}]${names}`;
}

/** The Status object that a body is, or undefined. */
function statusOf(body: Uint8Array): JsonMembers | undefined {
  try {
    const value: unknown = JSON.parse(
      Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8'),
    );
    return isStatus(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isStatus(value: unknown): value is JsonMembers {
  return isJsonObject(value) && value['kind'] === 'Status' && value['apiVersion'] === 'v1';
}

/** Seconds, from the header (RFC 9110 section 10.2.3; a date counts as absent) or from the Status. */
function retryAfterMs(header: string | undefined, status: JsonMembers | undefined): number | undefined {
  const details = status?.['details'];
  const fromStatus = isJsonObject(details) ? details['retryAfterSeconds'] : undefined;
  const seconds = header !== undefined && /^\d{1,9}$/.test(header) ? Number(header) : fromStatus;
  if (typeof seconds !== 'number' || !(seconds > 0)) return undefined;
  return Math.min(seconds * 1_000, RETRY_AFTER_CAP_MS);
}
