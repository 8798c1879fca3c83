import type { ServiceError } from '@grpc/grpc-js';
import { backoffMs } from '../host/backoff.ts';
import type { Clock } from '../host/clock.ts';
import { errorFields, type Log } from '../host/log.ts';
import type { Random } from '../host/random.ts';
import type { Wakeup } from '../host/wakeup.ts';
import { equalBytes } from '../pki/bytes.ts';
import { isKedgeError } from '../pki/kedge-error.ts';
import { Report, type TrustBundle, type WatchResponse } from '../proto/gen/kedge/v1/identity.ts';
import type { CaClient } from './ca-client.ts';
import {
  after,
  type Deadline,
  earlier,
  type Instant,
  instantOf,
  msUntil,
  sleepUntilDeadline,
} from './deadline.ts';
import type { RenewalRequest } from './renewal.ts';
import { type ReportChange, ReportPace } from './report-pace.ts';

/** Waits between streams. */
const WATCH_BACKOFF = { baseMs: 500, capMs: 30_000 };
/**
 * A stream that the CA ends without a word was open this long, milliseconds, or the wait before the next grows.
 */
const HEALTHY_MS = 10_000;
/**
 * What was reported and is no longer held is told on a new stream, after so long at least, and at most twice that,
 * milliseconds: a consumer that comes and answers at once, or leaves, costs no stream. Meanwhile the stream that is
 * open brings what the CA has to say.
 */
const RETRACT_MS = 1_000;
/** Over so many milliseconds a fleet moves its streams to connections that are checked with the newest bundle. */
const MOVE_SPREAD_MS = 10_000;

/** What {@link runWatch} is made of. */
export interface WatchOptions {
  readonly client: Pick<CaClient, 'openWatch'>;
  readonly readToken: () => Promise<string>;
  /** What the agent holds at this moment. */
  readonly report: () => Report;
  /** Woken when the report or the connection to use may have changed. */
  readonly wakeup: Wakeup;
  readonly onBundle: (bundle: TrustBundle) => void;
  /** `caNowMs` is the CA's clock when it asked. */
  readonly onRenewalRequest: (request: RenewalRequest, caNowMs: number) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * Keeps a Watch stream open until `signal` is aborted: reports what the agent holds, first and after changes, at the
 * pace of {@link ReportPace}, and hands on what the CA says. Never rejects.
 */
export async function runWatch(options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { clock, random, log } = options;
  const pace = new ReportPace(clock);
  for (let failures = 0; !signal.aborted; ) {
    const openedMs = clock.monotonic();
    try {
      await watchOnce(options, pace, signal);
      // It moved to another connection, or begins anew: the next stream at once.
      failures = 0;
      continue;
    } catch (error) {
      if (signal.aborted) return;
      failures = clock.monotonic() - openedMs >= HEALTHY_MS ? 1 : failures + 1;
      const retryAfterMs = isKedgeError(error) ? error.retryAfterMs : undefined;
      const waitMs = backoffMs(failures, WATCH_BACKOFF, random, retryAfterMs);
      log.info('watch.ended', { retryInMs: Math.round(waitMs), error: errorFields(error) });
      await clock.sleep(waitMs, signal).catch(() => {});
    }
  }
}

/** One stream. Resolves when another should take its place; rejects with what ended it. */
async function watchOnce(options: WatchOptions, pace: ReportPace, signal: AbortSignal): Promise<void> {
  const { client, readToken, clock, random, wakeup, log } = options;
  const stream = await client.openWatch(await readToken());
  const { call } = stream;
  const ended = new AbortController();
  let failure: ServiceError | null = null;
  call.on('data', (message: WatchResponse) => receive(message, options));
  call.on('error', (error: ServiceError) => {
    failure ??= error;
    ended.abort();
  });
  call.on('end', () => ended.abort());
  call.on('drain', () => wakeup.wake());
  log.debug('watch.opened');
  try {
    let sent: Report | null = null;
    let moveAt: Deadline | null = null;
    let retractAt: Deadline | null = null;
    const stop = AbortSignal.any([signal, ended.signal]);
    while (!stop.aborted) {
      const seen = wakeup.generation;
      const now = instantOf(clock);
      if (!stream.isCurrent()) moveAt ??= after(now, random.fraction() * MOVE_SPREAD_MS);
      const report = options.report();
      // On one stream the CA takes evidence that only grows.
      const isRetracted = sent !== null && report.bundleSequence < sent.bundleSequence;
      retractAt = isRetracted ? (retractAt ?? after(now, RETRACT_MS * (1 + random.fraction()))) : null;
      let until = earliest(moveAt, retractAt, now);
      if (until !== null && msUntil(until, now) <= 0) return;
      const change = isRetracted ? null : changeOf(report, sent);
      // Where the stream takes no more, 'drain' comes.
      if (change !== null && call.writable && !call.writableNeedDrain) {
        const waitMs = pace.waitMs(change);
        if (waitMs <= 0) {
          pace.take();
          call.write({ report });
          sent = report;
        } else until = earliest(until, after(now, waitMs), now);
      }
      await wakeup.sleep(seen, (end) => sleepUntilDeadline(clock, until, end), stop).catch(() => {});
    }
    throw failure === null ? new Error('the CA ended the stream') : stream.errorOf(failure);
  } finally {
    // What comes after is of no interest, but an error without a listener would end the process.
    call.removeAllListeners('data');
    call.end();
    call.cancel();
  }
}

function earliest(a: Deadline | null, b: Deadline | null, now: Instant): Deadline | null {
  return a !== null && b !== null ? earlier(a, b, now) : (a ?? b);
}

/** What `report` says that `sent`, the last on this stream, did not; null = nothing. */
function changeOf(report: Report, sent: Report | null): ReportChange | null {
  if (sent === null || !isSame(held(report), held(sent))) return 'held';
  return isSame(report, sent) ? null : 'detail';
}

/** What the agent holds as a whole, without its feeds. */
function held({ bundleSequence, svid }: Report): Report {
  return { agentVersion: '', bundleSequence, svid, feeds: [] };
}

function isSame(a: Report, b: Report): boolean {
  return equalBytes(Report.encode(a).finish(), Report.encode(b).finish());
}

function receive({ message, serverTimeMs }: WatchResponse, options: WatchOptions): void {
  if (message?.$case === 'bundle') options.onBundle(message.value);
  else if (message?.$case === 'renewal') {
    const { authorityKeyId, window } = message.value;
    options.onRenewalRequest(
      {
        authorityKeyId: Uint8Array.from(authorityKeyId),
        window:
          window === undefined
            ? undefined
            : { notBeforeMs: Number(window.notBeforeMs), notAfterMs: Number(window.notAfterMs) },
      },
      Number(serverTimeMs),
    );
  }
}
