/**
 * Kedge in a cluster, as its users have it: installed by `kedge install`, its agents injected by its webhook into pods
 * that run as their specs say, on a real kube-apiserver. What goes wrong in a cluster goes wrong while two workloads
 * talk through HAProxy: no request may fail, and no certificate may go to anybody else.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@grpc/grpc-js';
import type { CheckResult } from '../../cli/check/check.ts';
import { ClusterPlane } from '../support/cluster-plane.ts';
import { haproxyImage } from '../support/container-image.ts';
import { containerSkip } from '../support/container-process.ts';
import { haproxySkip } from '../support/haproxy.ts';
import { haproxyPod } from '../support/haproxy-pod.ts';
import { HttpLoad } from '../support/http-load.ts';
import { freePort, until } from '../support/identity-plane.ts';
import { runKedge } from '../support/kedge-process.ts';
import { controllersSkip } from '../support/kubernetes-cluster.ts';
import type { RunningPod } from '../support/pod-node.ts';
import { issue, refusalFrom } from '../support/running-ca.ts';
import { suiteLifetime } from '../support/suite-lifetime.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const REPLICAS = 3;
const AGENTS = 50;
/** Renewals begin at half of it, and may fail for a third of it before somebody is without an SVID. */
const TTL_SECONDS = 150;
/** A token that was good stays so for the API server for some 10 s. */
const TOKEN_CACHE_MS = 10_000;
/** Pods that start at once. */
const AT_ONCE = 4;
const NAMESPACE = 'shop';

const skip = [controllersSkip, containerSkip, haproxySkip].find((reason) => reason !== false) ?? false;

