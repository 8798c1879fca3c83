/** Two workloads behind proxies that speak mTLS for them, each with an agent of its own, and traffic between them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { HttpLoad } from './http-load.ts';
import { freePort, type IdentityPlane, type KedgeDaemon, until } from './identity-plane.ts';
import { type Sidecar, SIDECARS } from './sidecar.ts';

/** Proxy of the calling workload, proxy of the one that is called. */
export type PairKinds = readonly [client: keyof typeof SIDECARS, server: keyof typeof SIDECARS];

/** One workload: its sidecar, and the agent that feeds it. */
export class ProxiedWorkload {
  readonly name: string;
  readonly sidecar: Sidecar;
  readonly #plane: IdentityPlane;
  readonly #agents: KedgeDaemon[] = [];

  constructor(plane: IdentityPlane, name: string, sidecar: Sidecar) {
    this.#plane = plane;
    this.name = name;
    this.sidecar = sidecar;
  }

  /** Of the agent that was started last. */
  get log(): string {
    return this.#agents.at(-1)?.log ?? '';
  }

  /** SVIDs that the CA gave and the proxy has loaded, over all agents of the workload. */
  get rotations(): number {
    return this.#agents
      .map((agent) => Math.min(agent.events('feed.published').length, agent.events('svid.issued').length))
      .reduce((sum, count) => sum + count, 0);
  }

  /** How often the agent that was started last has asked the CA for a new SVID in vain. */
  get failedRenewals(): number {
    return this.#agents.at(-1)?.events('svid.renewal_failed').length ?? 0;
  }

  /** Whether the agent has tried to bring the first SVID in: its files are there, whether or not a proxy runs. */
  get hasFiles(): boolean {
    return ['feed.published', 'feed.publication_failed'].some(
      (event) => (this.#agents.at(-1)?.events(event).length ?? 0) > 0,
    );
  }

  /** How long the newest SVID lives from its arrival, seconds; null = there is none. */
  get lifetimeSeconds(): number | null {
    const { time, notAfter } = this.#agents.at(-1)?.events('svid.issued').at(-1) ?? {};
    return (Date.parse(String(notAfter)) - Date.parse(String(time))) / 1_000 || null;
  }

  async startAgent(): Promise<void> {
    this.#agents.push(await this.#plane.agent(this.name, this.sidecar.agentOptions));
  }

  /** Sends a signal to the agent that was started last: SIGSTOP makes it stand still, SIGCONT go on. */
  signalAgent(signal: NodeJS.Signals): void {
    this.#agents.at(-1)?.process.kill(signal);
  }

  async killAgent(): Promise<void> {
    await this.#agents.at(-1)?.end('SIGKILL');
  }

  async endAgent(): Promise<number | null> {
    return (await this.#agents.at(-1)?.end()) ?? null;
  }
}

/** What a pair has done up to a moment. */
export interface PairCounts {
  readonly requests: number;
  readonly failed: readonly string[];
  readonly resent: number;
  /** Of the client's agent, and of the server's. */
  readonly rotations: readonly number[];
  /** By the log of the client's proxy, and by that of the server's. */
  readonly served: readonly number[];
  readonly complaints: readonly string[];
}

/**
 * A pair of workloads with traffic between them:
 *
 *     load -> client sidecar == mTLS on SVIDs ==> server sidecar -> workload
 */
export class ProxiedPair {
  readonly name: string;
  readonly workloads: readonly [client: ProxiedWorkload, server: ProxiedWorkload];
  readonly #load: HttpLoad;

  /** Resolves when both have their identity and the first request was answered. `folder` exists. */
  static async start(
    t: Pick<TestContext, 'after'>,
    plane: IdentityPlane,
    folder: string,
    [clientKind, serverKind]: PairKinds,
  ): Promise<ProxiedPair> {
    const name = `${clientKind}-${serverKind}`;
    const [clientPort, serverPort] = [await freePort(), await freePort()];
    const peerName = `${name}-server.demo.svc`;
    const workload = (
      kind: keyof typeof SIDECARS,
      side: 'client' | 'server',
      port: number,
      upstreamPort: number,
    ): ProxiedWorkload => {
      const role = { side, port, upstreamPort, peerName };
      const sidecar = SIDECARS[kind](t, join(folder, `${name}-${side}`), role);
      return new ProxiedWorkload(plane, `${name}-${side}`, sidecar);
    };
    const server = workload(serverKind, 'server', serverPort, await echo(t));
    const client = workload(clientKind, 'client', clientPort, serverPort);
    for (const one of [server, client]) {
      await one.startAgent();
      // HAProxy 2.6 takes trust anchors at its start only: it starts on the first real ones.
      await until(`${one.name} has its files`, () => one.hasFiles);
      await one.sidecar.start();
      await until(`${one.name} has its identity`, () => one.rotations > 0);
    }
    await until(`${name} answers`, async () => {
      const response = await fetch(`http://127.0.0.1:${clientPort}/`).catch(() => null);
      return response?.status === 200;
    });
    const load = new HttpLoad({ port: clientPort, workers: 4 });
    t.after(() => load.stop());
    return new ProxiedPair(name, [client, server], load);
  }

  private constructor(name: string, workloads: readonly [ProxiedWorkload, ProxiedWorkload], load: HttpLoad) {
    this.name = name;
    this.workloads = workloads;
    this.#load = load;
  }

  get counts(): PairCounts {
    const { requests, failures, resent } = this.#load;
    return {
      requests,
      failed: [...failures],
      resent,
      rotations: this.workloads.map(({ rotations }) => rotations),
      served: this.workloads.map(({ sidecar }) => sidecar.served()),
      complaints: this.workloads.flatMap(({ name, sidecar }) =>
        sidecar.complaints().map((line) => `${name}: ${line}`),
      ),
    };
  }

  /** Whether the log of each proxy holds every request that was answered, but for the lines that it says it dropped. */
  async isLogged(): Promise<boolean> {
    const { requests, served } = this.counts;
    const unlogged = await Promise.all(this.workloads.map(({ sidecar }) => sidecar.unlogged()));
    return served.every((count, index) => count + (unlogged[index] ?? 0) >= requests);
  }

  /** How many SVIDs of the client the server's proxy has seen. */
  get clientSvidsSeen(): number {
    return this.#load.answers.size;
  }

  /** Ends the traffic; every request that was sent is answered or counted as failed. */
  async stopLoad(): Promise<void> {
    await this.#load.stop();
  }
}

/** What happened between two moments. */
export function countsSince(before: PairCounts, after: PairCounts): PairCounts {
  const difference = (a: readonly number[], b: readonly number[]): number[] =>
    b.map((count, index) => count - (a[index] ?? 0));
  return {
    requests: after.requests - before.requests,
    failed: after.failed.slice(before.failed.length),
    resent: after.resent - before.resent,
    rotations: difference(before.rotations, after.rotations),
    served: difference(before.served, after.served),
    complaints: after.complaints.filter((line) => !before.complaints.includes(line)),
  };
}

/** A workload that answers with the serial number of the SVID that its proxy saw. Gives its port. */
async function echo(t: Pick<TestContext, 'after'>): Promise<number> {
  const server = createServer((request, response) => response.end(String(request.headers['x-peer-serial'])));
  // Longer than any test: who closes kept connections here are the proxies.
  server.keepAliveTimeout = 600_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}
