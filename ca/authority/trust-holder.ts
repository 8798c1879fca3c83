import { errorFields, type Log } from '../../host/log.ts';
import { equalBytes } from '../../pki/bytes.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { TrustDomain } from '../../pki/spiffe-id.ts';
import type { SigningIssuer } from '../issue/signing-issuer.ts';
import type { KeyManager } from '../keys/key-manager.ts';
import type { Version } from '../store/trust-store.ts';
import { phaseChanges } from './phase-changes.ts';
import type { TrustState } from './trust-state.ts';
import { keysOf } from './trust-state-rules.ts';
import { signingIssuerOf, type TrustView, trustView } from './trust-view.ts';

/** Hears of each new view. It must not throw. */
export type TrustListener = (view: TrustView) => void;

/** What a {@link TrustHolder} is made of. */
export interface TrustHolderOptions {
  readonly trustDomain: TrustDomain;
  readonly keys: KeyManager;
  readonly log: Log;
}

/** The trust state that this process goes by: the newest that it has read and found good. */
export class TrustHolder {
  readonly #options: TrustHolderOptions;
  readonly #listeners = new Set<TrustListener>();
  /** Replaced as a whole; readers keep the one they have. */
  #view: TrustView | null = null;
  #version: Version | null = null;

  constructor(options: TrustHolderOptions) {
    this.#options = options;
  }

  /** Null before the first state is adopted. */
  get view(): TrustView | null {
    return this.#view;
  }

  /** The version of the view's state, once all that comes with it is done. */
  get version(): Version | null {
    return this.#version;
  }

  onChange(listener: TrustListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Throws when the store is empty and a state is known. */
  refuseEmpty(): void {
    if (this.#view === null) return;
    throw new KedgeError(
      'bundle_sequence_regressed',
      `the trust store is empty, and the bundle ${this.#view.bundle.sequence} is known`,
      { hint: RESTORE_HINT },
    );
  }

  /**
   * Goes over to `state`. Throws `trust_domain_mismatch`, `bundle_sequence_regressed` (then the view stays), or
   * what keeps the active issuer from signing (then the view has the new bundle and no issuer).
   *
   * 1. refuse what this process must not go over to
   * 2. get the issuer ready: the view until now serves meanwhile
   * 3. swap the view, in one assignment, and tell everybody
   * 4. only then drop the keys that the new state has no place for
   */
  async adopt(version: Version, state: TrustState): Promise<void> {
    if (version === this.#version) return;
    const previous = this.#view;
    this.#refuse(state, previous);
    let signing: SigningIssuer | null = null;
    let failure: unknown = null;
    try {
      signing = await this.#signingIssuer(state, previous);
    } catch (error) {
      failure = error;
    }
    this.#show(trustView(state, signing), previous);
    await this.#dropKeys(state, previous);
    if (failure !== null) throw failure;
    this.#version = version;
  }

  #refuse(state: TrustState, previous: TrustView | null): void {
    const { name } = this.#options.trustDomain;
    if (state.trustDomain !== name) {
      throw new KedgeError(
        'trust_domain_mismatch',
        `the trust store is of the trust domain ${quote(state.trustDomain)}, the config says ${quote(name)}`,
        { hint: 'use a data folder of its own for each trust domain, or correct the config' },
      );
    }
    if (previous === null) return;
    const known = previous.bundle;
    const next = trustView(state, null).bundle;
    if (next.sequence > known.sequence) return;
    if (next.sequence === known.sequence && sameAuthorities(known.x509Authorities, next.x509Authorities))
      return;
    throw new KedgeError(
      'bundle_sequence_regressed',
      `the trust store has bundle ${next.sequence}, and another bundle ${known.sequence} is known`,
      { hint: RESTORE_HINT },
    );
  }

  async #signingIssuer(state: TrustState, previous: TrustView | null): Promise<SigningIssuer | null> {
    const active = state.issuers.find(({ phase, taintedAtMs }) => phase === 'active' && taintedAtMs === null);
    if (active === undefined) return null;
    const known = previous?.signingIssuer ?? null;
    // The key is open already, and what was tried once need not be tried at each change of something else.
    if (known !== null && equalBytes(known.issuer.certificate, active.certificate)) {
      return Object.freeze({ ...known, issuer: active });
    }
    return signingIssuerOf(active, this.#options.keys);
  }

  #show(view: TrustView, previous: TrustView | null): void {
    this.#view = view;
    const { sequence } = view.bundle;
    if (previous === null) this.#options.log.info('trust_state.loaded', { sequence });
    for (const { authority, id, change } of phaseChanges(previous?.state ?? view.state, view.state)) {
      this.#options.log.info(`${authority}.${change}`, { id, sequence });
    }
    for (const listener of this.#listeners) {
      try {
        listener(view);
      } catch (error) {
        // One that is broken must not keep the others, and the lifecycle, from the new state.
        this.#options.log.error('trust_listener.failed', errorFields(error));
      }
    }
  }

  async #dropKeys(state: TrustState, previous: TrustView | null): Promise<void> {
    if (previous === null) return;
    const kept = new Set(keysOf(state).map(({ id }) => id));
    for (const key of keysOf(previous.state)) {
      if (!kept.has(key.id)) await this.#options.keys.destroy(key);
    }
  }
}

const RESTORE_HINT =
  'an older copy of the trust store was put in its place: bring back the newest, or stop every CA and agent and begin anew';

function sameAuthorities(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return (
    a.length === b.length && a.every((certificate, i) => equalBytes(certificate, b[i] ?? new Uint8Array()))
  );
}
