/** Whether the proxy took our SVID as that of a client. */
export type Acceptance = 'accepted' | 'refused' | 'unknown';

/** One row of the table. */
export interface CanaryAnswerSpec {
  readonly acceptance: Acceptance;
  /** What was seen, in the words of an operator: lower case, no full stop. */
  readonly means: string;
}

/**
 * What a proxy can answer to the canary, and what that says of our SVID. Found by trying HAProxy 2.6, nginx 1.22 and
 * Node 24, each with an SVID that it must accept, one of a foreign anchor and an expired one.
 *
 * Up to TLS 1.2 a server has checked the client's certificate when the handshake ends. In TLS 1.3 the client is done
 * first (RFC 8446 section 2), and a server that refuses says so later; one that accepts sends session tickets at once.
 * Some servers, nginx among them, finish the handshake (and send tickets) whatever they think of the certificate and
 * refuse the request instead: those must be asked by `http`, which the canary does unless told otherwise.
 */
export const CANARY_ANSWERS = {
  // --- protocol http
  http_served: {
    acceptance: 'accepted',
    means: 'the proxy took the request up: HTTP 2xx, 3xx, 404, 405 or 5xx',
  },
  http_refused: {
    acceptance: 'refused',
    means: 'the proxy refused the request: HTTP 400, 495 or 496, as nginx says it of a certificate',
  },
  http_other: {
    acceptance: 'unknown',
    means: 'another HTTP status, which may be about the certificate or about something else',
  },
  not_http: { acceptance: 'unknown', means: 'the answer is not HTTP/1.1' },
  // --- protocol tls
  handshake_done: { acceptance: 'accepted', means: 'the TLS 1.2 handshake ended well' },
  ticket_sent: {
    acceptance: 'accepted',
    means: 'the proxy sent a session ticket after the TLS 1.3 handshake',
  },
  // --- either
  alert_certificate: {
    acceptance: 'refused',
    means: 'the proxy sent a TLS alert about our certificate',
  },
  alert_other: { acceptance: 'unknown', means: 'the proxy sent another TLS alert' },
  not_asked: {
    acceptance: 'unknown',
    means: 'the proxy asks for no client certificate on this port',
  },
  closed: { acceptance: 'unknown', means: 'the proxy closed the connection and gave no reason' },
  silent: { acceptance: 'unknown', means: 'the proxy accepted the connection and did not answer in time' },
  flooded: { acceptance: 'unknown', means: 'the proxy sent more than an answer can have' },
  not_tls: { acceptance: 'unknown', means: 'what answers on this port does not speak TLS as it should' },
  resumed: { acceptance: 'unknown', means: 'a TLS session was resumed, which shows no certificate' },
  unreachable: { acceptance: 'unknown', means: 'nothing accepts connections at the address' },
} as const satisfies Record<string, CanaryAnswerSpec>;

/** What the proxy answered. */
export type CanaryAnswer = keyof typeof CANARY_ANSWERS;

/** The answer that an HTTP status is. */
export function answerOfStatus(status: number): CanaryAnswer {
  if (status === 400 || status === 495 || status === 496) return 'http_refused';
  const isServed =
    (status >= 200 && status < 400) || status === 404 || status === 405 || (status >= 500 && status < 600);
  return isServed ? 'http_served' : 'http_other';
}

/** Alerts that a server sends about the certificate of its client (RFC 8446 section 6.2). */
const CERTIFICATE_ALERTS: ReadonlySet<string> = new Set([
  'bad_certificate',
  'unsupported_certificate',
  'certificate_revoked',
  'certificate_expired',
  'certificate_unknown',
  'certificate_required',
  'unknown_ca',
  'access_denied',
]);

/** The answer that a TLS alert is, by its name in RFC 8446. */
export function answerOfAlert(name: string): CanaryAnswer {
  return CERTIFICATE_ALERTS.has(name) ? 'alert_certificate' : 'alert_other';
}

/** The name of the alert in an OpenSSL error code of Node, as `ERR_SSL_TLSV1_ALERT_UNKNOWN_CA`; null = it is none. */
export function alertOfErrorCode(code: string): string | null {
  return /^ERR_SSL_[A-Z0-9_/]*ALERT_([A-Z_]{1,40})$/.exec(code)?.[1]?.toLowerCase() ?? null;
}
