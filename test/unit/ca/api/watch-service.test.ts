import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bundleMessage, CurrentBundle } from '../../../../ca/api/bundle-message.ts';
import { WatchService } from '../../../../ca/api/watch-service.ts';
import type { Attestor, WorkloadInstance } from '../../../../ca/attest/attestor.ts';
import type { RenewalDue } from '../../../../ca/authority/renewals.ts';
import type { BundleView } from '../../../../ca/authority/trust-view.ts';
import { Fleet } from '../../../../ca/fleet/fleet.ts';
import type { Refusal } from '../../../../ca/issue/refusal.ts';
import { parsePolicy } from '../../../../ca/issue/policy-file.ts';
import type { GrpcStatus } from '../../../../host/grpc-status.ts';
import { GRPC_STATUS } from '../../../../host/grpc-status.ts';
import { errorOfGrpc } from '../../../../host/grpc-errors.ts';
import { silentLog } from '../../../../host/log.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { isKedgeError, KedgeError } from '../../../../pki/kedge-error.ts';
import { SpiffeId } from '../../../../pki/spiffe-id.ts';
import { WatchRequest } from '../../../../proto/gen/kedge/v1/identity.ts';
import { FakeWatchCall } from '../../../fakes/fake-watch-call.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const ID = 'spiffe://example.org/ns/shop/sa/cart';
const BOUNDS = { maxTtlMs: 86_400_000, backdateMs: 120_000 };
const viewOf = (sequence: number): BundleView => ({
  trustDomain: 'example.org',
  sequence,
  x509Authorities: [Buffer.from(`anchor ${sequence}`)],
});

/** Tokens are `<pod UID>` here; what begins with `bad` is refused. */
function attestor(expiresAtMs: number): Attestor {
  return {
    attest(token): WorkloadInstance {
      if (token.startsWith('bad')) throw new KedgeError('token_expired', 'the token has expired');
      return {
        cluster: 'c1',
        namespace: 'shop',
        serviceAccount: 'cart',
        podName: `pod-${token}`,
        podUid: token,
        nodeName: undefined,
        tokenExpiresAtMs: expiresAtMs,
      };
    },
  };
}

function setup(change: { readonly attestor?: Attestor; readonly maxStreams?: number } = {}) {
  const clock = new ManualClock();
  const world = {
    view: viewOf(1),
    policy: parsePolicy('', 'policy.yaml', BOUNDS),
    dues: [] as RenewalDue[],
  };
  const fleet = new Fleet({
    maxInstances: 100,
    trust: () => ({ sequence: 9, issuers: [] }),
    log: silentLog,
  });
  const ends: GrpcStatus[] = [];
  const disconnected: string[] = [];
  const refused: Refusal[] = [];
  const service = new WatchService({
    log: silentLog,
    random: fixedRandom(0),
    metrics: {
      callEnded: (_method, status) => ends.push(status),
      connectionRefused: () => {},
      servingCertificate: () => {},
    },
    attestor: change.attestor ?? attestor(clock.now() + 3_600_000),
    spiffeIdOf: () => SpiffeId.parse(ID),
    policy: () => world.policy,
    bundle: new CurrentBundle({ read: () => world.view, refreshHintSeconds: 300 }),
    renewalsDue: () => world.dues,
    fleet,
    refuse: (refusal) => void refused.push(refusal),
    clock,
    disconnect: (peer) => disconnected.push(peer),
    maxStreams: change.maxStreams ?? 100,
  });
  const open = async (token: string | null = 'u1', peer?: string): Promise<FakeWatchCall> => {
    const call = new FakeWatchCall(token, peer);
    service.open(call.asCall);
    await settle();
    return call;
  };
  return { clock, world, fleet, ends, disconnected, refused, service, open };
}

const REPORT = { agentVersion: '1', bundleSequence: 0n, svid: undefined, clockSkewMs: undefined, feeds: [] };
const reportBytes = (bundleSequence = 0n): Uint8Array =>
  WatchRequest.encode({ report: { ...REPORT, bundleSequence } }).finish();

function refusalOf(call: FakeWatchCall): readonly [ErrorCode, number] {
  assert.ok(call.refusal !== null, 'the stream was not refused');
  const error = errorOfGrpc(call.refusal, { unreachable: 'ca_unreachable', invalid: 'ca_answer_invalid' });
  return [error.code, call.refusal.code];
}

const detailsOf = (call: FakeWatchCall): string => call.refusal?.details ?? '';

const sequences = (call: FakeWatchCall): readonly (number | string)[] =>
  call.messages.map(({ message }) =>
    message?.$case === 'bundle' ? Number(message.value.sequence) : (message?.$case ?? 'nothing'),
  );

const due = (instanceId: string, authorityKeyId: string): RenewalDue => ({
  instanceId,
  authorityKeyId,
  notBeforeMs: 1_000,
  notAfterMs: 2_000,
});

