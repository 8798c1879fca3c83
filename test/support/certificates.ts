/**
 * Certificates for tests: good ones by default, wrong ones by naming what is wrong. Every extension of the three
 * profiles can be replaced or left out.
 */
import { type KeyObject, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { type SignatureAlgorithm, signWith } from '../../pki/algorithms.ts';
import type { AuthoritySigner } from '../../pki/authority-signer.ts';
import { toHex } from '../../pki/bytes.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { derContext, derContextPrimitive, derSequence } from '../../pki/der-writer.ts';
import { OID } from '../../pki/oid.ts';
import { subjectKeyId } from '../../pki/public-key.ts';
import { assembleCertificate } from '../../pki/x509-svid-profile.ts';
import { signerCrypto } from '../../pki/webcrypto-signer.ts';
import { x509 } from '../../pki/x509-library.ts';

/** Now, in every test that does not say otherwise. */
export const NOW_MS = Date.UTC(2026, 5, 1, 12);
export const HOUR_MS = 3_600_000;

export type TestKeyType = 'ec-p256' | 'ec-p384' | 'ed25519' | 'rsa-2048' | 'rsa-3072';

const ALGORITHMS: Readonly<Record<TestKeyType, SignatureAlgorithm>> = {
  'ec-p256': 'ecdsa-p256-sha256',
  'ec-p384': 'ecdsa-p384-sha384',
  ed25519: 'ed25519',
  'rsa-2048': 'rsa-pkcs1-sha256',
  'rsa-3072': 'rsa-pkcs1-sha256',
};

/** A signer like a key manager's, with its key in reach of the test. */
export interface TestSigner extends AuthoritySigner {
  readonly privateKey: KeyObject;
  sign(data: Uint8Array): Uint8Array;
}

export function newPrivateKey(type: TestKeyType = 'ec-p256'): KeyObject {
  if (type === 'ed25519') return generateKeyPairSync('ed25519').privateKey;
  if (type === 'rsa-2048') return rsaKey(2048);
  if (type === 'rsa-3072') return rsaKey(3072);
  const namedCurve = type === 'ec-p256' ? 'P-256' : 'P-384';
  return generateKeyPairSync('ec', { namedCurve }).privateKey;
}

const rsaKeys = new Map<number, KeyObject>();

/** RSA keys take their time: each size is made once, and is the same in all of a test file. */
function rsaKey(modulusLength: number): KeyObject {
  const key = rsaKeys.get(modulusLength) ?? generateKeyPairSync('rsa', { modulusLength }).privateKey;
  rsaKeys.set(modulusLength, key);
  return key;
}

export function spkiOf(privateKey: KeyObject): Uint8Array {
  return new Uint8Array(createPublicKey(privateKey).export({ format: 'der', type: 'spki' }));
}

export function newSigner(type: TestKeyType = 'ec-p256'): TestSigner {
  const privateKey = newPrivateKey(type);
  const algorithm = ALGORITHMS[type];
  return {
    algorithm,
    privateKey,
    spki: spkiOf(privateKey),
    sign: (data) => signWith(algorithm, privateKey, data),
  };
}

export function randomSerial(): Uint8Array {
  return new Uint8Array(randomBytes(16)).with(0, 0x5a);
}

/** The extensions of a certificate by name; null leaves one out. */
export type ExtensionOverrides = Readonly<Record<string, x509.Extension | null>>;

/** One certificate, down to the last extension. */
export interface CertificateSpec {
  /** RFC 4514; empty for none. */
  readonly subject?: string;
  readonly issuer?: string;
  readonly spki: Uint8Array;
  readonly signer: TestSigner;
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  readonly serialNumber?: Uint8Array;
  readonly extensions?: readonly x509.Extension[];
}

/** Makes any certificate at all. */
export async function makeCertificate(spec: CertificateSpec): Promise<Uint8Array> {
  const { signer } = spec;
  const { crypto, keys, signingAlgorithm } = await signerCrypto(signer);
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: toHex(spec.serialNumber ?? randomSerial()),
      ...(spec.subject === undefined || spec.subject === '' ? {} : { subject: spec.subject }),
      ...(spec.issuer === undefined || spec.issuer === '' ? {} : { issuer: spec.issuer }),
      notBefore: new Date(spec.notBeforeMs ?? NOW_MS - HOUR_MS),
      notAfter: new Date(spec.notAfterMs ?? NOW_MS + HOUR_MS),
      publicKey: spec.spki,
      signingKey: keys.privateKey,
      signingAlgorithm,
      extensions: [...(spec.extensions ?? [])],
    },
    crypto,
  );
  return new Uint8Array(certificate.rawData);
}

const { keyCertSign, cRLSign, digitalSignature } = x509.KeyUsageFlags;

