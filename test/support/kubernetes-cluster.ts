/**
 * A real control plane for tests: etcd, kube-apiserver and, where there is one, kube-controller-manager, on loopback,
 * with certificates of its own, RBAC, and a key for ServiceAccount tokens. There is no kubelet: pods are objects, and
 * what a node would do to them a test does.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, type TestContext } from 'node:test';
import { CONTROLLER_MANAGER, findKubernetes } from '../../scripts/kubernetes-folder.ts';
import { freePort, until } from './identity-plane.ts';
import { type ApiCredential, KubernetesApi, type KubernetesObject } from './kubernetes-api.ts';
import { ControlPlane, START_TIMEOUT_MS } from './kubernetes-control-plane.ts';
import { type ClientCertificate, KubernetesCredentials } from './kubernetes-credentials.ts';
import { suiteLifetime } from './suite-lifetime.ts';

const assets = findKubernetes();

/** For `skip` of a suite: false, or why there is no kube-apiserver. */
export const clusterSkip = 'missing' in assets ? assets.missing : false;

/** For `skip` of what needs controllers: false, or why there are none. */
export const controllersSkip =
  clusterSkip === false && 'folder' in assets && !assets.hasControllerManager
    ? `the folder of kube-apiserver has no ${CONTROLLER_MANAGER}`
    : clusterSkip;

/** The first version that makes no Secret with a token for each ServiceAccount. */
const NO_TOKEN_SECRETS = 24;

/** What {@link KubernetesCluster.start} takes. */
export interface ClusterOptions {
  /** More flags of kube-apiserver. */
  readonly flags?: readonly string[];
  /** Whether kube-controller-manager runs: ServiceAccount, namespace, garbage collector, Deployment. */
  readonly controllers?: boolean;
}

/** What {@link KubernetesCluster.createPod} takes. */
export interface PodOptions {
  readonly serviceAccount?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly nodeName?: string;
}

/** What {@link KubernetesCluster.tokenFor} takes. */
export interface TokenOptions {
  readonly serviceAccount?: string;
  readonly audience?: string;
  /** The token is bound to this pod. */
  readonly pod?: KubernetesObject;
  /** At least 600. */
  readonly seconds?: number;
}

/** A control plane for all tests of a suite: to be called in its body, gives what is there once they run. */
export function suiteCluster(options: ClusterOptions = {}): () => KubernetesCluster {
  const suite = suiteLifetime();
  let cluster: KubernetesCluster | null = null;
  before(async () => {
    cluster = await KubernetesCluster.start(suite, options);
  });
  return () => {
    if (cluster === null) throw new Error('the control plane is there once the tests of its suite run');
    return cluster;
  };
}

/** A control plane that runs; it ends with the test or suite. */
export class KubernetesCluster {
  readonly url: string;
  readonly port: number;
  /** The `iss` of ServiceAccount tokens: the API server's own URL, so that discovery finds it. */
  readonly issuer: string;
  /** PEM of what the API server's certificate verifies against, and a file of it. */
  readonly authorities: string;
  readonly authoritiesFile: string;
  /** File with the credentials of a cluster admin. */
  readonly kubeconfig: string;
  /** As a cluster admin. */
  readonly admin: KubernetesApi;
  /** Of Kubernetes 1.x: x. */
  readonly minor: number;
  /** Where a test may put files of its own. */
  readonly folder: string;
  readonly hasControllers: boolean;
  readonly #programs: string;
  readonly #credentials: KubernetesCredentials;
  readonly #plane: ControlPlane;

