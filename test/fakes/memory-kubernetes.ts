import { isDeepStrictEqual } from 'node:util';
import type {
  AccessQuestion,
  ApplyOptions,
  CallOptions,
  DeleteOptions,
  KubernetesApi,
  ObjectList,
  ObjectRef,
  Selection,
  WatchEvent,
  WatchOptions,
} from '../../ca/kubernetes/kubernetes-api.ts';
import {
  groupOf,
  type KubernetesObject,
  type ObjectDraft,
  type ResourceType,
} from '../../ca/kubernetes/objects.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { KedgeError } from '../../pki/kedge-error.ts';

/** One call, as a fault sees it before it is carried out. */
export interface MemoryCall {
  readonly verb: 'get' | 'list' | 'watch' | 'create' | 'replace' | 'apply' | 'delete';
  readonly resource: string;
  readonly key: string;
}

/** What becomes of a call: an error instead of it, or after it was carried out. */
export type MemoryFault = { readonly before: Error } | { readonly after: Error } | null;

interface Stored {
  readonly type: string;
  readonly key: string;
  readonly object: KubernetesObject;
}

interface Change extends Stored {
  readonly version: number;
  /** As it was before; undefined for one that is new. */
  readonly before: KubernetesObject | undefined;
  readonly kind: 'added' | 'modified' | 'deleted';
}

/**
 * The API of a cluster in memory: objects, resourceVersions, optimistic concurrency, watches. What it does with each
 * call was compared with a real API server by the same tests in `test/cluster`.
 *
 * It knows labels and `metadata.name` in selectors, and of the rules for objects only those that Kedge rests on: an
 * update that changes nothing is not stored; the type of a Secret is fixed; its data has at most 1 MiB.
 */
export class MemoryKubernetes implements KubernetesApi {
  readonly namespace = 'kedge';
  readonly #objects = new Map<string, Stored>();
  #changes: Change[] = [];
  #version = 100;
  /** Changes up to here are forgotten: a watch from before is refused. */
  #compacted = 0;
  #wake = Promise.withResolvers<void>();
  /** Watches of an older epoch end. */
  #epoch = 0;
  #uids = 0;
  /** What becomes of each call. */
  fault: (call: MemoryCall) => MemoryFault = () => null;
  /** Calls so far. */
  readonly calls: MemoryCall[] = [];
  /** Plural names by apiVersion. */
  readonly served = new Map<string, ReadonlySet<string>>();

  /** Ends every watch without an error, as an API server does now and then. */
  endWatches(): void {
    this.#epoch += 1;
    this.#tell();
  }

  /** Forgets what happened so far: watches must list again. */
  compact(): void {
    this.#compacted = this.#version;
    this.#changes = [];
    this.endWatches();
  }

  /** Calls of a verb so far. */
  count(verb: MemoryCall['verb'], resource?: string): number {
    return this.calls.filter((call) => call.verb === verb && (resource ?? call.resource) === call.resource)
      .length;
  }

  /** An object as it is stored, or undefined. */
  stored(type: ResourceType, ref: ObjectRef): KubernetesObject | undefined {
    return this.#objects.get(id(type, ref))?.object;
  }

  async get(type: ResourceType, ref: ObjectRef, { signal }: CallOptions): Promise<KubernetesObject> {
    return this.#call('get', type, ref, signal, () => this.#require(type, ref).object);
  }

