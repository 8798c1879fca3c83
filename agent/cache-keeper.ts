import { errorFields, type Log } from '../host/log.ts';
import { type CachedIdentityContext, formatCachedIdentity, parseCachedIdentity } from './cached-identity.ts';
import type { IdentityCache } from './identity-cache.ts';
import type { IssuedIdentity } from './identity-source.ts';
import type { AgentState } from './state.ts';

/** What a {@link CacheKeeper} is made of. */
export interface CacheKeeperOptions {
  /** Absent = an agent that restarts while the CA is away has nothing. */
  readonly cache: IdentityCache | undefined;
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

  /** What the cache holds, if that is any good; null otherwise. */
  async restore(context: CachedIdentityContext): Promise<IssuedIdentity | null> {
    const { cache, log } = this.#options;
    try {
      const bytes = (await cache?.load()) ?? null;
      return bytes === null ? null : parseCachedIdentity(bytes, context);
    } catch (error) {
      log.warn('cache.refused', { error: errorFields(error) });
      return null;
    }
  }

  /** Brings the cache to a state, soon; only the newest counts. */
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
        if (state.phase === 'serving') {
          await cache.save(formatCachedIdentity(state.snapshot, state.renewal.at.wallMs));
        } else await cache.clear();
      } catch (error) {
        this.#options.log.warn('cache.not_saved', { error: errorFields(error) });
      }
    }
  }
}
