/**
 * Second opinions on chains: what Kedge accepts, OpenSSL accepts as a server's and as a client's, and so do pkijs
 * and @peculiar/x509. They judge less than Kedge does, so the other way round only the refusals that are SPIFFE's
 * own, or Kedge's, may differ.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import * as pkijs from 'pkijs';
import { issuerCsr, mintAnchor, mintIssuer } from '../../../pki/authority-profile.ts';
import { parseCertificate } from '../../../pki/certificate.ts';
import { parseCrl } from '../../../pki/crl.ts';
import { createCrl } from '../../../pki/crl-builder.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { OID } from '../../../pki/oid.ts';
import { encodePem } from '../../../pki/pem.ts';
import { SpiffeId, TrustDomain } from '../../../pki/spiffe-id.ts';
import { assembleCertificate, buildSvidTbs, svidTemplate } from '../../../pki/x509-svid-profile.ts';
import { type VerifiedSvid, verifyX509Svid } from '../../../pki/x509-svid-verify.ts';
import { newWebCrypto, x509 } from '../../../pki/x509-library.ts';
import {
  type Deviation,
  HOUR_MS,
  NOW_MS,
  SVID_ID,
  type TestCa,
  ext,
  makeAnchor,
  makeIssuer,
  type TestSigner,
  makeLeaf,
  newSigner,
  randomSerial,
  signedBy,
} from '../../support/certificates.ts';
import { expectCode } from '../../support/expect-code.ts';
import { checkAsyncProperty } from '../../support/property.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const run = promisify(execFile);
const { cRLSign, digitalSignature, keyCertSign } = x509.KeyUsageFlags;

/** Refusals for which a general X.509 library has no reason. */
const OWN_RULES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'svid_key_usage_missing',
  'svid_digital_signature_missing',
  'svid_issuer_has_path',
  'svid_issuer_trust_domain_mismatch',
  'svid_leaf_signs_certificates',
  'svid_subject_empty_san_not_critical',
  // A name that Kedge cannot judge refuses; OpenSSL judges some of them.
  'svid_name_constraint_violated',
]);

/** Mostly the first, now and then one of the others. */
function mostly<T>(usual: T, ...others: readonly T[]): fc.Arbitrary<T> {
  return fc.oneof(
    { weight: 40, arbitrary: fc.constant(usual) },
    { weight: 1, arbitrary: fc.constantFrom(...others) },
  );
}

const DAY = 24 * HOUR_MS;
type Times = Pick<Deviation, 'notBeforeMs' | 'notAfterMs'>;
const times = mostly<Times>(
  { notBeforeMs: NOW_MS - DAY, notAfterMs: NOW_MS + DAY },
  { notBeforeMs: NOW_MS, notAfterMs: NOW_MS + 1000 },
  { notBeforeMs: NOW_MS - DAY, notAfterMs: NOW_MS },
  { notBeforeMs: NOW_MS - DAY, notAfterMs: NOW_MS - 1000 },
  { notBeforeMs: NOW_MS + 1000, notAfterMs: NOW_MS + DAY },
);
const extendedKeyUsage = mostly<readonly string[] | null>(
  null,
  [OID.serverAuth, OID.clientAuth],
  [OID.serverAuth],
  ['1.3.6.1.5.5.7.3.3'],
  ['2.5.29.37.0'],
);
const caUsage = mostly<x509.KeyUsageFlags | null>(
  keyCertSign | cRLSign,
  keyCertSign,
  cRLSign,
  digitalSignature,
  null,
);
const constraints = mostly<readonly (readonly [number, string])[] | null>(
  null,
  [[6, 'example.org']],
  [[6, 'other.example']],
  [[6, '.example.org']],
  [[2, 'example.org']],
  [[2, 'other.test']],
  [
    [6, 'example.org'],
    [2, 'web.example.org'],
  ],
);
const excluded = mostly<readonly (readonly [number, string])[] | null>(
  null,
  [[6, 'example.org']],
  [[2, 'example.org']],
);