describe('an identity plane in a cluster', { skip }, () => {
  const suite = suiteLifetime();
  let plane: ClusterPlane;
  let load: HttpLoad;
  const meshed: RunningPod[] = [];
  /** Pod UID -> the SPIFFE ID that it is to have. Pods that are gone stay in it. */
  const identities = new Map<string, string>();

  const createWorkload = async (
    serviceAccount: string,
    pod: Parameters<ClusterPlane['createPod']>[1],
  ): Promise<RunningPod> => {
    const created = await plane.createPod(NAMESPACE, pod);
    identities.set(
      created.metadata?.uid ?? '',
      `spiffe://cluster.local/ns/${NAMESPACE}/sa/${serviceAccount}`,
    );
    const running = plane.node.begin(created);
    meshed.push(running);
    return running;
  };
  const plainPod = (name: string, serviceAccount: string): Parameters<ClusterPlane['createPod']>[1] => ({
    metadata: { name },
    spec: { serviceAccountName: serviceAccount, containers: [{ name: 'app', image: 'app.example/app:1' }] },
  });
  const anyReplica = async (): Promise<Client> => {
    const [replica] = plane.replicas;
    assert.ok(replica !== undefined);
    const client = await plane.connect(replica, NAMESPACE);
    suite.after(() => client.close());
    return client;
  };
  const asAdmin = (args: readonly string[]) => runKedge([...args, '--kubeconfig', plane.cluster.kubeconfig]);
  const renewals = (pods: readonly RunningPod[]): number =>
    pods.reduce((sum, pod) => sum + pod.agent.events('svid.issued').length, 0);
  /** Nothing has failed, nobody was without an SVID, and each SVID is of the pod that it was issued to. */
  const assertAllWell = (): void => {
    assert.equal(load.failures.length, 0, load.failures.slice(0, 5).join('\n'));
    for (const pod of meshed) assert.deepEqual(pod.agent.events('svid.expired'), [], pod.name);
    for (const record of plane.issued()) {
      if (record.api === 'internal') continue;
      assert.equal(record.spiffe_id, identities.get(record.pod_uid), JSON.stringify(record));
    }
  };

  before(async () => {
    const images = new Map([['haproxy', haproxyImage(temporaryFolder(suite))]]);
    plane = await ClusterPlane.start(suite, {
      replicas: REPLICAS,
      sets: [`svidTtl=${TTL_SECONDS}s`],
      policy: 'defaults: { dnsNames: ["{serviceAccount}.{namespace}.svc"] }\n',
      images,
    });
    await plane.cluster.createNamespace(NAMESPACE, { 'kedge.io/inject': 'enabled' });
  });

  it('injects the agent into pods of a labelled namespace, and they talk mTLS through HAProxy', async (t) => {
    const [meshPort, inboundPort, clientPort] = [await freePort(), await freePort(), await freePort()];
    for (const name of ['web', 'browser']) await plane.cluster.createServiceAccount(NAMESPACE, name);
    const pair = [
      haproxyPod({
        name: 'web-0',
        serviceAccount: 'web',
        side: 'server',
        port: meshPort,
        upstream: `127.0.0.1:${await echo()}`,
        peerName: 'browser.shop.svc',
      }),
      haproxyPod({
        name: 'browser-0',
        serviceAccount: 'browser',
        side: 'client',
        port: inboundPort,
        outboundPort: clientPort,
        upstream: `web.shop.svc:${meshPort}`,
        peerName: 'web.shop.svc',
      }),
    ];
    const running: RunningPod[] = [];
    for (const { pod, configMap } of pair) {
      await plane.cluster.admin.create(`/api/v1/namespaces/${NAMESPACE}/configmaps`, configMap);
      const { serviceAccountName } = pod['spec'] as { readonly serviceAccountName: string };
      const workload = await createWorkload(serviceAccountName, pod);
      running.push(workload);
      if (serviceAccountName === 'web') plane.node.publish('web.shop.svc', [workload]);
      await workload.start();
    }
    const [, browser] = running;
    assert.ok(browser !== undefined);
    const url = `http://${browser.ip}:${clientPort}/`;
    const answers = async (): Promise<boolean> => (await fetch(url).catch(() => null))?.status === 200;
    await until('the pair answers', answers, 60_000).catch((error: unknown) => {
      const logs = running.map((pod) => pod.container('proxy').output + pod.agent.output);
      throw new Error(logs.join('\n\n'), { cause: error });
    });
    load = new HttpLoad({ host: browser.ip, port: clientPort, workers: 4 });
    suite.after(() => load.stop());
    await until('traffic', () => load.requests > 100);
    assertAllWell();
    t.diagnostic(`${plane.issued().length} SVIDs issued, the server saw ${load.answers.size} of the client`);
  });

  it('counts each of them as live on every replica, by the pods themselves', async () => {
    const want = meshed.map(({ uid }) => uid).sort();
    for (const replica of plane.replicas) {
      await until(`${replica.name} counts both`, async () => {
        const live = (await plane.live(replica)).map(({ id }) => id).sort();
        return live.join() === want.join();
      });
    }
  });

  it('has nothing wrong, says kedge check, which asks each replica through the API server', async () => {
    const { code, stdout, stderr } = await asAdmin(['check', '--output', 'json']);
    assert.equal(code, 0, stderr + stdout);
    const { checks } = JSON.parse(stdout) as { readonly checks: readonly CheckResult[] };
    const notOk = checks.filter(({ verdict }) => verdict !== 'ok').map(({ statement }) => statement);
    // The node of this test says nothing of the containers of its pods, nor does it restart them by its status.
    assert.deepEqual(
      notOk.filter(
        (statement) =>
          !/replica of the CA ready|more than one node|agent of every pod is ready/.test(statement),
      ),
      [],
      stdout,
    );
    const asked = checks.find(({ statement }) => statement.includes('shows agents certificates'));
    assert.equal(asked?.detail, `${REPLICAS} replicas`);
  });

  it('shows what a pod holds, says kedge identity', async () => {
    const [web] = meshed;
    assert.ok(web !== undefined);
    const { code, stdout, stderr } = await asAdmin([
      'identity',
      web.name,
      '-n',
      NAMESPACE,
      '--output',
      'json',
    ]);
    assert.equal(code, 0, stderr + stdout);
    const shown = JSON.parse(stdout) as {
      readonly valid: boolean;
      readonly phase: string;
      readonly chain: readonly { readonly spiffeId: string | null }[];
    };
    assert.deepEqual(
      [shown.valid, shown.phase, shown.chain[0]?.spiffeId],
      [true, 'serving', identities.get(web.uid)],
    );
    const nobody = await plane.cluster.kubeconfigFor('nobody');
    const refused = await runKedge(['identity', web.name, '-n', NAMESPACE, '--kubeconfig', nobody]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /kubernetes_forbidden/);
  });

  it('refuses the token of a pod that was deleted, which stops counting', async () => {
    await plane.cluster.createServiceAccount(NAMESPACE, 'short');
    const pod = await createWorkload('short', plainPod('short-0', 'short'));
    await pod.start();
    const token = await plane.cluster.tokenFor(NAMESPACE, { serviceAccount: 'short', pod: pod.object });
    const client = await anyReplica();
    await issue(client, token);

    await pod.delete();
    meshed.splice(meshed.indexOf(pod), 1);
    for (const replica of plane.replicas) {
      await until(`${replica.name} counts it no more`, async () =>
        (await plane.live(replica)).every(({ id }) => id !== pod.uid),
      );
    }
    await delay(TOKEN_CACHE_MS);
    const refusal = await refusalFrom(issue(client, token));
    assert.equal(refusal.code, 'token_invalidated');
    assertAllWell();
  });

  it('refuses the token of a ServiceAccount that was deleted', async () => {
    await plane.cluster.createServiceAccount(NAMESPACE, 'gone');
    const pod = await createWorkload('gone', plainPod('gone-0', 'gone'));
    // Its agent does not run: only the token matters here.
    meshed.splice(meshed.indexOf(pod), 1);
    const token = await plane.cluster.tokenFor(NAMESPACE, { serviceAccount: 'gone', pod: pod.object });
    const client = await anyReplica();
    await issue(client, token);
    await plane.cluster.admin.delete(`/api/v1/namespaces/${NAMESPACE}/serviceaccounts/gone`);
    await delay(TOKEN_CACHE_MS);
    const refusal = await refusalFrom(issue(client, token));
    assert.equal(refusal.code, 'token_invalidated');
    await pod.delete();
  });

  it('refuses a token of another audience, and one that is bound to no pod', async () => {
    const client = await anyReplica();
    const [pod] = meshed;
    assert.ok(pod !== undefined);
    const other = await plane.cluster.tokenFor(NAMESPACE, {
      serviceAccount: 'web',
      pod: pod.object,
      audience: 'vault',
    });
    assert.equal((await refusalFrom(issue(client, other))).code, 'token_audience_mismatch');
    const unbound = await plane.cluster.tokenFor(NAMESPACE, { serviceAccount: 'web' });
    assert.equal((await refusalFrom(issue(client, unbound))).code, 'token_not_bound_to_pod');
  });

  it('carries on while the API server is away for longer than its token cache, and after it', async (t) => {
    await plane.cluster.stopApiServer();
    await delay(2 * TOKEN_CACHE_MS);
    await plane.cluster.startApiServer();
    const before = meshed.map((pod) => renewals([pod]));
    const renewed = (): boolean => meshed.every((pod, index) => renewals([pod]) > (before[index] ?? 0));
    await until('both have renewed since', renewed, 240_000);
    assertAllWell();
    t.diagnostic(`${load.requests} requests so far, ${load.failures.length} failed`);
  });

  it(`loses nothing when each of ${REPLICAS} replicas is killed in turn while ${AGENTS} agents renew`, async (t) => {
    const pods: RunningPod[] = [];
    for (let index = 0; index < AGENTS; index += 1) {
      const serviceAccount = `account-${index % 5}`;
      if (index < 5) await plane.cluster.createServiceAccount(NAMESPACE, serviceAccount);
      pods.push(await createWorkload(serviceAccount, plainPod(`agent-${index}`, serviceAccount)));
    }
    const waiting = [...pods];
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let pod = waiting.pop(); pod !== undefined; pod = waiting.pop()) await pod.start();
      }),
    );
    for (const replica of plane.replicas) {
      const before = renewals(pods);
      await plane.killReplica(replica);
      await until(`renewals without ${replica.name}`, () => renewals(pods) >= before + AGENTS / 4, 180_000);
      await plane.restartReplica(replica);
    }
    const before = renewals(pods);
    await until('everybody renews with all of them', () => renewals(pods) >= before + AGENTS, 180_000);
    await load.stop();
    assertAllWell();
    const issued = plane.issued().filter(({ api }) => api !== 'internal');
    assert.equal(
      new Set(issued.map(({ serial }) => serial)).size,
      issued.length,
      'a serial number was used twice',
    );
    assert.ok(issued.length >= renewals(meshed), 'an SVID reached an agent that is on no audit log');
    t.diagnostic(
      `${load.requests} requests, ${load.failures.length} failed; ${issued.length} SVIDs issued to ` +
        `${new Set(issued.map(({ pod_uid }) => pod_uid)).size} pods, 0 to the wrong identity; ` +
        `${renewals(pods)} to ${AGENTS} agents`,
    );
  });

  /** A workload that answers with the serial number of the SVID that its proxy saw. Gives its port. */
  async function echo(): Promise<number> {
    const server = createServer((request, response) =>
      response.end(String(request.headers['x-peer-serial'])),
    );
    // Longer than any test: who closes kept connections here are the proxies.
    server.keepAliveTimeout = 600_000;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    suite.after(() => server.close().closeAllConnections());
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    return address.port;
  }
});
