import { errorFields, type Log } from '../host/log.ts';
import { KedgeError } from '../pki/kedge-error.ts';
import type { TrustKeeper } from './ca-trust.ts';
import {
  type CachedIdentityContext,
  type CachedSvid,
  formatCachedIdentity,
  parseCachedIdentity,
} from './cached-identity.ts';
import type { IdentityCache } from './identity-cache.ts';
import type { IssuedIdentity } from './identity-source.ts';
import type { AgentState } from './state.ts';

/** What a {@link CacheKeeper} is made of. */
export interface CacheKeeperOptions {
  /** Absent = an agent that restarts while the CA is away has nothing. */
  readonly cache: IdentityCache | undefined;
  /** Whom the agent trusts: kept and taken up with the SVID, and kept also without one. */
  readonly trust: TrustKeeper;
  readonly log: Log;
}

/**
 * Keeps the cache at the state of the agent. No failure of the cache is one of the agent: it is logged, and the agent
 * goes on without.
 */
export class CacheKeeper {
  readonly #options: CacheKeeperOptions;
  #newest: AgentState | null = null;
  #working: Promise<void> | null = null;

  constructor(options: CacheKeeperOptions) {
    this.#options = options;
  }

  /** Takes up the trust of the cache, and gives its identity, each if it is any good; null otherwise. */
  async restore(context: CachedIdentityContext): Promise<IssuedIdentity | null> {
    const { cache, trust, log } = this.#options;
    try {
      const bytes = (await cache?.load()) ?? null;
      if (bytes === null) return null;
      const cached = parseCachedIdentity(bytes, context);
      trust.restoreTrust(cached.trust);
      if (cached.identity instanceof KedgeError) throw cached.identity;
      return cached.identity;
    } catch (error) {
      log.warn('cache.refused', { error: errorFields(error) });
      return null;
    }
  }

  /** Brings the cache to a state, soon; only the newest counts. Without an SVID it keeps the trust alone, no key. */
  keep(state: AgentState): void {
    if (this.#options.cache === undefined) return;
    this.#newest = state;
    this.#working ??= this.#work(this.#options.cache).finally(() => {
      this.#working = null;
    });
  }

  /** Resolves when the cache is at the newest state. */
  async settled(): Promise<void> {
    await this.#working;
  }

  async #work(cache: IdentityCache): Promise<void> {
    while (this.#newest !== null) {
      const state = this.#newest;
      this.#newest = null;
      try {
        const memory = this.#options.trust.trustMemory;
        if (memory === null) await cache.clear();
        else await cache.save(formatCachedIdentity(memory, heldSvid(state)));
      } catch (error) {
        this.#options.log.warn('cache.not_saved', { error: errorFields(error) });
      }
    }
  }
}

function heldSvid(state: AgentState): CachedSvid | null {
  if (state.phase !== 'serving') return null;
  return { svid: state.snapshot.svid, renewAtMs: state.renewal.at.wallMs };
}
