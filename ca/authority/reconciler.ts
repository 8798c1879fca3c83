import type { Clock } from '../../host/clock.ts';
import { withDeadline } from '../../host/deadline.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import type { KeyHandle } from '../keys/key-manager.ts';
import type { TrustStore, Version, VersionedDocument } from '../store/trust-store.ts';
import type { Coverage } from './coverage.ts';
import { type Decision, type Intent, next } from './lifecycle.ts';
import type { LifecycleSettings } from './lifecycle-settings.ts';
import { type MintingOptions, obtainAnchor, obtainIssuer, takeIssuer } from './minting.ts';
import { prepareGoal } from './rotation-transitions.ts';
import { forgetKey, prepareAnchor, prepareIssuer } from './transitions.ts';
import type { TrustHolder } from './trust-holder.ts';
import { emptyTrustState, type TrustState } from './trust-state.ts';
import { encodeTrustState, parseTrustState } from './trust-state-codec.ts';
import { keysOf } from './trust-state-rules.ts';
import type { UpstreamSight } from './upstream-sight.ts';

/** What a {@link Reconciler} is made of. */
export interface ReconcilerOptions {
  readonly store: TrustStore;
  readonly holder: TrustHolder;
  readonly minting: MintingOptions;
  /** What the fleet holds now. */
  readonly coverage: () => Coverage;
  /** What the upstream authorities offer now. */
  readonly upstreamSight: () => UpstreamSight;
  /** Told when the upstream gave no issuer: perhaps it has another anchor by now. */
  readonly onRefused: () => void;
  readonly clock: Clock;
  readonly settings: LifecycleSettings;
  /** How long one call to the store may take, milliseconds. */
  readonly storeTimeoutMs: number;
  /** How long it may take to get an anchor or an issuer, milliseconds. */
  readonly mintTimeoutMs: number;
}

/** Nothing is left to do before `untilMs`. */
export type Wait = Extract<Decision, { readonly kind: 'wait' }>;

/** A state to swap in, and the key that was made for it. */
interface Proposal {
  readonly state: TrustState;
  readonly made: KeyHandle | null;
}

/** A key of a swap whose outcome is not known. */
interface Unsettled {
  readonly key: KeyHandle;
  /** The version that the swap would have replaced. */
  readonly expected: Version | null;
}

/**
 * Brings the trust state to where the lifecycle wants it: reads, adopts, decides, carries out, swaps, again.
 *
 * Every change is one swap of the whole document, so a crash at any instruction leaves the state before it or the
 * state after it, and the next pass, here or on another replica, decides from that one.
 *
 * One caller at a time.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  #unsettled: readonly Unsettled[] = [];

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /**
   * Runs until the lifecycle waits. Another writer who was faster is no failure: read again, decide anew. After any
   * other failure call it again, after a while: it looks at what the store holds then.
   */
  async reconcile(signal: AbortSignal): Promise<Wait> {
    const { coverage, upstreamSight, clock, settings } = this.#options;
    for (;;) {
      const stored = await this.#withStore(signal, (store, signal) => store.read(signal));
      const state = await this.#adopt(stored);
      const decision = next({
        state,
        coverage: coverage(),
        upstream: upstreamSight(),
        nowMs: clock.now(),
        settings,
      });
      switch (decision.kind) {
        case 'wait':
          return decision;
        case 'step':
          await this.#propose(stored, { state: decision.state, made: null }, signal);
          break;
        case 'intent':
          await this.#propose(stored, await this.#carryOut(decision.intent, state, signal), signal);
          break;
        default:
          decision satisfies never;
      }
    }
  }

  async #adopt(stored: VersionedDocument | null): Promise<TrustState> {
    const { holder, minting } = this.#options;
    if (stored === null) {
      holder.refuseEmpty();
      await this.#settle(null, null);
      return emptyTrustState(minting.trustDomain.name);
    }
    const known = holder.version === stored.version ? holder.view : null;
    const state = known?.state ?? parseTrustState(stored.document);
    await holder.adopt(stored.version, state);
    await this.#settle(stored.version, state);
    return state;
  }

  async #carryOut(intent: Intent, state: TrustState, signal: AbortSignal): Promise<Proposal> {
    const { clock, mintTimeoutMs: timeoutMs, minting, onRefused } = this.#options;
    const nowMs = clock.now();
    switch (intent.kind) {
      case 'mint-anchor': {
        const deadline = { clock, timeoutMs, what: 'minting a trust anchor' };
        const anchor = await withDeadline(deadline, signal, (signal) =>
          obtainAnchor(intent, state, nowMs, minting, signal),
        );
        const prepare = state.rotation === null ? prepareAnchor : prepareGoal;
        return { state: prepare(state, anchor, nowMs), made: anchor.key };
      }
      case 'mint-issuer':
      case 'take-issuer': {
        const deadline = { clock, timeoutMs, what: 'minting an issuer' };
        const issuer = await withDeadline(deadline, signal, (signal) =>
          intent.kind === 'mint-issuer'
            ? obtainIssuer(intent, state, nowMs, minting, signal)
            : takeIssuer(intent, state, nowMs, minting, signal),
        ).catch((error: unknown) => {
          onRefused();
          throw error;
        });
        return { state: prepareIssuer(state, issuer, nowMs), made: issuer.key };
      }
      case 'destroy-key':
        await minting.keys.destroy(intent.key);
        return { state: forgetKey(state, intent.key), made: null };
      default:
        return intent satisfies never;
    }
  }

  async #propose(
    stored: VersionedDocument | null,
    { state, made }: Proposal,
    signal: AbortSignal,
  ): Promise<void> {
    const expected = stored?.version ?? null;
    if (made !== null) this.#unsettled = [...this.#unsettled, { key: made, expected }];
    try {
      const document = encodeTrustState(state);
      await this.#withStore(signal, (store, signal) => store.swap(expected, document, signal));
    } catch (error) {
      if (!isKedgeError(error, 'store_conflict')) throw error;
    }
  }

  /**
   * Destroys the keys of swaps that have failed for good: the state does not hold them, and as it is no longer the
   * version that they were to replace, it never will.
   */
  async #settle(version: Version | null, state: TrustState | null): Promise<void> {
    const held = new Set((state === null ? [] : keysOf(state)).map(({ id }) => id));
    const open = this.#unsettled;
    this.#unsettled = open.filter(({ key, expected }) => !held.has(key.id) && expected === version);
    for (const { key, expected } of open) {
      if (!held.has(key.id) && expected !== version) await this.#options.minting.keys.destroy(key);
    }
  }

  #withStore<T>(
    signal: AbortSignal,
    work: (store: TrustStore, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { store, clock, storeTimeoutMs: timeoutMs } = this.#options;
    return withDeadline({ clock, timeoutMs, what: 'the trust store' }, signal, (signal) =>
      work(store, signal),
    );
  }
}