const ca = fc.record({
  times,
  extendedKeyUsage,
  keyUsage: caUsage,
  permitted: constraints,
  excluded,
  isCa: mostly(true, false),
  pathLength: fc.constantFrom(undefined, undefined, 0, 1, 2),
  unknownCritical: mostly(false, true),
  uri: mostly<string | null>(
    'spiffe://example.org',
    null,
    'spiffe://example.org/ca',
    'spiffe://other.example',
  ),
  keyIds: mostly<'both' | 'none' | 'wrong'>('both', 'none', 'wrong'),
  isSelfIssued: mostly(false, true),
  isForged: mostly(false, true),
});
type CaSpec = typeof ca extends fc.Arbitrary<infer T> ? T : never;

const chainSpec = fc.record({
  anchor: ca,
  issuers: fc.array(ca, { maxLength: 3 }),
  leaf: fc.record({
    times,
    extendedKeyUsage: mostly<readonly string[] | null>([OID.serverAuth, OID.clientAuth], null, [
      OID.serverAuth,
    ]),
    keyUsage: mostly<x509.KeyUsageFlags | null>(
      digitalSignature,
      digitalSignature | keyCertSign,
      keyCertSign,
      null,
    ),
    dnsName: fc.constantFrom(null, 'web.example.org', '*.example.org', 'web.other.test'),
    unknownCritical: mostly(false, true),
    isForged: mostly(false, true),
    hasSubject: fc.boolean(),
  }),
  withAnchor: fc.boolean(),
  isReversed: fc.boolean(),
  dropOne: mostly(false, true),
  strangers: fc.nat({ max: 1 }),
  twin: mostly<Times | null>(null, { notAfterMs: NOW_MS - 1000 }, { notAfterMs: NOW_MS + DAY }),
});
type ChainSpec = typeof chainSpec extends fc.Arbitrary<infer T> ? T : never;

function caDeviation(spec: CaSpec): Deviation {
  const { extendedKeyUsage, keyUsage, permitted, uri } = spec;
  return {
    ...spec.times,
    extensions: {
      basicConstraints: ext.basicConstraints(spec.isCa, spec.isCa ? spec.pathLength : undefined),
      keyUsage: keyUsage === null ? null : ext.keyUsage(keyUsage),
      san: uri === null ? null : ext.uris(uri),
      extendedKeyUsage: extendedKeyUsage === null ? null : ext.extendedKeyUsage(...extendedKeyUsage),
      constraints:
        permitted === null && spec.excluded === null
          ? null
          : ext.nameConstraints(permitted ?? [], spec.excluded ?? []),
      more: spec.unknownCritical ? ext.unknown(true) : null,
      ...(spec.keyIds === 'none' ? { subjectKeyId: null, authorityKeyId: null } : {}),
      ...(spec.keyIds === 'wrong' ? { authorityKeyId: ext.authorityKeyId(newSigner().spki) } : {}),
    },
  };
}

interface Material {
  readonly leaf: Uint8Array;
  readonly others: readonly Uint8Array[];
  readonly bundle: readonly Uint8Array[];
}

async function makeMaterial(spec: ChainSpec): Promise<Material> {
  const anchorDeviation = caDeviation({
    ...spec.anchor,
    keyIds: spec.anchor.keyIds === 'none' ? 'none' : 'both',
  });
  const anchor = await makeAnchor(anchorDeviation);
  const issuers: TestCa[] = [];
  let last = anchor;
  let above = spec.anchor;
  for (const issuer of spec.issuers) {
    // Of two CAs with one name, OpenSSL takes the first that no key identifier speaks against, and tries no other.
    const isSelfIssued = issuer.isSelfIssued && above.keyIds !== 'none';
    const deviation = { ...caDeviation(issuer), ...(isSelfIssued ? { subject: last.subject } : {}) };
    above = issuer;
    const made = await makeIssuer(last, deviation);
    last = issuer.isForged ? { ...made, der: signedBy(made.der, newSigner()) } : made;
    issuers.unshift(last);
  }
  const {
    dnsName,
    extendedKeyUsage,
    hasSubject,
    isForged,
    keyUsage,
    times: leafTimes,
    unknownCritical,
  } = spec.leaf;
  const leaf = await makeLeaf(last, {
    ...leafTimes,
    ...(hasSubject ? { subject: 'O=example.org' } : {}),
    extensions: {
      keyUsage: keyUsage === null ? null : ext.keyUsage(keyUsage),
      extendedKeyUsage: extendedKeyUsage === null ? null : ext.extendedKeyUsage(...extendedKeyUsage),
      san: ext.san([
        { type: 'url', value: SVID_ID },
        ...(dnsName === null ? [] : [{ type: 'dns' as const, value: dnsName }]),
      ]),
      more: unknownCritical ? ext.unknown(true) : null,
    },
  });
  const { signer, subject } = anchor;
  const twins =
    spec.twin === null ? [] : [(await makeAnchor({ ...anchorDeviation, ...spec.twin, signer, subject })).der];
  const strangers = await Promise.all(
    Array.from({ length: spec.strangers }, async () => (await makeAnchor()).der),
  );
  const others = issuers.map(({ der }) => der).slice(spec.dropOne ? 1 : 0);
  if (spec.withAnchor) others.push(anchor.der);
  return {
    leaf: isForged ? signedBy(leaf, newSigner()) : leaf,
    others: spec.isReversed ? others.toReversed() : others,
    bundle: [...strangers, anchor.der, ...twins],
  };
}

