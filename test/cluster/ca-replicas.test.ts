/** CA replicas of one trust domain whose state is in a real API server, with no more rights than they need. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { prepareAnchor } from '../../ca/authority/transitions.ts';
import type { TrustState } from '../../ca/authority/trust-state.ts';
import { encodeTrustState, parseTrustState } from '../../ca/authority/trust-state-codec.ts';
import { KubernetesTrustStore } from '../../ca/store/kubernetes-trust-store.ts';
import type { TrustStore } from '../../ca/store/trust-store.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { toHex } from '../../pki/bytes.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import type { IssueX509SvidResponse, TrustBundle, WatchResponse } from '../../proto/gen/kedge/v1/identity.ts';
import { RecordingLog } from '../support/authority-replica.ts';
import { makeAnchor } from '../support/certificates.ts';
import { clusterClient, grantCaRights, shareDevelopmentIssuer } from '../support/cluster-replica.ts';
import { until } from '../support/identity-plane.ts';
import { clusterSkip, suiteCluster } from '../support/kubernetes-cluster.ts';
import {
  bearer,
  getBundle,
  getStatus,
  issue,
  nextMessage,
  openWatch,
  reportBytes,
  runningCa,
} from '../support/running-ca.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const never = new AbortController().signal;
const NAMESPACE = 'default';
const SECRETS = `/api/v1/namespaces/${NAMESPACE}/secrets`;
const CONFIG_MAPS = `/api/v1/namespaces/${NAMESPACE}/configmaps`;

describe('CA replicas on one trust state in a cluster', { skip: clusterSkip }, () => {
  const cluster = suiteCluster();
  let kubeconfig: Promise<string> | null = null;
  /** As a user with the rights of docs/kubernetes.md. */
  const restricted = (): Promise<string> =>
    (kubeconfig ??= (async () => {
      await grantCaRights(cluster(), 'kedge-ca', NAMESPACE);
      return cluster().kubeconfigFor('kedge-ca');
    })());

  /** Nothing of a trust domain is left of the test before. */
  const wipe = async (): Promise<void> => {
    for (const name of ['kedge-trust-state', 'kedge-sealing-key']) {
      await cluster().admin.request('DELETE', `${SECRETS}/${name}`);
    }
    for (const name of ['kedge-trust-state', 'kedge-trust-bundle']) {
      await cluster().admin.request('DELETE', `${CONFIG_MAPS}/${name}`);
    }
  };

  const openStore = async (t: TestContext): Promise<TrustStore> => {
    const api = await clusterClient(t, cluster());
    const where = { namespace: NAMESPACE, name: 'kedge-trust-state' };
    return new KubernetesTrustStore({ api, where, clock: systemClock, log: silentLog });
  };

  const flags = async (replica: string): Promise<Record<string, string>> => ({
    'store.kind': 'kubernetes',
    'kubernetes.kubeconfig': await restricted(),
    'kubernetes.timeout': '2s',
    'fleet.replica': replica,
  });

  const foldersOf = async (t: TestContext, count: number): Promise<readonly string[]> => {
    const root = temporaryFolder(t);
    const folders = Array.from({ length: count }, (_, i) => join(root, `ca-${i}`));
    await shareDevelopmentIssuer(folders);
    return folders;
  };

  const start = async (t: TestContext, count: number) => {
    await wipe();
    const folders = await foldersOf(t, count);
    const log = new RecordingLog();
    const replicas = await Promise.all(
      folders.map(async (folder, i) => runningCa(t, { folder, flags: await flags(`ca-${i}`), log })),
    );
    return { replicas, log };
  };

  const verified = (response: IssueX509SvidResponse, authorities: readonly Uint8Array[]): string =>
    verifyX509Svid({
      chain: response.x509Svid,
      bundles: () => authorities,
      nowMs: systemClock.now(),
    }).spiffeId.toString();

  it('of which three start at once on nothing make one trust domain, and each can sign', async (t) => {
    const { replicas } = await start(t, 3);
    const bundles = await Promise.all(replicas.map(({ ca }) => getBundle(ca)));
    for (const { sequence, x509Authorities } of bundles) {
      assert.equal(sequence, 1n);
      assert.deepEqual(x509Authorities.map(toHex), bundles[0]!.x509Authorities.map(toHex));
      assert.equal(x509Authorities.length, 1);
    }
    const statuses = await Promise.all(replicas.map(({ ca }) => getStatus(ca)));
    const active = statuses.map(({ issuers }) => issuers.find(({ phase }) => phase === 'active')?.id);
    assert.equal(new Set(active).size, 1, 'all sign with the same issuer');
    for (const { connect, token } of replicas) {
      const response = await issue(await connect(), token());
      for (const { x509Authorities } of bundles) {
        assert.equal(verified(response, x509Authorities), 'spiffe://example.org/ns/shop/sa/cart');
      }
    }
    const secrets = (await cluster().admin.get(SECRETS))['items'] as { metadata: { name: string } }[];
    const ours = secrets.map(({ metadata }) => metadata.name).filter((name) => name.startsWith('kedge-'));
    assert.deepEqual(ours.toSorted(), ['kedge-sealing-key', 'kedge-trust-state']);
    const own = await Promise.all(replicas.map(({ ca }) => servingCertificateOf(ca.grpcAddress)));
    assert.equal(new Set(own.map(({ serial }) => serial)).size, 3, 'each has an SVID of its own');
    assert.equal(new Set(own.map(({ authorityKeyId }) => authorityKeyId)).size, 1);
  });

  it('of which any serves Watch: a change by one reaches the streams of all, and the ConfigMap', async (t) => {
    const { replicas } = await start(t, 3);
    const streams = await Promise.all(
      replicas.map(async ({ connect, token }, i) => {
        const call = openWatch(await connect(), bearer(token({ podName: `cart-${i}`, podUid: `uid-${i}` })));
        call.write(reportBytes());
        assert.equal(bundleIn(await nextMessage(call))?.sequence, 1n);
        return call;
      }),
    );
    const store = await openStore(t);
    const { version, document } = (await store.read(never))!;
    const next = encodeTrustState(await withSecondAnchor(parseTrustState(document)));
    const pushed = streams.map((call) => nextMessage(call));
    await store.swap(version, next, never);
    for (const message of await Promise.all(pushed)) {
      const bundle = bundleIn(message);
      assert.deepEqual([bundle?.sequence, bundle?.x509Authorities.length], [2n, 2]);
    }
    for (const call of streams) call.cancel();
    await until('the ConfigMap follows', async () => {
      const { body } = await cluster().admin.request('GET', `${CONFIG_MAPS}/kedge-trust-bundle`);
      const pem = (body['data'] as Record<string, string> | undefined)?.['bundle.pem'] ?? '';
      return pem.split('BEGIN CERTIFICATE').length === 3;
    });
  });

  const harms: readonly {
    readonly name: string;
    readonly harm: () => Promise<unknown>;
    readonly says: RegExp;
  }[] = [
    {
      name: 'emptied',
      harm: () =>
        cluster().admin.merge(`${SECRETS}/kedge-trust-state`, { data: { document: null, tag: null } }),
      says: /is damaged/,
    },
    {
      name: 'edited into nonsense',
      harm: () =>
        cluster().admin.merge(`${SECRETS}/kedge-trust-state`, { data: { document: 'bm9uc2Vuc2U=' } }),
      says: /differs from its checksum/,
    },
    {
      name: 'written by a newer Kedge',
      harm: () => cluster().admin.merge(`${SECRETS}/kedge-trust-state`, { data: { layout: 'Mg==' } }),
      says: /has layout 2/,
    },
    {
      name: 'given to another owner',
      harm: () =>
        cluster().admin.merge(`${SECRETS}/kedge-trust-state`, {
          metadata: { labels: { 'app.kubernetes.io/managed-by': 'Helm' } },
        }),
      says: /is not a trust state of Kedge/,
    },
    {
      name: 'deleted',
      harm: () => cluster().admin.delete(`${SECRETS}/kedge-trust-state`),
      says: /was deleted/,
    },
  ];
  for (const { name, harm, says } of harms) {
    it(`go on with what they know when the Secret was ${name}; one that starts waits and says why, until it is mended`, async (t) => {
      await wipe();
      const [folder = '', another = ''] = await foldersOf(t, 2);
      const log = new RecordingLog();
      const first = await runningCa(t, { folder, flags: await flags('ca-0'), log });
      const whole = await cluster().admin.get(`${SECRETS}/kedge-trust-state`);
      const before = await getBundle(first.ca);
      await harm();
      await until('the harm is noticed', async () => says.test((await getStatus(first.ca)).lifecycle));
      await until('an event says so', async () => {
        const { items } = await cluster().admin.get(`/api/v1/namespaces/${NAMESPACE}/events`);
        return (items as { reason: string; message: string }[]).some(
          ({ reason, message }) => reason === 'KedgeTrustStateBroken' && says.test(message),
        );
      });
      const client = await first.connect();
      verified(await issue(client, first.token()), before.x509Authorities);
      assert.equal((await fetch(`http://${first.ca.httpAddress}/readyz`)).status, 200);

      const waitingLog = new RecordingLog();
      const httpPort = String(20_000 + Math.floor(Math.random() * 20_000));
      const starting = runningCa(t, {
        folder: another,
        flags: { ...(await flags('ca-1')), 'listen.http': `127.0.0.1:${httpPort}` },
        log: waitingLog,
      });
      const probe = async (path: string): Promise<Response | null> =>
        fetch(`http://127.0.0.1:${httpPort}${path}`).catch(() => null);
      await until('the new one says why it waits', async () => {
        const response = await probe('/readyz');
        return response?.status === 503 && says.test(await response.text());
      });
      assert.equal((await probe('/livez'))?.status, 200, 'no reason to start it again');

      // Mended, as by an operator who has a backup.
      const {
        uid: _uid,
        resourceVersion: _version,
        managedFields: _fields,
        ...metadata
      } = whole.metadata as Record<string, unknown>;
      const stored = await cluster().admin.request('GET', `${SECRETS}/kedge-trust-state`);
      if (stored.status === 404) await cluster().admin.create(SECRETS, { ...whole, metadata });
      else {
        await cluster().admin.merge(`${SECRETS}/kedge-trust-state`, {
          metadata: { labels: (whole.metadata as { labels: object }).labels },
          data: whole['data'],
        });
      }
      const second = await starting;
      assert.deepEqual(
        (await getBundle(second.ca)).x509Authorities.map(toHex),
        before.x509Authorities.map(toHex),
      );
      await until('the first has recovered', () => log.events.includes('authority_engine.recovered'));
      verified(await issue(await second.connect(), second.token()), before.x509Authorities);
    });
  }

  it('issue through an outage of the API server, and recover by themselves', async (t) => {
    const { replicas, log } = await start(t, 2);
    const before = await getBundle(replicas[0]!.ca);
    const clients = await Promise.all(replicas.map(({ connect }) => connect()));
    await cluster().stopApiServer();
    let issued = 0;
    try {
      await until('the outage is noticed', () => log.events.includes('authority_engine.failed'), 60_000);
      for (let i = 0; i < 20; i += 1) {
        for (const [r, { token }] of replicas.entries()) {
          verified(await issue(clients[r]!, token()), before.x509Authorities);
          issued += 1;
        }
      }
    } finally {
      await cluster().startApiServer();
    }
    await until(
      'both have recovered',
      () => log.events.filter((event) => event === 'authority_engine.recovered').length >= 2,
      90_000,
    );
    assert.deepEqual(
      (await getBundle(replicas[1]!.ca)).x509Authorities.map(toHex),
      before.x509Authorities.map(toHex),
    );
    t.diagnostic(`${issued} SVIDs issued while the API server was away`);
  });
});

