import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { before, describe, it } from 'node:test';
import { toHex } from '../../../pki/bytes.ts';
import { parseCertificate } from '../../../pki/certificate.ts';
import { parseCrl } from '../../../pki/crl.ts';
import { createCrl } from '../../../pki/crl-builder.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { OID } from '../../../pki/oid.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import { type SvidVerification, verifyX509Svid } from '../../../pki/x509-svid-verify.ts';
import { x509 } from '../../../pki/x509-library.ts';
import {
  type Deviation,
  HOUR_MS,
  NOW_MS,
  SVID_ID,
  type TestCa,
  ext,
  makeAnchor,
  makeCertificate,
  makeIssuer,
  makeLeaf,
  newSigner,
  signedBy,
} from '../../support/certificates.ts';

const { cRLSign, dataEncipherment, digitalSignature, keyCertSign } = x509.KeyUsageFlags;

let anchor: TestCa;
let issuer: TestCa;
let leaf: Uint8Array;

before(async () => {
  anchor = await makeAnchor();
  issuer = await makeIssuer(anchor);
  leaf = await makeLeaf(issuer);
});

type Given = Partial<SvidVerification> & { readonly bundle?: readonly Uint8Array[] };

/** Verifies at NOW_MS against the anchor, whatever else is given. */
function verify(given: Given = {}): ReturnType<typeof verifyX509Svid> {
  const bundle = given.bundle ?? [anchor.der];
  return verifyX509Svid({
    chain: [leaf, issuer.der],
    bundles: (trustDomain) => (trustDomain.name === 'example.org' ? bundle : undefined),
    nowMs: NOW_MS,
    ...given,
  });
}

function refuses(given: Given, code: ErrorCode, message?: RegExp): void {
  assert.throws(
    () => verify(given),
    (error) => {
      assert.ok(isKedgeError(error), String(error));
      assert.equal(error.code, code, error.message);
      if (message !== undefined) assert.match(error.message, message);
      return true;
    },
  );
}

describe('verifying an SVID', () => {
  it('gives the SPIFFE ID, the leaf, the anchor and the path', () => {
    const verified = verify();
    assert.equal(verified.spiffeId.toString(), SVID_ID);
    assert.deepEqual(verified.leaf.der, leaf);
    assert.deepEqual(verified.anchor.der, anchor.der);
    assert.deepEqual(
      verified.path.map(({ der }) => toHex(der)),
      [leaf, issuer.der, anchor.der].map(toHex),
    );
  });

  it('refuses a chain without a certificate', () => refuses({ chain: [] }, 'svid_chain_empty'));

  it('refuses more certificates than the limit, whatever they are', () => {
    refuses({ chain: Array.from({ length: 9 }, () => leaf) }, 'svid_chain_too_long', /9/);
    assert.ok(verify({ chain: [leaf, ...Array.from({ length: 7 }, () => issuer.der)] }));
  });

  it('refuses a certificate that is not DER, at whatever place of the chain', () => {
    refuses({ chain: [leaf.subarray(1), issuer.der] }, 'svid_malformed');
    refuses({ chain: [leaf, issuer.der, Uint8Array.of(0x30, 0x00)] }, 'svid_malformed');
  });

  it('refuses when there is no bundle for the trust domain, and never asks for another', async () => {
    const asked: string[] = [];
    const stranger = await makeLeaf(issuer, { extensions: { san: ext.uris('spiffe://other.example/x') } });
    const bundles = (trustDomain: { readonly name: string }): undefined => void asked.push(trustDomain.name);
    refuses({ chain: [stranger, issuer.der], bundles }, 'svid_trust_domain_unknown', /other\.example/);
    assert.deepEqual(asked, ['other.example']);
  });

  it('refuses everything under an empty bundle', () => refuses({ bundle: [] }, 'bundle_empty'));

  it('refuses a bundle that holds something else than certificates', () =>
    refuses({ bundle: [Uint8Array.of(1)] }, 'bundle_malformed'));

  it('refuses another SPIFFE ID than the one expected', () => {
    refuses({ expectedId: SpiffeId.parse('spiffe://example.org/other') }, 'svid_unexpected_id', /web.*other/);
    assert.ok(verify({ expectedId: SpiffeId.parse(SVID_ID) }));
  });
});