function kedge({ leaf, others, bundle }: Material): VerifiedSvid | ErrorCode {
  try {
    return verifyX509Svid({ chain: [leaf, ...others], bundles: () => bundle, nowMs: NOW_MS });
  } catch (error) {
    assert.ok(isKedgeError(error), String(error));
    return error.code;
  }
}

/**
 * The material with nothing but the path that Kedge found, in its order. Of several issuers with one name and no key
 * identifier to tell them apart, OpenSSL looks at the first alone, whoever has signed: what the others make of it would
 * depend on what lies beside the path.
 */
function onPath({ leaf, bundle }: Material, { path }: VerifiedSvid): Material {
  return { leaf, others: path.slice(1, -1).map(({ der }) => der), bundle };
}

/** What OpenSSL says, empty when it accepts. */
async function openssl(
  folder: string,
  { leaf, others, bundle }: Material,
  purpose: string,
  more: readonly string[] = [],
): Promise<string> {
  const file = (name: string, ders: readonly Uint8Array[]): string => {
    const path = join(folder, name);
    writeFileSync(path, ders.map((der) => encodePem('CERTIFICATE', der)).join(''));
    return path;
  };
  const untrusted = others.length === 0 ? [] : ['-untrusted', file('untrusted.pem', others)];
  const store = ['-no-CApath', '-no-CAstore', '-CAfile', file('bundle.pem', bundle)];
  const args = [
    'verify',
    ...more,
    ...store,
    ...untrusted,
    '-purpose',
    purpose,
    '-attime',
    String(NOW_MS / 1000),
  ];
  try {
    await run('openssl', [...args, file('leaf.pem', [leaf])]);
    return '';
  } catch (error) {
    return String((error as { stderr?: unknown }).stderr ?? error);
  }
}

async function pkijsAccepts({ leaf, others, bundle }: Material): Promise<boolean> {
  const crypto = new pkijs.CryptoEngine({ crypto: newWebCrypto() });
  const read = (der: Uint8Array): pkijs.Certificate => pkijs.Certificate.fromBER(Uint8Array.from(der).buffer);
  const engine = new pkijs.CertificateChainValidationEngine({
    trustedCerts: bundle.map(read),
    certs: [...others, leaf].map(read),
    checkDate: new Date(NOW_MS),
  });
  return (await engine.verify({}, crypto)).result;
}

/** Whether the chain that @peculiar/x509 builds ends in the bundle; it checks names and signatures alone. */
async function peculiarFindsAnchor({ leaf, others, bundle }: Material): Promise<boolean> {
  const builder = new x509.X509ChainBuilder({
    certificates: [...bundle, ...others].map((der) => new x509.X509Certificate(der)),
  });
  const chain = await builder.build(new x509.X509Certificate(leaf), newWebCrypto());
  const last = Buffer.from(chain.at(-1)!.rawData);
  return bundle.some((der) => last.equals(der));
}

