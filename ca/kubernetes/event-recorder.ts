import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import type { KubernetesApi } from './kubernetes-api.ts';
import type { KubernetesObject, ResourceType } from './objects.ts';

/** core/v1 Event: what `kubectl describe` shows under an object. */
export const EVENT: ResourceType = { apiVersion: 'v1', kind: 'Event', plural: 'events', namespaced: true };

/** What an operator is told on an object. */
export interface ObjectEvent {
  readonly type: 'Normal' | 'Warning';
  /** Why, in CamelCase: from a closed set. */
  readonly reason: string;
  /** One sentence; no secret. */
  readonly message: string;
}

/** What an {@link EventRecorder} is made of. */
export interface EventRecorderOptions {
  readonly api: Pick<KubernetesApi, 'create'>;
  /** Which replica says it: the name of its pod. */
  readonly instance: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** The same is not said of the same object again for so long, milliseconds. */
const REPEAT_MS = 3_600_000;
/** Events in each minute; what is over that is only logged. */
const PER_MINUTE = 30;
const TIMEOUT_MS = 5_000;
/** core/v1 Event: `message` may have 1,024 bytes. */
const MESSAGE_CHARS = 1_000;

/** Says on objects of the Kubernetes API what is wrong with them, or what was done about it. */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  /** Object and reason -> when it was said last, monotonic; oldest first. */
  readonly #said = new Map<string, number>();
  #minute = { beganAtMs: Number.NEGATIVE_INFINITY, events: 0 };

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Says it, once in an hour for each object and reason. Nobody waits for it, and it never throws. */
  record(object: KubernetesObject, event: ObjectEvent, signal: AbortSignal): void {
    const { clock, log } = this.#options;
    const { kind, metadata } = object;
    const nowMs = clock.monotonic();
    const key = `${kind}/${metadata.namespace ?? ''}/${metadata.name}/${event.reason}`;
    for (const [oldest, atMs] of this.#said) {
      if (nowMs - atMs < REPEAT_MS) break;
      this.#said.delete(oldest);
    }
    if (signal.aborted || this.#said.has(key) || !this.#hasRoom(nowMs)) return;
    this.#said.set(key, nowMs);
    this.#create(object, event, signal).catch((error: unknown) => {
      // Not allowed, or the namespace is gone: the log has it anyway.
      log.debug('kubernetes.event_failed', { reason: event.reason, error: errorFields(error) });
    });
  }

  #hasRoom(nowMs: number): boolean {
    if (nowMs - this.#minute.beganAtMs >= 60_000) this.#minute = { beganAtMs: nowMs, events: 0 };
    this.#minute.events += 1;
    return this.#minute.events <= PER_MINUTE;
  }

  async #create(object: KubernetesObject, event: ObjectEvent, signal: AbortSignal): Promise<void> {
    const { api, instance, clock, random } = this.#options;
    const { apiVersion, kind, metadata } = object;
    const { name, namespace, uid, resourceVersion } = metadata;
    const at = new Date(clock.now()).toISOString().replace(/\.\d{3}Z$/, 'Z');
    const suffix = Buffer.from(random.bytes(6)).toString('hex');
    await api.create(
      EVENT,
      {
        // Events about objects without a namespace belong to `default` (core/v1 validation).
        metadata: { namespace: namespace ?? 'default', name: `${name.slice(0, 230)}.${suffix}` },
        involvedObject: { apiVersion, kind, name, namespace, uid, resourceVersion },
        type: event.type,
        reason: event.reason,
        message: event.message.slice(0, MESSAGE_CHARS),
        source: { component: 'kedge-ca', host: instance },
        reportingComponent: 'kedge.io/ca',
        reportingInstance: instance,
        firstTimestamp: at,
        lastTimestamp: at,
        count: 1,
      },
      { signal, timeoutMs: TIMEOUT_MS },
    );
  }
}
