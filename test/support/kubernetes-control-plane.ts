/**
 * The processes of a control plane on loopback: etcd, kube-apiserver and, where there is one, kube-controller-manager.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { CONTROLLER_MANAGER } from '../../scripts/kubernetes-folder.ts';
import { freePort } from './identity-plane.ts';
import type { KubernetesApi } from './kubernetes-api.ts';
import type { KubernetesCredentials } from './kubernetes-credentials.ts';
import { RunningPeer } from './peer-process.ts';

/** Generous, for a busy machine: it takes some 5 s. */
export const START_TIMEOUT_MS = 120_000;
/** Those that do without nodes. */
const CONTROLLERS = [
  ...['serviceaccount', 'serviceaccount-token', 'root-ca-cert-publisher', 'namespace', 'garbagecollector'],
  ...['deployment', 'replicaset', 'endpoint', 'endpointslice', 'disruption'],
  // The rights of the ClusterRoles view, edit and admin.
  'clusterrole-aggregation',
];

/** What {@link ControlPlane} takes. */
export interface ControlPlaneOptions {
  /** Folder of the programs. */
  readonly programs: string;
  readonly credentials: KubernetesCredentials;
  /** Of the API server. */
  readonly url: string;
  readonly port: number;
  readonly admin: KubernetesApi;
  /** More flags of kube-apiserver. */
  readonly flags: readonly string[];
  readonly controllers: boolean;
}

/** A control plane's processes, from {@link start} to {@link end}. */
export class ControlPlane {
  /** Of Kubernetes 1.x: x. */
  readonly minor: number;
  readonly #options: ControlPlaneOptions;
  readonly #ends: (() => Promise<void>)[] = [];
  #etcdPort = 0;
  #apiServer: RunningPeer | null = null;
  #controllerManager: RunningPeer | null = null;

  constructor(options: ControlPlaneOptions) {
    this.#options = options;
    const program = join(options.programs, 'kube-apiserver');
    const { stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' });
    this.minor = Number(/v1\.(\d+)\./.exec(stdout)?.[1] ?? 0);
  }

  /** Starts all of it and resolves when the API server is ready. */
  async start(): Promise<void> {
    await this.#startEtcd();
    await this.startApiServer();
    if (this.#options.controllers) await this.#startControllerManager();
  }

  /** Starts the API server after it was stopped, on the same port, and resolves when it is ready. */
  async startApiServer(): Promise<void> {
    if (this.#apiServer?.hasEnded === false) return;
    const file = (name: string): string => this.#options.credentials.path(name);
    this.#apiServer = await this.#start('kube-apiserver', () => this.#isReady(), [
      `--etcd-servers=http://127.0.0.1:${this.#etcdPort}`,
      ...['--bind-address=127.0.0.1', '--advertise-address=127.0.0.1', `--secure-port=${this.#options.port}`],
      `--cert-dir=${file('certificates')}`,
      `--tls-cert-file=${file('apiserver.crt')}`,
      `--tls-private-key-file=${file('apiserver.key')}`,
      `--client-ca-file=${file('ca.crt')}`,
      `--service-account-key-file=${file('service-account.pub')}`,
      `--service-account-signing-key-file=${file('service-account.key')}`,
      `--service-account-issuer=${this.#options.url}`,
      '--authorization-mode=RBAC',
      '--service-cluster-ip-range=10.96.0.0/16',
      // Its own address is loopback, which no Endpoints object may name.
      '--endpoint-reconciler-type=none',
      // Without its controller a ServiceAccount has no token Secret, and the plugin lets no pod in before 1.24.
      ...(this.#options.controllers ? [] : ['--disable-admission-plugins=ServiceAccount']),
      ...this.#options.flags,
    ]);
  }

  /** Ends the API server as a node that goes away does: with no farewell to anybody. */
  async stopApiServer(): Promise<void> {
    await this.#apiServer?.end();
  }

  get apiServerPid(): number {
    return this.#apiServer?.pid ?? 0;
  }

  /** Stops the API server in its tracks (connections stay open, nothing is answered), or lets it go on. */
  freezeApiServer(frozen: boolean): void {
    this.#apiServer?.freeze(frozen);
  }

  /** What the API server and the controllers have logged. */
  get log(): string {
    return [this.#apiServer, this.#controllerManager].map((peer) => peer?.output ?? '').join('\n');
  }

  /** Kills all of it. Harmless when repeated. */
  async end(): Promise<void> {
    for (const end of this.#ends) await end();
  }

  async #startEtcd(): Promise<void> {
    const [client, peer] = [await freePort(), await freePort()];
    const [clientUrl, peerUrl] = [`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`];
    this.#etcdPort = client;
    const data = this.#options.credentials.path('etcd');
    mkdirSync(data, { mode: 0o700 });
    const isHealthy = async (): Promise<boolean> =>
      (await fetch(`${clientUrl}/health`).catch(() => null))?.status === 200;
    await this.#start('etcd', isHealthy, [
      ...['--name=default', `--data-dir=${data}`, '--unsafe-no-fsync'],
      ...[`--listen-client-urls=${clientUrl}`, `--advertise-client-urls=${clientUrl}`],
      ...[`--listen-peer-urls=${peerUrl}`, `--initial-advertise-peer-urls=${peerUrl}`],
      `--initial-cluster=default=${peerUrl}`,
    ]);
  }

  async #startControllerManager(): Promise<void> {
    const user = await this.#options.credentials.client('system:kube-controller-manager');
    const kubeconfig = this.#options.credentials.kubeconfig('controller-manager', this.#options.url, user);
    const file = (name: string): string => this.#options.credentials.path(name);
    this.#controllerManager = await this.#start(CONTROLLER_MANAGER, () => true, [
      `--kubeconfig=${kubeconfig}`,
      `--controllers=${CONTROLLERS.join()}`,
      '--use-service-account-credentials',
      `--service-account-private-key-file=${file('service-account.key')}`,
      `--root-ca-file=${file('ca.crt')}`,
      '--leader-elect=false',
      // It serves nothing; the flag for the port in the clear went with 1.24.
      '--secure-port=0',
      ...(this.minor < 24 ? ['--port=0'] : []),
    ]);
  }

  async #start(
    program: string,
    isReady: () => boolean | Promise<boolean>,
    args: readonly string[],
  ): Promise<RunningPeer> {
    const ends = { after: (end: () => Promise<void>) => void this.#ends.unshift(end) };
    return await RunningPeer.start(ends, {
      program: join(this.#options.programs, program),
      args,
      isReady,
      readyTimeoutMs: START_TIMEOUT_MS,
      endSignal: 'SIGKILL',
    });
  }

  async #isReady(): Promise<boolean> {
    const answer = await this.#options.admin.request('GET', '/readyz').catch(() => null);
    return answer?.status === 200;
  }
}
