import {
  AGENT_CONTAINER,
  AGENT_PROGRAM,
  type InjectionSettings,
  type SidecarMode,
} from './injection-settings.ts';
import type { JsonMap } from './json.ts';
import type { PodOptions } from './pod-options.ts';
import { POD_PATHS, type PodVolume } from './pod-volumes.ts';

/** What an agent's container is made from. */
export interface AgentContainerOptions {
  readonly settings: InjectionSettings;
  readonly options: PodOptions;
  readonly mode: SidecarMode;
  readonly volumes: readonly PodVolume[];
  readonly fsGroup: number | null;
}

/**
 * The container of the agent. Its arguments are options of `kedge agent` with a value each, so that no variable of the
 * environment can say otherwise.
 */
export function agentContainer(given: AgentContainerOptions): JsonMap {
  const { settings, options, mode, volumes } = given;
  const { resources, userId, httpPort } = options;
  const cpuLimit = resources.cpuLimit === null ? {} : { cpu: resources.cpuLimit };
  return {
    name: AGENT_CONTAINER,
    image: options.image,
    imagePullPolicy: options.imagePullPolicy,
    command: AGENT_PROGRAM,
    args: ['agent', ...agentArguments(given)],
    ...(mode === 'native' ? { restartPolicy: 'Always' } : {}),
    // What the agent said last is then in the status of the pod.
    terminationMessagePolicy: 'FallbackToLogsOnError',
    ...(httpPort === null
      ? {}
      : { ports: [{ name: 'kedge-http', containerPort: httpPort, protocol: 'TCP' }] }),
    ...probes(settings, options, mode),
    resources: {
      requests: { cpu: resources.cpuRequest, memory: resources.memoryRequest },
      limits: { ...cpuLimit, memory: resources.memoryLimit },
    },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsGroup: userId,
      runAsNonRoot: true,
      runAsUser: userId,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: volumes.map(({ name, mountPath, readOnlyForAgent }) => ({
      name,
      mountPath,
      ...(readOnlyForAgent ? { readOnly: true } : {}),
    })),
  };
}

function agentArguments({ settings, options, fsGroup }: AgentContainerOptions): readonly string[] {
  const { workloadApi, istioSds, files, haproxySockets, canary, httpPort } = options;
  const flags: (readonly [name: string, value: string])[] = [
    ['ca-address', options.caAddress],
    ['trust-domain', settings.trustDomain],
    ['token-file', POD_PATHS.token],
    ['bootstrap-bundle', POD_PATHS.bundle],
    // The volume itself belongs to root and is open to all: the agent makes a folder of its own in it.
    ['cache-folder', `${POD_PATHS.cache}/identity`],
  ];
  if (options.svidTtl !== null) flags.push(['svid-ttl', options.svidTtl]);
  if (options.dnsNames !== null) flags.push(['dns-names', options.dnsNames]);
  // Whoever has the volume is of this pod, whatever its user: the socket is for all of them.
  if (workloadApi || istioSds) flags.push(['socket-mode', '0666']);
  if (workloadApi) flags.push(['socket', POD_PATHS.socket]);
  if (istioSds) flags.push(['istio-socket', POD_PATHS.istioSocket]);
  // Where the pod has a group for its volumes, the agent is in it, and so is the server that reads the files.
  const group = fsGroup === null ? [] : [`:${fsGroup}`];
  const groupMode = fsGroup === null ? [] : ['0640'];
  if (files !== null) {
    flags.push(['files-folder', POD_PATHS.files], ['files-preset', files.preset]);
    const keyMode = files.keyMode === null ? groupMode : [files.keyMode];
    flags.push(...keyMode.map((mode) => ['files-key-mode', mode] as const));
    if (files.keyMode === null) flags.push(...group.map((owner) => ['files-owner', owner] as const));
  }
  if (haproxySockets !== null) {
    flags.push(['haproxy-folder', POD_PATHS.haproxy], ['haproxy-sockets', haproxySockets]);
    flags.push(...groupMode.map((mode) => ['haproxy-key-mode', mode] as const));
    flags.push(...group.map((owner) => ['haproxy-owner', owner] as const));
  }
  if (canary !== null) {
    flags.push(['canary-address', `127.0.0.1:${canary.port}`]);
    flags.push(['canary-protocol', canary.protocol], ['canary-path', canary.path]);
  }
  if (httpPort !== null) flags.push(['http-address', `${settings.httpHost}:${httpPort}`]);
  flags.push(['log-level', options.logLevel]);
  return flags.map(([name, value]) => `--${name}=${value}`);
}

/**
 * Native: nothing else of the pod starts before the agent serves an identity, by the startup probe. Beside the others:
 * they wait for its post-start hook. Neither is asked of it later: a pod whose CA is away goes on with what it has.
 */
function probes(settings: InjectionSettings, options: PodOptions, mode: SidecarMode): JsonMap {
  const { httpPort, workloadApi } = options;
  const ask = (command: readonly string[]): JsonMap => ({
    exec: { command: [...AGENT_PROGRAM, 'agent', ...command, `--socket=${POD_PATHS.socket}`] },
  });
  const startup: JsonMap | null =
    httpPort !== null
      ? { httpGet: { path: '/readyz', port: httpPort, scheme: 'HTTP' }, timeoutSeconds: 2 }
      : workloadApi
        ? { ...ask(['healthcheck']), timeoutSeconds: 5 }
        : null;
  return {
    ...(startup === null ? {} : { startupProbe: { ...startup, periodSeconds: 1, failureThreshold: 600 } }),
    ...(httpPort === null
      ? {}
      : {
          livenessProbe: {
            httpGet: { path: '/livez', port: httpPort, scheme: 'HTTP' },
            periodSeconds: 20,
            timeoutSeconds: 5,
            failureThreshold: 3,
          },
        }),
    ...(mode === 'container' && workloadApi
      ? { lifecycle: { postStart: ask(['wait', '--timeout=120s']) } }
      : {}),
  };
}