  /** Starts all of it and resolves when the API server is ready. */
  static async start(
    t: Pick<TestContext, 'after'>,
    options: ClusterOptions = {},
  ): Promise<KubernetesCluster> {
    if ('missing' in assets) throw new Error(assets.missing);
    // A short path, so that Unix sockets fit in it.
    const folder = mkdtempSync(join(tmpdir(), 'kedge-cluster-'));
    const credentials = await KubernetesCredentials.make(folder);
    const port = await freePort();
    const admin = await credentials.client('kubernetes-admin', ['system:masters']);
    const cluster = new KubernetesCluster(folder, credentials, port, admin, options);
    t.after(() => cluster.#end());
    await cluster.#plane.start();
    return cluster;
  }

  private constructor(
    folder: string,
    credentials: KubernetesCredentials,
    port: number,
    admin: ClientCertificate,
    { flags = [], controllers = true }: ClusterOptions,
  ) {
    if ('missing' in assets) throw new Error(assets.missing);
    this.folder = folder;
    this.#credentials = credentials;
    this.#programs = assets.folder;
    this.port = port;
    this.url = `https://127.0.0.1:${port}`;
    this.issuer = this.url;
    this.authorities = credentials.authorities;
    this.authoritiesFile = credentials.path('ca.crt');
    this.kubeconfig = credentials.kubeconfig('admin', this.url, admin);
    this.admin = this.as(admin);
    this.hasControllers = controllers && assets.hasControllerManager;
    this.#plane = new ControlPlane({
      programs: this.#programs,
      credentials,
      url: this.url,
      port,
      admin: this.admin,
      flags,
      controllers: this.hasControllers,
    });
    this.minor = this.#plane.minor;
  }

  /** The API as somebody else. */
  as(credential: ApiCredential): KubernetesApi {
    return new KubernetesApi({ url: this.url, authorities: this.authorities, credential });
  }

  /** The path of a kubeconfig file for a user with these groups. */
  async kubeconfigFor(user: string, groups: readonly string[] = []): Promise<string> {
    const client = await this.#credentials.client(user, groups);
    return this.#credentials.kubeconfig(user.replaceAll(/[^a-z0-9-]/g, '-'), this.url, client);
  }

  /** Runs kubectl as a cluster admin, to its end. */
  kubectl(args: readonly string[], stdin = ''): { code: number | null; stdout: string; stderr: string } {
    const { status, stdout, stderr } = spawnSync(join(this.#programs, 'kubectl'), args, {
      input: stdin,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], HOME: this.folder, KUBECONFIG: this.kubeconfig },
    });
    return { code: status, stdout, stderr };
  }

  /** A namespace in which pods can be made. */
  async createNamespace(
    name: string,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<KubernetesObject> {
    const namespace = await this.admin.create('/api/v1/namespaces', { metadata: { name, labels } });
    if (this.hasControllers) await this.#serviceAccountIsReady(name, 'default');
    else await this.createServiceAccount(name, 'default');
    return namespace;
  }

  /** A ServiceAccount that pods can have. */
  async createServiceAccount(namespace: string, name: string): Promise<KubernetesObject> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts`;
    const account = await this.admin.create(path, { metadata: { name } });
    if (this.hasControllers) await this.#serviceAccountIsReady(namespace, name);
    return account;
  }

  /** A pod as the API server keeps it, with its UID. */
  async createPod(namespace: string, name: string, options: PodOptions = {}): Promise<KubernetesObject> {
    const { serviceAccount = 'default', labels = {}, annotations = {}, nodeName } = options;
    return await this.admin.create(`/api/v1/namespaces/${namespace}/pods`, {
      metadata: { name, labels, annotations },
      spec: {
        serviceAccountName: serviceAccount,
        containers: [{ name: 'app', image: 'app.example/app:1' }],
        ...(nodeName === undefined ? {} : { nodeName }),
      },
    });
  }

  /** A pod's status, as its kubelet would write it. */
  async setPodStatus(
    namespace: string,
    name: string,
    status: Record<string, unknown>,
  ): Promise<KubernetesObject> {
    return await this.admin.merge(`/api/v1/namespaces/${namespace}/pods/${name}/status`, { status });
  }

  /** Deletes a pod at once. */
  async deletePod(namespace: string, name: string): Promise<void> {
    await this.admin.delete(`/api/v1/namespaces/${namespace}/pods/${name}`);
  }

  /** A token of a ServiceAccount, by TokenRequest, as the kubelet projects it into a pod. */
  async tokenFor(namespace: string, options: TokenOptions = {}): Promise<string> {
    const { serviceAccount = 'default', audience = 'kedge', pod, seconds = 3600 } = options;
    const answer = await this.admin.create(
      `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`,
      {
        spec: {
          audiences: [audience],
          expirationSeconds: seconds,
          ...(pod === undefined
            ? {}
            : {
                boundObjectRef: {
                  kind: 'Pod',
                  apiVersion: 'v1',
                  name: pod.metadata?.name,
                  uid: pod.metadata?.uid,
                },
              }),
        },
      },
    );
    return (answer['status'] as { readonly token: string }).token;
  }

  /**
   * A Service that leads to a port of this machine, so that a webhook can be registered by its Service as in a
   * cluster: the API server resolves one of type ExternalName to its name.
   */
  async createLoopbackService(namespace: string, name: string, port: number): Promise<void> {
    await this.admin.create(`/api/v1/namespaces/${namespace}/services`, {
      metadata: { name },
      spec: { type: 'ExternalName', externalName: 'localhost', ports: [{ port }] },
    });
  }

  /** Starts the API server after it was stopped, on the same port, and resolves when it is ready. */
  async startApiServer(): Promise<void> {
    await this.#plane.startApiServer();
  }

  /** Ends the API server as a node that goes away does: with no farewell to anybody. */
  async stopApiServer(): Promise<void> {
    await this.#plane.stopApiServer();
  }

  /** File with the private key that signs ServiceAccount tokens, PEM. */
  get serviceAccountKeyFile(): string {
    return this.#credentials.path('service-account.key');
  }

  get apiServerPid(): number {
    return this.#plane.apiServerPid;
  }

  /** Stops the API server in its tracks (connections stay open, nothing is answered), or lets it go on. */
  freezeApiServer(frozen: boolean): void {
    this.#plane.freezeApiServer(frozen);
  }

  /** What the API server and the controllers have logged. */
  get log(): string {
    return this.#plane.log;
  }

  async #serviceAccountIsReady(namespace: string, name: string): Promise<void> {
    await until(
      `ServiceAccount ${namespace}/${name} is ready`,
      async () => {
        const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}`;
        const { status, body } = await this.admin.request('GET', path);
        return status === 200 && (this.minor >= NO_TOKEN_SECRETS || body['secrets'] !== undefined);
      },
      START_TIMEOUT_MS,
    );
  }

  async #end(): Promise<void> {
    await this.#plane.end();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
