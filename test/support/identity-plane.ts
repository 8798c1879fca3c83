import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../demo/free-port.ts';
import { KEDGE, ROOT, runKedge } from './kedge-process.ts';

export { freePort };

/** A long-running `kedge`, as an operator would run it, with the JSON lines that it logged. */
export class KedgeDaemon {
  readonly process: ChildProcess;
  readonly #lines: Record<string, unknown>[] = [];
  #rest = '';

  constructor(argv: readonly string[]) {
    this.process = spawn(process.execPath, [KEDGE, ...argv], {
      cwd: ROOT,
      stdio: ['ignore', 'inherit', 'pipe'],
    });
    this.process.stderr?.on('data', (chunk: Buffer) => {
      const lines = (this.#rest + chunk.toString()).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#lines.push(line.startsWith('{') ? JSON.parse(line) : { event: line });
    });
  }

  /** What it has logged so far with this event name. */
  events(name: string): readonly Record<string, unknown>[] {
    return this.#lines.filter(({ event }) => event === name);
  }

  get log(): string {
    return this.#lines.map((line) => JSON.stringify(line)).join('\n');
  }

  /** Ends it with a signal and gives its exit code (null where the signal killed it). */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const { exitCode, signalCode } = this.process;
    if (exitCode !== null || signalCode !== null) return exitCode;
    this.process.kill(signal);
    const [code] = (await once(this.process, 'exit')) as [number | null];
    return code;
  }
}

/** A CA on loopback with short lifetimes, and the means to give it workloads. All of it ends with the test. */
export class IdentityPlane {
  readonly folder: string;
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly bootstrapBundle: string;
  ca: KedgeDaemon;
  readonly #t: Pick<TestContext, 'after'>;

  private constructor(t: Pick<TestContext, 'after'>, folder: string, grpcPort: number, httpPort: number) {
    this.#t = t;
    this.folder = folder;
    this.grpcPort = grpcPort;
    this.httpPort = httpPort;
    this.bootstrapBundle = join(folder, 'bootstrap.pem');
    this.ca = this.#spawnCa();
  }

  /** `settings` are lines of the CA's configuration file. */
  static async start(
    t: Pick<TestContext, 'after'>,
    folder: string,
    settings: string,
  ): Promise<IdentityPlane> {
    const [grpcPort, httpPort] = [await freePort(), await freePort()];
    const listen = `listen: { grpc: "127.0.0.1:${grpcPort}", http: "127.0.0.1:${httpPort}" }`;
    writeFileSync(join(folder, 'kedge.yaml'), `dataFolder: ${join(folder, 'ca')}\n${listen}\n${settings}\n`);
    const plane = new IdentityPlane(t, folder, grpcPort, httpPort);
    await plane.ready();
    const bundle = await runKedge(['bundle', 'show', '--data', join(folder, 'ca'), '--output', 'pem']);
    if (bundle.code !== 0) throw new Error(bundle.stderr);
    writeFileSync(plane.bootstrapBundle, bundle.stdout);
    return plane;
  }

  /** Starts the CA again after it was ended. */
  async restartCa(): Promise<void> {
    this.ca = this.#spawnCa();
    await this.ready();
  }

  /** Resolves when the CA says that it is ready. */
  async ready(): Promise<void> {
    await until(`the CA is ready: ${this.ca.log}`, async () => {
      const { exitCode } = this.ca.process;
      if (exitCode !== null) throw new Error(`the CA exited with ${exitCode}: ${this.ca.log}`);
      const response = await fetch(`http://127.0.0.1:${this.httpPort}/readyz`).catch(() => null);
      return response?.status === 200;
    });
  }

  /** A development token in a file, for the workload `name` in the namespace `demo`. */
  async tokenFor(name: string): Promise<string> {
    const file = join(this.folder, `${name}.token`);
    const minted = await runKedge([
      ...['token', '--data', join(this.folder, 'ca'), '--namespace', 'demo', '--service-account', name],
      ...['--pod', `${name}-0`, '--write', file],
    ]);
    if (minted.code !== 0) throw new Error(minted.stderr);
    return file;
  }

  /** An agent for the workload `name`, with these options beside those that every agent needs. */
  async agent(name: string, options: readonly string[]): Promise<KedgeDaemon> {
    const token = await this.tokenFor(name);
    mkdirSync(join(this.folder, name), { recursive: true, mode: 0o700 });
    const agent = new KedgeDaemon([
      ...['agent', '--ca-address', `127.0.0.1:${this.grpcPort}`, '--trust-domain', 'example.org'],
      ...['--token-file', token, '--bootstrap-bundle', this.bootstrapBundle, ...options],
    ]);
    this.#t.after(() => agent.end('SIGKILL'));
    return agent;
  }

  #spawnCa(): KedgeDaemon {
    const ca = new KedgeDaemon(['ca', '--config', join(this.folder, 'kedge.yaml')]);
    this.#t.after(() => ca.end('SIGKILL'));
    return ca;
  }
}

/** Looks again and again until `holds`, for at most `timeoutMs`. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await delay(20);
  }
}
