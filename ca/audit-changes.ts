import type { Clock } from '../host/clock.ts';
import type { AuthorityEngine } from './authority/engine.ts';
import { phaseChanges } from './authority/phase-changes.ts';
import { emptyTrustState } from './authority/trust-state.ts';
import type { AuditLog } from './issue/audit-log.ts';
import { auditEntry } from './issue/audit-record.ts';
import type { PolicySource } from './policy-source.ts';

/** Notes each edit of the policy on the audit log, taken or not. */
export function auditPolicyChanges(policy: PolicySource, audit: AuditLog, clock: Clock): void {
  policy.onChange(({ file, sha256, error }) => {
    const event = error === null ? 'policy.loaded' : 'policy.refused';
    audit.note(auditEntry(event, clock.now(), { file, sha256, error }));
  });
}

/** Notes each change of an authority's phase on the audit log. */
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
    known = state;
  });
}
