import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { INJECTED_SELECTOR } from '../kubernetes/cluster-names.ts';
import { Informer } from '../kubernetes/informer.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { POD } from '../kubernetes/objects.ts';
import type { PodSighting } from './fleet-join.ts';
import { readWorkloadPod, type WorkloadPod } from './workload-pod.ts';

/** What a {@link PodTracker} is made of. */
export interface PodTrackerOptions {
  readonly api: Pick<KubernetesApi, 'list' | 'watch' | 'get'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Called when a namespace gets its first pod with an agent, or loses its last. Must not throw. */
  readonly onNamespace?: (namespace: string) => void;
}

/** A reported instance that is not among the pods that carry the label. */
export interface Unlabelled {
  readonly id: string;
  readonly namespace: string;
  readonly podName: string;
}

/** For so long a pod that is gone is remembered, milliseconds: reports of other replicas may still tell of it. */
const GONE_MS = 3_600_000;
/** Beyond so many the oldest are forgotten. */
const MAX_GONE = 100_000;
/** Longer than a watch: a copy that nobody has confirmed for so long may be old. */
const STALE_MS = 150_000;
/** Pods without the label that are looked up at once, and their pace, milliseconds. */
const CHECKS = 20;
const CHECK_MS = 30_000;
const BACKOFF = { baseMs: 500, capMs: 15_000 } as const;

/** The pods that carry the agent, as the API server tells of them, and those that are gone. */
export class PodTracker {
  readonly #options: PodTrackerOptions;
  readonly #informer: Informer<WorkloadPod | null>;
  readonly #sightings = new Map<string, PodSighting>();
  /** UID -> when it was seen to be gone, on the monotonic clock; oldest first. */
  readonly #gone = new Map<string, number>();
  #version = 0;
  readonly #perNamespace = new Map<string, number>();
  /** By UID: those that the watch no longer tells of. They count as before until it is known why. */
  readonly #missed = new Map<string, WorkloadPod>();
  readonly #missing = new Wakeup();
  /** Those without the label that were looked up last, so that others get their turn. */
  #checked = new Set<string>();

