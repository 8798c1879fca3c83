import type { ClientRequest, IncomingMessage } from 'node:http';
import { KedgeError } from '../../pki/kedge-error.ts';
import { answerInvalid } from './api-answer.ts';

/** One request, complete. */
export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With query. */
  readonly path: string;
  readonly body?: { readonly type: string; readonly text: string };
  /** Longest answer that is taken, bytes. */
  readonly maxBytes: number;
  /** True when it changes nothing, so that it may be sent again over a new connection. */
  readonly isRead: boolean;
  /** In words, for messages. */
  readonly what: string;
}

/** Sends the body of a request and gives the head of its answer. Rejects with the socket's error, or the signal's reason. */
export function headOf(
  sent: ClientRequest,
  body: string | undefined,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    // By hand, because what the option `signal` of a request does costs as much again as the request.
    const leave = (): void => void sent.destroy(signal.reason as Error);
    signal.addEventListener('abort', leave, { once: true });
    sent.once('close', () => signal.removeEventListener('abort', leave));
    sent.once('response', (message) => {
      // From here on an error reaches whoever reads the message.
      sent.on('error', () => {});
      resolve(message);
    });
    sent.once('error', reject);
    sent.end(body);
  });
}

/**
 * The body of an answer, whole. Rejects with `kubernetes_answer_invalid` where it is over the limit,
 * `kubernetes_unreachable` where it breaks off, and the signal's reason.
 *
 * By events: an iterator over them costs more than the rest of an answer of a few hundred bytes.
 */
export function readBody(
  message: IncomingMessage,
  request: ApiRequest,
  signal: AbortSignal,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const refuse = (cause: unknown): void => {
      message.destroy();
      if (signal.aborted) reject(signal.reason as Error);
      else if (cause instanceof KedgeError) reject(cause);
      else
        reject(new KedgeError('kubernetes_unreachable', `${request.what}: the answer broke off`, { cause }));
    };
    const announced = Number(message.headers['content-length'] ?? 0);
    if (announced > request.maxBytes) {
      refuse(tooLong(request));
      return;
    }
    message.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > request.maxBytes) refuse(tooLong(request));
      else chunks.push(chunk);
    });
    message.once('end', () =>
      resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, length)),
    );
    message.once('error', refuse);
    // Destroyed by something that gave no error.
    message.once('close', () => {
      if (!message.complete) refuse(undefined);
    });
  });
}

function tooLong({ what, maxBytes }: ApiRequest): KedgeError {
  const problem = `is over ${maxBytes} bytes`;
  const cause = new KedgeError('message_too_large', `the answer ${problem}`);
  return answerInvalid(`the answer to ${what}`, problem, cause);
}
