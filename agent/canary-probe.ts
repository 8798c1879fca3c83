import { connect } from 'node:net';
import { connect as connectTls, createSecureContext, type TLSSocket } from 'node:tls';
import type { Clock } from '../host/clock.ts';
import { KEDGE_VERSION } from '../host/version.ts';
import { LIMITS } from '../pki/limits.ts';
import { encodePem } from '../pki/pem.ts';
import type { CanaryObservation } from './canary.ts';
import { alertOfErrorCode, answerOfAlert, answerOfStatus, type CanaryAnswer } from './canary-answer.ts';
import { certificateAuthorities } from './canary-certificate-request.ts';
import { CanaryStream } from './canary-stream.ts';
import type { SvidSnapshot } from './snapshot.ts';

/** The port of the proxy that the canary dials, and how. */
export interface CanaryTarget {
  /** An IP address. */
  readonly host: string;
  readonly port: number;
  /** `tls`: a handshake alone. `http`: a HEAD request in it, whose status is the answer. */
  readonly protocol: 'tls' | 'http';
  /** Of the request; printable ASCII without a space. */
  readonly path: string;
}

/** What a {@link dialProxy} needs beside the target. */
export interface DialOptions {
  readonly target: CanaryTarget;
  /** What is presented. Its key is used before the call returns its promise, and not kept. */
  readonly svid: SvidSnapshot;
  /** Longest that all of it may take, in milliseconds. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Longest that one try may take: the proxy is in the same pod. Milliseconds. */
export const CANARY_TIMEOUT_MS = 3_000;
/** More than any handshake with one short answer: `LIMITS.chainCertificates` certificates of some KiB each. */
const MAX_RECEIVED_BYTES = 64 * 1024;
/** A status line is far shorter; more without its end is not HTTP. */
const MAX_STATUS_LINE_BYTES = 256;

type Version = 'TLSv1.2' | 'TLSv1.3';

/**
 * Dials the agent's own proxy as a client with the agent's SVID, and tells what it saw. One connection at a time, no
 * session resumption, bounded in bytes and time. Whatever the proxy does is an observation; rejects with the
 * reason of `signal`, and where TLS cannot use the SVID itself.
 *
 * TLS 1.2 comes first, since there the proxy's word on our certificate comes before the end of the handshake, and the
 * authorities that it names can be read (see `canary-certificate-request.ts`); a proxy that speaks TLS 1.3 alone says
 * so and is dialed again.
 *
 * Nothing that the proxy presents is trusted or checked here: no byte of ours depends on it, but the certificates, a
 * proof that we hold the key, and the request line.
 */
export async function dialProxy(options: DialOptions, signal: AbortSignal): Promise<CanaryObservation> {
  const { clock, timeoutMs } = options;
  const credentials = credentialsOf(options.svid);
  signal.throwIfAborted();
  const end = new AbortController();
  const stop = (): void => end.abort();
  signal.addEventListener('abort', stop, { once: true });
  const timer = new AbortController();
  clock.sleep(timeoutMs, timer.signal).then(stop, () => undefined);
  try {
    const first = await shakeHands(options.target, credentials, 'TLSv1.2', end.signal);
    const isNewerWanted = first.answer === 'alert_other' && first.detail === 'protocol_version';
    const seen =
      isNewerWanted && !end.signal.aborted
        ? await shakeHands(options.target, credentials, 'TLSv1.3', end.signal)
        : first;
    signal.throwIfAborted();
    return seen;
  } finally {
    timer.abort();
    signal.removeEventListener('abort', stop);
  }
}

/** PEM, as Node's TLS takes them. */
interface Credentials {
  readonly cert: string;
  readonly key: string;
}

function credentialsOf({ chain, privateKey }: SvidSnapshot): Credentials {
  return {
    cert: chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
    key: encodePem('PRIVATE KEY', privateKey.expose()),
  };
}

/** One connection, from its first byte to its end. Never rejects; `end` cuts it off. */
async function shakeHands(
  { host, port, protocol, path }: CanaryTarget,
  credentials: Credentials,
  version: Version,
  end: AbortSignal,
): Promise<CanaryObservation> {
  const seen = Promise.withResolvers<Pick<CanaryObservation, 'answer' | 'detail'>>();
  const finish = (answer: CanaryAnswer, detail: string): void => seen.resolve({ answer, detail });
  // Before there is a connection to leave behind: OpenSSL may not like what it is given.
  const secureContext = createSecureContext({
    ...credentials,
    minVersion: version,
    maxVersion: version,
    // No root of the machine is loaded, none is asked: what is presented is judged by `canary.ts` alone.
    ca: [],
  });
  const socket = connect({ host, port, noDelay: true });
  const stream = new CanaryStream({ socket, maxBytes: MAX_RECEIVED_BYTES });
  const closed = Promise.withResolvers<void>();
  stream.once('close', () => closed.resolve());
  // TLS above it tells of its errors.
  stream.on('error', () => {});
  const tls = connectTls({
    socket: stream,
    secureContext,
    rejectUnauthorized: false,
    ...(protocol === 'http' ? { ALPNProtocols: ['http/1.1'] } : {}),
  });
  let isConnected = false;
  socket.once('connect', () => {
    isConnected = true;
  });
  let peer: PeerView = NOTHING_SEEN;
  tls.once('secureConnect', () => {
    peer = peerOf(tls);
    if (tls.isSessionReused()) finish('resumed', version);
    else if (protocol === 'http') tls.write(requestOf(path, host, port));
    else if (version === 'TLSv1.2') finish('handshake_done', version);
  });
  // Tickets of TLS 1.3 come after the server has checked our certificate; those of TLS 1.2 are part of the handshake.
  tls.on('session', () => {
    if (protocol === 'tls' && version === 'TLSv1.3') finish('ticket_sent', version);
  });
  const line = statusLineReader(finish);
  tls.on('data', (chunk: Buffer) => {
    if (protocol === 'http') line(chunk);
  });
  tls.once('error', (error: NodeJS.ErrnoException) => {
    if (peer === NOTHING_SEEN) peer = peerOf(tls);
    const [answer, detail] = answerOfError(error, isConnected, stream.isFlooded);
    finish(answer, detail);
  });
  tls.on('error', () => {});
  tls.once('close', () => finish(isConnected ? 'closed' : 'unreachable', 'closed'));
  tls.once('end', () => finish('closed', 'closed'));
  const cut = (): void => {
    finish(isConnected ? 'silent' : 'unreachable', 'no answer in time');
    tls.destroy();
    stream.destroy();
  };
  end.addEventListener('abort', cut, { once: true });
  if (end.aborted) cut();

  const { answer, detail } = await seen.promise;
  // Whoever answered is told that we are done; whoever did not is left.
  if (tls.writable && !tls.destroyed) tls.destroySoon();
  else stream.destroy();
  await Promise.race([closed.promise, aborted(end)]);
  tls.destroy();
  stream.destroy();
  end.removeEventListener('abort', cut);
  return { ...peer, authorities: certificateAuthorities(stream.received), answer, detail };
}

type PeerView = Pick<CanaryObservation, 'presented' | 'asked'>;
const NOTHING_SEEN: PeerView = { presented: [], asked: false };

/** The chain that the server sent, and whether it asked for ours; what a broken handshake left of them. */
function peerOf(tls: TLSSocket): PeerView {
  try {
    const presented: Uint8Array[] = [];
    let next = tls.getPeerX509Certificate();
    // One more than a chain may have, so that one too long is seen as such.
    while (next !== undefined && presented.length <= LIMITS.chainCertificates) {
      presented.push(Uint8Array.from(next.raw));
      next = next.issuerCertificate;
    }
    // A client learns the server's signature algorithms from its CertificateRequest alone (RFC 8446 section 4.3.2).
    return { presented, asked: tls.getSharedSigalgs().length > 0 };
  } catch {
    // Node has let go of the handshake already: then nothing was seen.
    return NOTHING_SEEN;
  }
}

function requestOf(path: string, host: string, port: number): string {
  const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  return [
    `HEAD ${path} HTTP/1.1`,
    `Host: ${authority}`,
    `User-Agent: kedge-canary/${KEDGE_VERSION}`,
    'Connection: close',
    '\r\n',
  ].join('\r\n');
}

/** Takes the answer piece by piece and reads its status line (RFC 9112 section 4). */
function statusLineReader(finish: (answer: CanaryAnswer, detail: string) => void): (chunk: Buffer) => void {
  let text = '';
  return (chunk) => {
    text += chunk.toString('latin1', 0, MAX_STATUS_LINE_BYTES + 1 - text.length);
    const end = text.indexOf('\r\n');
    if (end < 0 && text.length <= MAX_STATUS_LINE_BYTES) return;
    const status = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |$)/.exec(end < 0 ? text : text.slice(0, end))?.[1];
    if (status === undefined) finish('not_http', 'no HTTP/1.1 status line');
    else finish(answerOfStatus(Number(status)), `HTTP ${status}`);
  };
}

function answerOfError(
  { code = '' }: NodeJS.ErrnoException,
  isConnected: boolean,
  isFlooded: boolean,
): readonly [CanaryAnswer, string] {
  if (isFlooded) return ['flooded', `more than ${MAX_RECEIVED_BYTES} bytes`];
  const detail = code.replace(/[^A-Z0-9_/]/g, '').slice(0, 64) || 'failed';
  if (!isConnected) return ['unreachable', detail];
  const alert = alertOfErrorCode(code);
  if (alert !== null) return [answerOfAlert(alert), alert];
  return code.startsWith('ERR_SSL_') ? ['not_tls', detail] : ['closed', detail];
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
