/**
 * The node of a test cluster: runs the pods that a test hands it, as their specs say. It makes their volumes, starts their
 * containers in order, each when the startup probe of the one before has passed, and tells the API server how they are.
 *
 * What it has not is a network for each pod: pods share the machine's. Each has an address of loopback as its own, and
 * 0.0.0.0 in arguments and ConfigMaps is written as that. Names of services are in /etc/hosts. The API server, which
 * proxies to no loopback, is told of 100.x.y.z in place of 127.x.y.z: see {@link podAddress}.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { peerEnvironment } from '../../scripts/peer-folder.ts';
import type { ContainerImage } from './container-image.ts';
import { containerCommand, type ContainerSpec } from './container-process.ts';
import { until } from './identity-plane.ts';
import type { KubernetesObject } from './kubernetes-api.ts';
import type { KubernetesCluster } from './kubernetes-cluster.ts';
import { mountVolume, removeMemoryVolumes, volumeFolder, type VolumeSpec } from './pod-volumes.ts';

/** What a {@link PodNode} is made of. */
export interface PodNodeOptions {
  readonly cluster: KubernetesCluster;
  /** By the name that a container gives; a container with another does not run. */
  readonly images: ReadonlyMap<string, ContainerImage>;
}

const START_TIMEOUT_MS = 120_000;
const RESTART_MS = 1_000;
/** The name of the agent's container. */
const AGENT = 'kedge-agent';

interface Container extends ContainerSpec {
  readonly startupProbe?: {
    readonly httpGet?: { readonly path: string; readonly port: number | string };
  };
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[];
}

interface PodSpec {
  readonly volumes?: readonly VolumeSpec[];
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
}

/** The address of loopback behind one that the API server knows a pod by; null where it is none of a pod. */
export function podAddress(address: string): string | null {
  return address.startsWith('100.') ? address.replace('100.', '127.') : null;
}

/** Runs pods until the test ends. */
export class PodNode {
  /** 127.x.0.0/16, of which each pod gets an address; x differs from one test process to the next. */
  readonly #network = `127.${64 + (process.pid % 128)}`;
  readonly #options: PodNodeOptions;
  readonly #running: RunningPod[] = [];
  readonly #hostsFile: string;
  readonly #services = new Map<string, readonly RunningPod[]>();

