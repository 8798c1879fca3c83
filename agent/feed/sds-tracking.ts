import type { ErrorCode } from '../../pki/error-table.ts';
import type { HeldSnapshot } from '../snapshot.ts';
import type { SdsResource } from './sds-resources.ts';

/** What one stream knows of one resource. */
export interface TrackedResource {
  /** Version that was sent last; {@link REMOVED} where the client was told that it is gone; null = none yet. */
  readonly sent: string | null;
  /** Nonce of the response that brought it. */
  readonly nonce: string;
  readonly verdict: 'pending' | 'accepted' | 'refused';
  /** Version that the client refused last, until it accepts another: it is not sent again. */
  readonly refused: string | null;
}

/** By resource name. */
export type Tracking = ReadonlyMap<string, TrackedResource>;

/** Stands for the version of a resource that is gone; no version is empty. */
export const REMOVED = '';

const UNTRACKED: TrackedResource = { sent: null, nonce: '', verdict: 'pending', refused: null };

/** What is known of `name`. */
export function tracked(tracking: Tracking, name: string): TrackedResource {
  return tracking.get(name) ?? UNTRACKED;
}

/** A resource that the client says it has, from an earlier stream. */
export function heldBefore(version: string): TrackedResource {
  return { ...UNTRACKED, sent: version, verdict: 'accepted' };
}

/** True when the client is to be sent this version: it was not sent last, and not refused. */
export function isNews(
  tracking: Tracking,
  { name, version }: Pick<SdsResource, 'name' | 'version'>,
): boolean {
  const { sent, refused } = tracked(tracking, name);
  return sent !== version && refused !== version;
}

/** True when this version was sent and the client has neither accepted nor refused it. */
export function isUnanswered(
  tracking: Tracking,
  { name, version }: Pick<SdsResource, 'name' | 'version'>,
): boolean {
  const { sent, verdict } = tracked(tracking, name);
  return sent === version && verdict === 'pending';
}

/** After a response with `nonce` that brings `resources`, and says of `removed` that they are gone. */
export function markSent(
  tracking: Tracking,
  nonce: string,
  resources: readonly SdsResource[],
  removed: readonly string[] = [],
): Tracking {
  const next = new Map(tracking);
  const versions = [
    ...resources.map(({ name, version }) => [name, version] as const),
    ...removed.map((name) => [name, REMOVED] as const),
  ];
  for (const [name, sent] of versions) {
    next.set(name, { sent, nonce, verdict: 'pending', refused: tracked(tracking, name).refused });
  }
  return next;
}

/** What an answer changes, and of which resources it is the first. */
export interface Answered {
  readonly tracking: Tracking;
  readonly names: readonly string[];
}

/** After the client has accepted or refused the response with `nonce`. A second answer changes nothing. */
export function markAnswered(tracking: Tracking, nonce: string, isAccepted: boolean): Answered {
  const next = new Map(tracking);
  const names: string[] = [];
  for (const [name, resource] of tracking) {
    if (resource.nonce !== nonce || resource.verdict !== 'pending') continue;
    names.push(name);
    next.set(
      name,
      isAccepted
        ? { ...resource, verdict: 'accepted', refused: null }
        : { ...resource, verdict: 'refused', refused: resource.sent },
    );
  }
  return { tracking: next, names };
}

/** Only what `keep` holds. */
export function restrict(tracking: Tracking, keep: (name: string) => boolean): Tracking {
  return new Map([...tracking].filter(([name]) => keep(name)));
}

/** What a stream shows to have brought to its client. */
export interface StreamEvidence {
  /** Newest snapshot of which everything asked for was written. */
  readonly delivered: HeldSnapshot | null;
  /** Newest snapshot of which everything asked for was accepted. */
  readonly loaded: HeldSnapshot | null;
  /** `sds_nack` while the client refuses something of the newest snapshot. */
  readonly errorCode: ErrorCode | null;
}

export const NO_EVIDENCE: StreamEvidence = { delivered: null, loaded: null, errorCode: null };

/**
 * The evidence once `resources`, all that is asked for, are as `tracking` says. A resource whose content did not
 * change from one snapshot to the next needs no second answer; one that is asked for anew takes the evidence of the
 * present snapshot away until it is there too.
 */
export function evidenceOf(
  before: StreamEvidence,
  held: HeldSnapshot,
  resources: readonly SdsResource[],
  tracking: Tracking,
): StreamEvidence {
  if (resources.length === 0) return before;
  const states = resources.map(({ name, version }) => ({ version, ...tracked(tracking, name) }));
  const isLoaded = states.every(({ sent, version, verdict }) => sent === version && verdict === 'accepted');
  const isDelivered = states.every(({ sent, version }) => sent === version);
  return {
    delivered: isDelivered ? held : olderThan(held, before.delivered),
    loaded: isLoaded ? held : olderThan(held, before.loaded),
    errorCode: states.some(({ refused, version }) => refused === version) ? 'sds_nack' : null,
  };
}

function olderThan(held: HeldSnapshot, before: HeldSnapshot | null): HeldSnapshot | null {
  return before !== null && before.generation < held.generation ? before : null;
}
