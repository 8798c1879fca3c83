/** An object as the fake API server keeps it. */
export interface Stored {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly [member: string]: unknown;
  };
  readonly [member: string]: unknown;
}

/** A refusal in the form of a Status object. */
export class StatusError extends Error {
  readonly code: number;
  readonly status: object;

  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      code,
    };
  }
}

interface Place {
  readonly collection: string;
  readonly namespace: string | undefined;
}

type EventType = 'ADDED' | 'MODIFIED' | 'DELETED';

/** The objects of a fake API server, by path, with one resourceVersion for all, as etcd has it. */
export class FakeObjectStore {
  /** By `collection|namespace|name`. */
  readonly #objects = new Map<string, Stored>();
  readonly #kinds = new Map<string, { readonly apiVersion: string; readonly kind: string }>();
  readonly #pages = new Map<string, { readonly rest: readonly Stored[]; readonly version: string }>();
  #version = 1000;
  #uids = 0;
  events: { readonly version: number; readonly type: EventType; readonly object: Stored }[] = [];
  /** The version before which a watch cannot begin. */
  oldestVersion = 0;
  onEvent: (type: EventType, object: Stored) => void = () => {};

  get resourceVersion(): string {
    return String(this.#version);
  }

  /** Forgets what happened, as etcd's compaction does: older watches and pages are gone. */
  compact(): void {
    this.#version += 1;
    this.oldestVersion = this.#version;
    this.events = [];
    this.#pages.clear();
  }

  /** Whether an object belongs to a collection, and is selected. */
  matcher({ collection, namespace }: Place, query: URLSearchParams): (object: Stored) => boolean {
    const known = this.#kinds.get(collection);
    const labels = selector(query.get('labelSelector'));
    const fields = selector(query.get('fieldSelector'));
    return (object) =>
      object.apiVersion === apiVersionOf(collection) &&
      (known === undefined || object.kind === known.kind) &&
      (namespace === undefined || object.metadata.namespace === namespace) &&
      labels.every(([name, value]) => object.metadata.labels?.[name] === value) &&
      fields.every(([path, value]) => fieldOf(object, path) === value);
  }

  list(place: Place, query: URLSearchParams): object {
    const token = query.get('continue');
    const page = token === null ? undefined : this.#pages.get(token);
    if (token !== null && page === undefined) {
      throw new StatusError(410, 'Expired', 'The provided continue parameter is too old');
    }
    const all = page?.rest ?? [...this.#all(place.collection)].filter(this.matcher(place, query));
    const version = page?.version ?? this.resourceVersion;
    const limit = Number(query.get('limit') ?? '0');
    const items = limit > 0 ? all.slice(0, limit) : all;
    const rest = all.slice(items.length);
    let next: string | undefined;
    if (rest.length > 0) {
      next = `page-${this.#pages.size + 1}`;
      this.#pages.set(next, { rest, version });
    }
    const kind = this.#kinds.get(place.collection)?.kind ?? kindOf(place.collection);
    return {
      kind: `${kind}List`,
      apiVersion: apiVersionOf(place.collection),
      metadata: { resourceVersion: version, ...(next === undefined ? {} : { continue: next }) },
      // Items do not repeat what kind they are.
      items: items.map(({ apiVersion: _a, kind: _k, ...item }) => item),
    };
  }

  get(place: Place, name: string): Stored {
    const object = this.#objects.get(keyOf(place, name));
    if (object === undefined)
      throw new StatusError(404, 'NotFound', `${place.collection} "${name}" not found`);
    return object;
  }

  create(place: Place, draft: unknown): Stored {
    const { metadata, ...rest } = asObject(draft);
    const name = metadata.name ?? '';
    if (this.#objects.has(keyOf(place, name))) {
      throw new StatusError(409, 'AlreadyExists', `${place.collection} "${name}" already exists`);
    }
    const { apiVersion, kind } = rest as { apiVersion: string; kind: string };
    this.#kinds.set(place.collection, { apiVersion, kind });
    this.#uids += 1;
    const uid = `00000000-0000-4000-8000-${String(this.#uids).padStart(12, '0')}`;
    return this.#put(place, 'ADDED', { ...rest, apiVersion, kind, metadata: { ...metadata, name, uid } });
  }

  replace(place: Place, name: string, draft: unknown): Stored {
    const known = this.get(place, name);
    const next = asObject(draft);
    const { resourceVersion, uid } = next.metadata;
    if (
      (resourceVersion !== undefined && resourceVersion !== known.metadata.resourceVersion) ||
      (uid !== undefined && uid !== known.metadata.uid)
    ) {
      throw new StatusError(409, 'Conflict', `the object has been modified; please apply your changes`);
    }
    return this.#put(place, 'MODIFIED', {
      ...next,
      apiVersion: known.apiVersion,
      kind: known.kind,
      metadata: { ...next.metadata, name, uid: known.metadata.uid },
    });
  }

