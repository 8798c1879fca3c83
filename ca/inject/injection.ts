import { KEDGE_VERSION } from '../../host/version.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { INJECTED_LABEL } from '../kubernetes/cluster-names.ts';
import { agentContainer } from './agent-container.ts';
import { type AnnotationValues, injectValueOf, readAnnotations } from './annotations.ts';
import type { ClusterCapabilities } from './cluster-capabilities.ts';
import { Draft, type Edit } from './edit.ts';
import {
  AGENT_CONTAINER,
  type InjectionSettings,
  type SidecarMode,
  STATUS_ANNOTATION,
  SYSTEM_NAMESPACES,
} from './injection-settings.ts';
import { type Json, member } from './json.ts';
import { podOptions } from './pod-options.ts';
import { ENDPOINT_VARIABLE, POD_PATHS, podVolumes, type PodVolume, volumeEntry } from './pod-volumes.ts';
import { type ContainerView, type PodView, viewPod } from './pod-view.ts';

/** The namespace that a pod is to be created in. */
export interface NamespaceView {
  /** Null where it is not known: `kedge inject` reads manifests that may go anywhere. */
  readonly name: string | null;
  /** Its labels, or those that count as its labels. */
  readonly labels: Json | undefined;
}

/** What {@link injectPod} goes by. */
export interface InjectionContext {
  readonly namespace: NamespaceView;
  readonly settings: InjectionSettings;
  readonly capabilities: ClusterCapabilities;
  /** The namespace that the identity plane itself runs in. */
  readonly ownNamespace: string;
}

/** What becomes of a pod that is not refused. */
export type Injection =
  | { readonly kind: 'injected'; readonly mode: SidecarMode; readonly edits: readonly Edit[] }
  /** It has its agent, and everything that goes with it. */
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'skipped'; readonly reason: SkipReason };

/** Why a pod gets no agent. */
export type SkipReason = 'not-selected' | 'disabled' | 'system-namespace' | 'own-namespace' | 'mirror-pod';

/** The annotation by which `kubectl logs` and `kubectl exec` choose a container. */
const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';
/** What the kubelet puts on the pod that stands for a static one: it cannot be changed. */
const MIRROR_POD = 'kubernetes.io/config.mirror';

/**
 * Gives a pod, or the template of pods, its agent: the edits that it takes.
 *
 * Pure. Done again on its own result it has nothing to do; what another webhook added meanwhile, such as a container,
 * gets its share. Throws `injection_annotation_invalid`, `injection_refused` for a pod that cannot have an agent, and
 * `pod_malformed`.
 */
export function injectPod(pod: Json, context: InjectionContext): Injection {
  const { settings, capabilities } = context;
  const reason = skipReason(pod, context);
  if (reason !== null) return { kind: 'skipped', reason };
  const view = viewPod(pod);
  const annotations = readAnnotations(view.annotations);
  const options = podOptions(settings, annotations);
  const existing = injectedAgent(view);
  const mode = existing === null ? chooseMode(view, annotations, settings, capabilities) : modeOf(existing);
  const volumes = podVolumes(settings, options, view);
  if (existing === null) refuseImpossible(view, options, volumes);
  const draft = new Draft(pod);

  for (const volume of volumes) {
    if (volume.source !== null && !view.volumes.has(volume.name)) {
      draft.insert(['spec', 'volumes'], volumeEntry(volume));
    }
  }
  const shared = volumes.filter(({ others }) => others !== 'none');
  for (const container of othersOf(view, mode)) shareWith(draft, container, shared, options.workloadApi);
  if (existing === null) {
    const list = mode === 'native' ? 'initContainers' : 'containers';
    const agent = agentContainer({ settings, options, mode, volumes, fsGroup: view.fsGroup });
    draft.insert(['spec', list], agent, 0);
    draft.setText(['metadata', 'annotations'], STATUS_ANNOTATION, statusText(mode, volumes));
    const [first] = view.containers;
    // It would be the agent now, which nobody means by `kubectl logs <pod>`.
    if (
      mode === 'container' &&
      first !== undefined &&
      member(view.annotations, DEFAULT_CONTAINER) === undefined
    ) {
      draft.setText(['metadata', 'annotations'], DEFAULT_CONTAINER, first.name);
    }
  }
  draft.setText(['metadata', 'labels'], INJECTED_LABEL, 'true');
  const { edits } = draft;
  return edits.length === 0 ? { kind: 'unchanged' } : { kind: 'injected', mode, edits };
}

/** Asked before anything else is looked at: what is not meshed is none of our business. */
function skipReason(pod: Json, { namespace, ownNamespace }: InjectionContext): SkipReason | null {
  const metadata = member(pod, 'metadata');
  const [labels, annotations] = [member(metadata, 'labels'), member(metadata, 'annotations')];
  if (namespace.name !== null && SYSTEM_NAMESPACES.includes(namespace.name)) return 'system-namespace';
  if (namespace.name === ownNamespace) return 'own-namespace';
  if (member(annotations, MIRROR_POD) !== undefined) return 'mirror-pod';
  const values = [
    injectValueOf(namespace.labels, "the namespace's label"),
    injectValueOf(labels, "the pod's label"),
    injectValueOf(annotations, "the pod's annotation"),
  ];
  if (values.includes('disabled')) return 'disabled';
  return values.includes('enabled') ? null : 'not-selected';
}

