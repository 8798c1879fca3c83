import { type AuditEntry, isoTime, jsonText } from './audit-record.ts';

/** One refusal that gets no line of its own. */
export interface SuppressedRefusal {
  readonly timeMs: number;
  /** The event that its line would have had. */
  readonly event: string;
  readonly code: string;
  readonly peerAddress: string | null;
  readonly podUid: string | null;
}

/** Peers and instances that one summary names; the others are counted together. */
export const MAX_NAMED = { peers: 32, instances: 16 } as const;
/** Characters of such a name; an address and a UUID fit. */
const NAME_CHARS = 64;

/**
 * The refusals that got no line of their own since the last summary: how many, of what, by whom, and when. In bounded
 * memory, whoever asks and however often.
 */
export class SuppressedRefusals {
  #count = 0;
  #sinceMs = Number.POSITIVE_INFINITY;
  #untilMs = Number.NEGATIVE_INFINITY;
  /** Event names and error codes are closed sets. */
  readonly #events = new Map<string, number>();
  readonly #codes = new Map<string, number>();
  readonly #peers = new Map<string, number>();
  readonly #instances = new Map<string, number>();
  #otherPeers = 0;
  #otherInstances = 0;

  get count(): number {
    return this.#count;
  }

  add({ timeMs, event, code, peerAddress, podUid }: SuppressedRefusal): void {
    this.#count += 1;
    this.#sinceMs = Math.min(this.#sinceMs, timeMs);
    this.#untilMs = Math.max(this.#untilMs, timeMs);
    increase(this.#events, event, 1);
    increase(this.#codes, code, 1);
    if (peerAddress !== null) {
      const peer = peerAddress.slice(0, NAME_CHARS);
      this.#otherPeers += increase(this.#peers, peer, 1, MAX_NAMED.peers);
    }
    if (podUid !== null) {
      const instance = podUid.slice(0, NAME_CHARS);
      this.#otherInstances += increase(this.#instances, instance, 1, MAX_NAMED.instances);
    }
  }

  /** Takes up what `later` holds: for a summary that could not be written. */
  merge(later: SuppressedRefusals): void {
    this.#count += later.#count;
    this.#sinceMs = Math.min(this.#sinceMs, later.#sinceMs);
    this.#untilMs = Math.max(this.#untilMs, later.#untilMs);
    for (const [event, by] of later.#events) increase(this.#events, event, by);
    for (const [code, by] of later.#codes) increase(this.#codes, code, by);
    this.#otherPeers += later.#otherPeers;
    for (const [peer, by] of later.#peers) {
      this.#otherPeers += increase(this.#peers, peer, by, MAX_NAMED.peers);
    }
    this.#otherInstances += later.#otherInstances;
    for (const [podUid, by] of later.#instances) {
      this.#otherInstances += increase(this.#instances, podUid, by, MAX_NAMED.instances);
    }
  }

  /** The one line that stands for all of them. */
  entry(timeMs: number): AuditEntry {
    const json =
      `,"refused":${this.#count},"since":"${isoTime(this.#sinceMs)}","until":"${isoTime(this.#untilMs)}"` +
      `,"events":${countsJson(this.#events)},"codes":${countsJson(this.#codes)}` +
      `,"peers":${countsJson(this.#peers)},"other_peers":${this.#otherPeers}` +
      `,"instances":${countsJson(this.#instances)},"other_instances":${this.#otherInstances}`;
    return { event: 'refusals.suppressed', timeMs, json };
  }
}

/**
 * How many refusals a line `refusals.suppressed` stands for; null when it does not add up: it was not written by
 * {@link SuppressedRefusals.entry}. `record` is the line, parsed.
 */
export function suppressedCount(record: unknown): number | null {
  if (typeof record !== 'object' || record === null) return null;
  const { refused, since, until, events, codes } = record as Record<string, unknown>;
  if (typeof refused !== 'number' || !Number.isSafeInteger(refused) || refused < 1) return null;
  if (typeof since !== 'string' || typeof until !== 'string' || !(since <= until)) return null;
  return sumOf(events) === refused && sumOf(codes) === refused ? refused : null;
}

/** Adds to a count; gives what was not added because it would be one name too many. */
function increase(
  counts: Map<string, number>,
  name: string,
  by: number,
  max = Number.POSITIVE_INFINITY,
): number {
  const known = counts.get(name);
  if (known === undefined && counts.size >= max) return by;
  counts.set(name, (known ?? 0) + by);
  return 0;
}

function countsJson(counts: ReadonlyMap<string, number>): string {
  return `{${[...counts].map(([name, count]) => `${jsonText(name)}:${count}`).join(',')}}`;
}

/** Null when it is no object of counts. */
function sumOf(counts: unknown): number | null {
  if (typeof counts !== 'object' || counts === null || Array.isArray(counts)) return null;
  let sum = 0;
  for (const count of Object.values(counts)) {
    if (typeof count !== 'number' || !Number.isSafeInteger(count) || count < 1) return null;
    sum += count;
  }
  return sum;
}
