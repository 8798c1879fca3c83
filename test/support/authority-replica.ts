/** CA replicas of one trust domain for tests: real keys, real certificates, a real SQLite file, a clock of ours. */
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type Coverage, NO_COVERAGE } from '../../ca/authority/coverage.ts';
import { AuthorityEngine, type AuthorityEngineOptions } from '../../ca/authority/engine.ts';
import { DEFAULT_LIFECYCLE_SETTINGS } from '../../ca/authority/lifecycle-settings.ts';
import type { TrustState } from '../../ca/authority/trust-state.ts';
import { parseTrustState } from '../../ca/authority/trust-state-codec.ts';
import type { AuthorityKeyAlgorithm, KeyHandle } from '../../ca/keys/key-manager.ts';
import { SealedKeyManager } from '../../ca/keys/sealed-key-manager.ts';
import { SqliteTrustStore } from '../../ca/store/sqlite-trust-store.ts';
import type { TrustStore } from '../../ca/store/trust-store.ts';
import { SelfSignedUpstream } from '../../ca/upstream/self-signed-upstream.ts';
import type {
  MintedIssuer,
  MintIssuerRequest,
  NewAnchorRequest,
  UpstreamAnchor,
  UpstreamAuthority,
} from '../../ca/upstream/upstream-authority.ts';
import type { Log, LogFields } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
// Loaded here, so that minting in a test takes no time that a test would have to wait for.
import '../../pki/authority-profile.ts';
import { Secret } from '../../pki/secret.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { FaultyTrustStore } from './faulty-trust-store.ts';
import { ManualClock } from './manual-clock.ts';
import { temporaryFolder } from './temporary-folder.ts';

export const never = new AbortController().signal;
export const trustDomain = TrustDomain.parse('example.org');

/** What was logged, by event name. */
export class RecordingLog implements Log {
  readonly lines: { event: string; fields: LogFields }[] = [];
  debug = (event: string, fields: LogFields = {}): void => void this.lines.push({ event, fields });
  info = this.debug;
  warn = this.debug;
  error = this.debug;
  of(event: string): readonly LogFields[] {
    return this.lines.filter((line) => line.event === event).map(({ fields }) => fields);
  }
  get events(): readonly string[] {
    return this.lines.map(({ event }) => event);
  }
}

/** Sealed keys; remembers which were made and destroyed. */
export class WatchedKeyManager extends SealedKeyManager {
  readonly generated: string[] = [];
  readonly destroyed = new Set<string>();
  /** While set, destroying fails with it. */
  destroyFault: Error | null = null;

  override async generate(id: string, algorithm: AuthorityKeyAlgorithm): Promise<KeyHandle> {
    this.generated.push(id);
    return super.generate(id, algorithm);
  }

  override async destroy(handle: KeyHandle): Promise<void> {
    if (this.destroyFault !== null) throw this.destroyFault;
    this.destroyed.add(handle.id);
    await super.destroy(handle);
  }
}

/** An upstream that can be told to do otherwise. */
export class PliableUpstream implements UpstreamAuthority {
  readonly kind = 'self';
  readonly #upstream: UpstreamAuthority;
  anchorsAsked = 0;
  issuersAsked = 0;
  onNewAnchor: ((request: NewAnchorRequest) => Promise<UpstreamAnchor | null>) | null = null;
  onMintIssuer: ((request: MintIssuerRequest) => Promise<MintedIssuer>) | null = null;

  constructor(upstream: UpstreamAuthority) {
    this.#upstream = upstream;
  }

  newAnchor(request: NewAnchorRequest, signal: AbortSignal): Promise<UpstreamAnchor | null> {
    this.anchorsAsked += 1;
    return this.onNewAnchor?.(request) ?? this.#upstream.newAnchor(request, signal);
  }

  mintIssuer(request: MintIssuerRequest, signal: AbortSignal): Promise<MintedIssuer> {
    this.issuersAsked += 1;
    return this.onMintIssuer?.(request) ?? this.#upstream.mintIssuer(request, signal);
  }

