/**
 * The identity plane in a test cluster, as an operator gets it: `kedge install | kubectl apply`, the pods of its
 * Deployment on a {@link PodNode}, its Service reachable by pods and by the API server.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Client, credentials } from '@grpc/grpc-js';
import { KEDGE_VERSION } from '../../host/version.ts';
import { type ContainerImage, kedgeImage } from './container-image.ts';
import { until } from './identity-plane.ts';
import { runKedge } from './kedge-process.ts';
import type { KubernetesObject } from './kubernetes-api.ts';
import { KubernetesCluster } from './kubernetes-cluster.ts';
import { PodNode, podAddress, type RunningPod } from './pod-node.ts';
import { type ServiceRoute, serviceNetwork } from './service-network.ts';
import { temporaryFolder } from './temporary-folder.ts';

const NAMESPACE = 'kedge';
const SERVICE = 'kedge-ca';
const CONTAINER = 'ca';

/** What {@link ClusterPlane.start} takes. */
export interface ClusterPlaneOptions {
  readonly replicas: number;
  /** `key=value` for `kedge install --set`. */
  readonly sets?: readonly string[];
  /** The policy file; that of the manifests where absent. */
  readonly policy?: string;
  /** Images of workloads, by name. */
  readonly images?: ReadonlyMap<string, ContainerImage>;
}

/** One SVID, as an audit log tells of it. */
export interface IssuedRecord {
  /** `internal`: to the CA itself. */
  readonly api: string;
  readonly spiffe_id: string;
  readonly serial: string;
  readonly namespace: string;
  readonly service_account: string;
  readonly pod_name: string;
  readonly pod_uid: string;
}

/** A live workload instance, as `kedge status` shows it. */
export interface LiveInstance {
  /** Pod UID. */
  readonly id: string;
  readonly spiffeId: string;
  readonly behind: string | null;
}

interface ServiceSpec {
  readonly clusterIP: string;
  readonly ports: readonly { readonly port: number; readonly targetPort: number | string }[];
}

/** An installed Kedge, with all of its replicas ready. */
export class ClusterPlane {
  readonly cluster: KubernetesCluster;
  readonly node: PodNode;
  /** The pods of the CA. */
  readonly replicas: RunningPod[] = [];
  #service: ServiceSpec | null = null;
  #turn = 0;

  static async start(t: Pick<TestContext, 'after'>, options: ClusterPlaneOptions): Promise<ClusterPlane> {
    const folder = temporaryFolder(t);
    const route: ServiceRoute = (clusterIp, port) => plane?.route(clusterIp, port) ?? null;
    let plane: ClusterPlane | null = null;
    const cluster = await KubernetesCluster.start(t, { flags: await serviceNetwork(t, folder, route) });
    const images = new Map([
      [`kedge:${KEDGE_VERSION}`, kedgeImage(folder)],
      ...(options.images ?? new Map<string, ContainerImage>()),
    ]);
    plane = new ClusterPlane(cluster, new PodNode(t, { cluster, images }));
    await plane.#install(options);
    return plane;
  }

  private constructor(cluster: KubernetesCluster, node: PodNode) {
    this.cluster = cluster;
    this.node = node;
  }

