import { KedgeError } from '../../pki/kedge-error.ts';
import type { WorkloadInstance } from '../attest/attestor.ts';

/** Streams of one instance: one, and those that a broken network leaves behind until their keep-alive fails. */
const MAX_INSTANCE_STREAMS = 4;

/** Which streams each instance has open: so many, and no more. */
export class InstanceStreams<T extends object> {
  /** By cluster and pod UID. */
  readonly #byInstance = new Map<string, Set<T>>();
  /** Under which key a stream stands there. */
  readonly #keys = new Map<T, string>();

  /** Throws `too_many_streams`; `retryAfterMs` is what the agent is then told to wait. */
  add(instance: WorkloadInstance, stream: T, retryAfterMs: number): void {
    const key = `${instance.cluster}/${instance.podUid}`;
    const streams = this.#byInstance.get(key) ?? new Set();
    if (streams.size >= MAX_INSTANCE_STREAMS) {
      throw new KedgeError('too_many_streams', `the instance has ${streams.size} streams open, its limit`, {
        hint: 'close a stream before opening another',
        retryAfterMs,
      });
    }
    streams.add(stream);
    this.#byInstance.set(key, streams);
    this.#keys.set(stream, key);
  }

  /** Harmless when repeated. */
  delete(stream: T): void {
    const key = this.#keys.get(stream);
    if (key === undefined) return;
    this.#keys.delete(stream);
    const streams = this.#byInstance.get(key);
    streams?.delete(stream);
    if (streams?.size === 0) this.#byInstance.delete(key);
  }
}
