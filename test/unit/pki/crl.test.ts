import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { type Certificate, parseCertificate } from '../../../pki/certificate.ts';
import {
  type Crl,
  CRL_REASONS,
  type CrlReason,
  isCrlOf,
  parseCrl,
  serialOf,
  verifyCrl,
} from '../../../pki/crl.ts';
import { type RevokedCertificate, createCrl } from '../../../pki/crl-builder.ts';
import {
  derBitString,
  derBoolean,
  derContext,
  derContextPrimitive,
  derElement,
  derExtension,
  derInteger,
  derOid,
  derSequence,
  derTime,
} from '../../../pki/der-writer.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { OID } from '../../../pki/oid.ts';
import { newWebCrypto, x509 } from '../../../pki/x509-library.ts';
import {
  HOUR_MS,
  NOW_MS,
  type TestCa,
  ext,
  makeAnchor,
  makeIssuer,
  newSigner,
} from '../../support/certificates.ts';
import { spoilt } from '../../support/mutation.ts';
import { checkProperty } from '../../support/property.ts';

let ca: TestCa;
let issuer: Certificate;

before(async () => {
  ca = await makeAnchor();
  issuer = parseCertificate(ca.der);
});

const TIMES = { thisUpdateMs: NOW_MS, nextUpdateMs: NOW_MS + HOUR_MS };

function revoked(
  serial: string,
  reason: CrlReason = 'unspecified',
  revokedAtMs = NOW_MS,
): RevokedCertificate {
  return { serialNumber: Uint8Array.from(Buffer.from(serial, 'hex')), revokedAtMs, reason };
}

function refusal(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isKedgeError(error, code), String(error));
    assert.match(error.message, message);
    return true;
  };
}

describe('making a CRL', () => {
  it('gives one that reads back as it was asked for', async () => {
    const reasons = Object.keys(CRL_REASONS) as CrlReason[];
    const entries = reasons.map((reason, i) => revoked(`0${i}ff`, reason, NOW_MS - i * 1000));
    const der = await createCrl({ ...TIMES, issuer, signer: ca.signer, number: 300, entries });
    const crl = parseCrl(der);
    assert.equal(crl.number, '12c');
    assert.equal(crl.thisUpdateMs, TIMES.thisUpdateMs);
    assert.equal(crl.nextUpdateMs, TIMES.nextUpdateMs);
    assert.deepEqual(crl.issuer, issuer.subject);
    assert.equal(crl.authorityKeyId, Buffer.from(issuer.subjectKeyId!).toString('hex'));
    assert.deepEqual(
      new Map(crl.entries),
      new Map(
        entries.map(({ serialNumber, revokedAtMs, reason }) => [
          serialOf(serialNumber),
          { revokedAtMs, reason },
        ]),
      ),
    );
    verifyCrl(crl, issuer);
  });

  it('signs with each kind of authority key, and @peculiar/x509 agrees', async () => {
    for (const kind of ['ec-p256', 'ec-p384', 'rsa-3072'] as const) {
      const other = await makeAnchor({ signer: newSigner(kind) });
      const certificate = parseCertificate(other.der);
      const der = await createCrl({
        ...TIMES,
        issuer: certificate,
        signer: other.signer,
        number: 0,
        entries: [revoked('01')],
      });
      verifyCrl(parseCrl(der), certificate);
      const crl = new x509.X509Crl(der);
      const crypto = newWebCrypto();
      const { publicKey } = new x509.X509Certificate(other.der);
      const algorithm = { ...publicKey.algorithm, ...crl.signatureAlgorithm };
      assert.ok(
        await crl.verify({ publicKey: await publicKey.export(algorithm, ['verify'], crypto) }, crypto),
      );
      assert.equal(crl.entries.length, 1);
    }
  });

  it('lists a certificate once, as it was first revoked', async () => {
    const entries = [
      revoked('05', 'superseded', NOW_MS - 1000),
      revoked('05', 'keyCompromise', NOW_MS - 9000),
    ];
    const crl = parseCrl(await createCrl({ ...TIMES, issuer, signer: ca.signer, number: 1, entries }));
    assert.deepEqual([...crl.entries], [['05', { revokedAtMs: NOW_MS - 9000, reason: 'keyCompromise' }]]);
  });

  it('lists nobody without an empty list', async () => {
    const crl = parseCrl(await createCrl({ ...TIMES, issuer, signer: ca.signer, number: 1, entries: [] }));
    assert.equal(crl.entries.size, 0);
  });

  it('can be as long as readers take, and no longer', async () => {
    const many = (count: number): RevokedCertificate[] =>
      Array.from({ length: count }, (_, i) => revoked(`5a${i.toString(16).padStart(30, '0')}`, 'superseded'));
    const der = await createCrl({ ...TIMES, issuer, signer: ca.signer, number: 1, entries: many(80_000) });
    assert.equal(parseCrl(der).entries.size, 80_000);
    await assert.rejects(
      createCrl({ ...TIMES, issuer, signer: ca.signer, number: 1, entries: many(90_000) }),
      refusal('message_too_large', /90000 certificates/),
    );
  });

  it('is refused for an issuer that cannot sign it', async () => {
    const request = { ...TIMES, number: 1, entries: [] };
    const keyOnly = await makeIssuer(ca, {
      extensions: { keyUsage: ext.keyUsage(x509.KeyUsageFlags.keyCertSign) },
    });
    const nameless = await makeIssuer(ca, { extensions: { subjectKeyId: null } });
    for (const [certificate, signer, message] of [
      [issuer, newSigner(), /key of the issuer/],
      [parseCertificate(keyOnly.der), keyOnly.signer, /may not sign CRLs/],
      [parseCertificate(nameless.der), nameless.signer, /no subject key identifier/],
    ] as const) {
      await assert.rejects(
        createCrl({ ...request, issuer: certificate, signer }),
        refusal('authority_unusable', message),
      );
    }
  });
});

