import type { Clock } from '../../host/clock.ts';
import { withDeadline } from '../../host/deadline.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { isJsonObject, parseJson, readObject, readServedNames } from './api-answer.ts';
import {
  answerTo,
  type ApiCall,
  APPLY_TYPE,
  complete,
  JSON_TYPE,
  PATCH_TYPES,
  refOf,
  refusedOf,
  requestOf,
} from './api-call.ts';
import type { ApiConnection } from './api-connection.ts';
import type { ApiRequest } from './api-message.ts';
import { collectionOf, targetOf } from './api-path.ts';
import { refusalOfAnswer, type RefusedRequest } from './api-refusal.ts';
import type {
  AccessQuestion,
  ApplyOptions,
  CallOptions,
  DeleteOptions,
  KubernetesApi,
  ListOptions,
  ObjectList,
  ObjectRef,
  Patch,
  WatchEvent,
  WatchOptions,
} from './kubernetes-api.ts';
import {
  type KubernetesObject,
  type ObjectDraft,
  type ResourceType,
  SELF_SUBJECT_ACCESS_REVIEW,
} from './objects.ts';
import { watchObjects } from './object-watch.ts';
import { listInPages, type PageQuery } from './paged-list.ts';

/** What a {@link KubernetesClient} is made of. */
export interface KubernetesClientOptions {
  readonly connection: ApiConnection;
  readonly namespace: string;
  readonly clock: Clock;
  /** Deadline of a call that names none, milliseconds. */
  readonly timeoutMs: number;
  /** Told of each call when it has ended: `code` is `ok` or the error's code. */
  readonly onCall?: (verb: string, code: string, durationMs: number) => void;
}

/** {@link KubernetesApi} over HTTP. */
export class KubernetesClient implements KubernetesApi {
  readonly namespace: string;
  readonly #options: KubernetesClientOptions;

  constructor(options: KubernetesClientOptions) {
    this.#options = options;
    this.namespace = options.namespace;
  }

