import type { EditPath } from './edit.ts';
import { isList, type Json, member } from './json.ts';

/** A pod, or the template of pods, in a manifest. */
export interface Workload {
  /** As people name it: `deployment/web`. */
  readonly name: string;
  /** What its manifest says; null where it says nothing. */
  readonly namespace: string | null;
  /** Where the pod or its template is in the manifest. */
  readonly path: EditPath;
  readonly pod: Json;
}

/** Where each kind of object has its pods' template. */
const TEMPLATES: ReadonlyMap<string, EditPath> = new Map([
  ['Pod', []],
  ['ReplicationController', ['spec', 'template']],
  ['Deployment', ['spec', 'template']],
  ['StatefulSet', ['spec', 'template']],
  ['DaemonSet', ['spec', 'template']],
  ['ReplicaSet', ['spec', 'template']],
  ['Job', ['spec', 'template']],
  ['CronJob', ['spec', 'jobTemplate', 'spec', 'template']],
]);

/** The groups that those kinds are of; a kind of that name in another group is something else. */
const API_VERSION = /^(?:(?:apps|batch|extensions)\/)?v\d+(?:(?:alpha|beta)\d+)?$/;

/** Lists inside one another: `kubectl` writes one level. */
const MAX_LISTS = 4;

/** The workloads of a manifest: the object itself, or the items of a `List`. */
export function workloadsOf(manifest: Json, path: EditPath = []): readonly Workload[] {
  const kind = textOf(manifest, 'kind');
  if (kind === null || !API_VERSION.test(textOf(manifest, 'apiVersion') ?? '')) return [];
  const items = member(manifest, 'items');
  if (kind.endsWith('List') && isList(items)) {
    if (path.length / 2 >= MAX_LISTS) return [];
    return items.flatMap((item, i) => workloadsOf(item, [...path, 'items', i]));
  }
  const template = TEMPLATES.get(kind);
  if (template === undefined) return [];
  const metadata = member(manifest, 'metadata');
  const pod = template.reduce<Json | undefined>((value, name) => member(value, String(name)), manifest);
  return [
    {
      name: `${kind.toLowerCase()}/${textOf(metadata, 'name') ?? textOf(metadata, 'generateName') ?? '?'}`,
      namespace: textOf(metadata, 'namespace'),
      path: [...path, ...template],
      pod: pod ?? null,
    },
  ];
}

/** The labels of the namespaces that a manifest makes, by name. */
export function namespacesOf(manifest: Json): readonly (readonly [name: string, labels: Json | undefined])[] {
  const items = member(manifest, 'items');
  if (textOf(manifest, 'kind')?.endsWith('List') === true && isList(items)) {
    return items.flatMap((item) => (isList(member(item, 'items')) ? [] : namespacesOf(item)));
  }
  const metadata = member(manifest, 'metadata');
  const name = textOf(metadata, 'name');
  const isNamespace = textOf(manifest, 'kind') === 'Namespace' && textOf(manifest, 'apiVersion') === 'v1';
  return isNamespace && name !== null ? [[name, member(metadata, 'labels')]] : [];
}

function textOf(value: Json | undefined, name: string): string | null {
  const text = member(value, name);
  return typeof text === 'string' ? text : null;
}