describe('the leaf', () => {
  const CASES: readonly { name: string; leaf: Deviation; wantCode: ErrorCode }[] = [
    {
      name: 'a CA certificate',
      leaf: { extensions: { basicConstraints: ext.basicConstraints(true) } },
      wantCode: 'svid_leaf_is_ca',
    },
    {
      name: 'no key usage',
      leaf: { extensions: { keyUsage: null } },
      wantCode: 'svid_key_usage_missing',
    },
    {
      name: 'a key usage that is not critical',
      leaf: { extensions: { keyUsage: ext.keyUsage(digitalSignature, false) } },
      wantCode: 'svid_key_usage_missing',
    },
    {
      name: 'keyCertSign',
      leaf: { extensions: { keyUsage: ext.keyUsage(digitalSignature | keyCertSign) } },
      wantCode: 'svid_leaf_signs_certificates',
    },
    {
      name: 'cRLSign',
      leaf: { extensions: { keyUsage: ext.keyUsage(digitalSignature | cRLSign) } },
      wantCode: 'svid_leaf_signs_crls',
    },
    {
      name: 'a key usage without digitalSignature',
      leaf: { extensions: { keyUsage: ext.keyUsage(dataEncipherment) } },
      wantCode: 'svid_digital_signature_missing',
    },
    {
      name: 'an extended key usage of a server alone',
      leaf: { extensions: { extendedKeyUsage: ext.extendedKeyUsage(OID.serverAuth) } },
      wantCode: 'svid_extended_key_usage_invalid',
    },
    {
      name: 'an extended key usage of a client alone',
      leaf: { extensions: { extendedKeyUsage: ext.extendedKeyUsage(OID.clientAuth) } },
      wantCode: 'svid_extended_key_usage_invalid',
    },
    { name: 'no SAN', leaf: { extensions: { san: null } }, wantCode: 'svid_uri_san_missing' },
    {
      name: 'a SAN without a URI',
      leaf: { extensions: { san: ext.san([{ type: 'dns', value: 'web.example.org' }]) } },
      wantCode: 'svid_uri_san_missing',
    },
    {
      name: 'two SPIFFE IDs',
      leaf: { extensions: { san: ext.uris(SVID_ID, 'spiffe://example.org/b') } },
      wantCode: 'svid_uri_san_multiple',
    },
    {
      name: 'a SPIFFE ID and another URI',
      leaf: { extensions: { san: ext.uris(SVID_ID, 'https://example.org/') } },
      wantCode: 'svid_uri_san_multiple',
    },
    {
      name: 'a URI of another scheme',
      leaf: { extensions: { san: ext.uris('https://example.org/x') } },
      wantCode: 'svid_spiffe_id_invalid',
    },
    {
      name: 'a SPIFFE ID that breaks a rule of the standard',
      leaf: { extensions: { san: ext.uris('spiffe://example.org/a/../b') } },
      wantCode: 'svid_spiffe_id_invalid',
    },
    {
      name: 'the ID of the trust domain itself',
      leaf: { extensions: { san: ext.uris('spiffe://example.org') } },
      wantCode: 'svid_path_missing',
    },
    {
      name: 'an empty subject and a SAN that is not critical',
      leaf: { extensions: { san: ext.san([{ type: 'url', value: SVID_ID }], false) } },
      wantCode: 'svid_subject_empty_san_not_critical',
    },
    {
      name: 'an unknown critical extension',
      leaf: { extensions: { more: ext.unknown(true) } },
      wantCode: 'svid_extension_unknown_critical',
    },
    { name: 'a notBefore to come', leaf: { notBeforeMs: NOW_MS + 1000 }, wantCode: 'svid_not_yet_valid' },
    { name: 'a notAfter that is now', leaf: { notAfterMs: NOW_MS }, wantCode: 'svid_expired' },
  ];
  for (const { name, leaf: deviation, wantCode } of CASES) {
    it(`is refused with ${name}: ${wantCode}`, async () => {
      refuses({ chain: [await makeLeaf(issuer, deviation), issuer.der] }, wantCode);
    });
  }

  const GOOD: readonly { name: string; leaf: Deviation }[] = [
    { name: 'no extended key usage', leaf: { extensions: { extendedKeyUsage: null } } },
    { name: 'no basic constraints', leaf: { extensions: { basicConstraints: null } } },
    { name: 'an unknown extension that is not critical', leaf: { extensions: { more: ext.unknown(false) } } },
    {
      name: 'DNS names beside the SPIFFE ID',
      leaf: {
        extensions: {
          san: ext.san([
            { type: 'dns', value: 'web.example.org' },
            { type: 'url', value: SVID_ID },
          ]),
        },
      },
    },
    {
      name: 'a subject, and then a SAN that is not critical',
      leaf: { subject: 'CN=web', extensions: { san: ext.san([{ type: 'url', value: SVID_ID }], false) } },
    },
    { name: 'a notBefore that is now', leaf: { notBeforeMs: NOW_MS } },
    { name: 'a notAfter one second ahead', leaf: { notAfterMs: NOW_MS + 1000 } },
    { name: 'an RSA key', leaf: { signer: newSigner('rsa-2048') } },
    { name: 'an Ed25519 key', leaf: { signer: newSigner('ed25519') } },
    { name: 'no key identifiers', leaf: { extensions: { authorityKeyId: null, subjectKeyId: null } } },
  ];
  for (const { name, leaf: deviation } of GOOD) {
    it(`is accepted with ${name}`, async () => {
      assert.ok(verify({ chain: [await makeLeaf(issuer, deviation), issuer.der] }));
    });
  }
});