/** The agent that an earlier injection put in; null where there is none. */
function injectedAgent(view: PodView): ContainerView | null {
  if (member(view.annotations, STATUS_ANNOTATION) === undefined) return null;
  return [...view.initContainers, ...view.containers].find(({ name }) => name === AGENT_CONTAINER) ?? null;
}

function modeOf({ list }: ContainerView): SidecarMode {
  return list === 'initContainers' ? 'native' : 'container';
}

function chooseMode(
  view: PodView,
  annotations: AnnotationValues,
  settings: InjectionSettings,
  capabilities: ClusterCapabilities,
): SidecarMode {
  const asked = annotations.get('sidecar') as SidecarMode | undefined;
  if (asked !== undefined) return asked;
  const { sidecar } = settings;
  const mode = sidecar !== 'auto' ? sidecar : capabilities.nativeSidecars ? 'native' : 'container';
  if (mode === 'container' && view.ends) {
    throw refused(
      'this pod ends by itself, and an agent beside its containers would keep it from that',
      'use a cluster with native sidecars (Kubernetes 1.29 or newer), kedge.io/inject: disabled, or say kedge.io/sidecar: container and end the agent yourself',
    );
  }
  return mode;
}

function refuseImpossible(
  view: PodView,
  { workloadApi, istioSds, files, haproxySockets, httpPort }: ReturnType<typeof podOptions>,
  volumes: readonly PodVolume[],
): void {
  const containers = [...view.initContainers, ...view.containers];
  if (view.windows)
    throw refused('the agent runs on Linux, and this pod is for Windows', 'say kedge.io/inject: disabled');
  if (containers.some(({ name }) => name === AGENT_CONTAINER)) {
    throw refused(
      `the pod has a container ${quote(AGENT_CONTAINER)} already, which Kedge did not inject`,
      'give that container another name, or say kedge.io/inject: disabled',
    );
  }
  const taken = volumes.find(({ name, source }) => source !== null && view.volumes.has(name));
  if (taken !== undefined) {
    throw refused(
      `the pod has a volume ${quote(taken.name)} already, which Kedge did not inject`,
      'give that volume another name, or say kedge.io/inject: disabled',
    );
  }
  if (!workloadApi && !istioSds && files === null && haproxySockets === null) {
    throw refused(
      'the annotations of the pod leave its agent without a feed, so nobody would get the identity',
      'leave kedge.io/workload-api enabled, or ask for istio-sds, files-preset or haproxy-sockets',
    );
  }
  if (httpPort === null) return;
  if (view.hostNetwork) {
    throw refused(
      'the pod is on the network of its node, where the port of its agent would be open and be taken by one pod only',
      'say kedge.io/http-port: disabled; the startup of the pod is then probed by its socket',
    );
  }
  const clash = containers.find(({ ports }) => ports.has(httpPort));
  if (clash !== undefined) {
    throw refused(
      `the container ${quote(clash.name)} has the port ${httpPort}, which the agent serves its metrics on`,
      'give the agent another one by kedge.io/http-port, or say disabled',
    );
  }
}

/** The containers that the agent serves: beside the others it starts when init containers are done. */
function othersOf(view: PodView, mode: SidecarMode): readonly ContainerView[] {
  const all = mode === 'native' ? [...view.initContainers, ...view.containers] : view.containers;
  return all.filter(({ name }) => name !== AGENT_CONTAINER);
}

function shareWith(
  draft: Draft,
  container: ContainerView,
  shared: readonly PodVolume[],
  workloadApi: boolean,
): void {
  const place = ['spec', container.list, container.index] as const;
  if (workloadApi && !container.environment.has(ENDPOINT_VARIABLE)) {
    draft.insert([...place, 'env'], { name: ENDPOINT_VARIABLE, value: `unix://${POD_PATHS.socket}` });
  }
  for (const { name, mountPath, others } of shared) {
    const there = container.mounts.get(mountPath);
    if (there === name) continue;
    if (there !== undefined) {
      throw refused(
        `the container ${quote(container.name)} mounts the volume ${quote(there)} at ${mountPath}, where the agent's belongs`,
        'mount that volume elsewhere, or say kedge.io/inject: disabled',
      );
    }
    const readOnly = others === 'read-only' ? { readOnly: true } : {};
    draft.insert([...place, 'volumeMounts'], { name, mountPath, ...readOnly });
  }
}

function statusText(mode: SidecarMode, volumes: readonly PodVolume[]): string {
  return JSON.stringify({
    version: KEDGE_VERSION,
    sidecar: mode,
    container: AGENT_CONTAINER,
    volumes: volumes.filter(({ source }) => source !== null).map(({ name }) => name),
  });
}

function refused(message: string, hint: string): KedgeError {
  return new KedgeError('injection_refused', message, { hint });
}
