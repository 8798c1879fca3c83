import assert from 'node:assert/strict';
import type { WatchEvent } from '../../ca/kubernetes/kubernetes-api.ts';
import type { KubernetesObject, ObjectDraft } from '../../ca/kubernetes/objects.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { KedgeError } from '../../pki/kedge-error.ts';

/** One MutatingWebhookConfiguration of an API server, with compare-and-swap and a watch. */
export class OneObject {
  #version = 0;
  #events: WatchEvent[] = [];
  readonly #news = new Wakeup();
  object: KubernetesObject | null = null;
  readonly writes: ObjectDraft[] = [];
  /** Thrown by the next writes, before they are done or after. */
  readonly faults: { readonly error: KedgeError; readonly done: boolean }[] = [];

  set(found: unknown): void {
    this.#version += 1;
    this.object = {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'MutatingWebhookConfiguration',
      metadata: { name: 'kedge', resourceVersion: String(this.#version), labels: { theirs: 'stays' } },
      webhooks: found,
    };
    this.#tell({ kind: 'modified', object: this.object });
  }

  remove(): void {
    const { object } = this;
    assert.ok(object !== null);
    this.object = null;
    this.#tell({ kind: 'deleted', object });
  }

  #tell(event: WatchEvent): void {
    this.#events.push(event);
    this.#news.wake();
  }

  list = (): Promise<{ items: KubernetesObject[]; resourceVersion: string }> => {
    this.#events = [];
    return Promise.resolve({ items: this.object === null ? [] : [this.object], resourceVersion: '0' });
  };

  watch = async function* (
    this: OneObject,
    _type: unknown,
    { signal }: { signal: AbortSignal },
  ): AsyncGenerator<WatchEvent> {
    yield { kind: 'opened' };
    for (;;) {
      const seen = this.#news.generation;
      yield* this.#events.splice(0);
      await this.#news.sleep(
        seen,
        (end) => new Promise((_, reject) => end.addEventListener('abort', reject)),
        signal,
      );
    }
  }.bind(this);

  replace = (_type: unknown, draft: ObjectDraft): Promise<KubernetesObject> => {
    const fault = this.faults.shift();
    if (fault?.done === false) return Promise.reject(fault.error);
    if (draft.metadata?.resourceVersion !== this.object?.metadata.resourceVersion) {
      return Promise.reject(new KedgeError('kubernetes_conflict', 'somebody was first'));
    }
    this.writes.push(draft);
    this.set(draft['webhooks']);
    if (fault !== undefined) return Promise.reject(fault.error);
    assert.ok(this.object !== null);
    return Promise.resolve(this.object);
  };
}