  /** To a pod; or to one of the Service, as kube-proxy would lead it: each in turn, those that have ended left out. */
  route(clusterIp: string, port: number): { host: string; port: number } | null {
    const host = podAddress(clusterIp);
    if (host !== null) return { host, port };
    const target = this.#service?.ports.find((service) => service.port === port)?.targetPort;
    const ready = this.replicas.filter((pod) => !pod.container(CONTAINER).hasEnded);
    const pod = ready[this.#turn++ % Math.max(1, ready.length)];
    if (this.#service?.clusterIP !== clusterIp || target === undefined || pod === undefined) return null;
    return { host: pod.ip, port: pod.port(target) };
  }

  /** A pod in a namespace, made by the API server, webhooks and all. Throws what `kubectl` would show. */
  async createPod(namespace: string, pod: KubernetesObject): Promise<KubernetesObject> {
    return await this.cluster.admin.create(`/api/v1/namespaces/${namespace}/pods`, pod);
  }

  /** The SVIDs that all replicas have issued, by their audit logs. */
  issued(): readonly IssuedRecord[] {
    return this.replicas.flatMap((pod) => {
      const folder = join(pod.volume('data'), 'audit');
      return readdirSync(folder)
        .filter((file) => file.endsWith('.jsonl'))
        .flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n'))
        .filter((line) => line.includes('"event":"svid.issued"') && line.endsWith('}'))
        .map((line) => JSON.parse(line) as IssuedRecord);
    });
  }

  /** Who counts as live, by `kedge status` of one replica. */
  async live(pod: RunningPod): Promise<readonly LiveInstance[]> {
    const socket = join(pod.volume('data'), 'admin.sock');
    const { code, stdout, stderr } = await runKedge(['status', '--admin-socket', socket, '--output', 'json']);
    if (code !== 0) throw new Error(stderr);
    return (JSON.parse(stdout) as { readonly instances: readonly LiveInstance[] }).instances;
  }

  /** A connection to one replica, its TLS checked against the bundle in that namespace. */
  async connect(pod: RunningPod, namespace: string): Promise<Client> {
    const path = `/api/v1/namespaces/${namespace}/configmaps/kedge-trust-bundle`;
    const data = (await this.cluster.admin.get(path))['data'] as Readonly<Record<string, string>>;
    return new Client(
      `${pod.ip}:${pod.port('grpc')}`,
      // Node would look for a DNS name; agents check the SPIFFE ID in their own tests.
      credentials.createSsl(Buffer.from(data['bundle.pem'] ?? ''), null, null, {
        checkServerIdentity: () => undefined,
      }),
      { 'grpc.use_local_subchannel_pool': 1, 'grpc.ssl_target_name_override': 'ca.kedge.test' },
    );
  }

  /** Kills a replica as a node that fails does. */
  async killReplica(pod: RunningPod): Promise<void> {
    await pod.container(CONTAINER).kill();
  }

  /** Starts it again, as its kubelet does, and resolves when it is ready. */
  async restartReplica(pod: RunningPod): Promise<void> {
    await pod.startContainer(CONTAINER);
  }

  async #install({ replicas, sets = [], policy }: ClusterPlaneOptions): Promise<void> {
    const { cluster, node } = this;
    const version = `1.${cluster.minor}`;
    const values = [`replicas=${replicas}`, ...sets].flatMap((set) => ['--set', set]);
    const install = await runKedge(['install', '--kubernetes-version', version, ...values]);
    if (install.code !== 0) throw new Error(install.stderr);
    const applied = cluster.kubectl(['apply', '--server-side', '-f', '-'], install.stdout);
    if (applied.code !== 0) throw new Error(applied.stderr);
    if (policy !== undefined) {
      const path = `/api/v1/namespaces/${NAMESPACE}/configmaps/kedge-config`;
      await cluster.admin.merge(path, { data: { 'policy.yaml': policy } });
    }
    const service = await cluster.admin.get(`/api/v1/namespaces/${NAMESPACE}/services/${SERVICE}`);
    this.#service = service['spec'] as ServiceSpec;
    const pods = await this.#deployed(replicas);
    this.replicas.push(...pods.map((pod) => node.begin(pod)));
    node.publish(`${SERVICE}.${NAMESPACE}.svc`, this.replicas);
    for (const pod of this.replicas) await pod.start();
  }

  /** The pods that the Deployment's controller has made. */
  async #deployed(replicas: number): Promise<readonly KubernetesObject[]> {
    const path = `/api/v1/namespaces/${NAMESPACE}/pods`;
    let pods: readonly KubernetesObject[] = [];
    await until('the pods of the CA are there', async () => {
      pods = (await this.cluster.admin.get(path))['items'] as readonly KubernetesObject[];
      return pods.length === replicas;
    });
    return pods;
  }
}
