import type { Coverage, LiveInstance } from './coverage.ts';
import type { Rotation } from './rotation.ts';
import type { Anchor, TrustState } from './trust-state.ts';

/** Which evidence a gate takes: the best that each feed can give, or a handshake against the proxy itself. */
export type GateEvidence = 'best' | 'proven';

/** What a gate asks of every live instance. */
export type GateGoal =
  /** Acknowledged this bundle, or a later one. */
  | { readonly kind: 'bundle'; readonly sequence: number }
  /** Holds an SVID under this anchor. */
  | { readonly kind: 'svid'; readonly anchor: Anchor };

/** What a gate sees. */
export interface GateView {
  readonly open: boolean;
  /** Instances that count, excused ones not among them. */
  readonly instances: number;
  /** Those that do not hold what the gate asks for, by name. */
  readonly stragglers: readonly LiveInstance[];
  /** For what it waits, in words; what it is about, when it is open. */
  readonly reason: string;
}

/** Names that a reason lists. */
const NAMED = 5;

/**
 * Looks at a gate of the rotation. Pure.
 *
 * It is open when everybody who may be live is known, and each of them provably holds what is asked for; whoever an
 * operator excused by name does not count. Nobody at all is open as well: there is nobody to be left behind.
 */
export function lookAtGate(
  goal: GateGoal,
  state: TrustState,
  coverage: Coverage,
  evidence: GateEvidence,
): GateView {
  const excused = new Set((state.rotation?.excused ?? []).map(({ instance }) => instance));
  const counted = coverage.instances.filter(({ id }) => !excused.has(id));
  const holds = holding(goal, state, evidence);
  const stragglers = counted
    .filter((instance) => !holds(instance))
    .toSorted((a, b) => compare(a.name, b.name) || compare(a.id, b.id));
  const view = { instances: counted.length, stragglers };
  if (stragglers.length > 0) {
    const share = `${count(stragglers.length)} of ${count(counted.length)} instances`;
    const reason = `waiting for ${share} to ${words(goal)}: ${names(stragglers)}`;
    return { ...view, open: false, reason };
  }
  if (!coverage.complete) {
    const reason = `waiting to know all live instances (${coverage.unknown}) before they are taken to ${words(goal)}`;
    return { ...view, open: false, reason };
  }
  return { ...view, open: true, reason: `${count(counted.length)} instances ${words(goal)}` };
}

/** The gate that a rotation stands before; null where it waits for no instance. */
export function gateOf(state: TrustState): GateGoal | null {
  const { rotation } = state;
  const goal = goalOf(state, rotation);
  if (rotation === null || goal === undefined) return null;
  if (rotation.removedSequence !== null) return { kind: 'bundle', sequence: rotation.removedSequence };
  if (goal.phase === 'prepared') return { kind: 'bundle', sequence: goal.sinceSequence };
  return { kind: 'svid', anchor: goal };
}

/** The anchor that is to be the only one; undefined while it is not in the bundle yet. */
export function goalOf({ anchors }: TrustState, rotation: Rotation | null): Anchor | undefined {
  return anchors.find(({ id }) => id === rotation?.goalAnchorId);
}

/** The names of instances, as many as a sentence can hold. */
export function names(instances: readonly LiveInstance[]): string {
  const more = instances.length - NAMED;
  const first = instances
    .slice(0, NAMED)
    .map(({ name }) => name)
    .join(', ');
  return more > 0 ? `${first} and ${count(more)} more` : first;
}

function holding(
  goal: GateGoal,
  { issuers }: TrustState,
  evidence: GateEvidence,
): (instance: LiveInstance) => boolean {
  const graded = ({ confirmed, proven }: LiveInstance): boolean =>
    confirmed && (evidence === 'best' || proven);
  if (goal.kind === 'bundle') {
    return (instance) => instance.bundleSequence >= goal.sequence && graded(instance);
  }
  const below = new Set(issuers.filter(({ anchorId }) => anchorId === goal.anchor.id).map(({ id }) => id));
  return (instance) =>
    instance.authorityKeyId !== null && below.has(instance.authorityKeyId) && graded(instance);
}

function words(goal: GateGoal): string {
  return goal.kind === 'bundle'
    ? `acknowledge bundle ${goal.sequence}`
    : `hold an SVID under trust anchor ${goal.anchor.id.slice(0, 8)}`;
}

/** With a comma between thousands. */
function count(n: number): string {
  return String(n).replace(/\B(?=(?:\d{3})+$)/g, ',');
}

/** By code unit: the same order on every replica, whatever its locale. */
function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
