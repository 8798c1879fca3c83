import { isKedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { answerInvalid, isJsonObject, readObject, readResourceVersion } from './api-answer.ts';
import type { ObjectList } from './kubernetes-api.ts';
import type { KubernetesObject, ResourceType } from './objects.ts';

/** Which part of a list is asked for: the query parameters `limit` and `continue`. */
export interface PageQuery {
  /** Objects at most. */
  readonly limit: number;
  /** Undefined: from the beginning. */
  readonly continue: string | undefined;
}

/** What {@link listInPages} takes. */
export interface PagedListOptions {
  readonly type: ResourceType;
  /** Names the answers in messages. */
  readonly what: string;
  /** Asks for one page. */
  readonly ask: (query: PageQuery) => Promise<unknown>;
  /** Takes each object as its page comes; default: all are in the list. */
  readonly take: ((object: KubernetesObject) => void) | undefined;
}

/** Objects of the size that etcd stores at most fit into a page of so many. */
const FEWEST = Math.max(1, Math.floor(LIMITS.kubernetesPageBytes / LIMITS.kubernetesObjectBytes));
const FEWER = 5;

/**
 * Reads a list to its end. A page that is too large, or takes too long, is asked for again with fewer objects: whoever may create objects can
 * make large ones, and must not keep others from being seen. After each page that was not, the next may have twice as many.
 *
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks. Throws
 * `kubernetes_answer_invalid`, and what `ask` throws.
 */
export async function listInPages({ type, what, ask, take }: PagedListOptions): Promise<ObjectList> {
  const items: KubernetesObject[] = [];
  let count = 0;
  let query: PageQuery = { limit: LIMITS.kubernetesPageItems, continue: undefined };
  for (;;) {
    const page = await asked(ask, query);
    if (typeof page === 'number') {
      query = { ...query, limit: page };
      continue;
    }
    const found = itemsOf(page, type, what);
    count += found.length;
    if (count > LIMITS.kubernetesListItems) {
      throw answerInvalid(what, `has over ${LIMITS.kubernetesListItems} objects`);
    }
    for (const item of found) {
      const object = readObject(item, type, what, true);
      if (take === undefined) items.push(object);
      else take(object);
    }
    const metadata = page['metadata'];
    const next = isJsonObject(metadata) ? metadata['continue'] : undefined;
    if (typeof next !== 'string' || next === '') {
      return { items, resourceVersion: readResourceVersion(page, what) };
    }
    if (found.length === 0) throw answerInvalid(what, 'goes on for ever');
    query = { limit: Math.min(LIMITS.kubernetesPageItems, query.limit * 2), continue: next };
  }
}

/** A page; or of how many objects it is to be asked for instead. */
async function asked(
  ask: PagedListOptions['ask'],
  query: PageQuery,
): Promise<Readonly<Record<string, unknown>> | number> {
  try {
    const page = await ask(query);
    return isJsonObject(page) ? page : {};
  } catch (error) {
    if (query.limit <= FEWEST) throw error;
    // An API server that has to gather half a gigabyte begins to answer late. One that is away is asked once more for it.
    if (isKedgeError(error, 'deadline_exceeded')) return FEWEST;
    const isTooLarge =
      isKedgeError(error, 'kubernetes_answer_invalid') && isKedgeError(error.cause, 'message_too_large');
    if (isTooLarge) return Math.max(FEWEST, Math.floor(query.limit / FEWER));
    throw error;
  }
}

function itemsOf(
  page: Readonly<Record<string, unknown>>,
  type: ResourceType,
  what: string,
): readonly unknown[] {
  if (page['kind'] !== `${type.kind}List`) throw answerInvalid(what, `is not a ${type.kind}List`);
  const found = page['items'] ?? [];
  if (!Array.isArray(found)) throw answerInvalid(what, 'has items that are not a list');
  return found as readonly unknown[];
}
