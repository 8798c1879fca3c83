import assert from 'node:assert/strict';
import { createServer as createTcpServer } from 'node:net';
import { after, afterEach, before, describe, it } from 'node:test';
import { status } from '@grpc/grpc-js';
import { CaClient } from '../../../agent/ca-client.ts';
import { caIdentitySource, type IssuedIdentity } from '../../../agent/identity-source.ts';
import { checkBundle } from '../../../agent/ca-answer.ts';
import type { BundleSnapshot } from '../../../agent/snapshot.ts';
import { systemClock } from '../../../host/clock.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import { refusalOf } from '../../../host/grpc-errors.ts';
import { serviceError } from '../../../host/grpc-service-error.ts';
import { silentLog } from '../../../host/log.ts';
import {
  type AnswerOverride,
  bundleOf,
  FakeCa,
  type FakeCaOptions,
  issueChain,
  newAuthority,
  type TestAuthority,
} from '../../fakes/fake-ca.ts';
import { fixedRandom } from '../../fakes/fixed-random.ts';
import { HOUR_MS, newSigner } from '../../support/certificates.ts';
import { expectRejection } from '../../support/expect-code.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';
import { EXAMPLE_ORG } from '../../support/snapshots.ts';

const signal = new AbortController().signal;

describe('the agent and the CA', () => {
  let authority: TestAuthority;
  let other: TestAuthority;
  let open: (() => void)[] = [];
  before(async () => {
    [authority, other] = [await newAuthority(), await newAuthority()];
  });
  afterEach(() => {
    for (const close of open) close();
    open = [];
  });

  const startCa = async (options: Partial<FakeCaOptions> = {}): Promise<FakeCa> => {
    const ca = await FakeCa.start({ authority, ...options });
    open.push(() => ca.close());
    return ca;
  };
  const clientOf = (
    { address }: { address: string },
    bootstrap: () => readonly Uint8Array[] = () => [authority.anchor.der],
  ): CaClient => {
    const client = new CaClient({
      address,
      trustDomain: EXAMPLE_ORG,
      readBootstrap: () => Promise.resolve(bootstrap()),
      clock: systemClock,
    });
    open.push(() => client.close());
    return client;
  };
  const issueWith = (
    client: CaClient,
    {
      held = null,
      expectedId,
      abort = signal,
      clock = systemClock,
    }: {
      held?: BundleSnapshot | null;
      expectedId?: SpiffeId;
      abort?: AbortSignal;
      clock?: typeof systemClock;
    } = {},
  ): Promise<IssuedIdentity> =>
    caIdentitySource({
      client,
      readToken: () => Promise.resolve('the.token'),
      trustDomain: EXAMPLE_ORG,
      ...(expectedId === undefined ? {} : { expectedId }),
      timeoutMs: 10_000,
      clock,
      random: fixedRandom(0.5),
    }).issue(held, abort);

  describe('an exchange', () => {
    it('gives an SVID for the token, over TLS that is checked with the bootstrap bundle', async () => {
      const ca = await startCa();
      const { svid, bundle } = await issueWith(clientOf(ca));
      assert.equal(svid.spiffeId.toString(), 'spiffe://example.org/ns/default/sa/web');
      assert.equal(bundle.sequence, 1n);
      assert.deepEqual(
        ca.calls.map(({ authorization }) => authorization),
        [['Bearer the.token']],
      );
    });

    it('is made with a new key each time', async () => {
      const ca = await startCa();
      const client = clientOf(ca);
      const [first, second] = [await issueWith(client), await issueWith(client)];
      assert.notDeepEqual(first.svid.privateKey.expose(), second.svid.privateKey.expose());
    });

    it('measures how far the clock is from that of the CA, half of the round trip taken off', async () => {
      const ca = await startCa();
      ca.override = (answer) => ({ ...answer, serverTimeMs: answer.serverTimeMs - 60_000n });
      const { clockSkewMs } = await issueWith(clientOf(ca));
      assert.ok(clockSkewMs !== null && Math.abs(clockSkewMs - 60_000) < 5_000, String(clockSkewMs));
    });

    it('measures no clock that the CA does not tell', async () => {
      const ca = await startCa();
      ca.override = (answer) => ({ ...answer, serverTimeMs: 0n });
      assert.equal((await issueWith(clientOf(ca))).clockSkewMs, null);
    });

    it('renews when the CA would like it', async () => {
      const ca = await startCa();
      ca.override = (answer) => ({
        ...answer,
        renewal: {
          notBeforeMs: answer.serverTimeMs + 600_000n,
          notAfterMs: answer.serverTimeMs + 600_000n,
        },
      });
      const { renewal } = await issueWith(clientOf(ca));
      assert.equal(renewal.reason, 'hint');
      assert.ok(Math.abs(renewal.at.wallMs - Date.now() - 600_000) < 5_000);
    });

    it('ends when it is told to', async () => {
      const ca = await startCa();
      ca.override = () => new Promise(() => {});
      const abort = new AbortController();
      const outcome = assert.rejects(issueWith(clientOf(ca), { abort: abort.signal }), /enough/);
      await ca.until(() => ca.calls.length === 0);
      while (ca.calls.length === 0) await settle();
      abort.abort(new Error('enough'));
      await outcome;
    });

    it('ends when the CA does not answer in time', async () => {
      const ca = await startCa();
      ca.override = () => new Promise(() => {});
      const clock = new ManualClock(Date.now());
      const outcome = expectRejection('deadline_exceeded', issueWith(clientOf(ca), { clock }));
      while (ca.calls.length === 0) await settle();
      await clock.advance(10_000);
      await outcome;
    });
  });

  describe('a refusal of the CA', () => {
    it('keeps its code, its hint and the time to wait', async () => {
      const ca = await startCa();
      const refusal = new KedgeError('overloaded', 'too many wait', { hint: 'wait', retryAfterMs: 1_500 });
      ca.override = () => serviceError(refusalOf(refusal, { log: silentLog, random: fixedRandom(0) }));
      const error = await expectRejection('overloaded', issueWith(clientOf(ca)));
      assert.equal(error.retryAfterMs, 1_500);
      assert.equal(error.hint, 'wait');
    });

    it('does not end the connection', async () => {
      const ca = await startCa();
      const client = clientOf(ca);
      ca.override = () => ({ code: status.ABORTED, details: 'no' });
      await expectRejection('ca_answer_invalid', issueWith(client));
      ca.override = (answer) => answer;
      await issueWith(client);
    });
  });

  describe('nonsense of the CA', () => {
    const stranger = newSigner();
    const nonsense: readonly { name: string; override: () => AnswerOverride; code: ErrorCode }[] = [
      {
        name: 'an SVID of another key',
        override: () => async (answer) => ({
          ...answer,
          x509Svid: await issueChain(authority, stranger.spki, {
            notBeforeMs: Date.now() - HOUR_MS,
            notAfterMs: Date.now() + HOUR_MS,
          }),
        }),
        code: 'ca_answer_invalid',
      },
      {
        name: 'an SVID of another trust domain',
        override:
          () =>
          async (answer, { csr }) => ({
            ...answer,
            x509Svid: (await (await startCa()).answer(csr, 'spiffe://evil.org/web')).x509Svid,
          }),
        code: 'ca_answer_invalid',
      },
      {
        name: 'an SVID that has expired',
        override:
          () =>
          async (answer, { csr }) => ({
            ...answer,
            x509Svid: (await (await startCa({ lifetimeMs: -1_000 })).answer(csr)).x509Svid,
          }),
        code: 'ca_answer_invalid',
      },
      {
        name: 'a bundle that does not verify the SVID',
        override: () => (answer) => ({ ...answer, bundle: bundleOf(1n, other.anchor) }),
        code: 'ca_answer_invalid',
      },
      {
        name: 'no bundle',
        override: () => (answer) => ({ ...answer, bundle: undefined }),
        code: 'ca_answer_invalid',
      },
      {
        name: 'no SVID',
        override: () => (answer) => ({ ...answer, x509Svid: [] }),
        code: 'ca_answer_invalid',
      },
      {
        name: 'rubbish for an SVID',
        override: () => (answer) => ({ ...answer, x509Svid: [Buffer.from('rubbish')] }),
        code: 'ca_answer_invalid',
      },
      {
        name: 'an answer over the limit',
        override: () => (answer) => ({ ...answer, x509Svid: [new Uint8Array(LIMITS.caMessageBytes + 1)] }),
        code: 'overloaded',
      },
      {
        name: 'times beyond all reason',
        override: () => (answer) => ({
          ...answer,
          serverTimeMs: 2n ** 63n - 1n,
          renewal: { notBeforeMs: -(2n ** 63n), notAfterMs: 2n ** 63n - 1n },
        }),
        code: 'ca_answer_invalid',
      },
    ];
    for (const { name, override, code } of nonsense) {
      it(`such as ${name} is ${code}`, async () => {
        const ca = await startCa();
        ca.override = override();
        await expectRejection(code, issueWith(clientOf(ca)));
      });
    }

    it('such as a bundle of a lower sequence than the one held is bundle_sequence_regressed', async () => {
      const ca = await startCa();
      const held = checkBundle(bundleOf(5n, authority.anchor), EXAMPLE_ORG, null);
      await expectRejection('bundle_sequence_regressed', issueWith(clientOf(ca), { held }));
    });

    it('such as another SPIFFE ID than is expected is svid_unexpected_id', async () => {
      const ca = await startCa();
      const expectedId = SpiffeId.parse('spiffe://example.org/expected');
      await expectRejection('svid_unexpected_id', issueWith(clientOf(ca), { expectedId }));
    });
  });

  describe('the identity of the CA', () => {
    const impostors: readonly { name: string; options: () => Partial<FakeCaOptions> }[] = [
      {
        name: 'a workload of the trust domain',
        options: () => ({ servingId: 'spiffe://example.org/ns/a/sa/b' }),
      },
      { name: 'a CA of another trust domain', options: () => ({ servingId: 'spiffe://evil.org/kedge/ca' }) },
      { name: 'a CA below another anchor', options: () => ({ authority: other }) },
    ];
    for (const { name, options } of impostors) {
      it(`is not that of ${name}, and the token is not sent`, async () => {
        const ca = await startCa(options());
        const error = await expectRejection('ca_identity_mismatch', issueWith(clientOf(ca)));
        assert.ok(!error.message.includes('the.token'));
        assert.equal(ca.calls.length, 0);
      });
    }

    it('is not that of a server without TLS', async () => {
      const server = createTcpServer((socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n'));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      open.push(() => server.close());
      const address = server.address();
      assert.ok(typeof address === 'object' && address !== null);
      await expectRejection('ca_unreachable', issueWith(clientOf({ address: `127.0.0.1:${address.port}` })));
    });

    it('cannot be known where nobody listens', async () => {
      const ca = await startCa();
      ca.close();
      await expectRejection('ca_unreachable', issueWith(clientOf(ca)));
    });

    it('cannot be known without a bootstrap bundle, and is once there is one', async () => {
      const ca = await startCa();
      let isThere = false;
      const client = clientOf(ca, () => {
        if (!isThere) throw new KedgeError('file_unreadable', 'not there yet');
        return [authority.anchor.der];
      });
      await expectRejection('file_unreadable', issueWith(client));
      isThere = true;
      await issueWith(client);
    });
  });

  describe('when the anchors change', () => {
    it('new connections are checked with the newest bundle alone', async () => {
      const ca = await startCa();
      const client = clientOf(ca);
      const { bundle } = await issueWith(client);
      client.trust({ ...bundle, sequence: 2n, x509Authorities: [other.anchor.der] });
      await expectRejection('ca_identity_mismatch', issueWith(client));
    });

    it('calls that run on the connection before run to their end', async () => {
      const ca = await startCa();
      const client = clientOf(ca);
      const { bundle } = await issueWith(client);
      const gate = Promise.withResolvers<void>();
      ca.override = async (answer) => {
        await gate.promise;
        return answer;
      };
      const running = issueWith(client);
      while (ca.calls.length < 2) await settle();
      client.trust({ ...bundle, sequence: 2n, x509Authorities: [authority.anchor.der, other.anchor.der] });
      gate.resolve();
      await running;
    });

    it('a connection goes on where the bundle holds the same anchors', async () => {
      const ca = await startCa();
      const client = clientOf(ca);
      const { bundle } = await issueWith(client);
      const stream = await client.openWatch('the.token');
      client.trust({ ...bundle, sequence: 2n });
      assert.ok(stream.isCurrent());
      client.trust({ ...bundle, sequence: 3n, x509Authorities: [other.anchor.der, authority.anchor.der] });
      assert.ok(!stream.isCurrent());
      stream.call.on('error', () => {});
      stream.call.cancel();
    });

    it('an agent that was cut off heals by itself from its bootstrap bundle', async () => {
      const old = await startCa();
      let bootstrap = [authority.anchor.der];
      const client = clientOf(old, () => bootstrap);
      const { bundle } = await issueWith(client);
      client.trust(bundle);
      old.close();
      await startCa({ authority: other, port: old.port });
      await expectRejection('ca_unreachable', issueWith(client)).catch(() => {});
      // The newest bundle does not verify this CA; the bootstrap bundle, read anew, does.
      bootstrap = [other.anchor.der];
      let healed: IssuedIdentity | null = null;
      for (let attempt = 0; attempt < 5 && healed === null; attempt += 1) {
        healed = await issueWith(client).catch(() => null);
      }
      assert.ok(healed !== null);
    });

    it('an anchor that the CA removed is not trusted again because the bootstrap bundle still holds it', async () => {
      const client = clientOf(await startCa());
      const { bundle } = await issueWith(client);
      client.trust({ ...bundle, x509Authorities: [authority.anchor.der, other.anchor.der], sequence: 2n });
      client.trust({ ...bundle, x509Authorities: [other.anchor.der], sequence: 3n });
      // The server is below the removed anchor, as one would be who stole its key.
      await expectRejection('ca_identity_mismatch', issueWith(client));
      await expectRejection('bundle_empty', issueWith(client));
    });

    it('an anchor of the bootstrap bundle that the first bundle lacks is not trusted by any later connection', async () => {
      // The bootstrap bundle is from before the change; the CA is below the new anchor, and says so in its bundle.
      const ca = await startCa({ authority: other });
      const client = clientOf(ca, () => [authority.anchor.der, other.anchor.der]);
      const { bundle } = await issueWith(client);
      client.trust(bundle);
      ca.close();
      // One who stole the key of the old anchor takes the place of the CA.
      const impostor = await startCa({ authority, port: ca.port });
      for (let attempt = 0; attempt < 6; attempt += 1) {
        await assert.rejects(issueWith(client));
      }
      assert.equal(impostor.calls.length, 0, 'the token was sent to the impostor');
      // Nor by the agent after a restart, which is given the same bootstrap bundle.
      const again = clientOf(impostor, () => [authority.anchor.der, other.anchor.der]);
      again.warmUp();
      again.restoreTrust(client.trustMemory ?? assert.fail());
      for (let attempt = 0; attempt < 4; attempt += 1) {
        await assert.rejects(issueWith(again));
      }
      assert.equal(impostor.calls.length, 0, 'the token was sent to the impostor');
    });
  });

  after(() => {
    for (const close of open) close();
  });
});
