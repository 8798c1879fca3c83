import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { isList, isMap, type Json, type JsonMap, member } from './json.ts';

/** The list of a pod's spec that a container stands in. */
export type ContainerList = 'containers' | 'initContainers';

/** A container of a pod, as far as injection looks at it. */
export interface ContainerView {
  readonly list: ContainerList;
  readonly index: number;
  readonly name: string;
  /** An init container with `restartPolicy: Always`. */
  readonly isSidecar: boolean;
  readonly environment: ReadonlySet<string>;
  /** Name of the volume by mount path, without a slash at the end. */
  readonly mounts: ReadonlyMap<string, string>;
  /** Declared TCP ports. */
  readonly ports: ReadonlySet<number>;
}

/** A pod or a pod template, as far as injection looks at it. */
export interface PodView {
  readonly labels: Json | undefined;
  readonly annotations: Json | undefined;
  readonly containers: readonly ContainerView[];
  readonly initContainers: readonly ContainerView[];
  readonly volumes: ReadonlySet<string>;
  readonly hostNetwork: boolean;
  /** The pod ends by itself: it is of a Job, mostly. */
  readonly ends: boolean;
  readonly windows: boolean;
  readonly fsGroup: number | null;
}

/** Containers of one list: many more than any pod has. */
const MAX_CONTAINERS = 256;
/** Elements of any other list that is walked. */
const MAX_ELEMENTS = 4_096;

/** Looks at a pod. Throws `pod_malformed` for what is no pod where injection needs to know. */
export function viewPod(pod: Json): PodView {
  const spec = mapAt(member(pod, 'spec'), 'spec');
  const metadata = member(pod, 'metadata');
  if (metadata !== undefined && metadata !== null) mapAt(metadata, 'metadata');
  const containers = containersOf(spec, 'containers');
  if (containers.length === 0) throw malformed('spec.containers', 'is empty');
  const fsGroup = member(member(spec, 'securityContext'), 'fsGroup');
  return {
    labels: textsAt(member(metadata, 'labels'), 'metadata.labels'),
    annotations: textsAt(member(metadata, 'annotations'), 'metadata.annotations'),
    containers,
    initContainers: containersOf(spec, 'initContainers'),
    volumes: new Set(
      mapsOf(spec['volumes'], 'spec.volumes').map((volume, i) => nameOf(volume, `spec.volumes[${i}]`)),
    ),
    hostNetwork: member(spec, 'hostNetwork') === true,
    ends: isOneShot(member(spec, 'restartPolicy')),
    windows:
      member(member(spec, 'os'), 'name') === 'windows' ||
      member(member(spec, 'nodeSelector'), 'kubernetes.io/os') === 'windows',
    fsGroup: typeof fsGroup === 'number' && Number.isSafeInteger(fsGroup) ? fsGroup : null,
  };
}

function isOneShot(restartPolicy: Json | undefined): boolean {
  return restartPolicy === 'Never' || restartPolicy === 'OnFailure';
}

function containersOf(spec: JsonMap, list: ContainerList): readonly ContainerView[] {
  const containers = mapsOf(spec[list], `spec.${list}`, MAX_CONTAINERS);
  return containers.map((container, index): ContainerView => {
    const where = `spec.${list}[${index}]`;
    const mounts = mapsOf(container['volumeMounts'], `${where}.volumeMounts`).map((mount, i) => {
      const path = mount['mountPath'];
      if (typeof path !== 'string') throw malformed(`${where}.volumeMounts[${i}].mountPath`, 'is no text');
      return [path.replace(/(?<=.)\/+$/, ''), nameOf(mount, `${where}.volumeMounts[${i}]`)] as const;
    });
    const ports = mapsOf(container['ports'], `${where}.ports`).filter(
      ({ protocol }) => protocol === undefined || protocol === 'TCP',
    );
    return {
      list,
      index,
      name: nameOf(container, where),
      isSidecar: list === 'initContainers' && container['restartPolicy'] === 'Always',
      environment: new Set(
        mapsOf(container['env'], `${where}.env`).map((variable, i) => nameOf(variable, `${where}.env[${i}]`)),
      ),
      mounts: new Map(mounts),
      ports: new Set(ports.map(({ containerPort }) => Number(containerPort))),
    };
  });
}

function mapsOf(value: Json | undefined, where: string, max = MAX_ELEMENTS): readonly JsonMap[] {
  if (value === undefined || value === null) return [];
  if (!isList(value)) throw malformed(where, 'is no list');
  if (value.length > max) throw malformed(where, `has ${value.length} elements, ${max} are allowed`);
  return value.map((element, i) => mapAt(element, `${where}[${i}]`));
}

function mapAt(value: Json | undefined, where: string): JsonMap {
  if (!isMap(value)) throw malformed(where, 'is no object');
  return value;
}

function textsAt(value: Json | undefined, where: string): Json | undefined {
  if (value === undefined || value === null) return undefined;
  return mapAt(value, where);
}

function nameOf(value: JsonMap, where: string): string {
  const name = value['name'];
  if (typeof name !== 'string') throw malformed(`${where}.name`, 'is no text');
  return name;
}

function malformed(where: string, what: string): KedgeError {
  return new KedgeError('pod_malformed', `this is no pod: ${where} ${what}`, {
    hint: `give an object that the API server takes (${quote(where)})`,
  });
}
