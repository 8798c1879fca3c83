import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { before, describe, it } from 'node:test';
import { checkBundle, checkSvid, isTrusted, type SvidCheck } from '../../../agent/ca-answer.ts';
import type { BundleSnapshot, SvidSnapshot } from '../../../agent/snapshot.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import type { TrustBundle } from '../../../proto/gen/kedge/v1/identity.ts';
import { bundleOf } from '../../fakes/fake-ca.ts';
import { HOUR_MS, makeAnchor, newPrivateKey, type TestCa } from '../../support/certificates.ts';
import { expectCode } from '../../support/expect-code.ts';
import { EXAMPLE_ORG, keyOf, SnapshotFactory } from '../../support/snapshots.ts';

const NOW_MS = Date.UTC(2026, 0, 1);

describe('a bundle of the CA', () => {
  let anchor: TestCa;
  let other: TestCa;
  before(async () => {
    [anchor, other] = [await makeAnchor(), await makeAnchor()];
  });
  const check = (message: TrustBundle | undefined, held: BundleSnapshot | null = null): BundleSnapshot =>
    checkBundle(message, EXAMPLE_ORG, held);

  it('is taken, and copied out of the message', () => {
    const message = bundleOf(3n, anchor);
    const bundle = check(message);
    assert.equal(bundle.sequence, 3n);
    assert.deepEqual(bundle.x509Authorities, [anchor.der]);
    assert.notEqual(bundle.x509Authorities[0]?.buffer, message.x509Authorities[0]?.buffer);
  });

  it('equal to the one held is the one held', () => {
    const held = check(bundleOf(3n, anchor));
    assert.equal(check(bundleOf(3n, anchor), held), held);
  });

  it('of a higher sequence replaces the one held', () => {
    const held = check(bundleOf(3n, anchor));
    assert.deepEqual(check(bundleOf(4n, anchor, other), held).x509Authorities, [anchor.der, other.der]);
  });

  const wrong: readonly { name: string; message: () => TrustBundle | undefined; code: ErrorCode }[] = [
    { name: 'that is missing', message: () => undefined, code: 'ca_answer_invalid' },
    {
      name: 'of another trust domain',
      message: () => ({ ...bundleOf(5n, anchor), trustDomain: 'evil.org' }),
      code: 'ca_answer_invalid',
    },
    { name: 'of a lower sequence', message: () => bundleOf(4n, anchor), code: 'bundle_sequence_regressed' },
    {
      name: 'of the same sequence with other anchors',
      message: () => bundleOf(5n, other),
      code: 'ca_answer_invalid',
    },
    { name: 'without an anchor', message: () => bundleOf(6n), code: 'ca_answer_invalid' },
    {
      name: 'of too many anchors',
      message: () => bundleOf(6n, ...Array.from({ length: LIMITS.bundleAuthorities + 1 }, () => anchor)),
      code: 'ca_answer_invalid',
    },
    {
      name: 'with an anchor that is no certificate',
      message: () => ({ ...bundleOf(6n), x509Authorities: [Uint8Array.of(1, 2)] }),
      code: 'ca_answer_invalid',
    },
    {
      name: 'with a CRL that is none',
      message: () => ({ ...bundleOf(6n, anchor), crls: [Uint8Array.of(1, 2)] }),
      code: 'ca_answer_invalid',
    },
    {
      name: 'with CRLs over the limit',
      message: () => ({ ...bundleOf(6n, anchor), crls: [new Uint8Array(LIMITS.crlBytes + 1)] }),
      code: 'ca_answer_invalid',
    },
  ];
  for (const { name, message, code } of wrong) {
    it(`${name} is ${code}`, () => {
      const held = check(bundleOf(5n, anchor));
      expectCode(code, () => check(message(), held));
    });
  }
});

