import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Coverage } from '../../../../ca/authority/coverage.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import { NestedCas, REPORT_LIFETIME_MS } from '../../../../ca/downstream/nested-cas.ts';
import { type NestedReport, nestedInstance, nestedReport } from '../../../../ca/downstream/nested-report.ts';
import { coverageOfAll } from '../../../support/coverage.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const CA = 'spiffe://example.org/ns/kedge/sa/east';

/** Two anchors, `aa` since bundle 1 and `bb` since bundle 2, each with an issuer. Only what reports look at. */
const state = {
  sequence: 2,
  anchors: [
    { id: 'aa', phase: 'active', sinceSequence: 1 },
    { id: 'bb', phase: 'prepared', sinceSequence: 2 },
  ],
  issuers: [
    { id: '1a', anchorId: 'aa', phase: 'active', notAfterMs: 500 },
    { id: '1b', anchorId: 'bb', phase: 'prepared', notAfterMs: 900 },
  ],
} as unknown as TrustState;

const report = (over: Partial<NestedReport> = {}): NestedReport => ({
  complete: true,
  bundleAnchors: ['aa', 'bb'],
  heldAnchors: ['aa', 'bb'],
  svidAnchor: 'aa',
  issuersEndMs: 900,
  ...over,
});

describe('what a nested CA says of its fleet', () => {
  const holding = (bundleSequence: number, authorityKeyId: string | null) => (id: string) => ({
    id,
    bundleSequence,
    authorityKeyId,
  });

  it('is what all of its instances hold, not what some do', () => {
    const both = holding(2, '1b');
    const table: readonly { name: string; coverage: Coverage; held: string[]; svid: string | null }[] = [
      { name: 'all follow', coverage: coverageOfAll(both('1'), both('2')), held: ['aa', 'bb'], svid: 'bb' },
      {
        name: 'one has the old bundle and SVID',
        coverage: coverageOfAll(both('1'), holding(1, '1a')('2')),
        held: ['aa'],
        svid: null,
      },
      {
        name: 'one holds nothing',
        coverage: coverageOfAll(both('1'), holding(0, null)('2')),
        held: [],
        svid: null,
      },
      {
        name: 'what one holds is not confirmed',
        coverage: coverageOfAll(both('1'), { ...both('2'), confirmed: false }),
        held: [],
        svid: null,
      },
      { name: 'there is nobody', coverage: coverageOfAll(), held: ['aa', 'bb'], svid: 'aa' },
    ];
    for (const { name, coverage, held, svid } of table) {
      const said = nestedReport(state, coverage);
      assert.deepEqual([said?.heldAnchors, said?.svidAnchor], [held, svid], name);
      assert.deepEqual(
        [said?.bundleAnchors, said?.issuersEndMs, said?.complete],
        [['aa', 'bb'], 900, true],
        name,
      );
    }
  });

  it('is that not all are known, when they are not; and nothing before there is a state', () => {
    assert.equal(nestedReport(state, { ...coverageOfAll(), complete: false, unknown: 'x' })?.complete, false);
    assert.equal(nestedReport(null, coverageOfAll()), null);
  });
});

describe('a nested CA in the coverage of the CA above', () => {
  const TABLE: readonly { name: string; report: NestedReport; bundle: number; issuer: string | null }[] = [
    { name: 'holds what its whole fleet holds', report: report(), bundle: 2, issuer: '1a' },
    {
      name: 'lacks what one of its fleet lacks',
      report: report({ heldAnchors: ['aa'] }),
      bundle: 1,
      issuer: '1a',
    },
    {
      name: 'holds nothing while not all are known',
      report: report({ complete: false }),
      bundle: 0,
      issuer: null,
    },
    {
      name: 'has not let go of what is still in its own bundle',
      report: report({ bundleAnchors: ['00', 'aa', 'bb'] }),
      bundle: 1,
      issuer: '1a',
    },
    {
      name: 'holds SVIDs under no one anchor',
      report: report({ svidAnchor: null }),
      bundle: 2,
      issuer: null,
    },
  ];
  for (const { name, report, bundle, issuer } of TABLE) {
    it(name, () => {
      const instance = nestedInstance(CA, report, state);
      assert.deepEqual([instance.bundleSequence, instance.authorityKeyId], [bundle, issuer]);
    });
  }

  it('holds nothing until it has spoken, nor once it has been silent for a minute', async () => {
    const clock = new ManualClock(0);
    const nested = new NestedCas([CA], clock);
    const held = () =>
      nested.in(coverageOfAll(), state).instances.map(({ name, bundleSequence }) => [name, bundleSequence]);
    assert.deepEqual(held(), [[CA, 0]]);
    nested.heard(CA, report({ issuersEndMs: 3_600_000 }));
    assert.deepEqual(held(), [[CA, 2]]);
    await clock.advance(REPORT_LIFETIME_MS);
    assert.deepEqual(held(), [[CA, 2]]);
    await clock.advance(1);
    assert.deepEqual(held(), [[CA, 0]]);
    nested.heard(CA, report({ issuersEndMs: 3_600_000 }));
    assert.deepEqual(held(), [[CA, 2]]);
  });

  it('counts until the last SVID that it spoke of has ended, and leaves the rest of the coverage as it is', async () => {
    const clock = new ManualClock(0);
    const nested = new NestedCas([CA], clock);
    const fleet = { ...coverageOfAll({ id: '1', bundleSequence: 2 }), complete: false, unknown: 'x' };
    nested.heard(CA, report());
    const { instances, ...rest } = nested.in(fleet, state);
    assert.deepEqual(
      [instances.map(({ name }) => name), rest],
      [['shop/cart-1', CA], { complete: false, unknown: 'x' }],
    );
    await clock.advance(900);
    assert.equal(nested.in(fleet, state).instances.length, 1);
  });

  it('is not there where none is allowed', () => {
    const fleet = coverageOfAll();
    assert.equal(new NestedCas([], new ManualClock(0)).in(fleet, state), fleet);
  });
});
