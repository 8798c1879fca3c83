import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { PresentedCredentials } from '../../../../ca/kubernetes/api-connection.ts';
import { ApiConnection } from '../../../../ca/kubernetes/api-connection.ts';
import type { Authentication, Source } from '../../../../ca/kubernetes/cluster-access.ts';
import { ClusterCredentials } from '../../../../ca/kubernetes/cluster-credentials.ts';
import { inClusterAccess } from '../../../../ca/kubernetes/in-cluster.ts';
import { silentLog } from '../../../../host/log.ts';
import { Secret } from '../../../../pki/secret.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';
import { selfSignedTlsCertificate } from '../../../support/tls-certificate.ts';

const inline = (text: string): Source => ({ kind: 'inline', bytes: new Secret(Buffer.from(text)) });
const { certificate: CA, key: KEY } = await selfSignedTlsCertificate();
const OTHER = await selfSignedTlsCertificate('other');

function credentials(authentication: Authentication, certificateAuthority?: Source) {
  const clock = new ManualClock();
  const all = new ClusterCredentials({
    access: { authentication, certificateAuthority },
    clock,
    log: silentLog,
  });
  return { clock, all };
}

function fileOf(
  t: TestContext,
  text: string,
): { readonly path: string; readonly write: (text: string) => void } {
  const path = join(temporaryFolder(t), 'file');
  const write = (next: string): void => {
    writeFileSync(`${path}.new`, next);
    renameSync(`${path}.new`, path);
  };
  write(text);
  return { path, write };
}