  constructor(options: PodTrackerOptions) {
    this.#options = options;
    const { api, clock, random, log } = options;
    this.#informer = new Informer({
      api,
      type: POD,
      selection: { labelSelector: INJECTED_SELECTOR },
      read: readWorkloadPod,
      onChange: (change) => {
        const { previous } = change;
        const value = change.kind === 'set' ? change.value : null;
        if (previous !== undefined && previous !== null && previous.uid !== value?.uid) {
          // A pod of the same name is another pod: its UID says so. One that has ended never runs again.
          if (value !== null || previous.stage === 'ended') this.#lose(previous, true);
          else this.#miss(previous);
        }
        if (value !== null) this.#see(value);
      },
      clock,
      random,
      log,
    });
  }

  /** Another number after each change. */
  get version(): number {
    return this.#version;
  }

  /** By UID. */
  get pods(): ReadonlyMap<string, PodSighting> {
    return this.#sightings;
  }

  /** UIDs of pods that were seen to be gone. */
  get gone(): ReadonlyMap<string, number> {
    return this.#gone;
  }

  /** Whether the pods were read, and are as they were a short while ago. */
  get complete(): boolean {
    return this.#informer.synced && this.#informer.staleMs < STALE_MS;
  }

  /** Whether a pod with an agent is in the namespace. */
  has(namespace: string): boolean {
    return this.#perNamespace.has(namespace);
  }

  /** Follows the pods until the signal aborts; looks up, now and then, those of `unlabelled` that may be gone. */
  async run(unlabelled: () => readonly Unlabelled[], signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#informer.run(signal),
      this.#checkMissed(signal),
      this.#checkUnlabelled(unlabelled, signal),
    ]);
  }

  #see(pod: WorkloadPod): void {
    this.#version += 1;
    this.#missed.delete(pod.uid);
    const known = this.#sightings.get(pod.uid);
    this.#sightings.set(pod.uid, { pod, sinceMs: known?.sinceMs ?? this.#options.clock.now() });
    if (known === undefined) this.#count(pod.namespace, 1);
  }

  /** A watch by labels tells of a pod that lost the label as it does of one that was deleted: somebody must look. */
  #miss(pod: WorkloadPod): void {
    this.#missed.set(pod.uid, pod);
    this.#missing.wake();
  }

  #lose({ uid, namespace }: WorkloadPod, isGone: boolean): void {
    this.#version += 1;
    if (this.#sightings.delete(uid)) this.#count(namespace, -1);
    if (isGone) this.#bury(uid);
  }

  #bury(uid: string): void {
    const nowMs = this.#options.clock.monotonic();
    this.#version += 1;
    this.#gone.delete(uid);
    this.#gone.set(uid, nowMs);
    for (const [oldest, atMs] of this.#gone) {
      if (nowMs - atMs < GONE_MS && this.#gone.size <= MAX_GONE) break;
      this.#gone.delete(oldest);
    }
  }

  #count(namespace: string, by: number): void {
    const before = this.#perNamespace.get(namespace) ?? 0;
    if (before + by === 0) this.#perNamespace.delete(namespace);
    else this.#perNamespace.set(namespace, before + by);
    if (before === 0 || before + by === 0) this.#options.onNamespace?.(namespace);
  }

  /** Looks up what the watch no longer tells of, at once, and again until there is an answer. */
  async #checkMissed(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const generation = this.#missing.generation;
      let isAnswered = true;
      for (const [uid, pod] of this.#missed) {
        const found = await this.#look({ id: uid, namespace: pod.namespace, podName: pod.name }, signal);
        isAnswered = found !== 'unanswered';
        if (!isAnswered) break;
        // It has the label again since.
        if (this.#missed.get(uid) !== pod) continue;
        this.#missed.delete(uid);
        this.#lose(pod, found === 'gone');
      }
      failures = isAnswered ? 0 : failures + 1;
      const waitMs = isAnswered ? CHECK_MS : backoffMs(failures, BACKOFF, random);
      const sleep = (end: AbortSignal): Promise<void> => clock.sleep(waitMs, end);
      // A newcomer does not make an API server that is away answer.
      if (isAnswered) await this.#missing.sleep(generation, sleep, signal).catch(() => undefined);
      else await sleep(signal).catch(() => undefined);
    }
  }

  /** An agent that was put into a pod by hand: only asking for the pod by its name tells whether it is gone. */
  async #checkUnlabelled(unlabelled: () => readonly Unlabelled[], signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(CHECK_MS * (0.5 + random.fraction()), signal).catch(() => undefined);
      if (signal.aborted) return;
      const candidates = unlabelled().filter(({ id }) => !this.#gone.has(id));
      let turn = candidates.filter(({ id }) => !this.#checked.has(id)).slice(0, CHECKS);
      if (turn.length === 0) {
        this.#checked = new Set();
        turn = candidates.slice(0, CHECKS);
      }
      for (const instance of turn) {
        this.#checked.add(instance.id);
        const found = await this.#look(instance, signal);
        if (found === 'gone') this.#bury(instance.id);
        // The API server is away, or does not let us: who cannot be looked up is not gone.
        if (found === 'unanswered') break;
      }
    }
  }

  async #look(
    { id, namespace, podName }: Unlabelled,
    signal: AbortSignal,
  ): Promise<'there' | 'gone' | 'unanswered'> {
    try {
      const { metadata } = await this.#options.api.get(POD, { namespace, name: podName }, { signal });
      return metadata.uid === id ? 'there' : 'gone';
    } catch (error) {
      return isKedgeError(error, 'kubernetes_not_found') ? 'gone' : 'unanswered';
    }
  }
}
