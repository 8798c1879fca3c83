import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { type AuthorityCandidate, checkAuthority, tryThrowawaySvid } from '../../../pki/authority-check.ts';
import { KedgeError, isKedgeError } from '../../../pki/kedge-error.ts';
import { TrustDomain } from '../../../pki/spiffe-id.ts';
import { x509 } from '../../../pki/x509-library.ts';
import {
  type Deviation,
  HOUR_MS,
  NOW_MS,
  type TestCa,
  ext,
  makeAnchor,
  makeIssuer,
  newSigner,
  randomSerial,
  signedBy,
} from '../../support/certificates.ts';

const trustDomain = TrustDomain.parse('example.org');
let anchor: TestCa;
let issuer: TestCa;

before(async () => {
  anchor = await makeAnchor();
  issuer = await makeIssuer(anchor);
});

function check(given: Partial<AuthorityCandidate>): void {
  checkAuthority({
    trustDomain,
    chain: [issuer.der],
    anchor: anchor.der,
    spki: null,
    nowMs: NOW_MS,
    ...given,
  });
}

function isUnusable(message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isKedgeError(error, 'authority_unusable'), String(error));
    assert.match(error.message, message);
    return true;
  };
}

describe('checking an authority before it is adopted', () => {
  it('takes an issuer, an anchor, and an issuer below an intermediate CA', async () => {
    const middle = await makeIssuer(anchor);
    const low = await makeIssuer(middle);
    check({ spki: issuer.signer.spki });
    check({ chain: [anchor.der], anchor: null, spki: anchor.signer.spki });
    check({ chain: [low.der, middle.der] });
  });

  it('takes a CA of others without a SPIFFE ID where that is said to be optional, and none with another ID', async () => {
    const nameless = await makeAnchor({ extensions: { san: null } });
    check({ chain: [nameless.der], anchor: null, spiffeId: 'optional' });
    const foreign = await makeAnchor({ extensions: { san: ext.uris('spiffe://other.example') } });
    assert.throws(
      () => check({ chain: [foreign.der], anchor: null, spiffeId: 'optional' }),
      isUnusable(/URI SAN is not/),
    );
  });

  it('gives the certificate', () => {
    const certificate = checkAuthority({
      trustDomain,
      chain: [issuer.der],
      anchor: anchor.der,
      spki: issuer.signer.spki,
      nowMs: NOW_MS,
    });
    assert.deepEqual(certificate.der, issuer.der);
  });

  const CASES: readonly { name: string; ca: Deviation; message: RegExp }[] = [
    {
      name: 'another SPIFFE ID',
      ca: { extensions: { san: ext.uris('spiffe://other.example') } },
      message: /URI SAN is not spiffe:\/\/example\.org alone/,
    },
    { name: 'no SPIFFE ID', ca: { extensions: { san: null } }, message: /URI SAN is not/ },
    {
      name: 'a second URI',
      ca: { extensions: { san: ext.uris('spiffe://example.org', 'https://a.test') } },
      message: /URI SAN is not/,
    },
    {
      name: 'no subject key identifier',
      ca: { extensions: { subjectKeyId: null } },
      message: /no subject key identifier/,
    },
    {
      name: 'cA false',
      ca: { extensions: { basicConstraints: ext.basicConstraints(false) } },
      message: /the authority is not a CA/,
    },
    {
      name: 'no keyCertSign',
      ca: { extensions: { keyUsage: ext.keyUsage(x509.KeyUsageFlags.cRLSign) } },
      message: /lacks keyCertSign/,
    },
    {
      name: 'an unknown critical extension',
      ca: { extensions: { more: ext.unknown(true) } },
      message: /critical extension 1\.3\.6/,
    },
    {
      name: 'a notBefore to come',
      ca: { notBeforeMs: NOW_MS + 1000 },
      message: /the authority is not valid yet/,
    },
    { name: 'a notAfter that is now', ca: { notAfterMs: NOW_MS }, message: /the authority has expired/ },
  ];
  for (const { name, ca, message } of CASES) {
    it(`refuses an issuer with ${name}`, async () => {
      const wrong = await makeIssuer(anchor, ca);
      assert.throws(() => check({ chain: [wrong.der] }), isUnusable(message));
    });
    it(`refuses an anchor with ${name}`, async () => {
      const wrong = await makeAnchor(ca);
      assert.throws(() => check({ chain: [wrong.der], anchor: null }), isUnusable(message));
    });
  }

  it('refuses one without a subject', async () => {
    const nameless = await makeIssuer(anchor, { subject: '' });
    assert.throws(() => check({ chain: [nameless.der] }), isUnusable(/subject is empty/));
  });

  it('refuses one of another key than the one that is to sign', () => {
    assert.throws(() => check({ spki: newSigner().spki }), isUnusable(/another key/));
  });

  it('refuses one of ours that could revoke nothing', async () => {
    const extensions = { keyUsage: ext.keyUsage(x509.KeyUsageFlags.keyCertSign) };
    const mute = await makeIssuer(anchor, { extensions });
    check({ chain: [mute.der] });
    assert.throws(() => check({ chain: [mute.der], spki: mute.signer.spki }), isUnusable(/cRLSign/));
  });

  it('refuses one that outlives what is above it', async () => {
    const longer = await makeIssuer(anchor, { notAfterMs: NOW_MS + 25 * HOUR_MS });
    assert.throws(() => check({ chain: [longer.der] }), isUnusable(/outlives certificate 1 above/));
  });

  it('refuses one below an anchor that is wrong itself', async () => {
    const expired = await makeAnchor({ notAfterMs: NOW_MS - 1000 });
    const below = await makeIssuer(expired, { notAfterMs: NOW_MS - 2000, notBeforeMs: NOW_MS - HOUR_MS });
    assert.throws(() => check({ chain: [below.der], anchor: expired.der }), isUnusable(/expired/));
    const late = await makeIssuer(expired);
    assert.throws(
      () => check({ chain: [late.der], anchor: expired.der }),
      isUnusable(/certificate 1 above the authority has expired/),
    );
  });

  it('refuses a chain that does not hang together', async () => {
    const stranger = await makeAnchor();
    assert.throws(() => check({ anchor: stranger.der }), isUnusable(/does not follow/));
    const namesake = await makeAnchor({ subject: anchor.subject });
    assert.throws(() => check({ anchor: namesake.der }), isUnusable(/not signed by the next/));
    assert.throws(
      () => check({ chain: [signedBy(issuer.der, newSigner())] }),
      isUnusable(/not signed by the next/),
    );
    const forged = signedBy(anchor.der, newSigner());
    assert.throws(() => check({ chain: [forged], anchor: null }), isUnusable(/not signed by the next/));
    assert.throws(() => check({ anchor: issuer.der }), isUnusable(/does not name itself/));
    assert.throws(() => check({ chain: [issuer.der], anchor: null }), isUnusable(/does not name itself/));
  });

  it('refuses no certificate at all, and what is none', () => {
    assert.throws(() => check({ chain: [], anchor: null }), isUnusable(/there is no certificate/));
    assert.throws(() => check({ chain: [Uint8Array.of(1)] }), isUnusable(/DER/));
  });

  it('refuses one with no room below it', async () => {
    const limited = await makeAnchor({ extensions: { basicConstraints: ext.basicConstraints(true, 0) } });
    const below = await makeIssuer(limited);
    assert.throws(() => check({ chain: [limited.der], anchor: null }), isUnusable(/no room for an issuer/));
    assert.throws(
      () => check({ chain: [below.der], anchor: limited.der }),
      isUnusable(/certificate 1 above the authority allows 0/),
    );
    const one = await makeAnchor({ extensions: { basicConstraints: ext.basicConstraints(true, 1) } });
    check({ chain: [one.der], anchor: null });
    check({ chain: [(await makeIssuer(one)).der], anchor: one.der });
  });

  it('refuses one outside of the name constraints above it', async () => {
    const extensions = { constraints: ext.nameConstraints([[6, 'other.example']]) };
    const bound = await makeAnchor({ extensions });
    const below = await makeIssuer(bound);
    assert.throws(() => check({ chain: [below.der], anchor: bound.der }), isUnusable(/name constraints/));
  });
});