describe('verifying a CRL', () => {
  let crl: Crl;
  before(async () => {
    crl = parseCrl(
      await createCrl({ ...TIMES, issuer, signer: ca.signer, number: 1, entries: [revoked('01')] }),
    );
  });

  it('tells whose CRL it is by name and by key', async () => {
    const sameName = parseCertificate((await makeAnchor({ subject: ca.subject })).der);
    const sameKey = parseCertificate((await makeAnchor({ signer: ca.signer })).der);
    const noKeyId = await makeAnchor({
      signer: ca.signer,
      subject: ca.subject,
      extensions: { subjectKeyId: null },
    });
    assert.ok(isCrlOf(crl, issuer));
    assert.ok(!isCrlOf(crl, sameName));
    assert.ok(!isCrlOf(crl, sameKey));
    assert.ok(isCrlOf(crl, parseCertificate(noKeyId.der)));
    verifyCrl(crl, parseCertificate(noKeyId.der));
    assert.throws(() => verifyCrl(crl, sameName), refusal('crl_signature_invalid', /another authority/));
  });

  it('refuses one that is altered, or whose algorithm is unknown', () => {
    const altered = Uint8Array.from(crl.tbs);
    altered[20] = (altered[20] ?? 0) ^ 1;
    assert.throws(
      () => verifyCrl({ ...crl, tbs: altered }, issuer),
      refusal('crl_signature_invalid', /not signed by the key/),
    );
    assert.throws(
      () => verifyCrl({ ...crl, signatureScheme: null }, issuer),
      refusal('crl_signature_invalid', /algorithm/),
    );
  });

  it('refuses one of an authority that may sign no CRLs', async () => {
    const { signer, subject } = ca;
    const extensions = { keyUsage: ext.keyUsage(x509.KeyUsageFlags.keyCertSign) };
    const muted = parseCertificate((await makeAnchor({ signer, subject, extensions })).der);
    const mute = await makeAnchor({ signer, subject, extensions: { keyUsage: null } });
    for (const certificate of [muted, parseCertificate(mute.der)])
      assert.throws(() => verifyCrl(crl, certificate), refusal('crl_signature_invalid', /may not sign/));
  });
});