  constructor(t: Pick<TestContext, 'after'>, options: PodNodeOptions) {
    this.#options = options;
    this.#hostsFile = join(options.cluster.folder, 'hosts');
    this.#writeHosts();
    t.after(async () => {
      await Promise.all(this.#running.map((pod) => pod.kill()));
      removeMemoryVolumes(options.cluster.folder);
    });
  }

  /** Runs a pod that the API server has; resolves when all of its containers run. */
  async run(pod: KubernetesObject): Promise<RunningPod> {
    const running = this.begin(pod);
    await running.start();
    return running;
  }

  /** A pod with its address, before anything of it runs. */
  begin(pod: KubernetesObject): RunningPod {
    const index = this.#running.length;
    const ip = `${this.#network}.${Math.floor(index / 250)}.${1 + (index % 250)}`;
    const running = new RunningPod({ ...this.#options, hostsFile: this.#hostsFile, ip }, pod);
    this.#running.push(running);
    return running;
  }

  /** From now on a name leads to these pods. Containers that run see it. */
  publish(name: string, pods: readonly RunningPod[]): void {
    this.#services.set(name, pods);
    this.#writeHosts();
  }

  #writeHosts(): void {
    const services = [...this.#services].flatMap(([name, pods]) => pods.map(({ ip }) => `${ip} ${name}`));
    writeFileSync(this.#hostsFile, ['127.0.0.1 localhost', ...services, ''].join('\n'));
  }
}

/** A container at work, with what it printed, also before it was started again. */
export class RunningContainer {
  readonly process: ChildProcess;
  output: string;
  #isKilled = false;

  /** `onEnd` is called when it ends by itself. */
  constructor(
    { program, args }: { readonly program: string; readonly args: readonly string[] },
    before: string,
    onEnd: () => void,
  ) {
    this.output = before;
    const env = { ...process.env, ...peerEnvironment('bwrap') };
    this.process = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
    for (const stream of [this.process.stdout, this.process.stderr])
      stream?.on('data', (chunk: Buffer) => (this.output += chunk.toString('utf8')));
    this.process.on('error', (error) => (this.output += String(error)));
    this.process.once('close', () => {
      if (!this.#isKilled) onEnd();
    });
  }

  get hasEnded(): boolean {
    const { pid, exitCode, signalCode } = this.process;
    return pid === undefined || exitCode !== null || signalCode !== null;
  }

  /** The log lines of that event so far. */
  events(name: string): readonly Record<string, unknown>[] {
    return this.output
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}') && line.includes(`"event":"${name}"`))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** Ends it as a crash does; a whole container with it, because that ends with its first process. */
  async kill(): Promise<void> {
    this.#isKilled = true;
    if (this.hasEnded) return;
    const exit = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exit;
  }
}

/** A pod of a {@link PodNode}. */
export class RunningPod {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly ip: string;
  readonly object: KubernetesObject;
  readonly #options: PodNodeOptions & { readonly hostsFile: string };
  readonly #spec: PodSpec;
  readonly #containers = new Map<string, RunningContainer>();
  #restarts = 0;
  #isOver = false;

  constructor(
    { ip, ...options }: PodNodeOptions & { readonly hostsFile: string; readonly ip: string },
    pod: KubernetesObject,
  ) {
    const { name = '', namespace = '', uid = '' } = pod.metadata ?? {};
    this.name = name;
    this.namespace = namespace;
    this.uid = uid;
    this.ip = ip;
    this.object = pod;
    this.#options = options;
    this.#spec = pod['spec'] as PodSpec;
  }

  /** The address that the API server knows it by. */
  get statusIp(): string {
    return this.ip.replace('127.', '100.');
  }

  /** All containers, in the order in which they start. */
  get specs(): readonly Container[] {
    return [...(this.#spec.initContainers ?? []), ...this.#spec.containers];
  }

  /** How often containers have ended by themselves, and were started again. */
  get restarts(): number {
    return this.#restarts;
  }

  /** The agent at work. */
  get agent(): RunningContainer {
    return this.container(AGENT);
  }

  container(name: string): RunningContainer {
    const container = this.#containers.get(name);
    if (container === undefined) throw new Error(`the pod ${this.name} runs no container ${name}`);
    return container;
  }

  /** The folder on this machine of one of its volumes. */
  volume(name: string): string {
    const volume = this.#spec.volumes?.find((one) => one.name === name);
    if (volume === undefined) throw new Error(`the pod ${this.name} has no volume ${name}`);
    return volumeFolder(this.#options.cluster.folder, this.uid, volume);
  }

  /** A port of one of its containers, by its number or its name. */
  port(port: number | string): number {
    const named = this.specs.flatMap(({ ports = [] }) => ports).find(({ name }) => name === port);
    return named?.containerPort ?? Number(port);
  }

  /** Makes the volumes, and starts one container after the other. */
  async start(): Promise<void> {
    const { cluster } = this.#options;
    for (const volume of this.#spec.volumes ?? []) {
      const localised = (text: string): string => this.#localised(text);
      await mountVolume({ cluster, pod: this.object, volume, folder: this.volume(volume.name), localised });
    }
    for (const { name, image } of this.specs)
      if (this.#options.images.has(image)) await this.startContainer(name);
    await cluster.setPodStatus(this.namespace, this.name, {
      phase: 'Running',
      podIP: this.statusIp,
      podIPs: [{ ip: this.statusIp }],
      conditions: [{ type: 'Ready', status: 'True' }],
    });
  }

  /** Starts a container, also again after it was killed; resolves when its startup probe passes. */
  async startContainer(name: string): Promise<void> {
    const { spec, running } = this.#launch(name);
    const probe = spec.startupProbe?.httpGet;
    if (probe === undefined) return;
    const port = this.port(probe.port);
    const isReady = async (): Promise<boolean> => {
      // The container that was started ended by itself: it is not to be waited for.
      if (running.hasEnded) throw new Error(`${name} of ${this.name} has ended: ${running.output}`);
      return (await fetch(`http://${this.ip}:${port}${probe.path}`).catch(() => null))?.status === 200;
    };
    await until(`${name} of ${this.name} is ready`, isReady, START_TIMEOUT_MS).catch((error: unknown) => {
      throw new Error(running.output, { cause: error });
    });
  }

  #launch(name: string): { readonly spec: Container; readonly running: RunningContainer } {
    const { cluster, images, hostsFile } = this.#options;
    const spec = this.specs.find((container) => container.name === name);
    const image = images.get(spec?.image ?? '');
    if (spec === undefined || image === undefined)
      throw new Error(`${this.name} has no container ${name} to run`);
    const volumes = new Map(
      (this.#spec.volumes ?? []).map((volume) => [volume.name, this.volume(volume.name)]),
    );
    const container = {
      ...spec,
      ...(spec.args === undefined ? {} : { args: spec.args.map((arg) => this.#localised(arg)) }),
      env: [
        // As every container has them.
        { name: 'HOSTNAME', value: this.name },
        { name: 'KUBERNETES_SERVICE_HOST', value: '127.0.0.1' },
        { name: 'KUBERNETES_SERVICE_PORT', value: String(cluster.port) },
        ...(spec.env ?? []),
      ],
    };
    const hostName = this.name;
    const command = containerCommand({ container, image, volumes, hosts: hostsFile, hostName });
    const before = this.#containers.get(name)?.output ?? '';
    const running = new RunningContainer(command, before, () => void this.#restart(name));
    this.#containers.set(name, running);
    return { spec, running };
  }

  /** Deletes the pod and ends it, as a node that obeys. */
  async delete(): Promise<void> {
    await this.#options.cluster.deletePod(this.namespace, this.name);
    await this.kill();
  }

  async kill(): Promise<void> {
    this.#isOver = true;
    await Promise.all([...this.#containers.values()].map((container) => container.kill()));
  }

  /** `restartPolicy: Always`, with the shortest wait. */
  async #restart(name: string): Promise<void> {
    this.#restarts += 1;
    await delay(RESTART_MS);
    if (!this.#isOver) this.#launch(name);
  }

  #localised(text: string): string {
    return text.replaceAll('0.0.0.0', this.ip);
  }
}