export const ext = {
  basicConstraints: (ca: boolean, pathLength?: number, critical = true): x509.Extension =>
    new x509.BasicConstraintsExtension(ca, pathLength, critical),
  keyUsage: (flags: x509.KeyUsageFlags, critical = true): x509.Extension =>
    new x509.KeyUsagesExtension(flags, critical),
  extendedKeyUsage: (...purposes: readonly string[]): x509.Extension =>
    new x509.ExtendedKeyUsageExtension([...purposes]),
  san: (names: x509.JsonGeneralNames, critical = true): x509.Extension =>
    new x509.SubjectAlternativeNameExtension(names, critical),
  uris: (...uris: readonly string[]): x509.Extension =>
    ext.san(uris.map((value) => ({ type: 'url', value }))),
  subjectKeyId: (spki: Uint8Array): x509.Extension =>
    new x509.SubjectKeyIdentifierExtension(toHex(subjectKeyId(spki))),
  authorityKeyId: (spki: Uint8Array): x509.Extension =>
    new x509.AuthorityKeyIdentifierExtension(toHex(subjectKeyId(spki))),
  /** An extension that nobody knows. */
  unknown: (critical: boolean): x509.Extension =>
    new x509.Extension('1.3.6.1.4.1.55555.1', critical, Uint8Array.of(0x05, 0x00)),
  /** `[tag, value]`: 6 is URI, 2 is DNS, 1 is email, 7 is IP. */
  nameConstraints: (
    permitted: readonly (readonly [number, string | Uint8Array])[],
    excluded: readonly (readonly [number, string | Uint8Array])[] = [],
  ): x509.Extension => {
    const subtrees = (number: number, bases: typeof permitted): Uint8Array =>
      bases.length === 0
        ? new Uint8Array(0)
        : derContext(
            number,
            ...bases.map(([tag, value]) =>
              derSequence(derContextPrimitive(tag, Buffer.from(value as string))),
            ),
          );
    return new x509.Extension(
      OID.nameConstraints,
      true,
      derSequence(subtrees(0, permitted), subtrees(1, excluded)),
    );
  },
};

/** A CA certificate and the key that signs below it. */
export interface TestCa {
  readonly der: Uint8Array;
  readonly signer: TestSigner;
  readonly subject: string;
}

/** What may differ from the profile. */
export interface Deviation {
  readonly subject?: string;
  readonly signer?: TestSigner;
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  readonly serialNumber?: Uint8Array;
  readonly extensions?: ExtensionOverrides;
}

const TRUST_DOMAIN_ID = 'spiffe://example.org';
export const SVID_ID = 'spiffe://example.org/ns/default/sa/web';

/** A self-signed anchor of example.org. */
export async function makeAnchor(deviation: Deviation = {}): Promise<TestCa> {
  const signer = deviation.signer ?? newSigner();
  const subject = deviation.subject ?? `O=example.org, CN=anchor ${toHex(randomSerial())}`;
  const der = await makeCertificate({
    notBeforeMs: NOW_MS - 24 * HOUR_MS,
    notAfterMs: NOW_MS + 24 * HOUR_MS,
    ...deviation,
    subject,
    issuer: subject,
    spki: signer.spki,
    signer,
    extensions: extensionsOf(
      {
        basicConstraints: ext.basicConstraints(true),
        keyUsage: ext.keyUsage(keyCertSign | cRLSign),
        san: ext.uris(TRUST_DOMAIN_ID),
        subjectKeyId: ext.subjectKeyId(signer.spki),
      },
      deviation,
    ),
  });
  return { der, signer, subject };
}

/** A CA of example.org below another. */
export async function makeIssuer(parent: TestCa, deviation: Deviation = {}): Promise<TestCa> {
  const signer = deviation.signer ?? newSigner();
  const subject = deviation.subject ?? `O=example.org, CN=issuer ${toHex(randomSerial())}`;
  const der = await makeCertificate({
    notBeforeMs: NOW_MS - 12 * HOUR_MS,
    notAfterMs: NOW_MS + 12 * HOUR_MS,
    ...deviation,
    subject,
    issuer: parent.subject,
    spki: signer.spki,
    signer: parent.signer,
    extensions: extensionsOf(
      {
        basicConstraints: ext.basicConstraints(true),
        keyUsage: ext.keyUsage(keyCertSign | cRLSign),
        san: ext.uris(TRUST_DOMAIN_ID),
        subjectKeyId: ext.subjectKeyId(signer.spki),
        authorityKeyId: ext.authorityKeyId(parent.signer.spki),
      },
      deviation,
    ),
  });
  return { der, signer, subject };
}

/** An SVID of {@link SVID_ID}. `deviation.signer` is the key of the SVID, not of its issuer. */
export async function makeLeaf(parent: TestCa, deviation: Deviation = {}): Promise<Uint8Array> {
  const spki = (deviation.signer ?? newSigner()).spki;
  return makeCertificate({
    ...deviation,
    issuer: parent.subject,
    spki,
    signer: parent.signer,
    extensions: extensionsOf(
      {
        keyUsage: ext.keyUsage(digitalSignature),
        extendedKeyUsage: ext.extendedKeyUsage(OID.serverAuth, OID.clientAuth),
        basicConstraints: ext.basicConstraints(false),
        san: ext.uris(SVID_ID),
        subjectKeyId: ext.subjectKeyId(spki),
        authorityKeyId: ext.authorityKeyId(parent.signer.spki),
      },
      deviation,
    ),
  });
}

function extensionsOf(
  profile: ExtensionOverrides,
  { extensions = {} }: Deviation,
): readonly x509.Extension[] {
  return Object.values({ ...profile, ...extensions }).filter((extension) => extension !== null);
}

/** The certificate signed again, by another key; all that is signed stays the same. */
export function signedBy(der: Uint8Array, signer: TestSigner): Uint8Array {
  const { tbs } = parseCertificate(der);
  return assembleCertificate(tbs, signer.algorithm, signer.sign(tbs));
}
