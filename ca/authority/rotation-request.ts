import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { UpstreamKind } from '../upstream/upstream-authority.ts';
import { compromiseAnchor, taintIssuer } from './compromise.ts';
import type { Coverage } from './coverage.ts';
import type { Request } from './rotation.ts';
import {
  abortRotation,
  beginRotation,
  excuseInstance,
  pauseRotation,
  refused,
  resumeRotation,
} from './rotation-transitions.ts';
import type { Authority, TrustState } from './trust-state.ts';

/** What an operator asks of the rotation. */
export type RotationRequest =
  | { readonly act: 'start'; readonly deadlineMs: number | null }
  | { readonly act: 'pause' | 'resume' | 'abort' }
  /** By pod UID, or as `namespace/pod`. */
  | { readonly act: 'excuse'; readonly target: string }
  /** The beginning of an id; empty = the active one, where no rotation is under way. */
  | { readonly act: 'anchor-compromised'; readonly target: string; readonly deadlineMs: number | null }
  | { readonly act: 'issuer-compromised'; readonly target: string };

/** What a request is judged by, beside the state. */
export interface RequestContext {
  readonly coverage: Coverage;
  /** The upstream authority that is configured. */
  readonly upstream: UpstreamKind;
}

/** By when a compromised anchor is gone where the operator names no time, milliseconds. */
export const COMPROMISE_DEADLINE_MS = 3_600_000;
/** The furthest deadline, milliseconds from now. */
const LONGEST_DEADLINE_MS = 30 * 86_400_000;
/** Hex digits of an id that are enough to name it. */
const ID_CHARS = 8;

/**
 * The trust state as an operator asks it to be. Pure; the lifecycle takes the steps that follow from it.
 *
 * Throws `rotation_refused`, with what to do instead, for what cannot be done now, an unknown target, an impossible
 * deadline, and for excusing the last instance that counts: a gate that waits for nobody is none.
 */
export function requestedState(
  state: TrustState,
  asked: RotationRequest,
  { by, reason, atMs }: Request,
  { coverage, upstream }: RequestContext,
): TrustState {
  const request = { by: checkedText(by, 'by'), reason: checkedText(reason, 'reason'), atMs };
  switch (asked.act) {
    case 'start':
      return beginRotation(
        state,
        { kind: 'planned', upstream, deadlineMs: checkedDeadline(asked.deadlineMs, atMs) },
        request,
      );
    case 'pause':
      return pauseRotation(state, atMs);
    case 'resume':
      return resumeRotation(state);
    case 'abort':
      return abortRotation(state, atMs);
    case 'excuse':
      return excused(state, asked.target, request, coverage);
    case 'anchor-compromised': {
      const deadlineMs = checkedDeadline(asked.deadlineMs ?? atMs + COMPROMISE_DEADLINE_MS, atMs);
      const { id } = named(state.anchors, asked.target, 'trust anchor', state);
      return compromiseAnchor(state, id, { upstream, deadlineMs }, request);
    }
    case 'issuer-compromised':
      return taintIssuer(state, named(state.issuers, asked.target, 'issuer', state).id, atMs);
    default:
      return asked satisfies never;
  }
}

function excused(state: TrustState, target: string, request: Request, coverage: Coverage): TrustState {
  const found = coverage.instances.filter(({ id, name }) => id === target || name === target);
  const [instance] = found;
  if (instance === undefined) {
    throw refused(
      `there is no live instance ${quote(target)}`,
      'name it by pod UID, or as namespace/pod; kedge rotate status lists who has not followed',
    );
  }
  if (found.length > 1) {
    throw refused(`${found.length} instances are named ${quote(target)}`, 'name it by its pod UID');
  }
  const { by, reason, atMs } = request;
  const next = excuseInstance(state, { instance: instance.id, name: instance.name, atMs, by, reason });
  const excusedIds = new Set((next.rotation?.excused ?? []).map((excuse) => excuse.instance));
  if (next !== state && coverage.instances.every(({ id }) => excusedIds.has(id))) {
    throw refused(
      'every live instance would be excused: the gates would wait for nobody',
      'abort the rotation; or in an incident, begin a compromise with a deadline',
    );
  }
  return next;
}

/**
 * The authority whose id begins so; the active one where nothing is named. Under a rotation that may be another one than a
 * moment ago, when the operator looked: then it must be named.
 */
function named<A extends Authority>(
  authorities: readonly A[],
  target: string,
  what: string,
  { rotation }: TrustState,
): A {
  if (target === '' && rotation !== null) {
    throw refused(
      `which ${what} is active changes while rotation ${rotation.number} is under way`,
      `name the ${what} that is in wrong hands by the first ${ID_CHARS} digits of its id: kedge status lists them`,
    );
  }
  const found =
    target === ''
      ? authorities.filter(({ phase, taintedAtMs }) => phase === 'active' && taintedAtMs === null)
      : authorities.filter(({ id }) => target.length >= ID_CHARS && id.startsWith(target));
  const [authority] = found;
  if (authority !== undefined && found.length === 1) return authority;
  const problem =
    target === '' ? `there is no active ${what}` : `${found.length} ${what}s have an id of ${quote(target)}`;
  throw refused(problem, `give ${ID_CHARS} or more digits of an id that kedge status lists`);
}

function checkedDeadline(deadlineMs: number | null, nowMs: number): number | null {
  if (deadlineMs === null || (deadlineMs > nowMs && deadlineMs <= nowMs + LONGEST_DEADLINE_MS))
    return deadlineMs;
  throw refused(
    'the deadline is not within the next 30 days',
    'name a time to come: the fleet needs a moment to follow',
  );
}

function checkedText(text: string, what: string): string {
  if (text.length <= LIMITS.operatorTextChars && !/[\p{Cc}\p{Cs}]/u.test(text)) return text;
  throw new KedgeError(
    'usage_invalid',
    `the text of "${what}" has more than ${LIMITS.operatorTextChars} characters, or control characters`,
    { hint: 'write one short line' },
  );
}
