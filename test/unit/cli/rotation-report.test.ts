import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { historyReport, planReport, progressLine, rotationReport } from '../../../cli/rotation-report.ts';
import type { GateStatus, GetRotationResponse, RotationStatus } from '../../../proto/gen/kedge/v1/admin.ts';

const NOW = Date.UTC(2026, 5, 1, 3);
const at = (ms: number): bigint => BigInt(NOW + ms);

const gate: GateStatus = {
  open: false,
  reason: 'waiting for 1 of 4 instances to acknowledge bundle 2: shop/cart',
  instances: 4,
  stragglers: 1,
  named: [
    {
      id: 'u1',
      name: 'shop/cart',
      bundleSequence: 1n,
      issuerId: 'cc'.repeat(20),
      svidNotAfterMs: at(3_600_000),
    },
  ],
};
const current: RotationStatus = {
  number: 3,
  kind: 'planned',
  upstream: 'self',
  fromAnchorId: 'aa'.repeat(20),
  goalAnchorId: 'bb'.repeat(20),
  step: 'acknowledge',
  startedAtMs: at(-60_000),
  deadlineMs: undefined,
  pausedAtMs: undefined,
  abortedAtMs: undefined,
  by: 'alice (uid 1000)',
  reason: 'yearly',
  gate,
  excused: [],
  cutOff: [],
  cutOffCount: 0,
};
const answer: GetRotationResponse = {
  current,
  past: [],
  lifecycle: 'nothing to do',
  serverTimeMs: BigInt(NOW),
  anchors: [],
  issuers: [],
  bundleSequence: 2n,
};
const none: GetRotationResponse = { ...answer, current: undefined };

describe('the report of a rotation', () => {
  it('says the step, who began it, how many have followed, and who has not', () => {
    const text = rotationReport(answer);
    assert.match(text, /^rotation {2}3, planned$/m);
    assert.match(text, /^step {6}2 of 5, acknowledge: every instance/m);
    assert.match(
      text,
      /^begun {5}2026-06-01T02:59:00Z \(1m 0s ago\) by alice \(uid 1000\)$|^begun {5}.*\(1m ago\) by alice \(uid 1000\)$/m,
    );
    assert.match(text, /^\[#{18}-{6}\] 3 of 4 instances have followed$/m);
    assert.match(
      text,
      /^ {2}shop\/cart \(u1\): holds bundle 1, an SVID of issuer cccccccccccc, which ends in 1h/m,
    );
  });

  it('has what is wrong first: that it is paused, and who was cut off', () => {
    const text = rotationReport({
      ...answer,
      current: { ...current, pausedAtMs: at(-1_000), cutOff: ['shop/cart'], cutOffCount: 7 },
    });
    assert.match(text, /^! paused since .*: kedge rotate resume/);
    assert.match(text, /^! 7 instances were cut off: shop\/cart$/m);
  });

  it('says that there is none, and what comes next', () => {
    assert.match(rotationReport(none), /^no rotation is under way\n\nnext: nothing to do\n/);
  });

  it('shows no control character of what others wrote', () => {
    const text = rotationReport({ ...answer, current: { ...current, reason: '\u001b[31m', by: 'a\nb' } });
    assert.ok(!text.includes('\u001b') && text.includes('\\u001b') && text.includes('a\\u000ab'), text);
  });
});

describe('the line of a rotation that is watched', () => {
  it('says the step, the share, and who is waited for', () => {
    assert.equal(
      progressLine(answer),
      `2026-06-01T03:00:00Z  rotation 3  acknowledge  [${'#'.repeat(18)}------] 3/4  waits for shop/cart`,
    );
  });

  it('says how it ended', () => {
    const past = [{ ...current, endedAtMs: at(0), outcome: 'completed' }];
    assert.equal(progressLine({ ...none, past }), '2026-06-01T03:00:00Z  rotation 3 is completed');
    assert.equal(progressLine(none), '2026-06-01T03:00:00Z  no rotation');
  });
});

describe('the plan of a rotation', () => {
  it('names who would fail if the next step were taken now', () => {
    assert.match(
      planReport(answer),
      /1 of 4 instances would fail if the next step were taken now:\n {2}shop\/cart/,
    );
  });

  it('says that nobody would, and for what it waits all the same', () => {
    const unknown = { ...gate, stragglers: 0, named: [], reason: 'waiting to know all live instances' };
    const text = planReport({ ...answer, current: { ...current, gate: unknown } });
    assert.match(text, /nobody would fail .*\nwaiting to know all live instances/);
    assert.match(planReport(none), /to begin one breaks nothing/);
  });
});

describe('the history of rotations', () => {
  it('has the newest first, with who, why, how long, and who was cut off', () => {
    const one = { ...current, endedAtMs: at(0), outcome: 'completed', excused: ['shop/old'] };
    const past = [
      one,
      { ...one, number: 4, outcome: 'aborted', cutOff: ['shop/cart'], cutOffCount: 2, excused: [] },
    ];
    const [, first, second] = historyReport({ ...none, past }).split('\n');
    assert.match(first ?? '', /^4 .*aborted.*aaaaaaaaaaaa to bbbbbbbbbbbb.*yearly.*2: shop\/cart$/);
    assert.match(second ?? '', /^3 .*completed.*nobody; excused shop\/old$/);
    assert.equal(historyReport(none), 'no rotation has ended yet\n');
  });
});
