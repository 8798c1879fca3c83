import { connect, type NetConnectOpts } from 'node:net';
import type { Clock } from '../../host/clock.ts';
import { errnoOf } from '../../host/errno.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { MAX_ANSWER_BYTES } from './haproxy-answers.ts';

/** Where the runtime API of one HAProxy is. */
export type HaproxyAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** What {@link askHaproxy} needs beside the command. */
export interface HaproxyConnectionOptions {
  readonly address: HaproxyAddress;
  /** Longest that one command may take, connecting included, in milliseconds. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/**
 * Sends one command on a connection of its own and gives all of the answer, once HAProxy has closed.
 *
 * One connection for each command, and no prompt: so the end of an answer is the end of the connection, and an answer
 * can never be taken for that of another command. Whether the answer is whole is for who reads it to check.
 *
 * Throws `haproxy_unreachable` when there is no connection, when it breaks, or after `timeoutMs`;
 * `haproxy_answer_invalid` when the answer is over {@link MAX_ANSWER_BYTES}; the reason of `signal` when aborted.
 */
export async function askHaproxy(
  command: string,
  { address, timeoutMs, clock }: HaproxyConnectionOptions,
  signal: AbortSignal,
): Promise<string> {
  signal.throwIfAborted();
  const target: NetConnectOpts = 'path' in address ? { path: address.path } : { ...address };
  const timer = new AbortController();
  const socket = connect(target);
  const abort = (): void => void socket.destroy(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  clock.sleep(timeoutMs, timer.signal).then(
    () => socket.destroy(unreachable(`did not answer in ${timeoutMs} ms`)),
    () => {},
  );
  try {
    return await new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let length = 0;
      socket.once('error', (error) => reject(translated(error, signal)));
      socket.once('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
      socket.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length > MAX_ANSWER_BYTES) socket.destroy(tooLong());
        else chunks.push(chunk);
      });
      // Not ended: HAProxy 2.6 drops a command whose connection is half closed before it is read.
      socket.write(command);
    });
  } finally {
    timer.abort();
    signal.removeEventListener('abort', abort);
    socket.destroy();
  }
}

function translated(error: Error, signal: AbortSignal): Error {
  if (error instanceof KedgeError || (signal.aborted && error === signal.reason)) return error;
  return unreachable(`cannot be reached: ${errnoOf(error) ?? 'unknown error'}`, error);
}

function unreachable(why: string, cause?: Error): KedgeError {
  return new KedgeError('haproxy_unreachable', `the runtime API of HAProxy ${why}`, {
    hint: 'it is tried again; HAProxy must run, with a "stats socket ... level admin" at this address',
    ...(cause === undefined ? {} : { cause }),
  });
}

function tooLong(): KedgeError {
  return new KedgeError('haproxy_answer_invalid', `HAProxy answers with more than ${MAX_ANSWER_BYTES} bytes`);
}
