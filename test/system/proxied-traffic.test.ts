/**
 * Two workloads, each behind its own proxy with its own agent: traffic goes on through every rotation on both sides, and
 * no request fails.
 *
 *     load -> client sidecar == mTLS on SVIDs ==> server sidecar -> workload
 *
 * All pairs of proxies run at once, on one CA.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { findPeer } from '../../scripts/peer-folder.ts';
import { HttpLoad } from '../support/http-load.ts';
import { freePort, IdentityPlane, type KedgeDaemon, until } from '../support/identity-plane.ts';
import { type Sidecar, SIDECARS } from '../support/sidecar.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const ROTATIONS = 20;
const TTL_MS = 8_000;
const PAIRS = [
  ['haproxy', 'haproxy'],
  ['nginx', 'nginx'],
  ['haproxy', 'nginx'],
] as const satisfies readonly (readonly [keyof typeof SIDECARS, keyof typeof SIDECARS])[];

const missing = ['nginx', 'haproxy'].filter((name) => findPeer(name) === null);
const skip =
  missing.length > 0
    ? `no ${missing.join(', no ')} on this machine: npm run peers gets it from Debian`
    : false;

/** One workload: its sidecar, and the agent that feeds it. */
class Workload {
  readonly name: string;
  readonly sidecar: Sidecar;
  readonly #plane: IdentityPlane;
  #agent: KedgeDaemon | null = null;

  constructor(plane: IdentityPlane, name: string, sidecar: Sidecar) {
    this.#plane = plane;
    this.name = name;
    this.sidecar = sidecar;
  }

  get log(): string {
    return this.#agent?.log ?? '';
  }

  /** SVIDs that the CA gave and the proxy has loaded, once the agent runs. */
  get rotations(): number {
    const feed = this.#agent?.events('feed.published').length ?? 0;
    const issued = this.#agent?.events('svid.issued').length ?? 0;
    return Math.min(feed, issued);
  }

  /** Whether the agent has tried to bring the first SVID in: its files are there, whether or not a proxy runs. */
  get hasFiles(): boolean {
    return ['feed.published', 'feed.publication_failed'].some(
      (event) => (this.#agent?.events(event).length ?? 0) > 0,
    );
  }

  async startAgent(): Promise<void> {
    this.#agent = await this.#plane.agent(this.name, this.sidecar.agentOptions);
  }

  async endAgent(): Promise<number | null> {
    return (await this.#agent?.end()) ?? null;
  }
}

/** A pair of workloads with traffic between them. */
class Pair {
  readonly name: string;
  readonly workloads: readonly [client: Workload, server: Workload];
  readonly load: HttpLoad;

  private constructor(name: string, workloads: readonly [Workload, Workload], load: HttpLoad) {
    this.name = name;
    this.workloads = workloads;
    this.load = load;
  }

  static async start(
    t: TestContext,
    plane: IdentityPlane,
    folder: string,
    [clientKind, serverKind]: (typeof PAIRS)[number],
  ): Promise<Pair> {
    const name = `${clientKind}-${serverKind}`;
    const [clientPort, serverPort] = [await freePort(), await freePort()];
    const peerName = `${name}-server.demo.svc`;
    const roles = {
      client: { side: 'client', port: clientPort, upstreamPort: serverPort, peerName },
      server: { side: 'server', port: serverPort, upstreamPort: await echo(t), peerName },
    } as const;
    const [client, server] = [
      new Workload(
        plane,
        `${name}-client`,
        SIDECARS[clientKind](t, join(folder, `${name}-client`), roles.client),
      ),
      new Workload(
        plane,
        `${name}-server`,
        SIDECARS[serverKind](t, join(folder, `${name}-server`), roles.server),
      ),
    ];
    for (const workload of [server, client]) {
      await workload.startAgent();
      // HAProxy 2.6 takes trust anchors at its start only: it starts on the first real ones.
      await until(`${workload.name} has its files`, () => workload.hasFiles);
      await workload.sidecar.start();
      await until(`${workload.name} has its identity`, () => workload.rotations > 0);
    }
    await until(`${name} answers`, async () => {
      const response = await fetch(`http://127.0.0.1:${clientPort}/`).catch(() => null);
      return response?.status === 200;
    });
    const load = new HttpLoad({ port: clientPort, workers: 4 });
    t.after(() => load.stop());
    return new Pair(name, [client, server], load);
  }
}

/** A workload that answers with the serial number of the SVID that its proxy saw. Gives its port. */
async function echo(t: TestContext): Promise<number> {
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

describe('proxies on their feeds', { skip }, () => {
  it(`carry traffic through ${ROTATIONS} rotations without a failed request`, async (t) => {
    const folder = temporaryFolder(t);
    const policy = join(folder, 'policy.yaml');
    writeFileSync(policy, 'defaults: { dnsNames: ["{serviceAccount}.{namespace}.svc"] }\n');
    const settings = [
      `svid: { ttl: ${TTL_MS / 1_000}s, backdate: 1s }`,
      'issuer: { lifetime: 120s, renewAfter: 60s }',
      'clockSkew: 1s',
      `policy: { file: ${policy} }`,
    ].join('\n');
    const plane = await IdentityPlane.start(t, folder, settings);
    mkdirSync(join(folder, 'proxies'));
    const pairs: Pair[] = [];
    for (const kinds of PAIRS) pairs.push(await Pair.start(t, plane, join(folder, 'proxies'), kinds));
    const workloads = pairs.flatMap((pair) => pair.workloads);
    const rotated = (count: number): Promise<void> =>
      until(
        `${count} rotations of everyone: ${workloads.map(({ name, rotations }) => `${name} ${rotations}`).join(', ')}`,
        () => workloads.every(({ rotations }) => rotations >= count),
        600_000,
      );
    await rotated(ROTATIONS);
    for (const { load } of pairs) await load.stop();
    for (const { name, load } of pairs) assert.deepEqual(load.failures, [], name);

    for (const { name, workloads: both, load } of pairs) {
      t.diagnostic(
        `${name}: ${load.requests} requests, 0 failed, ${load.resent} sent again on a new connection; ` +
          `rotations ${both.map(({ rotations }) => rotations).join(' and ')}; ` +
          `${load.answers.size} client SVIDs seen by the server's proxy`,
      );
      assert.ok(load.answers.size >= ROTATIONS, `${name}: the proxy saw ${load.answers.size} SVIDs only`);
      assert.ok(load.requests > 10 * ROTATIONS, `${name}: hardly any traffic`);
      for (const { name: workload, sidecar } of both) {
        assert.deepEqual(sidecar.complaints(), [], workload);
        // One more: the request that found that the pair answers.
        assert.ok(
          sidecar.served() >= load.requests,
          `${workload}: its log knows fewer requests than were answered`,
        );
      }
    }
    for (const workload of workloads) assert.equal(await workload.endAgent(), 0, workload.log);
    assert.equal(await plane.ca.end(), 0, plane.ca.log);
  });
});
