import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import {
  type AnchorRequest,
  type IssuerRequest,
  certificateSerial,
  issuerCsr,
  mintAnchor,
  mintIssuer,
} from '../../../pki/authority-profile.ts';
import { toHex } from '../../../pki/bytes.ts';
import { type Certificate, parseCertificate } from '../../../pki/certificate.ts';
import { parseCsr, verifyProofOfPossession } from '../../../pki/csr.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { describeCertificate } from '../../../pki/inspect.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { subjectKeyId, verifySignature } from '../../../pki/public-key.ts';
import { TrustDomain } from '../../../pki/spiffe-id.ts';
import {
  HOUR_MS,
  NOW_MS,
  type TestSigner,
  makeAnchor,
  newSigner,
  randomSerial,
} from '../../support/certificates.ts';

const trustDomain = TrustDomain.parse('example.org');
const TIMES = { notBeforeMs: NOW_MS - HOUR_MS, notAfterMs: NOW_MS + HOUR_MS };
let anchorSigner: TestSigner;
let issuerSigner: TestSigner;
let anchor: Uint8Array;
let csr: Uint8Array;

before(async () => {
  anchorSigner = newSigner();
  issuerSigner = newSigner();
  anchor = await mintAnchor(anchorRequest());
  csr = await issuerCsr({ trustDomain, signer: issuerSigner });
});

function anchorRequest(other: Partial<AnchorRequest> = {}): AnchorRequest {
  return { trustDomain, signer: anchorSigner, serialNumber: randomSerial(), ...TIMES, ...other };
}

function issuerRequest(other: Partial<IssuerRequest> = {}): IssuerRequest {
  return { csr, trustDomain, anchor, signer: anchorSigner, serialNumber: randomSerial(), ...TIMES, ...other };
}

function refusal(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isKedgeError(error, code), String(error));
    assert.match(error.message, message);
    return true;
  };
}

const isSignedBy = (certificate: Certificate, spki: Uint8Array): boolean =>
  verifySignature(
    certificate.signatureAlgorithm,
    spki,
    certificate.tbs,
    certificate.signature,
    'der_invalid',
  );