describe('Watch', () => {
  it('says nothing before the first report, then gives the bundle and the time of the CA', async () => {
    const { open, clock } = setup();
    const call = await open();
    assert.deepEqual(call.messages, []);
    await call.send(reportBytes());
    assert.deepEqual(call.messages, [
      {
        message: { $case: 'bundle', value: bundleMessage(viewOf(1), 300).bundle },
        serverTimeMs: BigInt(clock.now()),
      },
    ]);
  });

  it('gives the bundle again when it changed, and not when only other things did', async () => {
    const { open, world, service } = setup();
    const call = await open();
    await call.send(reportBytes());
    world.view = { ...viewOf(1) };
    service.trustChanged();
    await settle();
    assert.deepEqual(sequences(call), [1]);
    world.view = viewOf(2);
    service.trustChanged();
    await settle();
    assert.deepEqual(sequences(call), [1, 2]);
  });

  it('gives a slow reader the newest bundle only, and holds one message for it', async () => {
    const { open, world, service } = setup();
    const call = await open();
    call.stalled = true;
    await call.send(reportBytes());
    for (const sequence of [2, 3, 4, 5]) {
      world.view = viewOf(sequence);
      service.trustChanged();
      await settle();
    }
    assert.deepEqual(sequences(call), [1]);
    assert.equal(call.writableLength, 1);
    await call.read1();
    assert.deepEqual(sequences(call), [1, 5]);
  });

  it('disconnects a client that leaves a message unread for over 30 seconds', async () => {
    const { open, service, clock, disconnected, fleet } = setup();
    const call = await open();
    call.stalled = true;
    await call.send(reportBytes());
    await clock.advance(30_000);
    service.sweep();
    assert.deepEqual(disconnected, []);
    await clock.advance(1);
    service.sweep();
    assert.deepEqual(disconnected, ['192.0.2.7:41000']);
    assert.equal(fleet.connected, 0);
  });

  it('disconnects a client that does not even read its refusal', async () => {
    const { open, service, clock, disconnected, ends } = setup();
    const call = await open();
    call.stalled = true;
    await call.send(reportBytes());
    await call.send(new Uint8Array(0));
    assert.deepEqual(refusalOf(call), ['report_invalid', GRPC_STATUS.INVALID_ARGUMENT]);
    assert.equal(service.streams, 1);
    await clock.advance(30_001);
    service.sweep();
    assert.deepEqual(disconnected, ['192.0.2.7:41000']);
    assert.deepEqual(ends, ['INVALID_ARGUMENT']);
  });

  it('asks for a renewal once for each issuer, of the instance that is due', async () => {
    const { open, world, service } = setup();
    const [first, second] = [await open('u1'), await open('u2')];
    for (const call of [first, second]) await call.send(reportBytes());
    world.dues = [due('u2', 'aa')];
    service.trustChanged();
    service.sweep();
    await second.send(reportBytes());
    service.sweep();
    await settle();
    assert.deepEqual(sequences(first), [1]);
    assert.deepEqual(second.messages.at(-1)?.message, {
      $case: 'renewal',
      value: {
        authorityKeyId: new Uint8Array([0xaa]),
        window: { notBeforeMs: 1_000n, notAfterMs: 2_000n },
      },
    });
    assert.deepEqual(sequences(second), [1, 'renewal']);
    world.dues = [due('u2', 'bb')];
    service.trustChanged();
    service.sweep();
    await settle();
    assert.deepEqual(sequences(second), [1, 'renewal', 'renewal']);
  });

  it('asks an instance that connected with an outdated SVID after the change', async () => {
    const { open, world, service } = setup();
    world.dues = [due('u1', 'aa')];
    service.sweep();
    const call = await open();
    await call.send(reportBytes());
    service.sweep();
    await settle();
    assert.deepEqual(sequences(call), [1, 'renewal']);
  });

  it('takes reports for the instance of the token, and notes when it goes', async () => {
    const { open, fleet } = setup();
    const call = await open('u7');
    await call.send(reportBytes(3n));
    const [connected] = fleet.instances();
    assert.deepEqual(
      [connected?.id, connected?.report?.bundleSequence, connected?.connected],
      ['u7', 3, true],
    );
    await call.cancel();
    assert.equal(fleet.instances()[0]?.connected, false);
  });

  it('ends with OK when the agent sends no more', async () => {
    const { open, ends, service } = setup();
    const call = await open();
    await call.send(reportBytes());
    await call.halfClose();
    assert.deepEqual([call.ended, call.refusal, ends, service.streams], [true, null, ['OK'], 0]);
  });

  it('ends when the wall clock reaches the expiry of the token, jumps included', async () => {
    const { open, service, clock } = setup();
    const call = await open();
    await call.send(reportBytes());
    clock.jumpWall(3_599_999);
    service.sweep();
    assert.equal(call.refusal, null);
    clock.jumpWall(1);
    service.sweep();
    assert.deepEqual(refusalOf(call), ['token_expired', GRPC_STATUS.UNAUTHENTICATED]);
  });

  it('ends when a new policy denies the identity, and not otherwise', async () => {
    const { open, service, world } = setup();
    const call = await open();
    await call.send(reportBytes());
    world.policy = parsePolicy('deny: [{namespace: other, reason: no}]', 'policy.yaml', BOUNDS);
    service.sweep();
    assert.equal(call.refusal, null);
    world.policy = parsePolicy('deny: [{namespace: shop, reason: closed down}]', 'policy.yaml', BOUNDS);
    service.sweep();
    assert.deepEqual(refusalOf(call), ['identity_denied', GRPC_STATUS.PERMISSION_DENIED]);
    assert.match(detailsOf(call), /closed down/);
    const again = await open();
    assert.deepEqual(refusalOf(again), ['identity_denied', GRPC_STATUS.PERMISSION_DENIED]);
  });

  it('refuses a stream that gives no report in 10 seconds', async () => {
    const { open, service, clock } = setup();
    const call = await open();
    await clock.advance(10_001);
    service.sweep();
    assert.deepEqual(refusalOf(call), ['report_invalid', GRPC_STATUS.INVALID_ARGUMENT]);
  });

  it('refuses a stream whose token takes longer than that to be looked at', async () => {
    const { promise, resolve } = Promise.withResolvers<WorkloadInstance>();
    const { open, service, clock, fleet } = setup({ attestor: { attest: () => promise } });
    const call = await open();
    await clock.advance(10_001);
    service.sweep();
    assert.notEqual(call.refusal, null);
    resolve(await attestor(1e15).attest('u1', { address: '' }, new AbortController().signal));
    await settle();
    assert.equal(fleet.connected, 0);
    assert.equal(service.streams, 0);
  });

  it('leaves the session to the live stream of an instance when an older one is accepted after its end', async () => {
    const reviews: (() => void)[] = [];
    const slow: Attestor = {
      attest: async (...call) => {
        await new Promise<void>((resolve) => reviews.push(resolve));
        return await attestor(1e15).attest(...call);
      },
    };
    const { open, fleet } = setup({ attestor: slow });
    const old = await open('u1');
    // The connection broke while the token was reviewed, and the agent came again.
    await old.cancel();
    const live = await open('u1');
    reviews[1]?.();
    await settle();
    await live.send(reportBytes(1n));
    reviews[0]?.();
    await settle();
    await live.send(reportBytes(2n));
    const [instance] = fleet.instances();
    assert.deepEqual(
      [instance?.connected, instance?.report?.bundleSequence, fleet.connected, live.refusal],
      [true, 2, 1, null],
    );
  });

  it('lets an agent report 20 times at once, and then once a second', async () => {
    const { open, clock } = setup();
    const call = await open();
    for (let i = 0; i < 20; i += 1) await call.send(reportBytes());
    await clock.advance(1_000);
    await call.send(reportBytes());
    assert.equal(call.refusal, null);
    await call.send(reportBytes());
    assert.deepEqual(refusalOf(call), ['report_rate_exceeded', GRPC_STATUS.RESOURCE_EXHAUSTED]);
  });

  it('counts the reports of an instance over all its streams, and of each instance by itself', async () => {
    const { open, clock, service } = setup();
    for (let i = 0; i < 20; i += 1) {
      const call = await open('u1');
      await call.send(reportBytes());
      assert.equal(call.refusal, null);
      await call.cancel();
      service.sweep();
    }
    const call = await open('u1');
    await call.send(reportBytes());
    assert.deepEqual(refusalOf(call), ['report_rate_exceeded', GRPC_STATUS.RESOURCE_EXHAUSTED]);
    const other = await open('u2');
    await other.send(reportBytes());
    assert.equal(other.refusal, null);
    await clock.advance(1_000);
    const later = await open('u1');
    await later.send(reportBytes());
    assert.equal(later.refusal, null);
  });

  it('takes nothing from a stream that it refused', async () => {
    const { open, fleet } = setup();
    const call = await open();
    await call.send(reportBytes(5n));
    await call.send(reportBytes(4n));
    assert.deepEqual(refusalOf(call), ['report_invalid', GRPC_STATUS.INVALID_ARGUMENT]);
    assert.equal(fleet.instances()[0]?.report?.bundleSequence, 5);
  });

  it('serves four streams of one instance, and another once one has gone', async () => {
    const { open } = setup();
    const calls = [];
    for (let i = 0; i < 4; i += 1) calls.push(await open('u1'));
    const fifth = await open('u1');
    assert.deepEqual(refusalOf(fifth), ['too_many_streams', GRPC_STATUS.RESOURCE_EXHAUSTED]);
    assert.equal((await open('u2')).refusal, null);
    await calls[0]?.cancel();
    assert.equal((await open('u1')).refusal, null);
  });

  it('serves so many streams and no more', async () => {
    const { open } = setup({ maxStreams: 2 });
    await open('u1');
    await open('u2');
    assert.deepEqual(refusalOf(await open('u3')), ['overloaded', GRPC_STATUS.RESOURCE_EXHAUSTED]);
  });

  const tokens: readonly {
    readonly name: string;
    readonly token: string | null;
    readonly want: ErrorCode;
  }[] = [
    { name: 'no token', token: null, want: 'token_missing' },
    { name: 'a token that is refused', token: 'bad', want: 'token_expired' },
  ];
  for (const { name, token, want } of tokens) {
    it(`refuses a stream with ${name}, and forgets it`, async () => {
      const { open, service, fleet } = setup();
      const call = await open(token);
      assert.deepEqual(refusalOf(call), [want, GRPC_STATUS.UNAUTHENTICATED]);
      assert.deepEqual([service.streams, fleet.size], [0, 0]);
    });
  }

  describe('records what it refuses, once', () => {
    const deny = 'deny: [{namespace: shop, reason: closed down}]';
    const rows: readonly {
      readonly name: string;
      readonly token?: string | null;
      readonly act?: (setting: ReturnType<typeof setup>, call: FakeWatchCall) => Promise<void> | void;
      readonly before?: (setting: ReturnType<typeof setup>) => Promise<void> | void;
      /** The code, and the pod UID where the caller was attested. */
      readonly want: readonly [ErrorCode, string | null];
    }[] = [
      { name: 'a call without a token', token: null, want: ['token_missing', null] },
      { name: 'a call with a token that is refused', token: 'bad', want: ['token_expired', null] },
      {
        name: 'a call that the policy denies, with the identity that attestation gave',
        before: ({ world }) => void (world.policy = parsePolicy(deny, 'policy.yaml', BOUNDS)),
        want: ['identity_denied', 'u1'],
      },
      {
        name: 'a stream too many',
        before: async ({ open }) => {
          for (let n = 0; n < 4; n += 1) await open('u1');
        },
        want: ['too_many_streams', 'u1'],
      },
      {
        name: 'a report that is none',
        act: (_, call) => call.send(new Uint8Array(0)),
        want: ['report_invalid', 'u1'],
      },
      {
        name: 'an open stream that a new policy denies',
        act: async ({ world, service }, call) => {
          await call.send(reportBytes());
          world.policy = parsePolicy(deny, 'policy.yaml', BOUNDS);
          service.sweep();
        },
        want: ['identity_denied', 'u1'],
      },
    ];
    for (const { name, token = 'u1', before, act, want } of rows) {
      it(name, async () => {
        const setting = setup();
        await before?.(setting);
        const call = await setting.open(token, '192.0.2.7:41000');
        await act?.(setting, call);
        await settle();
        assert.notEqual(call.refusal, null);
        const [refusal, ...more] = setting.refused;
        assert.deepEqual(more, []);
        assert.ok(refusal !== undefined && isKedgeError(refusal.error));
        const { event, error, instance, spiffeId, peer } = refusal;
        assert.deepEqual([event, error.code, instance?.podUid ?? null], ['watch.refused', ...want]);
        assert.equal(spiffeId?.toString(), want[1] === null ? undefined : ID);
        assert.deepEqual(peer, { address: '192.0.2.7' });
      });
    }

    it('and nothing where a stream only ends: with its agent, its token, or the CA', async () => {
      const { open, refused, service, clock } = setup();
      const [leaves, outlives, stays] = [await open('u1'), await open('u2'), await open('u3')];
      for (const call of [leaves, outlives, stays]) await call.send(reportBytes());
      await leaves.cancel();
      clock.jumpWall(3_600_000);
      service.sweep();
      service.close();
      await settle();
      assert.deepEqual(refused, []);
    });
  });

  it('ends every stream with shutting_down when it closes, and refuses new ones so', async () => {
    const { open, service } = setup();
    const call = await open();
    await call.send(reportBytes());
    service.close();
    await settle();
    for (const ended of [call, await open('u2')]) {
      assert.deepEqual(refusalOf(ended), ['shutting_down', GRPC_STATUS.UNAVAILABLE]);
    }
    assert.equal(service.streams, 0);
  });

  it('runs until it is told to end', async () => {
    const { open, service, clock } = setup();
    const call = await open();
    const stop = new AbortController();
    const running = service.run(stop.signal);
    await clock.advance(12_000);
    assert.deepEqual(refusalOf(call), ['report_invalid', GRPC_STATUS.INVALID_ARGUMENT]);
    stop.abort();
    await running;
  });
});