  /** Merge patch (RFC 7386) and, in the same way, server-side apply; nothing else. */
  patch(place: Place, name: string, patch: unknown, contentType: string): Stored {
    if (contentType === 'application/apply-patch+yaml' && !this.#objects.has(keyOf(place, name))) {
      return this.create(place, patch);
    }
    if (!/merge-patch|apply-patch/.test(contentType)) {
      throw new StatusError(415, 'UnsupportedMediaType', `the body of the request was in an unknown format`);
    }
    return this.replace(place, name, mergePatch(this.get(place, name), patch));
  }

  delete(place: Place, name: string, options: unknown): object {
    const known = this.get(place, name);
    const { preconditions } = (options ?? {}) as {
      preconditions?: { uid?: string; resourceVersion?: string };
    };
    const { uid = known.metadata.uid, resourceVersion = known.metadata.resourceVersion } =
      preconditions ?? {};
    if (uid !== known.metadata.uid || resourceVersion !== known.metadata.resourceVersion) {
      throw new StatusError(409, 'Conflict', 'the UID or resourceVersion in the precondition does not match');
    }
    this.#objects.delete(keyOf(place, name));
    this.#version += 1;
    const metadata = { ...known.metadata, resourceVersion: this.resourceVersion };
    this.#tell('DELETED', { ...known, metadata });
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' };
  }

  *#all(collection: string): Generator<Stored> {
    for (const [key, object] of this.#objects) if (key.startsWith(`${collection}|`)) yield object;
  }

  #put(place: Place, type: EventType, object: Omit<Stored, 'metadata'> & { metadata: object }): Stored {
    this.#version += 1;
    const { namespace } = place;
    const { apiVersion, kind, metadata, ...rest } = object;
    const stored = {
      apiVersion,
      kind,
      ...rest,
      metadata: {
        ...(metadata as Stored['metadata']),
        ...(namespace === undefined ? {} : { namespace }),
        resourceVersion: this.resourceVersion,
      },
    } as Stored;
    this.#objects.set(keyOf(place, stored.metadata.name), stored);
    this.#tell(type, stored);
    return stored;
  }

  #tell(type: EventType, object: Stored): void {
    this.events.push({ version: this.#version, type, object });
    this.onEvent(type, object);
  }
}

function keyOf({ collection, namespace = '' }: Place, name: string): string {
  return `${collection}|${namespace}|${name}`;
}

function apiVersionOf(collection: string): string {
  return collection.replace(/^\/apis?\//, '').replace(/\/[^/]+$/, '');
}

/** For a collection of which no object was made yet. */
function kindOf(collection: string): string {
  const names: Readonly<Record<string, string>> = {
    pods: 'Pod',
    configmaps: 'ConfigMap',
    secrets: 'Secret',
    namespaces: 'Namespace',
    serviceaccounts: 'ServiceAccount',
  };
  return names[collection.slice(collection.lastIndexOf('/') + 1)] ?? 'Unknown';
}

function asObject(draft: unknown): {
  readonly metadata: { readonly name?: string; readonly resourceVersion?: string; readonly uid?: string };
  readonly [member: string]: unknown;
} {
  const object = draft as { metadata?: { name?: string } };
  return { ...object, metadata: object.metadata ?? {} };
}

function selector(text: string | null): readonly (readonly [string, string])[] {
  return (text ?? '')
    .split(',')
    .filter((part) => part !== '')
    .map((part) => {
      const [name = '', value = ''] = part.split('=');
      return [name, value] as const;
    });
}

function fieldOf(object: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((at, name) => (at as Record<string, unknown> | undefined)?.[name], object);
}

function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(target as Record<string, unknown>) };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name] ?? {}, value);
  }
  return result;
}