describe('a minted anchor', () => {
  it('has the profile of a signing certificate', () => {
    const certificate = parseCertificate(anchor);
    const keyId = toHex(subjectKeyId(anchorSigner.spki));
    const { fingerprint, serialNumber, ...described } = describeCertificate(anchor);
    assert.equal(fingerprint.length, 64);
    assert.match(serialNumber, /^5a[0-9a-f]{30}$/);
    assert.deepEqual(described, {
      spiffeId: 'spiffe://example.org',
      subject: `O=example.org, CN=Kedge trust anchor, 2.5.4.5=${keyId}`,
      issuer: `O=example.org, CN=Kedge trust anchor, 2.5.4.5=${keyId}`,
      notBefore: '2026-06-01T11:00:00.000Z',
      notAfter: '2026-06-01T13:00:00.000Z',
      publicKey: 'EC P-256',
      signatureAlgorithm: 'ecdsa-sha256',
      isCa: true,
      pathLength: 2,
      keyUsage: ['keyCertSign', 'cRLSign'],
      extendedKeyUsage: [],
      subjectAltNames: ['URI:spiffe://example.org'],
      nameConstraints: [],
      subjectKeyId: keyId,
      authorityKeyId: null,
      unknownCriticalExtensions: [],
    });
    assert.deepEqual(
      [certificate.basicConstraints, certificate.keyUsage, certificate.subjectAltName].map(
        (e) => e?.critical,
      ),
      [true, true, false],
    );
    assert.ok(isSignedBy(certificate, anchorSigner.spki));
  });

  it('can have each kind of authority key', async () => {
    for (const [kind, want] of [
      ['ec-p256', 'ecdsa-sha256'],
      ['ec-p384', 'ecdsa-sha384'],
      ['rsa-3072', 'rsa-pkcs1-sha256'],
    ] as const) {
      const signer = newSigner(kind);
      const certificate = parseCertificate(await mintAnchor(anchorRequest({ signer })));
      assert.equal(certificate.signatureAlgorithm, want);
      assert.ok(isSignedBy(certificate, signer.spki));
    }
  });

  it('is not made for a key that no authority has', async () => {
    await assert.rejects(
      mintAnchor(anchorRequest({ signer: newSigner('ed25519') })),
      refusal('key_algorithm_unsupported', /ed25519/),
    );
  });

  it('is confined to its trust domain when asked', async () => {
    const der = await mintAnchor(anchorRequest({ uriNameConstraints: true }));
    assert.deepEqual(describeCertificate(der).nameConstraints, ['permitted URI:example.org']);
    assert.equal(parseCertificate(der).nameConstraints?.critical, true);
    const open = await mintAnchor(anchorRequest({ uriNameConstraints: false }));
    assert.equal(parseCertificate(open).nameConstraints, undefined);
  });

  it('has the path length asked for', async () => {
    const der = await mintAnchor(anchorRequest({ pathLength: 1 }));
    assert.equal(parseCertificate(der).basicConstraints?.pathLength, 1);
    for (const pathLength of [-1, 0.5, 7])
      await assert.rejects(mintAnchor(anchorRequest({ pathLength })), RangeError);
  });

  it('writes dates from 2050 on as RFC 5280 wants them', async () => {
    const notAfterMs = Date.UTC(2055, 0, 1, 1, 2, 3);
    const certificate = parseCertificate(await mintAnchor(anchorRequest({ notAfterMs: notAfterMs + 999 })));
    assert.equal(certificate.notAfterMs, notAfterMs);
  });

  it('can be of a trust domain with the longest name, or with an underscore', async () => {
    for (const name of ['a'.repeat(255), 'prod_1', '10.0.0.1']) {
      const other = TrustDomain.parse(name);
      const certificate = parseCertificate(await mintAnchor(anchorRequest({ trustDomain: other })));
      assert.deepEqual(certificate.subjectAltName?.uris, [other.id]);
    }
  });

  it('has a name that no anchor with another key has', async () => {
    const other = await mintAnchor(anchorRequest({ signer: newSigner() }));
    const again = await mintAnchor(anchorRequest());
    assert.notDeepEqual(parseCertificate(other).subject, parseCertificate(anchor).subject);
    assert.deepEqual(parseCertificate(again).subject, parseCertificate(anchor).subject);
  });

  it('cannot end before it begins', async () => {
    await assert.rejects(
      mintAnchor(anchorRequest({ notAfterMs: TIMES.notBeforeMs + 999 })),
      refusal('authority_unusable', /ends at 2026-06-01T11:00:00.000Z/),
    );
  });
});