  watch(signal: AbortSignal): AsyncIterable<void> {
    return this.#upstream.watch(signal);
  }
}

/** One replica, with all that it is made of in reach. */
export interface Replica {
  readonly engine: AuthorityEngine;
  readonly store: FaultyTrustStore;
  readonly keys: WatchedKeyManager;
  readonly upstream: PliableUpstream;
  readonly log: RecordingLog;
  coverage: Coverage;
  /** How many of its failures were given time to pass. */
  attended: number;
}

/** One data folder, and the replicas on it. */
export class TestTrustDomain {
  readonly clock = new ManualClock();
  readonly path: string;
  readonly #t: TestContext;
  readonly sealingKey = systemRandom.bytes(32);

  constructor(t: TestContext) {
    this.#t = t;
    this.path = join(temporaryFolder(t), 'trust.db');
  }

  /** A handle on the store, as another program would have it. */
  openStore(): TrustStore {
    const store = new SqliteTrustStore({ path: this.path, clock: this.clock });
    this.#t.after(() => store.close());
    return store;
  }

  replica(changed: Partial<AuthorityEngineOptions> & { sealingKey?: Uint8Array } = {}): Replica {
    const { sealingKey = this.sealingKey, ...options } = changed;
    const random = systemRandom;
    const name = (options.trustDomain ?? trustDomain).name;
    const keys = new WatchedKeyManager({
      trustDomain: name,
      sealingKey: new Secret(Uint8Array.from(sealingKey)),
      random,
    });
    const upstream = new PliableUpstream(
      new SelfSignedUpstream({
        trustDomain: options.trustDomain ?? trustDomain,
        keys,
        keyAlgorithm: 'ec-p256',
        random,
        uriNameConstraints: false,
      }),
    );
    const store = new FaultyTrustStore(this.openStore());
    const log = new RecordingLog();
    const engine = new AuthorityEngine({
      trustDomain,
      keys,
      upstream,
      random,
      issuerKeyAlgorithm: 'ec-p256',
      store,
      coverage: () => replica.coverage,
      clock: this.clock,
      log,
      settings: DEFAULT_LIFECYCLE_SETTINGS,
      ...options,
    });
    const replica: Replica = { engine, store, keys, upstream, log, coverage: NO_COVERAGE, attended: 0 };
    this.#t.after(() => engine.stop());
    return replica;
  }

  /** Starts a replica; each time that it backs off, the clock moves on. */
  async start(replica: Replica, signal: AbortSignal = never): Promise<void> {
    await this.attend(replica, replica.engine.start(signal));
  }

  /** Waits for `promise` while a replica backs off as often as it likes. */
  async attend<T>(replica: Replica, promise: Promise<T>): Promise<T> {
    const waiting = { done: false };
    const settled = promise.finally(() => {
      waiting.done = true;
    });
    settled.catch(() => undefined);
    while (!waiting.done) {
      await turn();
      const failures = replica.log.of('authority_engine.failed').length;
      if (failures === replica.attended) continue;
      replica.attended = failures;
      await this.clock.advance(30_000);
    }
    return settled;
  }

  /** Time passes, most of it while the machine slept: what is due is noticed at the next look at the wall clock. */
  async pass(ms: number): Promise<void> {
    this.clock.jumpWall(Math.max(0, ms - 10_000));
    await this.clock.advance(Math.min(ms, 10_000));
  }

  /** What the store holds. */
  async stored(): Promise<TrustState> {
    const store = this.openStore();
    const read = await store.read(never);
    await store.close();
    if (read === null) throw new Error('the store is empty');
    return parseTrustState(read.document);
  }
}

/** Lets what is under way go on until `condition` holds. No time passes. */
export async function until(condition: () => boolean): Promise<void> {
  for (let turns = 0; !condition(); turns += 1) {
    if (turns > 300_000) throw new Error(`it never came to pass that ${condition.toString()}`);
    await turn();
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