describe('a throwaway SVID', () => {
  const attempt = (ca: TestCa, other: Partial<Parameters<typeof tryThrowawaySvid>[0]> = {}): Promise<void> =>
    tryThrowawaySvid({
      trustDomain,
      chain: [ca.der],
      signer: ca.signer,
      anchors: [anchor.der],
      spki: newSigner().spki,
      serialNumber: randomSerial(),
      nowMs: NOW_MS + 123,
      ...other,
    });

  it('verifies under a good issuer', async () => {
    await attempt(issuer);
    const signer = newSigner('rsa-3072');
    await attempt(await makeIssuer(anchor, { signer }));
  });

  it('verifies with a signer that answers later', async () => {
    const { signer } = issuer;
    await attempt(issuer, { signer: { ...signer, sign: (data) => Promise.resolve(signer.sign(data)) } });
  });

  it('fails when the key is not the one of the certificate', async () => {
    await assert.rejects(attempt(issuer, { signer: newSigner() }), isUnusable(/not signed by the issuer/));
    await assert.rejects(
      attempt(issuer, { signer: newSigner('rsa-3072') }),
      isUnusable(/does not sign with/),
    );
  });

  it('fails when peers would not find their way to an anchor', async () => {
    const stranger = await makeAnchor();
    await assert.rejects(attempt(issuer, { anchors: [stranger.der] }), isUnusable(/no trust anchor/));
    await assert.rejects(attempt(issuer, { chain: [] }), isUnusable(/there is no certificate/));
    await assert.rejects(
      attempt(issuer, { trustDomain: TrustDomain.parse('other.example') }),
      isUnusable(/the leaf of/),
    );
  });

  it('fails when the issuer is about to expire', async () => {
    const late = await makeIssuer(anchor, { notAfterMs: NOW_MS });
    await assert.rejects(attempt(late), isUnusable(/beyond the one of the issuer/));
  });

  it('keeps the cause', async () => {
    await assert.rejects(attempt(issuer, { signer: newSigner() }), (error) => {
      assert.ok(error instanceof KedgeError && isKedgeError(error.cause, 'svid_signature_invalid'));
      return true;
    });
  });
});
