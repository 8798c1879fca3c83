import { KedgeError } from '../../pki/kedge-error.ts';
import type { KeyHandle } from '../keys/key-manager.ts';
import type { TrustStore } from '../store/trust-store.ts';
import type { TrustState } from './trust-state.ts';
import { encodeTrustState, parseTrustState } from './trust-state-codec.ts';
import { keysOf } from './trust-state-rules.ts';

/** What {@link rewrapKeys} needs. */
export interface RewrapKeysOptions {
  readonly store: TrustStore;
  /** The same key, sealed under the sealing key in force; null when nothing is to be done. */
  readonly rewrap: (handle: KeyHandle) => KeyHandle | null;
}

/** What {@link rewrapKeys} did. */
export interface RewrappedKeys {
  /** Keys of the trust state that are in our key managers. */
  readonly keys: number;
  /** Those of them that were sealed anew. */
  readonly rewrapped: number;
}

/** Other writers are faster that often at most: they change the state a few times a day. */
const ATTEMPTS = 16;

/**
 * Seals every key in the trust state under the sealing key in force, in one swap. Authorities, bundle and signatures are
 * not touched: whoever signs with a key goes on with the one that it has open.
 *
 * Throws `key_sealed` when a key opens with no sealing key (then nothing is changed), `store_conflict` when other writers
 * keep being faster, and the store's errors.
 */
export async function rewrapKeys(
  { store, rewrap }: RewrapKeysOptions,
  signal: AbortSignal,
): Promise<RewrappedKeys> {
  for (let attempt = 1; ; attempt += 1) {
    const stored = await store.read(signal);
    if (stored === null) return { keys: 0, rewrapped: 0 };
    const state = parseTrustState(stored.document);
    const anew = new Map<string, KeyHandle>();
    for (const key of keysOf(state)) {
      const handle = rewrap(key);
      if (handle !== null) anew.set(key.id, handle);
    }
    const outcome = { keys: keysOf(state).length, rewrapped: anew.size };
    if (anew.size === 0) return outcome;
    try {
      await store.swap(stored.version, encodeTrustState(withKeys(state, anew)), signal);
      return outcome;
    } catch (error) {
      if (!(error instanceof KedgeError) || error.code !== 'store_conflict' || attempt >= ATTEMPTS)
        throw error;
    }
  }
}

function withKeys(state: TrustState, keys: ReadonlyMap<string, KeyHandle>): TrustState {
  return {
    ...state,
    anchors: state.anchors.map((anchor) => ({
      ...anchor,
      key: anchor.key === null ? null : (keys.get(anchor.key.id) ?? anchor.key),
    })),
    issuers: state.issuers.map((issuer) => ({ ...issuer, key: keys.get(issuer.key.id) ?? issuer.key })),
  };
}
