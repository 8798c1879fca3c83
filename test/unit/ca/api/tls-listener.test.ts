import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { before, describe, it, type TestContext } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { Server } from '@grpc/grpc-js';
import {
  type ServingCertificate,
  TlsListener,
  type TlsListenerOptions,
} from '../../../../ca/api/tls-listener.ts';
import { encodePem } from '../../../../pki/pem.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { newHierarchy } from '../../../support/hierarchy.ts';

async function servingCertificate(): Promise<ServingCertificate> {
  const { svid, issuer, svidKey } = await newHierarchy(Date.UTC(2026, 0, 1));
  return {
    chainPem: [svid, issuer].map((der) => encodePem('CERTIFICATE', der)).join(''),
    keyPem: svidKey.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

let certificate: ServingCertificate;
before(async () => {
  certificate = await servingCertificate();
});

function newListener(options: Partial<TlsListenerOptions>): TlsListener {
  return new TlsListener({
    server: new Server(),
    maxConnections: 10,
    maxConnectionsPerAddress: 10,
    onRefused: () => {},
    certificate,
    ...options,
  });
}

async function listening(
  t: TestContext,
  maxConnections = 10,
): Promise<{ listener: TlsListener; port: number }> {
  const listener = newListener({ maxConnections });
  t.after(() => listener.close());
  return { listener, port: await listener.listen('127.0.0.1', 0) };
}

/** A client that has finished its handshake. */
async function client(t: TestContext, port: number, options: object = {}): Promise<TLSSocket> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
    ...options,
  });
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  socket.on('error', () => {});
  socket.resume();
  return socket;
}

const closed = (socket: TLSSocket): Promise<unknown> =>
  new Promise((resolve) => socket.once('close', resolve));

describe('the TLS listener', () => {
  it('drops connections over its bound, and takes one again when one has gone', async (t) => {
    const { listener, port } = await listening(t, 2);
    const [first] = await Promise.all([client(t, port), client(t, port)]);
    await assert.rejects(client(t, port));
    assert.equal(listener.connections, 2);
    const gone = closed(first);
    first.destroy();
    await gone;
    // The server hears of it a little later.
    while (listener.connections > 1) await new Promise((resolve) => setImmediate(resolve));
    await client(t, port);
  });

  it('drops connections over the bound of their address, unfinished handshakes counted, and says so', async (t) => {
    const refused: string[] = [];
    const listener = newListener({
      maxConnectionsPerAddress: 2,
      onRefused: (bound) => void refused.push(bound),
    });
    t.after(() => listener.close());
    const port = await listener.listen('0.0.0.0', 0);
    const mute = connectTcp({ port, host: '127.0.0.1' });
    t.after(() => mute.destroy());
    await once(mute, 'connect');
    await client(t, port);
    await assert.rejects(client(t, port));
    assert.deepEqual(refused, ['address']);
    // Another address has its own share.
    await client(t, port, { localAddress: '127.0.0.2' });
    mute.destroy();
    for (;;) {
      const again = await client(t, port).catch(() => null);
      if (again !== null) break;
    }
  });

  it('disconnects one peer by its address, and no other', async (t) => {
    const { listener, port } = await listening(t);
    const [one, other] = await Promise.all([client(t, port), client(t, port)]);
    const gone = closed(one);
    listener.disconnect(`127.0.0.1:${one.localPort}`);
    listener.disconnect('192.0.2.1:1');
    await gone;
    assert.equal(other.destroyed, false);
  });

  it('shows a new certificate to new connections, and leaves open ones alone', async (t) => {
    const { listener, port } = await listening(t);
    const before = await client(t, port);
    listener.use(await servingCertificate());
    const after = await client(t, port);
    assert.notEqual(after.getPeerCertificate().fingerprint256, before.getPeerCertificate().fingerprint256);
    assert.equal(before.destroyed, false);
  });

  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    it(`resumes no session of ${maxVersion}: the certificate of the moment is always shown`, async (t) => {
      const { port } = await listening(t);
      const socket = connect({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        ALPNProtocols: ['h2'],
        maxVersion,
      });
      t.after(() => socket.destroy());
      socket.on('error', () => {});
      const [session] = (await once(socket, 'session')) as [Buffer];
      const again = await client(t, port, { session, maxVersion });
      assert.equal(again.isSessionReused(), false);
    });
  }

  it('says which address is taken', async (t) => {
    const { port } = await listening(t);
    const other = newListener({ maxConnections: 1 });
    const error = await expectRejection('address_unavailable', other.listen('127.0.0.1', port));
    assert.match(error.message, /EADDRINUSE/);
  });

  it('lets go of every connection when it is closed', async (t) => {
    const { listener, port } = await listening(t);
    const socket = await client(t, port);
    const gone = closed(socket);
    listener.close();
    await gone;
    await assert.rejects(client(t, port));
  });
});