describe('the CAs above', () => {
  const CASES: readonly { name: string; ca: Deviation; wantCode: ErrorCode }[] = [
    {
      name: 'cA false',
      ca: { extensions: { basicConstraints: ext.basicConstraints(false) } },
      wantCode: 'svid_issuer_not_ca',
    },
    {
      name: 'no basic constraints',
      ca: { extensions: { basicConstraints: null } },
      wantCode: 'svid_issuer_not_ca',
    },
    { name: 'no key usage', ca: { extensions: { keyUsage: null } }, wantCode: 'svid_key_usage_missing' },
    {
      name: 'a key usage that is not critical',
      ca: { extensions: { keyUsage: ext.keyUsage(keyCertSign, false) } },
      wantCode: 'svid_key_usage_missing',
    },
    {
      name: 'a key usage without keyCertSign',
      ca: { extensions: { keyUsage: ext.keyUsage(cRLSign) } },
      wantCode: 'svid_issuer_cannot_sign',
    },
    {
      name: 'an extended key usage for something else',
      ca: { extensions: { extendedKeyUsage: ext.extendedKeyUsage('1.3.6.1.5.5.7.3.3') } },
      wantCode: 'svid_extended_key_usage_invalid',
    },
    {
      name: 'a SPIFFE ID with a path',
      ca: { extensions: { san: ext.uris('spiffe://example.org/ca') } },
      wantCode: 'svid_issuer_has_path',
    },
    {
      name: 'the ID of another trust domain',
      ca: { extensions: { san: ext.uris('spiffe://other.example') } },
      wantCode: 'svid_issuer_trust_domain_mismatch',
    },
    {
      name: 'a SPIFFE ID that is none',
      ca: { extensions: { san: ext.uris('SPIFFE://Example.org') } },
      wantCode: 'svid_spiffe_id_invalid',
    },
    {
      name: 'two SPIFFE IDs',
      ca: { extensions: { san: ext.uris('spiffe://example.org', 'spiffe://other.example') } },
      wantCode: 'svid_uri_san_multiple',
    },
    {
      name: 'an unknown critical extension',
      ca: { extensions: { more: ext.unknown(true) } },
      wantCode: 'svid_extension_unknown_critical',
    },
    { name: 'a notBefore to come', ca: { notBeforeMs: NOW_MS + 1000 }, wantCode: 'svid_not_yet_valid' },
    { name: 'a notAfter that is over', ca: { notAfterMs: NOW_MS - 1000 }, wantCode: 'svid_expired' },
    {
      name: 'name constraints for another trust domain',
      ca: { extensions: { constraints: ext.nameConstraints([[6, 'other.example']]) } },
      wantCode: 'svid_name_constraint_violated',
    },
  ];
  for (const { name, ca, wantCode } of CASES) {
    it(`may not be an issuer with ${name}: ${wantCode}`, async () => {
      const wrong = await makeIssuer(anchor, ca);
      refuses({ chain: [await makeLeaf(wrong), wrong.der] }, wantCode, /issuer 1 of the chain/);
    });
    it(`may not be an anchor with ${name}: ${wantCode}`, async () => {
      const wrong = await makeAnchor(ca);
      const below = await makeIssuer(wrong);
      refuses(
        { chain: [await makeLeaf(below), below.der], bundle: [wrong.der] },
        wantCode,
        /the trust anchor/,
      );
    });
  }

  it('may be without a SPIFFE ID, or have a URI that is none of SPIFFE', async () => {
    const plain = await makeAnchor({ extensions: { san: null } });
    const corporate = await makeIssuer(plain, {
      extensions: { san: ext.uris('https://pki.example.com', 'ldap://pki.example.com') },
    });
    assert.ok(verify({ chain: [await makeLeaf(corporate), corporate.der], bundle: [plain.der] }));
  });

  it('may have both purposes of an SVID as their extended key usage', async () => {
    const extensions = { extendedKeyUsage: ext.extendedKeyUsage(OID.serverAuth, OID.clientAuth) };
    const bound = await makeIssuer(anchor, { extensions });
    assert.ok(verify({ chain: [await makeLeaf(bound), bound.der] }));
  });

  it('may be the anchor alone, which signs SVIDs itself', async () => {
    assert.ok(verify({ chain: [await makeLeaf(anchor)] }));
  });
});