describe('ClusterCredentials', () => {
  it('reads a token file again when it is due, and at once after a refusal', async (t) => {
    const { path, write } = fileOf(t, 'first\n');
    const { clock, all } = credentials({ kind: 'token', token: { kind: 'file', path } });
    const first = await all.present();
    assert.equal(first.authorization, 'Bearer first');
    write('second');
    await clock.advance(9_999);
    assert.equal((await all.present()).authorization, 'Bearer first');
    await clock.advance(1);
    const second = await all.present();
    assert.equal(second.authorization, 'Bearer second');
    assert.equal(second.secureContext, first.secureContext, 'connections are kept');
    write('third');
    all.refused();
    assert.equal((await all.present()).authorization, 'Bearer third');
  });

  it('reads once for many that ask at once', async (t) => {
    const { path } = fileOf(t, 'token');
    const { all } = credentials({ kind: 'token', token: { kind: 'file', path } });
    const many = await Promise.all(Array.from({ length: 20 }, async () => all.present()));
    assert.equal(new Set<PresentedCredentials>(many).size, 1);
  });

  for (const [name, text] of [
    ['is empty', ''],
    ['holds two lines', 'a\nb'],
    ['holds a header of its own', 'a\r\nx: y'],
    ['is too long', 'a'.repeat(9_000)],
  ] as const) {
    it(`refuses a token file that ${name}, and keeps the last good token when it becomes so`, async (t) => {
      const { path, write } = fileOf(t, text);
      const token = { kind: 'token', token: { kind: 'file', path } } as const;
      const error = await assertRefused(credentials(token).all);
      assert.ok(!error.message.includes('x: y'));
      write('good');
      const { clock, all } = credentials(token);
      await all.present();
      write(text);
      await clock.advance(10_000);
      assert.equal((await all.present()).authorization, 'Bearer good');
    });
  }

  describe('of a plugin', () => {
    const plugin = { apiVersion: 'client.authentication.k8s.io/v1', command: 'p', args: [], environment: {} };
    /** A plugin that hands out `token-1`, `token-2`, ..., each for a minute; it fails while `broken`. */
    function handingOut(lifetimeMs: number | null) {
      const clock = new ManualClock();
      const state = { runs: 0, broken: false };
      const runProgram = async (): Promise<string> => {
        if (state.broken) throw new Error('broken');
        state.runs += 1;
        const expirationTimestamp =
          lifetimeMs === null ? undefined : new Date(clock.now() + lifetimeMs).toISOString();
        return JSON.stringify({
          apiVersion: plugin.apiVersion,
          kind: 'ExecCredential',
          status: { token: `token-${state.runs}`, expirationTimestamp },
        });
      };
      const all = new ClusterCredentials({
        access: { authentication: { kind: 'exec', plugin }, certificateAuthority: undefined },
        clock,
        log: silentLog,
        runProgram,
      });
      const authorization = async () => (await all.present()).authorization;
      return { clock, state, all, authorization };
    }

    it('are asked for again when they are about to expire, once for all', async () => {
      const { clock, state, all, authorization } = handingOut(60_000);
      assert.equal(await authorization(), 'Bearer token-1');
      await clock.advance(54_999);
      assert.equal(await authorization(), 'Bearer token-1');
      await clock.advance(1);
      await Promise.all(Array.from({ length: 10 }, async () => all.present()));
      assert.equal(await authorization(), 'Bearer token-2');
      assert.equal(state.runs, 2);
    });

    it('that do not expire are good until the API server refuses them', async () => {
      const { clock, all, authorization } = handingOut(null);
      await authorization();
      await clock.advance(86_400_000);
      assert.equal(await authorization(), 'Bearer token-1');
      all.refused();
      assert.equal(await authorization(), 'Bearer token-2');
      assert.equal(await authorization(), 'Bearer token-2');
    });

    it('stay in use while the plugin fails, which is asked again every 10 s', async () => {
      const { clock, state, authorization } = handingOut(60_000);
      await authorization();
      state.broken = true;
      await clock.advance(60_000);
      assert.equal(await authorization(), 'Bearer token-1');
      state.broken = false;
      await clock.advance(9_999);
      assert.equal(await authorization(), 'Bearer token-1');
      await clock.advance(1);
      assert.equal(await authorization(), 'Bearer token-2');
    });
  });

  async function assertRefused(all: ClusterCredentials): Promise<Error> {
    const error: unknown = await Promise.resolve()
      .then(() => all.present())
      .catch((reason: unknown) => reason);
    assert.ok(error instanceof Error);
    return error;
  }

  it('changes over to a new CA, and keeps the last good one', async (t) => {
    const { path, write } = fileOf(t, CA);
    const { clock, all } = credentials({ kind: 'none' }, { kind: 'file', path });
    const first = await all.present();
    for (const nonsense of [
      '',
      'nonsense',
      '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
    ]) {
      write(nonsense);
      await clock.advance(10_000);
      assert.equal((await all.present()).secureContext, first.secureContext);
    }
    write(OTHER.certificate);
    await clock.advance(10_000);
    assert.notEqual((await all.present()).secureContext, first.secureContext);
  });

  it('refuses an empty CA: it would trust every public one', async () => {
    await expectRejection(
      'config_invalid',
      Promise.resolve(credentials({ kind: 'none' }, inline('x')).all.present()),
    );
  });

  it('refuses a key that is not the one of the certificate', async () => {
    const { all } = credentials({
      kind: 'clientCertificate',
      certificate: inline(CA),
      key: inline(OTHER.key),
    });
    await expectRejection('config_invalid', Promise.resolve(all.present()));
  });

  it('reaches only an API server whose certificate its CA has signed, and presents its own', async (t) => {
    const seen: (string | undefined)[] = [];
    const server = createServer(
      { cert: CA, key: KEY, requestCert: true, ca: OTHER.certificate, rejectUnauthorized: false },
      (request, response) => {
        const socket = request.socket as unknown as { getPeerCertificate(): { subject?: { CN?: string } } };
        seen.push(socket.getPeerCertificate().subject?.CN);
        response.end('{}');
      },
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as { port: number };
    const request = {
      method: 'GET',
      path: '/version',
      maxBytes: 100,
      isRead: true,
      what: 'get /version',
    } as const;
    const exchange = async (all: ClusterCredentials, tlsServerName?: string) => {
      const connection = new ApiConnection({
        server: new URL(`https://127.0.0.1:${port}`),
        credentials: all,
        connections: 1,
        ...(tlsServerName === undefined ? {} : { tlsServerName }),
      });
      try {
        return (await connection.exchange(request, new AbortController().signal)).status;
      } finally {
        connection.close();
      }
    };
    const client = {
      kind: 'clientCertificate',
      certificate: inline(OTHER.certificate),
      key: inline(OTHER.key),
    } as const;
    assert.equal(await exchange(credentials(client, inline(CA)).all), 200);
    assert.equal(await exchange(credentials({ kind: 'none' }, inline(CA)).all, 'localhost'), 200);
    assert.deepEqual(seen, ['other', undefined]);
    const untrusted = exchange(credentials({ kind: 'none' }, inline(OTHER.certificate)).all);
    const error = await expectRejection('kubernetes_unreachable', untrusted);
    assert.match(error.message, /SELF_SIGNED|UNABLE_TO_VERIFY/);
    const misnamed = exchange(credentials({ kind: 'none' }, inline(CA)).all, 'kubernetes.default');
    assert.match((await expectRejection('kubernetes_unreachable', misnamed)).message, /ALTNAME/);
    assert.equal(seen.length, 2);
  });
});

describe('inClusterAccess', () => {
  it('finds server, CA, token and namespace as the kubelet gives them to a pod', async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'namespace'), 'kedge');
    const environment = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' };
    const access = await inClusterAccess(environment, folder);
    assert.equal(access.server.href, 'https://[fd00::1]:6443/');
    assert.equal(access.namespace, 'kedge');
    assert.deepEqual(access.certificateAuthority, { kind: 'file', path: join(folder, 'ca.crt') });
    assert.deepEqual(access.authentication, {
      kind: 'token',
      token: { kind: 'file', path: join(folder, 'token') },
    });
  });

  it('says that this is no pod, or one without a ServiceAccount', async (t) => {
    await expectRejection('config_invalid', inClusterAccess({}, temporaryFolder(t)));
    const environment = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
    await expectRejection('file_unreadable', inClusterAccess(environment, temporaryFolder(t)));
  });
});