  async get(type: ResourceType, ref: ObjectRef, options: CallOptions): Promise<KubernetesObject> {
    const call = { verb: 'get', method: 'GET', target: targetOf(type, ref) } as const;
    return readObject(await this.#json(call, options), type, answerTo(call));
  }

  async list(type: ResourceType, options: ListOptions): Promise<ObjectList> {
    const { namespace, labelSelector, fieldSelector, take } = options;
    const target = { type, namespace: type.namespaced ? namespace : undefined };
    const call = { verb: 'list', method: 'GET', target, maxBytes: LIMITS.kubernetesPageBytes } as const;
    const ask = (page: PageQuery): Promise<unknown> =>
      this.#json({ ...call, query: { ...page, labelSelector, fieldSelector } }, options);
    return listInPages({ type, what: answerTo(call), ask, take });
  }

  async create(type: ResourceType, draft: ObjectDraft, options: CallOptions): Promise<KubernetesObject> {
    const target = collectionOf(type, draft.metadata?.namespace);
    const isRead =
      type.apiVersion.startsWith('authentication.') || type.apiVersion.startsWith('authorization.');
    return this.#change({ verb: 'create', method: 'POST', target, isRead }, type, draft, options);
  }

  async createSubresource(
    parent: ResourceType,
    ref: ObjectRef,
    subresource: string,
    answer: ResourceType,
    draft: ObjectDraft,
    options: CallOptions,
  ): Promise<KubernetesObject> {
    const target = {
      ...targetOf(parent, ref, subresource),
      type: { ...parent, sensitive: answer.sensitive ?? false },
    };
    return this.#change({ verb: 'create', method: 'POST', target }, answer, draft, options);
  }

  async replace(type: ResourceType, draft: ObjectDraft, options: CallOptions): Promise<KubernetesObject> {
    const target = targetOf(type, refOf(draft));
    return this.#change({ verb: 'update', method: 'PUT', target }, type, draft, options);
  }

  async patch(
    type: ResourceType,
    ref: ObjectRef,
    patch: Patch,
    options: CallOptions,
  ): Promise<KubernetesObject> {
    const body = { type: PATCH_TYPES[patch.kind], text: JSON.stringify(patch.body) };
    const call = { verb: 'patch', method: 'PATCH', target: targetOf(type, ref), body } as const;
    return readObject(await this.#json(call, options), type, answerTo(call));
  }

  async apply(type: ResourceType, draft: ObjectDraft, options: ApplyOptions): Promise<KubernetesObject> {
    const { fieldManager, force = false, dryRun = false } = options;
    const query = {
      fieldManager,
      force,
      // An unknown field is a mistake of ours. Servers before 1.25 do not know the parameter, and let it pass.
      fieldValidation: 'Strict',
      dryRun: dryRun ? 'All' : undefined,
    };
    const body = { type: APPLY_TYPE, text: complete(type, draft) };
    const call = {
      verb: 'patch',
      method: 'PATCH',
      target: targetOf(type, refOf(draft)),
      query,
      body,
    } as const;
    return readObject(await this.#json(call, options), type, answerTo(call));
  }

  async delete(type: ResourceType, ref: ObjectRef, options: DeleteOptions): Promise<void> {
    const { uid, resourceVersion, gracePeriodSeconds } = options;
    const text = JSON.stringify({
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      gracePeriodSeconds,
      preconditions: { uid, resourceVersion },
    });
    const body = { type: JSON_TYPE, text };
    await this.#json({ verb: 'delete', method: 'DELETE', target: targetOf(type, ref), body }, options);
  }

  watch(type: ResourceType, options: WatchOptions): AsyncIterable<WatchEvent> {
    const { namespace, labelSelector, fieldSelector, resourceVersion, timeoutSeconds, signal } = options;
    const { connection, clock, timeoutMs, onCall } = this.#options;
    const query = {
      watch: 1,
      allowWatchBookmarks: true,
      resourceVersion,
      timeoutSeconds,
      labelSelector,
      fieldSelector,
    };
    const target = { type, namespace: type.namespaced ? namespace : undefined };
    const call = { verb: 'watch', method: 'GET', target, query } as const;
    return watchObjects({
      connection,
      clock,
      type,
      request: requestOf(call),
      refused: refusedOf(call),
      timeoutMs,
      timeoutSeconds,
      signal,
      onEnd: (code, durationMs) => onCall?.('watch', code, durationMs),
    });
  }

  async servedResources(apiVersion: string, options: CallOptions): Promise<ReadonlySet<string>> {
    const path = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    let list: unknown;
    try {
      list = await this.getPath(`/${path.slice(1)}`, options);
    } catch (error) {
      if (isKedgeError(error, 'kubernetes_not_found')) return new Set();
      throw error;
    }
    return readServedNames(list, `the answer to get ${path}`);
  }

  async getPath(path: `/${string}`, options: CallOptions): Promise<unknown> {
    const what = `get ${path.slice(0, 200)}`;
    const request = {
      method: 'GET',
      path,
      maxBytes: LIMITS.kubernetesObjectBytes,
      isRead: true,
      what,
    } as const;
    const body = await this.#send('get', request, { what, access: undefined, sensitive: false }, options);
    return parseJson(body, `the answer to ${what}`);
  }

  async mayI(question: AccessQuestion, options: CallOptions): Promise<boolean> {
    const draft = { spec: { resourceAttributes: question } };
    const review = await this.create(SELF_SUBJECT_ACCESS_REVIEW, draft, options);
    const status = review['status'];
    return isJsonObject(status) && status['allowed'] === true;
  }

  close(): void {
    this.#options.connection.close();
  }

  async #change(
    call: ApiCall,
    answer: ResourceType,
    draft: ObjectDraft,
    options: CallOptions,
  ): Promise<KubernetesObject> {
    const body = { type: JSON_TYPE, text: complete(answer, draft) };
    return readObject(await this.#json({ ...call, body }, options), answer, answerTo(call));
  }

  async #json(call: ApiCall, options: CallOptions): Promise<unknown> {
    const body = await this.#send(call.verb, requestOf(call), refusedOf(call), options);
    return parseJson(body, answerTo(call));
  }

  async #send(
    verb: string,
    request: ApiRequest,
    refused: RefusedRequest,
    { signal, timeoutMs = this.#options.timeoutMs }: CallOptions,
  ): Promise<Uint8Array> {
    const { connection, clock, onCall } = this.#options;
    const startMs = clock.monotonic();
    let code = 'cancelled';
    try {
      const answer = await withDeadline({ clock, timeoutMs, what: 'the API server' }, signal, (end) =>
        connection.exchange(request, end),
      );
      if (answer.status < 200 || answer.status > 299) throw refusalOfAnswer(answer, refused);
      code = 'ok';
      return answer.body;
    } catch (error) {
      if (isKedgeError(error)) code = error.code;
      throw error;
    } finally {
      onCall?.(verb, code, clock.monotonic() - startMs);
    }
  }
}