describe('second opinions on a chain', () => {
  const cleanups: (() => void)[] = [];
  let folder: string;
  before(() => {
    folder = temporaryFolder({ after: (fn) => void cleanups.push(fn as () => void) });
  });
  after(() => {
    for (const cleanup of cleanups) cleanup();
  });

  it('OpenSSL takes what Kedge mints at its strictest, with CRLs, and sees what they revoke', async () => {
    const trustDomain = TrustDomain.parse('example.org');
    for (const [anchorKind, issuerKind, uriNameConstraints] of [
      ['ec-p256', 'ec-p256', false],
      ['ec-p384', 'ec-p256', true],
      ['rsa-3072', 'ec-p384', true],
      ['ec-p256', 'rsa-3072', false],
    ] as const) {
      const dates = { notBeforeMs: NOW_MS - HOUR_MS, notAfterMs: NOW_MS + HOUR_MS };
      const common = { trustDomain, ...dates };
      const signer = newSigner(anchorKind);
      const anchor = await mintAnchor({
        ...common,
        signer,
        serialNumber: randomSerial(),
        uriNameConstraints,
      });
      const below = newSigner(issuerKind);
      const csr = await issuerCsr({ trustDomain, signer: below });
      const issuer = await mintIssuer({ ...common, csr, anchor, signer, serialNumber: randomSerial() });
      const issuerCertificate = parseCertificate(issuer);
      const { algorithm } = below;
      const tbs = buildSvidTbs(svidTemplate({ issuerCertificate, algorithm }), {
        ...dates,
        spiffeId: SpiffeId.parse(SVID_ID),
        dnsNames: ['web.example.org'],
        spki: newSigner().spki,
        serialNumber: randomSerial(),
      });
      const leaf = assembleCertificate(tbs, algorithm, below.sign(tbs));
      const material = { leaf, others: [issuer], bundle: [anchor] };
      const { serialNumber } = parseCertificate(leaf);
      const crl = (issuerOf: Uint8Array, by: TestSigner, isRevoked: boolean): Promise<Uint8Array> =>
        createCrl({
          issuer: parseCertificate(issuerOf),
          signer: by,
          number: 1,
          thisUpdateMs: NOW_MS - HOUR_MS,
          nextUpdateMs: NOW_MS + HOUR_MS,
          entries: isRevoked ? [{ serialNumber, revokedAtMs: NOW_MS - 1000, reason: 'superseded' }] : [],
        });
      for (const isRevoked of [false, true]) {
        const crls = [await crl(anchor, signer, false), await crl(issuer, below, isRevoked)];
        const file = join(folder, 'crls.pem');
        writeFileSync(file, crls.map((der) => encodePem('X509 CRL', der)).join(''));
        const strict = ['-x509_strict', '-check_ss_sig', '-crl_check_all', '-CRLfile', file];
        const complaint = await openssl(folder, material, 'sslserver', strict);
        const bundles = (): readonly Uint8Array[] => material.bundle;
        const verify = (): unknown =>
          verifyX509Svid({ chain: [leaf, issuer], bundles, nowMs: NOW_MS, crls: crls.map(parseCrl) });
        if (isRevoked) {
          assert.match(complaint, /certificate revoked/);
          expectCode('svid_revoked', verify);
        } else {
          assert.equal(complaint, '');
          assert.ok(verify());
        }
      }
      assert.ok(await pkijsAccepts(material));
      assert.ok(await peculiarFindsAnchor(material));
    }
  });

  it('nobody refuses what Kedge accepts, and Kedge refuses more only by rules of its own', async () => {
    const counts = { accepted: 0, refused: 0, ownRules: 0 };
    await checkAsyncProperty(
      fc.asyncProperty(chainSpec, async (spec) => {
        const material = await makeMaterial(spec);
        const verdict = kedge(material);
        const judged = typeof verdict === 'string' ? material : onPath(material, verdict);
        const complaints = [
          await openssl(folder, judged, 'sslserver'),
          await openssl(folder, judged, 'sslclient'),
        ].join('');
        if (typeof verdict === 'string') {
          counts.refused += 1;
          if (complaints !== '') return;
          counts.ownRules += 1;
          assert.ok(OWN_RULES.has(verdict), `OpenSSL accepts what Kedge refuses with ${verdict}`);
          return;
        }
        counts.accepted += 1;
        assert.equal(complaints, '', 'OpenSSL refuses what Kedge accepts');
        assert.ok(await pkijsAccepts(judged), 'pkijs refuses what Kedge accepts');
        assert.ok(await peculiarFindsAnchor(judged), '@peculiar/x509 finds no anchor');
      }),
      100,
    );
    // A test of opinions is worth nothing when all of them are the same.
    assert.ok(counts.accepted > 5 && counts.refused > 5, JSON.stringify(counts));
  });
});