describe('an SVID of the CA', () => {
  let factory: SnapshotFactory;
  let stranger: SnapshotFactory;
  let good: SvidSnapshot;
  let privateKey: KeyObject;
  before(async () => {
    factory = await SnapshotFactory.make(NOW_MS);
    stranger = await SnapshotFactory.make(NOW_MS);
    good = await factory.svid();
    privateKey = keyOf(good);
  });
  const check = (changes: Partial<SvidCheck> = {}): SvidSnapshot =>
    checkSvid({
      chain: good.chain,
      bundle: factory.bundle(),
      privateKey,
      trustDomain: EXAMPLE_ORG,
      expectedId: undefined,
      nowMs: NOW_MS,
      ...changes,
    });

  it('that is good is taken as it is', () => {
    const svid = check();
    assert.ok(svid.spiffeId.equals(good.spiffeId));
    assert.deepEqual(svid.chain, good.chain);
    assert.deepEqual(svid.serialNumber, good.serialNumber);
    assert.deepEqual(svid.authorityKeyId, good.authorityKeyId);
    assert.deepEqual(
      { notBeforeMs: svid.notBeforeMs, notAfterMs: svid.notAfterMs },
      { notBeforeMs: good.notBeforeMs, notAfterMs: good.notAfterMs },
    );
    assert.deepEqual(svid.privateKey.expose(), good.privateKey.expose());
  });

  it('with the SPIFFE ID that is expected is taken', () => {
    assert.ok(check({ expectedId: good.spiffeId }));
  });

  const wrong: readonly { name: string; changes: () => Partial<SvidCheck>; code: ErrorCode }[] = [
    { name: 'of another key', changes: () => ({ privateKey: newPrivateKey() }), code: 'ca_answer_invalid' },
    {
      name: 'of another SPIFFE ID than is expected',
      changes: () => ({ expectedId: SpiffeId.parse('spiffe://example.org/other') }),
      code: 'svid_unexpected_id',
    },
    {
      name: 'that its bundle does not verify',
      changes: () => ({ bundle: stranger.bundle() }),
      code: 'ca_answer_invalid',
    },
    { name: 'without a certificate', changes: () => ({ chain: [] }), code: 'ca_answer_invalid' },
    {
      name: 'of too many certificates',
      changes: () => ({
        chain: Array.from({ length: LIMITS.chainCertificates + 1 }, () => good.chain[0] ?? good.serialNumber),
      }),
      code: 'ca_answer_invalid',
    },
    {
      name: 'without its issuer',
      changes: () => ({ chain: good.chain.slice(0, 1) }),
      code: 'ca_answer_invalid',
    },
    {
      name: 'of rubbish',
      changes: () => ({ chain: [Uint8Array.of(0x30, 0x80)] }),
      code: 'ca_answer_invalid',
    },
    {
      name: 'of a certificate over the limit',
      changes: () => ({ chain: [new Uint8Array(LIMITS.certificateBytes + 1)] }),
      code: 'ca_answer_invalid',
    },
    { name: 'that has expired', changes: () => ({ nowMs: NOW_MS + HOUR_MS }), code: 'ca_answer_invalid' },
    {
      name: 'that is not valid yet',
      changes: () => ({ nowMs: NOW_MS - HOUR_MS }),
      code: 'ca_answer_invalid',
    },
  ];
  for (const { name, changes, code } of wrong) {
    it(`${name} is ${code}`, () => {
      expectCode(code, () => check(changes()));
    });
  }

  it('of another trust domain is refused', async () => {
    const svid = await factory.svid({ id: 'spiffe://evil.org/web' });
    expectCode('ca_answer_invalid', () => check({ chain: svid.chain, privateKey: keyOf(svid) }));
  });

  it('that is not valid by the own clock is refused with a hint at the clocks', () => {
    const error = expectCode('ca_answer_invalid', () => check({ nowMs: NOW_MS - HOUR_MS }));
    assert.match(error.hint ?? '', /clocks/);
  });

  it('is trusted while its anchor is in the bundle', () => {
    assert.ok(isTrusted(good, factory.bundle(), NOW_MS));
    assert.ok(!isTrusted(good, stranger.bundle(), NOW_MS));
  });
});