  async list(type: ResourceType, options: CallOptions & Selection): Promise<ObjectList> {
    return this.#call('list', type, { name: '' }, options.signal, () => ({
      items: [...this.#objects.values()]
        .filter((stored) => stored.type === type.plural && matches(stored.object, options))
        .map(({ object }) => structuredClone(object)),
      resourceVersion: String(this.#version),
    }));
  }

  async create(type: ResourceType, draft: ObjectDraft, { signal }: CallOptions): Promise<KubernetesObject> {
    const ref = refOf(draft);
    return this.#call('create', type, ref, signal, () => {
      if (this.#objects.has(id(type, ref))) throw refusal('kubernetes_exists');
      this.#uids += 1;
      return this.#put(
        type,
        draft,
        `00000000-0000-4000-8000-${String(this.#uids).padStart(12, '0')}`,
        'added',
      );
    });
  }

  createSubresource(): Promise<KubernetesObject> {
    return Promise.reject(refusal('kubernetes_not_found'));
  }

  async replace(type: ResourceType, draft: ObjectDraft, { signal }: CallOptions): Promise<KubernetesObject> {
    const ref = refOf(draft);
    return this.#call('replace', type, ref, signal, () => {
      const { object } = this.#require(type, ref);
      const { uid, resourceVersion } = draft.metadata ?? {};
      if (resourceVersion !== undefined && resourceVersion !== object.metadata.resourceVersion) {
        throw refusal('kubernetes_conflict');
      }
      if (uid !== undefined && uid !== object.metadata.uid) throw refusal('kubernetes_conflict');
      if (object['immutable'] === true || (type.plural === 'secrets' && draft['type'] !== object['type'])) {
        throw refusal('kubernetes_refused');
      }
      return this.#put(type, draft, object.metadata.uid ?? '', 'modified');
    });
  }

  patch(): Promise<KubernetesObject> {
    return Promise.reject(refusal('kubernetes_refused'));
  }

  async apply(type: ResourceType, draft: ObjectDraft, options: ApplyOptions): Promise<KubernetesObject> {
    const ref = refOf(draft);
    return this.#objects.has(id(type, ref))
      ? this.replace(type, draft, options)
      : this.create(type, draft, options);
  }

  async delete(type: ResourceType, ref: ObjectRef, options: DeleteOptions): Promise<void> {
    await this.#call('delete', type, ref, options.signal, () => {
      const { object } = this.#require(type, ref);
      const { uid, resourceVersion } = options;
      if (uid !== undefined && uid !== object.metadata.uid) throw refusal('kubernetes_conflict');
      if (resourceVersion !== undefined && resourceVersion !== object.metadata.resourceVersion) {
        throw refusal('kubernetes_conflict');
      }
      this.#version += 1;
      this.#objects.delete(id(type, ref));
      this.#note(type, ref, at(object, this.#version), 'deleted');
    });
  }

  async *watch(type: ResourceType, options: WatchOptions): AsyncGenerator<WatchEvent> {
    const { signal } = options;
    this.#fault('watch', type, { name: '' }, signal);
    let seen = Number(options.resourceVersion);
    if (seen < this.#compacted) throw refusal('kubernetes_gone');
    const epoch = this.#epoch;
    const aborted = Promise.withResolvers<void>();
    const stop = (): void => aborted.resolve();
    signal.addEventListener('abort', stop, { once: true });
    try {
      yield { kind: 'opened' };
      for (;;) {
        const wake = this.#wake.promise;
        for (const change of this.#changes.filter(({ version }) => version > seen)) {
          seen = change.version;
          const event = change.type === type.plural ? eventOf(change, options) : null;
          if (event !== null) yield event;
        }
        if (epoch !== this.#epoch) return;
        yield { kind: 'bookmark', resourceVersion: String(seen) };
        await Promise.race([wake, aborted.promise]);
        signal.throwIfAborted();
      }
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async servedResources(apiVersion: string): Promise<ReadonlySet<string>> {
    return this.served.get(apiVersion) ?? new Set();
  }

  /** What is at other paths: an answer, or the refusal. */
  readonly paths = new Map<string, unknown>();

  async getPath(path: string): Promise<unknown> {
    const answer = this.paths.get(path) ?? refusal('kubernetes_not_found');
    if (answer instanceof Error) throw answer;
    return answer;
  }

  async mayI(_question: AccessQuestion): Promise<boolean> {
    return true;
  }

  close(): void {}

  /** Carries a call out after a turn of the event loop, as everything that goes over a network. */
  async #call<T>(
    verb: MemoryCall['verb'],
    type: ResourceType,
    ref: ObjectRef,
    signal: AbortSignal,
    work: () => T,
  ): Promise<T> {
    signal.throwIfAborted();
    await Promise.resolve();
    const fault = this.#fault(verb, type, ref, signal);
    const answer = work();
    if (fault !== null) throw fault;
    return structuredClone(answer);
  }

  #fault(verb: MemoryCall['verb'], type: ResourceType, ref: ObjectRef, signal: AbortSignal): Error | null {
    signal.throwIfAborted();
    const call = { verb, resource: type.plural, key: keyOf(ref) };
    this.calls.push(call);
    const fault = this.fault(call);
    if (fault === null) return null;
    if ('before' in fault) throw fault.before;
    return fault.after;
  }

  #require(type: ResourceType, ref: ObjectRef): Stored {
    const stored = this.#objects.get(id(type, ref));
    if (stored === undefined) throw refusal('kubernetes_not_found');
    return stored;
  }

  #put(type: ResourceType, draft: ObjectDraft, uid: string, kind: 'added' | 'modified'): KubernetesObject {
    const ref = refOf(draft);
    checkSecret(type, draft);
    const object: KubernetesObject = {
      ...structuredClone(draft),
      apiVersion: type.apiVersion,
      kind: type.kind,
      metadata: { ...structuredClone(draft.metadata), name: ref.name, uid },
    };
    const before = this.#objects.get(id(type, ref))?.object;
    if (before !== undefined && isDeepStrictEqual(at(before, 0), at(object, 0))) return before;
    this.#version += 1;
    const stored = at(object, this.#version);
    this.#objects.set(id(type, ref), { type: type.plural, key: keyOf(ref), object: stored });
    this.#note(type, ref, stored, kind, before);
    return stored;
  }

  #note(
    type: ResourceType,
    ref: ObjectRef,
    object: KubernetesObject,
    kind: Change['kind'],
    before?: KubernetesObject,
  ): void {
    this.#changes.push({ version: this.#version, kind, type: type.plural, key: keyOf(ref), object, before });
    this.#tell();
  }

  #tell(): void {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }
}

