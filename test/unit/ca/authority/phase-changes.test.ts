import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type PhaseChange, phaseChanges } from '../../../../ca/authority/phase-changes.ts';
import { emptyTrustState, type Issuer, type TrustState } from '../../../../ca/authority/trust-state.ts';
import { activeState, makeAuthorityPool } from '../../../support/trust-states.ts';

const pool = await makeAuthorityPool(1, 2);
const active = activeState(pool);
const [anchor] = active.anchors;
const [issuer] = active.issuers;
const withIssuers = (...issuers: Issuer[]): TrustState => ({ ...active, issuers });

describe('what differs between two trust states', () => {
  const [a, i] = [anchor!.id, issuer!.id];
  const other = { ...pool.issuers[0]![1]!, phase: 'active' } as const;
  const table: readonly {
    name: string;
    before: TrustState;
    after: TrustState;
    want: readonly PhaseChange[];
  }[] = [
    { name: 'nothing', before: active, after: structuredClone(active), want: [] },
    {
      name: 'authorities that came, anchors first',
      before: emptyTrustState('example.org'),
      after: { ...active, anchors: [{ ...anchor!, phase: 'prepared' }] },
      want: [
        { authority: 'anchor', id: a, change: 'prepared' },
        { authority: 'issuer', id: i, change: 'activated' },
      ],
    },
    {
      name: 'one that retired while another became active',
      before: withIssuers(issuer!, { ...other, phase: 'prepared' }),
      after: withIssuers({ ...issuer!, phase: 'retired' }, other),
      want: [
        { authority: 'issuer', id: i, change: 'retired' },
        { authority: 'issuer', id: other.id, change: 'activated' },
      ],
    },
    {
      name: 'one that is tainted, once',
      before: active,
      after: withIssuers({ ...issuer!, taintedAtMs: 5 }),
      want: [{ authority: 'issuer', id: i, change: 'tainted' }],
    },
    {
      name: 'one that was tainted before',
      before: withIssuers({ ...issuer!, taintedAtMs: 5 }),
      after: withIssuers({ ...issuer!, taintedAtMs: 5, phase: 'retired' }),
      want: [{ authority: 'issuer', id: i, change: 'retired' }],
    },
    {
      name: 'one that came tainted',
      before: withIssuers(),
      after: withIssuers({ ...issuer!, taintedAtMs: 5 }),
      want: [
        { authority: 'issuer', id: i, change: 'activated' },
        { authority: 'issuer', id: i, change: 'tainted' },
      ],
    },
    {
      name: 'one that is gone',
      before: active,
      after: withIssuers(),
      want: [{ authority: 'issuer', id: i, change: 'removed' }],
    },
  ];
  for (const { name, before, after, want } of table) {
    it(`is told: ${name}`, () => assert.deepEqual(phaseChanges(before, after), want));
  }
});
