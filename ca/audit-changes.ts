import type { Clock } from '../host/clock.ts';
import type { AuthorityEngine } from './authority/engine.ts';
import { phaseChanges } from './authority/phase-changes.ts';
import { emptyTrustState, type TrustState } from './authority/trust-state.ts';
import type { AuditLog } from './issue/audit-log.ts';
import { type AuditFields, auditEntry } from './issue/audit-record.ts';
import type { PolicySource } from './policy-source.ts';

/** Notes each edit of the policy on the audit log, taken or not. */
export function auditPolicyChanges(policy: PolicySource, audit: AuditLog, clock: Clock): void {
  policy.onChange(({ file, sha256, error }) => {
    const event = error === null ? 'policy.loaded' : 'policy.refused';
    audit.note(auditEntry(event, clock.now(), { file, sha256, error }));
  });
}

/** Notes each change of an authority's phase, and each begin and end of a rotation, on the audit log. */
export function auditPhaseChanges(
  engine: AuthorityEngine,
  audit: AuditLog,
  clock: Clock,
  trustDomain: string,
): void {
  let known = emptyTrustState(trustDomain);
  engine.onChange(({ state }) => {
    for (const { authority, id, change } of phaseChanges(known, state)) {
      const fields = { authority, id, sequence: state.sequence };
      audit.note(auditEntry(`authority.${change}`, clock.now(), fields));
    }
    for (const { event, fields } of rotationChanges(known, state)) {
      audit.note(auditEntry(event, clock.now(), fields));
    }
    known = state;
  });
}

/** What became of rotations between two trust states. Of those before the first state that was read, nothing is told. */
function rotationChanges(
  previous: TrustState,
  next: TrustState,
): readonly { readonly event: 'rotation.began' | 'rotation.ended'; readonly fields: AuditFields }[] {
  if (previous.sequence === 0) return [];
  const last = previous.pastRotations.at(-1)?.number ?? 0;
  const ended = next.pastRotations.filter(({ number }) => number > last);
  const { rotation } = next;
  const began = rotation !== null && rotation.number !== previous.rotation?.number ? [rotation] : [];
  return [
    ...ended.map(({ number, outcome, cutOffCount, cutOff, by, reason }) => ({
      event: 'rotation.ended' as const,
      fields: { number, outcome, by, reason, cut_off_count: cutOffCount, cut_off: cutOff },
    })),
    ...began.map(({ number, kind, upstream, by, reason, fromAnchorId }) => ({
      event: 'rotation.began' as const,
      fields: { number, kind, upstream, by, reason, from: fromAnchorId },
    })),
  ];
}