/** An error of the API. */
export function refusal(code: ErrorCode): KedgeError {
  return new KedgeError(code, `the API server answered ${code}`);
}

function refOf({ metadata }: ObjectDraft): ObjectRef {
  const { name = '', namespace } = metadata ?? {};
  return namespace === undefined ? { name } : { name, namespace };
}

function keyOf({ name, namespace }: ObjectRef): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

function id(type: ResourceType, ref: ObjectRef): string {
  return `${groupOf(type)}/${type.plural}/${keyOf(ref)}`;
}

function at(object: KubernetesObject, version: number): KubernetesObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
}

/** What a watch with this selection tells of a change: an object that no longer matches is deleted to it. */
function eventOf({ kind, object, before, version }: Change, selection: Selection): WatchEvent | null {
  const matched = before !== undefined && matches(before, selection);
  if (matches(object, selection)) {
    return { kind: kind === 'modified' && !matched ? 'added' : kind, object: structuredClone(object) };
  }
  return matched ? { kind: 'deleted', object: structuredClone(at(before, version)) } : null;
}

function matches({ metadata }: KubernetesObject, selection: Selection): boolean {
  const { namespace, labelSelector, fieldSelector } = selection;
  if (namespace !== undefined && namespace !== metadata.namespace) return false;
  const labels = (labelSelector ?? '').split(',').filter((term) => term !== '');
  const fields = (fieldSelector ?? '').split(',').filter((term) => term !== '');
  return (
    labels.every((term) => {
      const [name = '', value] = term.split('=');
      return metadata.labels?.[name] === value;
    }) && fields.every((term) => term === `metadata.name=${metadata.name}`)
  );
}

function checkSecret(type: ResourceType, draft: ObjectDraft): void {
  if (type.plural !== 'secrets') return;
  const sizes = Object.values(draft['data'] as Readonly<Record<string, string>>).map(
    (value) => Buffer.from(value, 'base64').length,
  );
  if (sizes.reduce((sum, size) => sum + size, 0) > 1024 * 1024) throw refusal('kubernetes_refused');
}
