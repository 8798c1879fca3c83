import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { rotationMethods } from '../../../../ca/api/rotation-service.ts';
import { prepareGoal } from '../../../../ca/authority/rotation-transitions.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import { trustView } from '../../../../ca/authority/trust-view.ts';
import type { AuditEntry } from '../../../../ca/issue/audit-record.ts';
import {
  ChangeRotationRequest,
  GetRotationResponse,
  RotationAct,
} from '../../../../proto/gen/kedge/v1/admin.ts';
import { coverageOfAll } from '../../../support/coverage.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { activeState, makeAuthorityPool } from '../../../support/trust-states.ts';

const pool = await makeAuthorityPool(2, 1);
const call = {
  metadata: new Metadata(),
  peer: 'unix',
  peerAddress: 'unix',
  signal: new AbortController().signal,
};

function setUp() {
  const clock = new ManualClock();
  const world = {
    state: activeState(pool),
    notes: [] as AuditEntry[],
    coverage: coverageOfAll({ id: 'u1' }),
  };
  const engine = {
    current: () => trustView(world.state, null),
    health: () => ({ ok: true, degraded: false, reason: 'nothing to do' }),
    change: async (change: (state: TrustState) => TrustState) => {
      world.state = change(world.state);
      return world.state;
    },
  };
  const methods = rotationMethods({
    engine,
    coverage: () => world.coverage,
    evidence: 'best',
    upstream: 'self',
    note: (entry) => void world.notes.push(entry),
    clock,
  });
  const get = async () => GetRotationResponse.decode(await methods.rotation(Buffer.alloc(0), call));
  const change = async (over: Partial<ChangeRotationRequest>) => {
    const request = {
      act: RotationAct.ROTATION_ACT_START,
      target: '',
      deadlineMs: undefined,
      by: 'alice (uid 1000)',
      reason: 'yearly',
      dryRun: false,
      ...over,
    };
    const bytes = Buffer.from(ChangeRotationRequest.encode(request).finish());
    return GetRotationResponse.decode(await methods.changeRotation(bytes, call));
  };
  return { clock, world, get, change };
}

describe('what operators are told of a rotation', () => {
  it('is that there is none, and which authorities there are', async () => {
    const { get } = setUp();
    const answer = await get();
    assert.deepEqual([answer.current, answer.past, answer.lifecycle], [undefined, [], 'nothing to do']);
    assert.deepEqual(
      [...answer.anchors, ...answer.issuers].map(({ phase, tainted }) => [phase, tainted]),
      [
        ['active', false],
        ['active', false],
      ],
    );
  });

  it('is its step, and for whom it waits, with what each holds', async () => {
    const { world, get, change } = setUp();
    await change({});
    assert.equal((await get()).current?.step, 'prepare');
    const { id, certificate, notBeforeMs, notAfterMs, upstream, key } = pool.anchors[1]!;
    world.state = prepareGoal(world.state, { id, certificate, notBeforeMs, notAfterMs, upstream, key }, 0);
    world.coverage = coverageOfAll(
      { id: 'u1', bundleSequence: 1, authorityKeyId: 'aa', svidNotAfterMs: 5 },
      { id: 'u2', bundleSequence: 2 },
    );
    const { current } = await get();
    assert.deepEqual([current?.step, current?.goalAnchorId], ['acknowledge', id]);
    assert.deepEqual(current?.gate, {
      open: false,
      reason: 'waiting for 1 of 2 instances to acknowledge bundle 2: shop/cart-u1',
      instances: 2,
      stragglers: 1,
      named: [{ id: 'u1', name: 'shop/cart-u1', bundleSequence: 1n, issuerId: 'aa', svidNotAfterMs: 5n }],
    });
  });
});

describe('what operators ask of a rotation', () => {
  it('is done, and on the audit log with who, when and why', async () => {
    const { clock, world, change } = setUp();
    const answer = await change({});
    assert.deepEqual([answer.current?.kind, answer.current?.by], ['planned', 'alice (uid 1000)']);
    assert.equal(world.state.rotation?.number, 1);
    const [note] = world.notes;
    assert.deepEqual([note?.event, note?.timeMs], ['rotation.start', clock.now()]);
    assert.match(note?.json ?? '', /"number":1,"target":"","by":"alice \(uid 1000\)","reason":"yearly"/);
  });

  it('is only shown in a dry run: nothing changes, and nothing is noted', async () => {
    const { world, change } = setUp();
    const answer = await change({ dryRun: true });
    assert.equal(answer.current?.number, 1);
    assert.deepEqual([world.state.rotation, world.notes], [null, []]);
  });

  it('ends among those that were', async () => {
    const { change, get } = setUp();
    await change({});
    await change({ act: RotationAct.ROTATION_ACT_ABORT });
    const { past } = await get();
    assert.deepEqual(
      past.map(({ number, outcome, reason }) => [number, outcome, reason]),
      [[1, 'aborted', 'yearly']],
    );
  });

  it('is refused when it is nothing that there is, or cannot be now', async () => {
    const { world, change } = setUp();
    for (const act of [RotationAct.ROTATION_ACT_UNSPECIFIED, 99 as RotationAct]) {
      await expectRejection('usage_invalid', change({ act }));
    }
    await expectRejection('rotation_refused', change({ act: RotationAct.ROTATION_ACT_PAUSE }));
    assert.deepEqual(world.notes, []);
  });
});