describe('the path', () => {
  it('is found with the anchor at its end, in any order, and with strangers in it', async () => {
    const middle = await makeIssuer(anchor);
    const low = await makeIssuer(middle);
    const svid = await makeLeaf(low);
    const stranger = await makeAnchor();
    for (const others of [
      [low.der, middle.der],
      [low.der, middle.der, anchor.der],
      [anchor.der, middle.der, low.der],
      [stranger.der, low.der, low.der, issuer.der, middle.der],
    ]) {
      const { path } = verify({ chain: [svid, ...others] });
      assert.deepEqual(
        path.map(({ der }) => toHex(der)),
        [svid, low.der, middle.der, anchor.der].map(toHex),
      );
    }
  });

  it('is refused when an issuer is missing, or only a stranger is there', async () => {
    const stranger = await makeAnchor();
    refuses({ chain: [leaf] }, 'svid_untrusted');
    refuses({ bundle: [stranger.der] }, 'svid_untrusted');
    refuses({ bundle: [stranger.der], chain: [leaf, issuer.der, anchor.der] }, 'svid_untrusted');
  });

  it('is refused when a signature is wrong, wherever it is', async () => {
    const mallory = newSigner();
    refuses({ chain: [signedBy(leaf, mallory), issuer.der] }, 'svid_signature_invalid');
    refuses({ chain: [leaf, signedBy(issuer.der, mallory)] }, 'svid_signature_invalid');
  });

  it('is refused when the key above cannot have made the signature', async () => {
    const rsa = await makeIssuer(anchor, { subject: issuer.subject, signer: newSigner('rsa-2048') });
    const svid = await makeLeaf(issuer, { extensions: { authorityKeyId: null } });
    refuses({ chain: [svid, rsa.der] }, 'svid_signature_invalid');
  });

  it('is refused when the key above is of a kind that Kedge does not verify with', async () => {
    const weak = newSigner();
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const spki = publicKey.export({ format: 'der', type: 'spki' });
    const subject = 'CN=weak';
    const der = await makeCertificate({
      subject,
      issuer: anchor.subject,
      spki,
      signer: anchor.signer,
      extensions: [ext.basicConstraints(true), ext.keyUsage(keyCertSign)],
    });
    const svid = await makeLeaf({ der, signer: weak, subject }, { extensions: { authorityKeyId: null } });
    refuses({ chain: [svid, der] }, 'svid_algorithm_unsupported', /1024/);
  });

  it('is found through the issuer that the key identifier names', async () => {
    const twin = await makeIssuer(anchor, { subject: issuer.subject });
    assert.ok(verify({ chain: [leaf, twin.der, issuer.der] }));
    refuses({ chain: [leaf, twin.der] }, 'svid_untrusted');
  });

  it('is found by signature where nothing else tells two issuers apart', async () => {
    const extensions = { subjectKeyId: null, authorityKeyId: null };
    const first = await makeIssuer(anchor, { subject: 'CN=same', extensions });
    const second = await makeIssuer(anchor, { subject: 'CN=same', extensions });
    const svid = await makeLeaf(second, { extensions });
    assert.ok(verify({ chain: [svid, first.der, second.der] }));
    assert.ok(verify({ chain: [svid, second.der, first.der] }));
  });

  it('ends at whichever of two anchors with the same name and key holds', async () => {
    const { signer, subject } = anchor;
    const expired = await makeAnchor({ signer, subject, notAfterMs: NOW_MS - HOUR_MS });
    const renewed = await makeAnchor({ signer, subject, notAfterMs: NOW_MS + 1000 * HOUR_MS });
    refuses({ bundle: [expired.der] }, 'svid_expired', /the trust anchor/);
    for (const bundle of [
      [expired.der, renewed.der],
      [renewed.der, expired.der],
    ])
      assert.deepEqual(verify({ bundle }).anchor.der, renewed.der);
  });

  it('goes over a certificate by which one anchor vouches for another', async () => {
    const next = await makeAnchor();
    const cross = await makeIssuer(anchor, { signer: next.signer, subject: next.subject });
    const below = await makeIssuer(next);
    const svid = await makeLeaf(below);
    const chain = [svid, below.der, cross.der];
    assert.equal(verify({ chain }).path.length, 4);
    assert.equal(verify({ chain, bundle: [next.der] }).path.length, 3);
    assert.equal(verify({ chain, bundle: [anchor.der, next.der] }).path.length, 3);
  });

  it('comes to an end when two CAs vouch for each other', async () => {
    const a = await makeAnchor({ subject: 'CN=a' });
    const b = await makeAnchor({ subject: 'CN=b' });
    const aByB = await makeIssuer(b, { signer: a.signer, subject: 'CN=a' });
    const bByA = await makeIssuer(a, { signer: b.signer, subject: 'CN=b' });
    const svid = await makeLeaf(a);
    refuses({ chain: [svid, aByB.der, bByA.der, a.der, b.der] }, 'svid_untrusted');
    assert.ok(verify({ chain: [svid, aByB.der, bByA.der], bundle: [b.der] }));
  });

  it('does not end at an authority that another one issued, nor at one that only has the name of its issuer', async () => {
    refuses({ bundle: [issuer.der] }, 'svid_untrusted');
    const impostor = await makeIssuer(anchor, { subject: anchor.subject });
    refuses({ chain: [await makeLeaf(impostor)], bundle: [impostor.der] }, 'svid_untrusted');
  });

  it('ends at an anchor without key identifiers', async () => {
    const bare = await makeAnchor({ extensions: { subjectKeyId: null } });
    const noted = await makeAnchor({ signer: bare.signer, subject: bare.subject });
    const both = await makeAnchor({
      signer: bare.signer,
      subject: bare.subject,
      extensions: { authorityKeyId: ext.authorityKeyId(bare.signer.spki) },
    });
    for (const { der } of [bare, noted, both])
      assert.ok(verify({ chain: [await makeLeaf(bare)], bundle: [der] }));
  });

  it('keeps the length that each CA allows, not counting those that issued themselves', async () => {
    const limited = (pathLength: number): Deviation => ({
      extensions: { basicConstraints: ext.basicConstraints(true, pathLength) },
    });
    const short = await makeAnchor(limited(0));
    const below = await makeIssuer(short);
    refuses(
      { chain: [await makeLeaf(below), below.der], bundle: [short.der] },
      'svid_path_length_exceeded',
      /the trust anchor allows 0 .* has 1/,
    );
    assert.ok(verify({ chain: [await makeLeaf(short)], bundle: [short.der] }));
    const last = await makeIssuer(anchor, limited(0));
    const tooLow = await makeIssuer(last);
    assert.ok(verify({ chain: [await makeLeaf(last), last.der] }));
    refuses(
      { chain: [await makeLeaf(tooLow), tooLow.der, last.der] },
      'svid_path_length_exceeded',
      /issuer 2/,
    );
    const renewedKey = await makeIssuer(short, { subject: short.subject });
    assert.ok(verify({ chain: [await makeLeaf(renewedKey), renewedKey.der], bundle: [short.der] }));
  });
});

