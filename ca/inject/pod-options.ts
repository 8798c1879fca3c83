import type { AnnotationValues } from './annotations.ts';
import type {
  AgentLogLevel,
  AgentResources,
  ImagePullPolicy,
  InjectionSettings,
} from './injection-settings.ts';

/** What one pod's agent gets: the settings, and what the pod's annotations say instead. */
export interface PodOptions {
  readonly image: string;
  readonly imagePullPolicy: ImagePullPolicy;
  readonly caAddress: string;
  readonly logLevel: AgentLogLevel;
  /** As the agent takes them; null = not asked for. */
  readonly svidTtl: string | null;
  readonly dnsNames: string | null;
  readonly resources: AgentResources;
  readonly userId: number;
  /** Null = the agent serves no HTTP. */
  readonly httpPort: number | null;
  readonly workloadApi: boolean;
  readonly istioSds: boolean;
  /** Null = no files. */
  readonly files: { readonly preset: string; readonly keyMode: string | null } | null;
  /** Addresses of the stats sockets, as the agent takes them; null = no HAProxy. */
  readonly haproxySockets: string | null;
  readonly canary: { readonly port: string; readonly protocol: string; readonly path: string } | null;
}

/** The options of a pod with these annotations. */
export function podOptions(settings: InjectionSettings, annotations: AnnotationValues): PodOptions {
  const { resources } = settings;
  const httpPort = annotations.get('http-port');
  const preset = annotations.get('files-preset');
  const canaryPort = annotations.get('canary-port');
  return {
    image: annotations.get('image') ?? settings.image,
    imagePullPolicy: (annotations.get('image-pull-policy') ?? settings.imagePullPolicy) as ImagePullPolicy,
    caAddress: annotations.get('ca-address') ?? settings.caAddress,
    logLevel: (annotations.get('log-level') ?? settings.logLevel) as AgentLogLevel,
    svidTtl: annotations.get('svid-ttl') ?? null,
    dnsNames: annotations.get('dns-names') ?? null,
    resources: {
      cpuRequest: annotations.get('cpu-request') ?? resources.cpuRequest,
      memoryRequest: annotations.get('memory-request') ?? resources.memoryRequest,
      cpuLimit: annotations.get('cpu-limit') ?? resources.cpuLimit,
      memoryLimit: annotations.get('memory-limit') ?? resources.memoryLimit,
    },
    userId: Number(annotations.get('run-as-user') ?? settings.userId),
    httpPort: httpPort === undefined ? settings.httpPort : httpPort === 'disabled' ? null : Number(httpPort),
    workloadApi: annotations.get('workload-api') !== 'disabled',
    istioSds: annotations.get('istio-sds') === 'enabled',
    files: preset === undefined ? null : { preset, keyMode: annotations.get('files-key-mode') ?? null },
    haproxySockets: annotations.get('haproxy-sockets') ?? null,
    canary:
      canaryPort === undefined
        ? null
        : {
            port: canaryPort,
            protocol: annotations.get('canary-protocol') ?? 'http',
            path: annotations.get('canary-path') ?? '/',
          },
  };
}
