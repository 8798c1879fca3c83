import type { Clock } from '../../host/clock.ts';
import { RewrapKeysResponse } from '../../proto/gen/kedge/v1/admin.ts';
import type { RewrappedKeys } from '../authority/rewrap-keys.ts';
import type { AuditLog } from '../issue/audit-log.ts';
import { auditEntry } from '../issue/audit-record.ts';
import type { UnaryMethod } from './unary-method.ts';

/** What {@link rewrapMethod} needs. */
export interface RewrapMethodOptions {
  readonly rewrap: (signal: AbortSignal) => Promise<RewrappedKeys>;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly clock: Clock;
}

/** `kedge.v1.Admin/RewrapKeys`. */
export function rewrapMethod({ rewrap, audit, clock }: RewrapMethodOptions): UnaryMethod {
  return async (_request, { signal }) => {
    const { keys, rewrapped } = await rewrap(signal);
    if (rewrapped > 0) audit.note(auditEntry('keys.rewrapped', clock.now(), { keys, rewrapped }));
    return RewrapKeysResponse.encode({ keys, rewrapped }).finish();
  };
}
