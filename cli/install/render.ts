import { stringify } from 'yaml';
import type { KubernetesObject } from './kubernetes-object.ts';

/** Objects as one stream of YAML documents, as `kubectl apply -f -` takes it. The same objects give the same bytes. */
export function yamlStream(objects: readonly KubernetesObject[]): string {
  return objects.map((object) => `---\n${yamlDocument(object)}`).join('');
}

/** A kustomize base: a file for each object, and `kustomization.yaml`, by file name. */
export function kustomizeBase(objects: readonly KubernetesObject[]): ReadonlyMap<string, string> {
  const files = new Map(objects.map((object) => [fileName(object), yamlDocument(object)]));
  if (files.size !== objects.length) throw new TypeError('two objects would have one file');
  const kustomization = {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    resources: [...files.keys()],
  };
  return new Map([['kustomization.yaml', stringify(kustomization)], ...files]);
}

function fileName({ kind, metadata }: KubernetesObject): string {
  return `${kind.toLowerCase()}-${metadata.name}.yaml`;
}

function yamlDocument(object: KubernetesObject): string {
  // No aliases: an object that stands twice is written twice, as kubectl and people expect. No folding of long lines.
  return stringify(object, { aliasDuplicateObjects: false, lineWidth: 0 });
}