function bundleIn({ message }: WatchResponse): TrustBundle | undefined {
  return message?.$case === 'bundle' ? message.value : undefined;
}

/** A state with another anchor in its bundle, as an operator's rotation would begin. */
async function withSecondAnchor(state: TrustState): Promise<TrustState> {
  const { der } = await makeAnchor();
  const { subjectKeyId, notBeforeMs, notAfterMs } = parseCertificate(der);
  const anchor = {
    id: toHex(subjectKeyId!),
    certificate: der,
    notBeforeMs,
    notAfterMs,
    upstream: 'disk' as const,
    key: null,
  };
  return prepareAnchor(state, anchor, systemClock.now());
}

async function servingCertificateOf(address: string): Promise<{ serial: string; authorityKeyId: string }> {
  const { connect } = await import('node:tls');
  const [host = '', port = ''] = address.split(':');
  const der = await new Promise<Uint8Array>((resolve, reject) => {
    const socket = connect(
      { host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ['h2'] },
      () => {
        resolve(socket.getPeerCertificate().raw);
        socket.destroy();
      },
    );
    socket.once('error', reject);
  });
  const { serialNumber, authorityKeyId } = parseCertificate(der);
  return { serial: toHex(serialNumber), authorityKeyId: toHex(authorityKeyId!) };
}
