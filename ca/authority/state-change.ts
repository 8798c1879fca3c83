import type { Clock } from '../../host/clock.ts';
import { withDeadline } from '../../host/deadline.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import type { TrustStore } from '../store/trust-store.ts';
import type { TrustState } from './trust-state.ts';
import { encodeTrustState, parseTrustState } from './trust-state-codec.ts';

/** What {@link changeTrustState} needs. */
export interface StateChange {
  readonly store: TrustStore;
  readonly clock: Clock;
  /** How long one call to the store may take, milliseconds. */
  readonly timeoutMs: number;
  /** Sequence of the bundle that this process goes by: an older state in the store is not built upon. */
  readonly knownSequence: number;
}

/** So many writers may be faster in a row. */
const ATTEMPTS = 8;

/**
 * Changes the trust state once, as somebody asked: reads, changes, swaps; reads and changes anew when another writer was
 * faster. Gives the state that is stored then. A swap whose outcome is unknown is a failure: ask again, for `change`
 * decides by what the store holds.
 *
 * Throws what `change` throws, `store_conflict` after many attempts, `bundle_sequence_regressed`, the store's errors.
 */
export async function changeTrustState(
  { store, clock, timeoutMs, knownSequence }: StateChange,
  change: (state: TrustState) => TrustState,
  signal: AbortSignal,
): Promise<TrustState> {
  const deadline = { clock, timeoutMs, what: 'the trust store' };
  for (let attempt = 1; ; attempt += 1) {
    const stored = await withDeadline(deadline, signal, (signal) => store.read(signal));
    if (stored === null) throw regressed('the trust store is empty');
    const state = parseTrustState(stored.document);
    if (state.sequence < knownSequence) throw regressed(`the trust store has bundle ${state.sequence}`);
    const next = change(state);
    if (next === state) return state;
    const document = encodeTrustState(next);
    try {
      await withDeadline(deadline, signal, (signal) => store.swap(stored.version, document, signal));
      return next;
    } catch (error) {
      if (!isKedgeError(error, 'store_conflict') || attempt === ATTEMPTS) throw error;
    }
  }
}

function regressed(what: string): KedgeError {
  return new KedgeError('bundle_sequence_regressed', `${what}, and a newer state is known`, {
    hint: 'an older copy of the trust store was put in its place: bring back the newest',
  });
}