describe('reading a CRL', () => {
  const ECDSA = derSequence(derOid(OID.ecdsaWithSha256));
  const KEY_ID = derExtension(
    OID.authorityKeyIdentifier,
    false,
    derSequence(derContextPrimitive(0, Uint8Array.of(1))),
  );
  const NUMBER = derExtension(OID.cRLNumber, false, derInteger(1));
  const NEVER = derExtension('2.5.29.27', true, derInteger(1));
  const reason = (code: number): Uint8Array =>
    derSequence(derExtension(OID.reasonCode, false, derElement(0x0a, Uint8Array.of(code))));

  interface Parts {
    readonly version?: Uint8Array;
    readonly inner?: Uint8Array;
    readonly times?: readonly Uint8Array[];
    readonly entries?: readonly Uint8Array[];
    readonly extensions?: Uint8Array;
    readonly after?: Uint8Array;
  }
  const entry = (...more: readonly Uint8Array[]): Uint8Array =>
    derSequence(derSequence(derInteger(5), derTime(NOW_MS), ...more));
  const build = (parts: Parts): Uint8Array =>
    derSequence(
      derSequence(
        parts.version ?? derInteger(1),
        parts.inner ?? ECDSA,
        derSequence(),
        ...(parts.times ?? [derTime(NOW_MS), derTime(NOW_MS + HOUR_MS)]),
        ...(parts.entries ?? []),
        parts.extensions ?? derContext(0, derSequence(KEY_ID, NUMBER)),
      ),
      ECDSA,
      derBitString(Uint8Array.of(1)),
      ...(parts.after === undefined ? [] : [parts.after]),
    );

  it('reads the least that there can be', () => {
    const crl = parseCrl(build({}));
    assert.equal(crl.number, '1');
    assert.equal(crl.authorityKeyId, '01');
    assert.equal(crl.signatureScheme, 'ecdsa-sha256');
    assert.equal(parseCrl(build({ entries: [entry()] })).entries.get('05')?.reason, 'unspecified');
    assert.equal(parseCrl(build({ entries: [entry(reason(1))] })).entries.get('05')?.reason, 'keyCompromise');
  });

  it('passes over extensions that are not critical, and over a reference to the certificate of the authority', () => {
    const other = derExtension('1.2.3.4', false, derInteger(1));
    const full = derExtension(
      OID.authorityKeyIdentifier,
      false,
      derSequence(
        derContextPrimitive(0, Uint8Array.of(1)),
        derContext(1, derContext(4, derSequence())),
        derContextPrimitive(2, Uint8Array.of(1)),
      ),
    );
    const crl = parseCrl(build({ extensions: derContext(0, derSequence(other, full, NUMBER)) }));
    assert.equal(crl.authorityKeyId, '01');
  });

  it('gives no scheme for an algorithm that Kedge does not verify', () => {
    const sha1 = derSequence(derOid('1.2.840.10045.4.1'));
    const tbs = derSequence(
      derInteger(1),
      sha1,
      derSequence(),
      derTime(NOW_MS),
      derTime(NOW_MS),
      derContext(0, derSequence(KEY_ID, NUMBER)),
    );
    assert.equal(parseCrl(derSequence(tbs, sha1, derBitString(Uint8Array.of(1)))).signatureScheme, null);
  });

  const CASES: readonly { name: string; parts: Parts; message: RegExp }[] = [
    { name: 'version 1', parts: { version: new Uint8Array(0) }, message: /SEQUENCE where INTEGER is due/ },
    { name: 'a version to come', parts: { version: derInteger(2) }, message: /not version 2/ },
    {
      name: 'two signature algorithms',
      parts: { inner: derSequence(derOid(OID.ed25519)) },
      message: /algorithms differ/,
    },
    { name: 'no nextUpdate', parts: { times: [derTime(NOW_MS)] }, message: /where UTCTime is due/ },
    {
      name: 'a nextUpdate before thisUpdate',
      parts: { times: [derTime(NOW_MS), derTime(NOW_MS - 1000)] },
      message: /ends before it begins/,
    },
    {
      name: 'an empty list of entries',
      parts: { entries: [derSequence()] },
      message: /empty instead of absent/,
    },
    {
      name: 'an empty list of extensions',
      parts: { extensions: derContext(0, derSequence()) },
      message: /empty list of extensions/,
    },
    { name: 'no extensions', parts: { extensions: new Uint8Array(0) }, message: /where one is due/ },
    {
      name: 'no number',
      parts: { extensions: derContext(0, derSequence(KEY_ID)) },
      message: /lacks its number/,
    },
    {
      name: 'no key identifier',
      parts: { extensions: derContext(0, derSequence(NUMBER)) },
      message: /lacks its number or the key/,
    },
    {
      name: 'a number that is negative',
      parts: {
        extensions: derContext(
          0,
          derSequence(KEY_ID, derExtension(OID.cRLNumber, false, derElement(2, Uint8Array.of(0xff)))),
        ),
      },
      message: /negative or too long/,
    },
    {
      name: 'a number of 21 octets',
      parts: {
        extensions: derContext(
          0,
          derSequence(KEY_ID, derExtension(OID.cRLNumber, false, derElement(2, new Uint8Array(21).fill(1)))),
        ),
      },
      message: /negative or too long/,
    },
    {
      name: 'an extension twice',
      parts: { extensions: derContext(0, derSequence(KEY_ID, NUMBER, NUMBER)) },
      message: /comes twice/,
    },
    {
      name: 'a delta CRL',
      parts: { extensions: derContext(0, derSequence(KEY_ID, NUMBER, NEVER)) },
      message: /critical extension 2\.5\.29\.27/,
    },
    {
      name: 'an entry of another issuer',
      parts: { entries: [entry(derSequence(derExtension('2.5.29.29', true, derSequence())))] },
      message: /critical extension 2\.5\.29\.29/,
    },
    { name: 'a reason that is none', parts: { entries: [entry(reason(7))] }, message: /reason code 7/ },
    {
      name: 'removal, which only a delta has',
      parts: { entries: [entry(reason(8))] },
      message: /reason code 8/,
    },
    {
      name: 'something behind the entry',
      parts: { entries: [entry(reason(1), derBoolean(true))] },
      message: /trailing bytes/,
    },
    { name: 'something behind the signature', parts: { after: derBoolean(true) }, message: /trailing bytes/ },
  ];
  for (const { name, parts, message } of CASES)
    it(`refuses ${name}`, () =>
      assert.throws(() => parseCrl(build(parts)), refusal('crl_malformed', message)));

  it('refuses trailing bytes, and one over the limit', () => {
    const der = build({});
    assert.throws(() => parseCrl(Uint8Array.of(...der, 0)), refusal('crl_malformed', /trailing bytes/));
    assert.throws(
      () => parseCrl(new Uint8Array(4 * 1024 * 1024 + 1)),
      refusal('message_too_large', /4194305/),
    );
  });

  it('never fails otherwise, whatever it is given', () => {
    const seeds = [build({}), build({ entries: [entry(), entry(reason(3))] })];
    checkProperty(
      fc.property(spoilt(seeds), (bytes) => {
        try {
          parseCrl(bytes);
        } catch (error) {
          assert.ok(isKedgeError(error, 'crl_malformed'), String(error));
        }
      }),
      1000,
    );
  });
});
