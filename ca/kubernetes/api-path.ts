import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { AccessQuestion, ObjectRef } from './kubernetes-api.ts';
import { groupOf, type ResourceType } from './objects.ts';

/** What a request is about. */
export interface Target {
  readonly type: ResourceType;
  readonly namespace?: string | undefined;
  /** Undefined: the collection. */
  readonly name?: string | undefined;
  readonly subresource?: string | undefined;
}

/** Values of query parameters; undefined ones are left out. */
export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * A segment of a path as Kubernetes takes one for a name (apimachinery `path.IsValidPathSegmentName`): anything but
 * `.`, `..`, `/` and `%`, which could make another path of it.
 */
const SEGMENT = /^(?!\.{1,2}$)[^/%\0-\x20\x7f]{1,253}$/;

/**
 * The path of a target, with its query. Throws `usage_invalid` for a name that is no path segment: what is put into a
 * path never changes which path it is. https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris.
 */
export function pathOf({ type, namespace, name, subresource }: Target, query: Query = {}): string {
  const root = type.apiVersion.includes('/') ? `/apis/${type.apiVersion}` : `/api/${type.apiVersion}`;
  const segments = [
    ...(namespace === undefined ? [] : ['namespaces', checked(namespace, 'namespace')]),
    type.plural,
    ...(name === undefined ? [] : [checked(name, 'name')]),
    ...(subresource === undefined ? [] : [subresource]),
  ];
  return `${root}/${segments.join('/')}${queryText(query)}`;
}

/** A query, question mark included; empty where there is nothing to say. */
export function queryText(query: Query): string {
  const given = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`],
  );
  return given.length === 0 ? '' : `?${given.join('&')}`;
}

/** The target of one object. Throws `usage_invalid` where the namespace does not fit the type. */
export function targetOf(type: ResourceType, ref: ObjectRef, subresource?: string): Target {
  return { type, namespace: namespaceFor(type, ref.namespace), name: ref.name, subresource };
}

/** The target where objects of a type are made. */
export function collectionOf(type: ResourceType, namespace: string | undefined): Target {
  return { type, namespace: namespaceFor(type, namespace) };
}

/** What a request is about, as it begins a message: `get secrets/kedge-trust in kedge`. */
export function describe(verb: string, { type, namespace, name, subresource }: Target): string {
  const object = [type.plural, ...(name === undefined ? [] : [name])].join('/');
  const part = subresource === undefined ? '' : ` ${subresource}`;
  return `${verb} ${object.slice(0, 200)}${part}${namespace === undefined ? '' : ` in ${namespace.slice(0, 64)}`}`;
}

/** What RBAC is asked about a request. */
export function accessOf(verb: string, { type, namespace, name, subresource }: Target): AccessQuestion {
  return {
    verb,
    group: groupOf(type),
    resource: type.plural,
    ...(subresource === undefined ? {} : { subresource }),
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === undefined ? {} : { name }),
  };
}

function namespaceFor(type: ResourceType, namespace: string | undefined): string | undefined {
  if (type.namespaced && namespace === undefined) {
    throw new KedgeError('usage_invalid', `objects of kind ${type.kind} are in a namespace; none is named`);
  }
  return type.namespaced ? namespace : undefined;
}

function checked(segment: string, what: string): string {
  if (SEGMENT.test(segment)) return encodeURIComponent(segment);
  throw new KedgeError('usage_invalid', `${quote(segment)} cannot be the ${what} of an object`);
}
