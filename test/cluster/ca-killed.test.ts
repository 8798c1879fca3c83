/** CA processes that are killed one after the other, on one trust state in a real API server. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials } from '@grpc/grpc-js';
import { DevelopmentIssuer } from '../../ca/attest/development-issuer.ts';
import { parseTrustState } from '../../ca/authority/trust-state-codec.ts';
import { KubernetesTrustStore } from '../../ca/store/kubernetes-trust-store.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import { toHex } from '../../pki/bytes.ts';
import { encodePem } from '../../pki/pem.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { clusterClient, grantCaRights, shareDevelopmentIssuer } from '../support/cluster-replica.ts';
import { freePort, KedgeDaemon, until } from '../support/identity-plane.ts';
import { clusterSkip, suiteCluster } from '../support/kubernetes-cluster.ts';
import { issue } from '../support/running-ca.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const never = new AbortController().signal;
const ROUNDS = 2;
const CALLERS = 4;

/** One replica as a process, on fixed ports, that can be killed and started again. */
class ReplicaProcess {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly #config: string;
  readonly #t: TestContext;
  process: KedgeDaemon;

  private constructor(t: TestContext, config: string, grpcPort: number, httpPort: number) {
    this.#t = t;
    this.#config = config;
    this.grpcPort = grpcPort;
    this.httpPort = httpPort;
    this.process = this.#spawn();
  }

  static async start(
    t: TestContext,
    folder: string,
    name: string,
    kubeconfig: string,
  ): Promise<ReplicaProcess> {
    const [grpcPort, httpPort] = [await freePort(), await freePort()];
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const config = join(folder, 'ca.yaml');
    writeFileSync(
      config,
      [
        `dataFolder: ${folder}`,
        `listen: { grpc: "127.0.0.1:${grpcPort}", http: "127.0.0.1:${httpPort}" }`,
        'store: { kind: kubernetes }',
        `kubernetes: { kubeconfig: ${kubeconfig}, timeout: 5s }`,
        `fleet: { replica: ${name} }`,
        // So short that there is a change of the trust state under way most of the time.
        'svid: { ttl: 8s, backdate: 1s }',
        'issuer: { lifetime: 16s, renewAfter: 6s }',
        'clockSkew: 1s',
      ].join('\n'),
    );
    return new ReplicaProcess(t, config, grpcPort, httpPort);
  }

  #spawn(): KedgeDaemon {
    const process = new KedgeDaemon(['ca', '--config', this.#config]);
    this.#t.after(() => process.end('SIGKILL'));
    return process;
  }

  restart(): void {
    this.process = this.#spawn();
  }

  async ready(): Promise<void> {
    await until(
      `a replica is ready: ${this.process.log}`,
      async () => {
        const response = await fetch(`http://127.0.0.1:${this.httpPort}/readyz`).catch(() => null);
        return response?.status === 200;
      },
      120_000,
    );
  }
}

describe('three CA processes on one trust state in a cluster', { skip: clusterSkip }, () => {
  const cluster = suiteCluster();

  it('lose nothing and refuse nobody when each is killed in turn, in the middle of changes', async (t) => {
    await grantCaRights(cluster(), 'kedge-ca', 'default');
    const kubeconfig = await cluster().kubeconfigFor('kedge-ca');
    const root = temporaryFolder(t);
    const folders = ['ca-0', 'ca-1', 'ca-2'].map((name) => join(root, name));
    await shareDevelopmentIssuer(folders);
    const replicas = await Promise.all(
      folders.map((folder, i) => ReplicaProcess.start(t, folder, `ca-${i}`, kubeconfig)),
    );
    await Promise.all(replicas.map((replica) => replica.ready()));

    const api = await clusterClient(t, cluster());
    const where = { namespace: 'default', name: 'kedge-trust-state' };
    const store = new KubernetesTrustStore({ api, where, clock: systemClock, log: silentLog });
    const stateNow = async () => parseTrustState((await store.read(never))!.document);
    const first = await stateNow();
    const authorities = first.anchors.map(({ certificate }) => certificate);
    const roots = Buffer.from(authorities.map((der) => encodePem('CERTIFICATE', der)).join(''));
    const tokens = await DevelopmentIssuer.open({
      folder: folders[0]!,
      clock: systemClock,
      random: systemRandom,
    });
    const clients = replicas.map(({ grpcPort }) => {
      const client = new Client(
        `127.0.0.1:${grpcPort}`,
        credentials.createSsl(roots, null, null, { checkServerIdentity: () => undefined }),
        {
          'grpc.use_local_subchannel_pool': 1,
          'grpc.ssl_target_name_override': 'ca.kedge.test',
          'grpc.initial_reconnect_backoff_ms': 100,
          'grpc.max_reconnect_backoff_ms': 500,
        },
      );
      t.after(() => client.close());
      return client;
    });

    const counts = { issued: 0, failed: 0, wrong: 0, retried: 0 };
    const issuers = new Set<string>();
    const stop = new AbortController();
    /** Asks one replica after the other, as an agent behind a Service does: it fails where nobody answers. */
    const call = async (caller: number): Promise<void> => {
      const serviceAccount = `app-${caller}`;
      const token = tokens.mint({
        namespace: 'shop',
        serviceAccount,
        podName: `${serviceAccount}-0`,
        audiences: ['kedge'],
      });
      for (let n = caller; !stop.signal.aborted; n += 1) {
        let done = false;
        for (let i = 0; i < clients.length && !done; i += 1) {
          try {
            const { x509Svid } = await issue(clients[(n + i) % clients.length]!, token);
            const { spiffeId } = verifyX509Svid({
              chain: x509Svid,
              bundles: () => authorities,
              nowMs: Date.now(),
            });
            if (spiffeId.toString() !== `spiffe://example.org/ns/shop/sa/${serviceAccount}`)
              counts.wrong += 1;
            issuers.add(toHex(x509Svid[1]!));
            counts.issued += 1;
            done = true;
          } catch {
            counts.retried += 1;
          }
        }
        if (!done) counts.failed += 1;
        await delay(20);
      }
    };
    const calling = Array.from({ length: CALLERS }, (_, caller) => call(caller));
    let kills = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const replica of replicas) {
        await delay(Math.random() * 2_000);
        await replica.process.end('SIGKILL');
        kills += 1;
        const before = counts.issued;
        await until('the others go on', () => counts.issued > before + 20);
        replica.restart();
        await replica.ready();
      }
    }
    stop.abort();
    await Promise.all(calling);
    const last = await stateNow();
    t.diagnostic(
      `${kills} kills: ${counts.issued} SVIDs under ${issuers.size} issuers, ${counts.retried} asked elsewhere, ${counts.failed} failed, ${counts.wrong} of another identity`,
    );
    assert.deepEqual([counts.failed, counts.wrong], [0, 0]);
    assert.deepEqual(
      last.anchors.map(({ id }) => id),
      first.anchors.map(({ id }) => id),
      'no replica began anew',
    );
    assert.equal(last.sequence, 1);
    assert.equal(last.issuers.filter(({ phase }) => phase === 'active').length, 1);
    assert.ok(issuers.size >= 3, 'the issuer was replaced meanwhile');
  });
});