describe('revocation', () => {
  const HEAD = { number: 1, thisUpdateMs: NOW_MS - HOUR_MS, nextUpdateMs: NOW_MS + HOUR_MS };

  /** A CRL of `ca` that lists `revoked`. */
  async function crlOf(ca: TestCa, revoked: readonly Uint8Array[], head = HEAD): Promise<Uint8Array> {
    return createCrl({
      ...head,
      issuer: parseCertificate(ca.der),
      signer: ca.signer,
      entries: revoked.map((der) => ({
        serialNumber: parseCertificate(der).serialNumber,
        revokedAtMs: NOW_MS - 1000,
        reason: 'keyCompromise',
      })),
    });
  }

  it('refuses a leaf on the CRL of its issuer, and an issuer on that of its own', async () => {
    const leafCrl = parseCrl(await crlOf(issuer, [leaf]));
    const issuerCrl = parseCrl(await crlOf(anchor, [issuer.der]));
    refuses(
      { crls: [leafCrl] },
      'svid_revoked',
      /the leaf was revoked at 2026-06-01T11:59:59.000Z: keyCompromise/,
    );
    refuses({ crls: [issuerCrl] }, 'svid_revoked', /issuer 1 of the chain/);
  });

  it('accepts a leaf that the CRL of its issuer does not list', async () => {
    assert.ok(
      verify({ crls: [parseCrl(await crlOf(issuer, [issuer.der])), parseCrl(await crlOf(anchor, []))] }),
    );
  });

  it('does not read the CRL of another authority, though the serial number is the same', async () => {
    const stranger = await makeIssuer(anchor);
    const sameName = await makeIssuer(anchor, { subject: issuer.subject });
    assert.ok(
      verify({ crls: [parseCrl(await crlOf(stranger, [leaf])), parseCrl(await crlOf(sameName, [leaf]))] }),
    );
  });

  it('takes the entries of a CRL past its nextUpdate, and no offence at its age', async () => {
    const old = { ...HEAD, nextUpdateMs: NOW_MS - 1000 };
    refuses({ crls: [parseCrl(await crlOf(issuer, [leaf], old))] }, 'svid_revoked');
    assert.ok(verify({ crls: [parseCrl(await crlOf(issuer, [], old))] }));
  });

  it('refuses when a CRL names the issuer and is not signed by it', async () => {
    const crl = parseCrl(await crlOf(issuer, []));
    const forged = { ...crl, signature: newSigner().sign(crl.tbs) };
    refuses({ crls: [forged] }, 'crl_signature_invalid');
  });
});
