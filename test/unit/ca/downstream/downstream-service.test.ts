import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { mintUnder } from '../../../../ca/authority/minting.ts';
import { DownstreamService } from '../../../../ca/downstream/downstream-service.ts';
import { nestedCaller } from '../../../../ca/downstream/nested-caller.ts';
import { NestedCas } from '../../../../ca/downstream/nested-cas.ts';
import type { AuditEntry } from '../../../../ca/issue/audit-record.ts';
import { issuerCsr } from '../../../../pki/authority-profile.ts';
import { parseCertificate } from '../../../../pki/certificate.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import {
  MintIssuerRequest,
  MintIssuerResponse,
  SyncRequest,
  SyncResponse,
} from '../../../../proto/gen/kedge/v1/downstream.ts';
import { never, TestTrustDomain, trustDomain } from '../../../support/authority-replica.ts';
import { makeAnchor, newSigner } from '../../../support/certificates.ts';
import { coverageOfAll } from '../../../support/coverage.ts';
import { expectCode, expectRejection } from '../../../support/expect-code.ts';

const EAST = 'spiffe://example.org/ns/kedge/sa/east';
const DAY_MS = 86_400_000;

/** A CA above, at work under its own anchor. */
async function setUp(
  t: TestContext,
  audited: (entries: readonly AuditEntry[]) => Promise<void> = async () => {},
) {
  const domain = new TestTrustDomain(t);
  const replica = domain.replica();
  await domain.start(replica);
  const { clock } = domain;
  const nested = new NestedCas([EAST], clock);
  const state = () => replica.engine.current().state;
  const service = new DownstreamService({
    trustDomain,
    nested,
    state,
    mint: (anchor, request, signal) => mintUnder(anchor, request, { upstream: replica.upstream }, signal),
    maxLifetimeMs: 7 * DAY_MS,
    audit: {
      append: async (entries) => {
        await audited(entries);
        return [];
      },
    },
    clock,
  });
  const [anchor] = state().anchors;
  const mint = async (over: Partial<MintIssuerRequest> = {}) => {
    const csr = await issuerCsr({ trustDomain, signer: newSigner() });
    const request = MintIssuerRequest.encode({
      csr,
      anchor: anchor!.certificate,
      notBeforeMs: BigInt(clock.now()),
      notAfterMs: BigInt(clock.now() + DAY_MS),
      ...over,
    }).finish();
    return MintIssuerResponse.decode(await service.mintIssuer(EAST, Buffer.from(request), never)).chain;
  };
  const sync = (over: Partial<SyncRequest> = {}) => {
    const report = { complete: true, bundleAnchors: [], heldAnchors: [], svidAnchor: '', issuersEndMs: 0n };
    return SyncResponse.decode(
      service.sync(EAST, Buffer.from(SyncRequest.encode({ ...report, ...over }).finish())),
    );
  };
  return { clock, nested, state, anchor: anchor!, mint, sync };
}

describe('a CA as the upstream of nested ones', () => {
  it('names its active anchor, and mints under it, for no longer than it may', async (t) => {
    const { clock, anchor, mint, sync } = await setUp(t);
    assert.deepEqual(Uint8Array.from(sync().anchor), Uint8Array.from(anchor.certificate));
    const FAR = 2n ** 62n;
    for (const [notBeforeMs, notAfterMs, wantedMs] of [
      [BigInt(clock.now()), BigInt(clock.now() + DAY_MS), clock.now() + DAY_MS],
      [-FAR, FAR, clock.now() + 7 * DAY_MS],
    ] as const) {
      const [issuer] = await mint({ notBeforeMs, notAfterMs });
      assert.equal(parseCertificate(issuer!).notAfterMs, Math.floor(wantedMs / 1_000) * 1_000);
    }
    await expectRejection('authority_unusable', mint({ notAfterMs: -FAR }));
  });

  it('mints nothing under another anchor, nor for a CSR that is none', async (t) => {
    const { mint } = await setUp(t);
    const error = await expectRejection('upstream_refused', mint({ anchor: (await makeAnchor()).der }));
    assert.notEqual(error.retryAfterMs, undefined);
    assert.match(error.hint ?? '', /kedge rotate abort/);
    await assert.rejects(mint({ csr: new Uint8Array(3) }), { code: /^csr_/ });
  });

  it('answers only once the issuer is on the audit log', async (t) => {
    const entries: AuditEntry[] = [];
    const { mint } = await setUp(t, async (all) => void entries.push(...all));
    await mint();
    assert.deepEqual(
      entries.map(({ event, json }) => [event, json.includes(EAST)]),
      [['downstream.issuer_minted', true]],
    );
    const broken = await setUp(t, () =>
      Promise.reject(new KedgeError('audit_unavailable', 'the disk is full')),
    );
    await expectRejection('audit_unavailable', broken.mint());
  });

  it('takes reports for its gates, and refuses those that name no anchors', async (t) => {
    const { clock, nested, state, anchor, sync } = await setUp(t);
    sync({ bundleAnchors: [anchor.id], heldAnchors: [anchor.id], issuersEndMs: 2n ** 62n });
    const [instance] = nested.in(coverageOfAll(), state()).instances;
    assert.equal(instance?.bundleSequence, state().sequence);
    assert.ok((instance?.svidNotAfterMs ?? Infinity) < clock.now() + 400 * DAY_MS);
    for (const bad of ['', 'zz', '../..', 'AA'])
      expectCode('report_invalid', () => sync({ heldAnchors: [bad] }));
    expectCode('report_invalid', () => sync({ bundleAnchors: Array.from({ length: 65 }, () => 'aa') }));
  });

  it('hears nobody without a certificate', async (t) => {
    const { clock, nested, state } = await setUp(t);
    const context = { nested, state: state(), nowMs: clock.now() };
    expectCode('downstream_unauthenticated', () => nestedCaller(null, context));
    expectCode('downstream_unauthenticated', () => nestedCaller(new Uint8Array(4), context));
  });
});
