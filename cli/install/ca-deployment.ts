import { INJECT_KEY } from '../../ca/kubernetes/cluster-names.ts';
import { CA_SELECTOR, INSTALL_NAMES, INSTALL_PORTS, INSTALLED_LABELS } from './install-names.ts';
import type { InstallValues } from './install-values.ts';
import type { KubernetesObject } from './kubernetes-object.ts';

/** The user and group that the containers run as: no account of any node. */
export const CONTAINER_USER = 65_532;

/**
 * A pod that is told to end goes on for so long before it is told itself: the Service sends it calls until every node
 * knows. An admission call that finds no listener is lost for good: its pod is refused, or starts without an agent.
 */
const LEAVE_SECONDS = 5;

/** The Deployment of the CA. `configHash` is of its ConfigMap: a changed configuration rolls the pods. */
export function caDeployment(values: InstallValues, configHash: string): KubernetesObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      name: INSTALL_NAMES.ca,
      namespace: values.namespace,
      labels: { ...INSTALLED_LABELS, ...CA_SELECTOR },
    },
    spec: {
      replicas: Number(values.replicas),
      revisionHistoryLimit: 3,
      // A replica leaves only when another is ready: there is no moment without a CA.
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      selector: { matchLabels: CA_SELECTOR },
      template: {
        metadata: {
          labels: { ...INSTALLED_LABELS, ...CA_SELECTOR, [INJECT_KEY]: 'disabled' },
          annotations: {
            'kedge.io/config-sha256': configHash,
            'prometheus.io/scrape': 'true',
            'prometheus.io/port': String(INSTALL_PORTS.http),
          },
        },
        spec: podSpec(values),
      },
    },
  };
}

function podSpec(values: InstallValues): object {
  return {
    serviceAccountName: INSTALL_NAMES.ca,
    priorityClassName: INSTALL_NAMES.priorityClass,
    // The CA waits LEAVE_SECONDS and drains for 20 s; a kill before its end would cut calls that are answered.
    terminationGracePeriodSeconds: 30,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: CONTAINER_USER,
      runAsGroup: CONTAINER_USER,
      fsGroup: CONTAINER_USER,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    nodeSelector: { 'kubernetes.io/os': 'linux' },
    topologySpreadConstraints: ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'].map(
      (topologyKey) => ({
        maxSkew: 1,
        topologyKey,
        whenUnsatisfiable: 'ScheduleAnyway',
        labelSelector: { matchLabels: CA_SELECTOR },
      }),
    ),
    containers: [caContainer(values)],
    volumes: [
      { name: 'config', configMap: { name: INSTALL_NAMES.config } },
      { name: 'data', emptyDir: {} },
    ],
  };
}

function caContainer(values: InstallValues): object {
  return {
    name: 'ca',
    image: values.image,
    imagePullPolicy: values.imagePullPolicy,
    args: ['ca', '--config', '/etc/kedge/ca.yaml'],
    ports: Object.entries(INSTALL_PORTS).map(([name, containerPort]) => ({
      name,
      containerPort,
      protocol: 'TCP',
    })),
    resources: {
      requests: { cpu: values.cpuRequest, memory: values.memoryRequest },
      limits: { memory: values.memoryLimit },
    },
    // Not /readyz: a CA whose trust state is broken waits until it is mended, and says why; ended, it could not.
    startupProbe: probe('/livez', { periodSeconds: 1, failureThreshold: 60 }),
    livenessProbe: probe('/livez', { periodSeconds: 10, failureThreshold: 3 }),
    readinessProbe: probe('/readyz', { periodSeconds: 5, failureThreshold: 2 }),
    // The image has no `sleep`, and the kubelet's own is newer than Kubernetes 1.20.
    lifecycle: {
      preStop: {
        exec: { command: ['/usr/local/bin/node', '-e', `setTimeout(() => {}, ${LEAVE_SECONDS}_000)`] },
      },
    },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      { name: 'config', mountPath: '/etc/kedge', readOnly: true },
      { name: 'data', mountPath: '/var/lib/kedge' },
    ],
  };
}

function probe(path: string, times: Readonly<Record<string, number>>): object {
  return { httpGet: { path, port: 'http', scheme: 'HTTP' }, timeoutSeconds: 2, ...times };
}
