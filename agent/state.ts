import type { Deadline, Instant } from './deadline.ts';
import { after, earlier, msUntil } from './deadline.ts';
import { answerRenewalRequest, MIN_HELD_MS, type Renewal, type RenewalRequest } from './renewal.ts';
import type { BundleSnapshot, IdentitySnapshot, SvidSnapshot } from './snapshot.ts';

/**
 * The agent as data, and how it moves: `transition(state, event) -> state`, no effects.
 *
 *     starting --issued--> serving --time--> expired --issued--> serving
 *     starting --denied--> denied --issued--> serving
 *
 * Serving goes on through every failed renewal until the SVID expires: the CA being away takes nothing from the
 * proxy before its time.
 */
export type AgentState = StateCommon & (WithoutSvid | WithSvid);

interface StateCommon {
  /** Generation of the newest snapshot; 0 = none was made yet. */
  readonly generation: number;
  /** The newest bundle that the CA gave; outlives the SVID. */
  readonly bundle: BundleSnapshot | null;
  /** Failed attempts since the last success. */
  readonly failures: number;
  /** When the next attempt may be made; null = no failure holds it back. */
  readonly retryAt: Deadline | null;
  /** This clock minus the CA's, milliseconds; null = not measured. */
  readonly clockSkewMs: number | null;
}

interface WithoutSvid {
  /**
   * `starting`: no answer from the CA yet. `denied`: the CA said that there is no identity for this workload.
   * `expired`: the SVID ran out before the CA gave another.
   */
  readonly phase: 'starting' | 'denied' | 'expired';
}

interface WithSvid {
  readonly phase: 'serving';
  /** What every feed should hold. */
  readonly snapshot: IdentitySnapshot;
  readonly expiry: Deadline;
  readonly renewal: Renewal;
}

/** What can happen to an agent. */
export type AgentEvent =
  | {
      /** An SVID came from the CA, or from the cache, and passed every check. */
      readonly type: 'issued';
      readonly svid: SvidSnapshot;
      readonly bundle: BundleSnapshot;
      readonly expiry: Deadline;
      readonly renewal: Renewal;
      readonly clockSkewMs: number | null;
    }
  | {
      readonly type: 'attempt-failed';
      readonly retryAt: Deadline;
      /** The CA answered that this workload gets no identity. */
      readonly denied: boolean;
    }
  /** The CA pushed a bundle that passed every check. */
  | { readonly type: 'bundle'; readonly bundle: BundleSnapshot }
  | {
      readonly type: 'renewal-requested';
      readonly request: RenewalRequest;
      readonly caNowMs: number;
      readonly now: Instant;
      readonly fraction: number;
    }
  /** The SVID held no longer verifies against the newest bundle: renew as soon as may be. */
  | { readonly type: 'svid-untrusted'; readonly now: Instant }
  | { readonly type: 'time'; readonly now: Instant };

/** Before anything happened. */
export const INITIAL_STATE: AgentState = {
  phase: 'starting',
  generation: 0,
  bundle: null,
  failures: 0,
  retryAt: null,
  clockSkewMs: null,
};

/** The state after `event`. The same object where nothing changed. */
export function transition(state: AgentState, event: AgentEvent): AgentState {
  switch (event.type) {
    case 'issued': {
      const generation = state.generation + 1;
      const bundle = newerBundle(state.bundle, event.bundle);
      return {
        phase: 'serving',
        generation,
        bundle,
        failures: 0,
        retryAt: null,
        clockSkewMs: event.clockSkewMs ?? state.clockSkewMs,
        snapshot: { generation, svid: event.svid, bundle },
        expiry: event.expiry,
        renewal: event.renewal,
      };
    }
    case 'attempt-failed': {
      const failed = { failures: state.failures + 1, retryAt: event.retryAt };
      return state.phase === 'starting' && event.denied
        ? { ...state, ...failed, phase: 'denied' }
        : { ...state, ...failed };
    }
    case 'bundle': {
      if (event.bundle === state.bundle) return state;
      if (state.bundle !== null && event.bundle.sequence < state.bundle.sequence) return state;
      if (state.phase !== 'serving') return { ...state, bundle: event.bundle };
      const generation = state.generation + 1;
      return {
        ...state,
        generation,
        bundle: event.bundle,
        snapshot: { generation, svid: state.snapshot.svid, bundle: event.bundle },
      };
    }
    case 'renewal-requested': {
      if (state.phase !== 'serving') return state;
      const { expiry, renewal: current, snapshot } = state;
      const { authorityKeyId } = snapshot.svid;
      const renewal = answerRenewalRequest({ ...event, current, expiry, authorityKeyId });
      return renewal === current ? state : { ...state, renewal };
    }
    case 'svid-untrusted': {
      if (state.phase !== 'serving') return state;
      // Not at the very instant: an answer that a push overtook could otherwise be asked for again without end.
      const soon = after(event.now, MIN_HELD_MS);
      const at = earlier(state.renewal.at, soon, event.now);
      return at === soon ? { ...state, renewal: { ...state.renewal, at, reason: 'request' } } : state;
    }
    case 'time': {
      if (state.phase !== 'serving' || msUntil(state.expiry, event.now) > 0) return state;
      const { generation, bundle, failures, retryAt, clockSkewMs } = state;
      return { phase: 'expired', generation, bundle, failures, retryAt, clockSkewMs };
    }
  }
  event satisfies never;
  return state;
}

/** When the next attempt to get an SVID is due; null = at once. */
export function attemptDueAt(state: AgentState): Deadline | null {
  if (state.phase !== 'serving') return state.retryAt;
  return state.failures === 0 || state.retryAt === null ? state.renewal.at : state.retryAt;
}

/** The next moment at which `time` alone changes the state or makes an attempt due; null = none, wait for events. */
export function wakeAt(state: AgentState, now: Instant, attemptRunning: boolean): Deadline | null {
  const due = attemptRunning ? null : attemptDueAt(state);
  if (state.phase !== 'serving') return due;
  return due === null ? state.expiry : earlier(due, state.expiry, now);
}

function newerBundle(held: BundleSnapshot | null, answered: BundleSnapshot): BundleSnapshot {
  // A push may overtake the answer to a request: the newest sequence stays.
  return held !== null && held.sequence > answered.sequence ? held : answered;
}
