import type { WorkloadInstance } from '../attest/attestor.ts';
import type { IssuedSvid } from '../issue/issuance.ts';
import type { IssuedRecord } from '../issue/issued-history.ts';
import { countedInstance, type KnownTrust } from './counted-report.ts';
import type { FleetView } from './fleet-view.ts';
import { type FleetInstance, heldUntilMs, isLive } from './instance.ts';
import type { ReportedState } from './reported-state.ts';
import type { Log } from '../../host/log.ts';

/** What a {@link Fleet} is made of. */
export interface FleetOptions {
  /** How many instances are remembered; beyond it those that end first are forgotten. */
  readonly maxInstances: number;
  /** What reports are held against; null while no trust state was read. Asked for each look at the fleet. */
  readonly trust: () => KnownTrust | null;
  readonly log: Log;
}

/** One connection of an agent. What an older one of the same instance still says is not taken. */
export interface FleetSession {
  /** Takes the agent's newest report. */
  report(state: ReportedState, nowMs: number): void;
  /** The connection ended. Harmless when repeated. */
  close(nowMs: number): void;
}

/**
 * Who is live, and what each instance holds: what this process issued and what agents reported to it.
 *
 * In memory only: after a restart every agent reports again. Bounded; an instance is forgotten once its last SVID
 * has expired and it is not connected.
 */
export class Fleet implements FleetView {
  readonly #options: FleetOptions;
  /** Ordered by when an instance was first heard of. */
  readonly #instances = new Map<string, FleetInstance>();
  #version = 0;
  /** What is not known of those who were issued SVIDs before this process; empty = nothing is missing. */
  #unknown = '';
  /** Why somebody was forgotten who may still be live; empty = nobody was. */
  #overflow = '';
  /** The newest session of each connected instance. */
  readonly #sessions = new Map<string, FleetSession>();

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** Another number after each change. */
  get version(): number {
    return this.#version;
  }

  /** Whether everybody is known who may hold an SVID: there is nobody to ask but the agents, and the audit log. */
  get complete(): boolean {
    return this.unknown === '';
  }

  get unknown(): string {
    return this.#overflow || this.#unknown;
  }

  /** From now on it is not complete, and why; until {@link Fleet.remember}. */
  awaitHistory(unknown: string): void {
    this.#unknown = unknown;
  }

  /** Takes in who was issued an SVID before this process, as far as nothing newer is known of them: then it is complete. */
  remember(issued: readonly IssuedRecord[]): void {
    for (const { podUid, cluster, namespace, podName, spiffeId, ...svid } of issued) {
      const key = `${cluster}/${podUid}`;
      const { serialNumber, issuerId: authorityKeyId, notAfterMs, issuedAtMs: lastSeenMs } = svid;
      const known = this.#instances.get(key);
      if (known !== undefined && known.issued !== null) continue;
      const identity = { id: podUid, cluster, spiffeId, namespace, podName };
      const unheard = {
        report: null,
        connected: false,
        lastSeenMs,
        pod: 'unknown',
        unheardUntilMs: 0,
      } as const;
      const instance: FleetInstance = known ?? { ...identity, ...unheard, issued: null };
      this.#put({ ...instance, issued: { serialNumber, authorityKeyId, notAfterMs } }, lastSeenMs);
    }
    this.#unknown = '';
  }

  /** How many instances are remembered. */
  get size(): number {
    return this.#instances.size;
  }

  /** How many instances have a stream open. */
  get connected(): number {
    return this.#sessions.size;
  }

  /** Every instance that is remembered, in no particular order, with its report as {@link countedInstance} has it. */
  instances(): readonly FleetInstance[] {
    const trust = this.#options.trust();
    return [...this.#instances.values()].map((instance) => countedInstance(instance, trust));
  }

  /** Notes an SVID that leaves for an instance. */
  issued(instance: WorkloadInstance, svid: IssuedSvid, nowMs: number): void {
    const spiffeId = svid.spiffeId.toString();
    const known = this.#known(instance, spiffeId, nowMs);
    const issued = {
      serialNumber: Buffer.from(svid.serialNumber).toString('hex'),
      authorityKeyId: svid.authorityKeyId,
      notAfterMs: svid.notAfterMs,
    };
    this.#put({ ...known, spiffeId, issued, lastSeenMs: nowMs }, nowMs);
  }

  /** Opens a session: the instance's agent connected, and proved who it is. */
  connect(instance: WorkloadInstance, spiffeId: string, nowMs: number): FleetSession {
    const key = keyOf(instance);
    const known = this.#known(instance, spiffeId, nowMs);
    this.#put({ ...known, spiffeId, connected: true, lastSeenMs: nowMs }, nowMs);
    const update = (change: Partial<FleetInstance>, nowMs: number): void => {
      if (this.#sessions.get(key) !== session) return;
      this.#put({ ...this.#known(instance, spiffeId, nowMs), ...change, lastSeenMs: nowMs }, nowMs);
    };
    const session: FleetSession = {
      report: (state, nowMs) => update({ report: state, connected: true }, nowMs),
      close: (nowMs) => {
        update({ connected: false }, nowMs);
        if (this.#sessions.get(key) === session) this.#sessions.delete(key);
      },
    };
    this.#sessions.set(key, session);
    return session;
  }

  /** Forgets the instances that hold nothing any more. */
  prune(nowMs: number): void {
    const trust = this.#options.trust();
    const before = this.#instances.size;
    for (const [key, instance] of this.#instances) {
      if (!instance.connected && !isLive(countedInstance(instance, trust), nowMs))
        this.#instances.delete(key);
    }
    if (this.#instances.size !== before) this.#version += 1;
  }

  #known(instance: WorkloadInstance, spiffeId: string, nowMs: number): FleetInstance {
    return (
      this.#instances.get(keyOf(instance)) ?? {
        id: instance.podUid,
        cluster: instance.cluster,
        spiffeId,
        namespace: instance.namespace,
        podName: instance.podName,
        issued: null,
        report: null,
        connected: false,
        lastSeenMs: nowMs,
        pod: 'unknown',
        unheardUntilMs: 0,
      }
    );
  }

  #put(instance: FleetInstance, nowMs: number): void {
    const key = `${instance.cluster}/${instance.id}`;
    if (!this.#instances.has(key) && this.#instances.size >= this.#options.maxInstances)
      this.#makeRoom(nowMs);
    this.#instances.set(key, instance);
    this.#version += 1;
  }

  #makeRoom(nowMs: number): void {
    this.prune(nowMs);
    if (this.#instances.size < this.#options.maxInstances) return;
    // Several at once, so that a full registry does not look at everyone for each newcomer.
    const trust = this.#options.trust();
    const victims = [...this.#instances]
      .map(([key, instance]) => ({
        key,
        lastSeenMs: instance.lastSeenMs,
        endsMs: instance.connected ? Infinity : heldUntilMs(countedInstance(instance, trust)),
      }))
      .toSorted((a, b) => Math.sign(a.endsMs - b.endsMs) || a.lastSeenMs - b.lastSeenMs)
      .slice(0, Math.ceil(this.#options.maxInstances / 100));
    for (const { key } of victims) this.#instances.delete(key);
    // Whoever was forgotten may be live for as long as this process: nothing may rest on knowing everybody.
    this.#overflow = `there are more instances than the ${this.#options.maxInstances} that are remembered`;
    this.#version += 1;
    this.#options.log.warn('fleet.full', {
      instances: this.#options.maxInstances,
      forgotten: victims.length,
    });
  }
}

function keyOf(instance: WorkloadInstance): string {
  return `${instance.cluster}/${instance.podUid}`;
}