describe('a minted issuer', () => {
  it('has the profile of a signing certificate, below its anchor', async () => {
    const der = await mintIssuer(issuerRequest());
    const certificate = parseCertificate(der);
    const above = parseCertificate(anchor);
    const described = describeCertificate(der);
    const keyId = toHex(subjectKeyId(issuerSigner.spki));
    assert.equal(described.subject, `O=example.org, CN=Kedge issuer, 2.5.4.5=${keyId}`);
    assert.equal(described.spiffeId, 'spiffe://example.org');
    assert.equal(described.pathLength, 0);
    assert.deepEqual(described.keyUsage, ['keyCertSign', 'cRLSign']);
    assert.equal(described.subjectKeyId, keyId);
    assert.equal(described.authorityKeyId, toHex(subjectKeyId(anchorSigner.spki)));
    assert.deepEqual(certificate.issuer, above.subject);
    assert.deepEqual(certificate.spki, issuerSigner.spki);
    assert.ok(isSignedBy(certificate, anchorSigner.spki));
  });

  it('can have another kind of key than its anchor', async () => {
    for (const kind of ['ec-p384', 'rsa-3072'] as const) {
      const signer = newSigner(kind);
      const request = issuerRequest({ csr: await issuerCsr({ trustDomain, signer }) });
      const certificate = parseCertificate(await mintIssuer(request));
      assert.deepEqual(certificate.spki, signer.spki);
      assert.ok(isSignedBy(certificate, anchorSigner.spki));
    }
  });

  it('lives no longer than its anchor', async () => {
    const wish = { notBeforeMs: TIMES.notBeforeMs - HOUR_MS, notAfterMs: TIMES.notAfterMs + HOUR_MS };
    const { notBeforeMs, notAfterMs } = parseCertificate(await mintIssuer(issuerRequest(wish)));
    assert.deepEqual({ notBeforeMs, notAfterMs }, TIMES);
    await assert.rejects(
      mintIssuer(issuerRequest({ notBeforeMs: TIMES.notAfterMs })),
      refusal('authority_unusable', /cannot begin/),
    );
  });

  it('fits the path length of its anchor', async () => {
    const nested = await mintIssuer(issuerRequest({ pathLength: 1 }));
    assert.equal(parseCertificate(nested).basicConstraints?.pathLength, 1);
    await assert.rejects(
      mintIssuer(issuerRequest({ pathLength: 2 })),
      refusal('authority_unusable', /path length 2 has no room for an issuer of path length 2/),
    );
  });

  it('is made below an authority without path length or key identifier too', async () => {
    const bare = await makeAnchor({ extensions: { subjectKeyId: null } });
    const der = await mintIssuer(issuerRequest({ anchor: bare.der, signer: bare.signer }));
    assert.equal(describeCertificate(der).authorityKeyId, toHex(subjectKeyId(bare.signer.spki)));
  });

  it('is not made with another key than the one of the anchor', async () => {
    await assert.rejects(
      mintIssuer(issuerRequest({ signer: newSigner() })),
      refusal('authority_unusable', /does not hold the key/),
    );
    await assert.rejects(
      mintIssuer(issuerRequest({ anchor: Uint8Array.of(1) })),
      refusal('authority_unusable', /certificate/),
    );
  });

  it('is made only for a CSR that asks for the trust domain, and proves its key', async () => {
    const other = await issuerCsr({ trustDomain: TrustDomain.parse('other.example'), signer: issuerSigner });
    await assert.rejects(
      mintIssuer(issuerRequest({ csr: other })),
      refusal('csr_spiffe_id_mismatch', /"spiffe:\/\/example\.org" asks for "spiffe:\/\/other\.example"/),
    );
    const forged = Uint8Array.from(csr);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    await assert.rejects(mintIssuer(issuerRequest({ csr: forged })), refusal('csr_signature_invalid', /./));
    await assert.rejects(mintIssuer(issuerRequest({ csr: csr.subarray(1) })), refusal('csr_malformed', /./));
  });
});

describe("an issuer's CSR", () => {
  it('has the trust domain as its one URI SAN and is signed by its key, of each kind', async () => {
    for (const kind of ['ec-p256', 'ec-p384', 'rsa-3072'] as const) {
      const signer = newSigner(kind);
      const parsed = parseCsr(await issuerCsr({ trustDomain, signer }));
      verifyProofOfPossession(parsed);
      assert.deepEqual(parsed.spki, signer.spki);
      assert.deepEqual(parsed.uriSans, ['spiffe://example.org']);
    }
  });
});

describe('a serial number', () => {
  it('is positive, never zero, and of the length of its randomness', () => {
    for (const [octet, want] of [
      [0x00, '40'],
      [0xff, '7f'],
      [0x80, '40'],
      [0x5a, '5a'],
    ] as const)
      assert.equal(certificateSerial(new Uint8Array(16).with(0, octet)), `${want}${'00'.repeat(15)}`);
  });

  it('needs 8 to 20 octets', () => {
    for (const length of [0, 7, 21])
      assert.throws(() => certificateSerial(new Uint8Array(length)), RangeError);
  });
});
