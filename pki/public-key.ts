import { hash, verify } from 'node:crypto';
import { type KeyFamily, type SignatureScheme, type SvidKeyType, schemeSpec } from './algorithms.ts';
import { equalBytes, octetAt, startsWithBytes } from './bytes.ts';
import { DerReader, type DerSubject } from './der-reader.ts';
import { TAG } from './der-tag.ts';
import { derBitString, derNull, derOid, derSequence } from './der-writer.ts';
import type { ErrorCode } from './error-table.ts';
import { KedgeError } from './kedge-error.ts';
import { OID, decodeOid } from './oid.ts';
import { encodePem } from './pem.ts';

/** A public key of a family that Kedge verifies with; more sizes than an SVID may hold, for authorities. */
export interface PublicKeyShape {
  readonly family: KeyFamily;
  /** Bits of the modulus, or of the curve's field. */
  readonly bits: number;
}

/** A curve in SubjectPublicKeyInfo: everything up to the coordinates is fixed (RFC 5480 section 2). */
interface Curve {
  readonly bits: number;
  /** Of an uncompressed point: its first octet is 0x04, then x and y. */
  readonly pointOctets: number;
  readonly spkiPrefix: Uint8Array;
}

function curve(oid: string, bits: number): Curve {
  const pointOctets = 1 + 2 * Math.ceil(bits / 8);
  const spki = derSequence(
    derSequence(derOid(OID.ecPublicKey), derOid(oid)),
    derBitString(new Uint8Array(pointOctets)),
  );
  return { bits, pointOctets, spkiPrefix: spki.subarray(0, spki.length - pointOctets) };
}

const P256 = curve(OID.secp256r1, 256);
const P384 = curve(OID.secp384r1, 384);
const CURVES: readonly Curve[] = [P256, P384, curve(OID.secp521r1, 521)];

const ED25519_OCTETS = 32;
const ED25519_PREFIX = derSequence(
  derSequence(derOid(OID.ed25519)),
  derBitString(new Uint8Array(ED25519_OCTETS)),
).subarray(0, -ED25519_OCTETS);

const RSA_IDENTIFIER = derSequence(derOid(OID.rsaEncryption), derNull());

const CHECKED_KEY: DerSubject = { code: 'der_invalid', what: 'the public key' };

/** Octets of the key identifiers that Kedge makes. */
export const SUBJECT_KEY_ID_OCTETS = 20;

/** Public exponents: 65537 is the least that FIPS 186-5 section A.1.1 allows, 2^31 - 1 the most that Go reads. */
const RSA_EXPONENT_FROM = 65_537;
/** The largest modulus that an authority may have; more is a way to spend our CPU. */
const RSA_BITS_TO = 8192;

/**
 * The type of the key in a SubjectPublicKeyInfo (DER): P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits with an
 * odd modulus and an odd exponent from 65537 to 2^31 - 1. EC points are uncompressed (RFC 5480 section 2.2 lets a
 * CA refuse compressed ones). Whether a point lies on its curve shows when the key is used: {@link verifySignature}.
 *
 * Throws `code` for any other key.
 */
export function keyTypeOfSpki(spki: Uint8Array, code: ErrorCode = 'csr_key_type_unsupported'): SvidKeyType {
  const { family, bits } = publicKeyShape(spki, code);
  if (family === 'ed25519') return 'ed25519';
  if (family === 'ec') {
    if (bits === 256) return 'ec-p256';
    if (bits === 384) return 'ec-p384';
    throw unsupported(code, 'the curve P-521');
  }
  if (bits > 4096) throw unsupported(code, `an RSA modulus of ${bits} bits`);
  if (bits === 4096) return 'rsa-4096';
  return bits >= 3072 ? 'rsa-3072' : 'rsa-2048';
}

/**
 * Family and size of the key in a SubjectPublicKeyInfo (DER). Beyond what an SVID may hold it reads P-521 and RSA
 * up to 8192 bits, which authorities of others have. Throws `code` for any other key.
 */
export function publicKeyShape(spki: Uint8Array, code: ErrorCode): PublicKeyShape {
  for (const { spkiPrefix, pointOctets, bits } of CURVES) {
    if (spki.length !== spkiPrefix.length + pointOctets || !startsWithBytes(spki, spkiPrefix)) continue;
    if (spki[spkiPrefix.length] === 0x04) return { family: 'ec', bits };
    throw new KedgeError(code, 'the public key is not an uncompressed curve point (SEC 1 section 2.3.3)');
  }
  if (spki.length === ED25519_PREFIX.length + ED25519_OCTETS && startsWithBytes(spki, ED25519_PREFIX))
    return { family: 'ed25519', bits: 255 };
  return { family: 'rsa', bits: rsaModulusBits(spki, code) };
}

function rsaModulusBits(spki: Uint8Array, code: ErrorCode): number {
  const outer = DerReader.of(spki, { code, what: 'the public key' });
  const info = outer.enter(TAG.sequence);
  outer.end();
  const { der: algorithm, inside } = info.open(TAG.sequence);
  const algorithmOid = inside.oidContent();
  if (!equalBytes(algorithm, RSA_IDENTIFIER)) throw unknownKey(algorithmOid, inside, code);
  const keyBits = info.bitStringOctets();
  info.end();
  const keyReader = DerReader.of(keyBits, { code, what: 'the RSA public key' });
  const key = keyReader.enter(TAG.sequence);
  keyReader.end();
  const modulus = key.integer();
  const exponent = key.integer();
  key.end();
  return checkRsaNumbers(modulus, exponent, code);
}

/** What is wrong with an algorithm that is neither plain RSA nor, with its key of fixed length, a known curve. */
function unknownKey(algorithmOid: Uint8Array, parameters: DerReader, code: ErrorCode): KedgeError {
  const dotted = decodeOid(algorithmOid);
  if (dotted === OID.ecPublicKey && parameters.is(TAG.oid)) {
    const curveOid = parameters.oid();
    return [OID.secp256r1, OID.secp384r1, OID.secp521r1].some((known) => known === curveOid)
      ? unsupported(code, 'a curve point that is compressed or of the wrong length')
      : unsupported(code, `the curve ${curveOid}`);
  }
  if (dotted === OID.ecPublicKey || dotted === OID.rsaEncryption || dotted === OID.ed25519)
    return unsupported(code, `the algorithm ${dotted} with unusual parameters or length`);
  return unsupported(code, `the algorithm ${dotted}`);
}

function checkRsaNumbers(modulus: Uint8Array, exponent: Uint8Array, code: ErrorCode): number {
  const leading = modulus[0] === 0 ? octetAt(modulus, 1) : octetAt(modulus, 0);
  const octets = modulus[0] === 0 ? modulus.length - 1 : modulus.length;
  const bits = (octets - 1) * 8 + (32 - Math.clz32(leading));
  const isNegative = (octetAt(modulus, 0) & 0x80) !== 0;
  const isOdd = (octetAt(modulus, modulus.length - 1) & 1) === 1;
  if (isNegative || !isOdd) throw unsupported(code, 'an RSA modulus that is negative or even');
  if (bits < 2048 || bits > RSA_BITS_TO) throw unsupported(code, `an RSA modulus of ${bits} bits`);
  let value = 0;
  for (const octet of exponent) value = value * 0x100 + octet;
  const isSane = exponent.length <= 4 && value >= RSA_EXPONENT_FROM && value < 2 ** 31 && value % 2 === 1;
  if (!isSane) throw unsupported(code, 'an RSA public exponent that is even, below 65537 or above 2^31');
  return bits;
}

function unsupported(code: ErrorCode, found: string): KedgeError {
  return new KedgeError(code, `the public key has ${found}, which Kedge does not take`, {
    hint: 'use a key on P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits',
  });
}

/**
 * The key identifier that Kedge gives to a key: the leftmost 20 octets of the SHA-256 of the octets in
 * subjectPublicKey (RFC 7093 section 2, method 1). Not the SHA-1 of RFC 5280 section 4.2.1.2, which FIPS modes
 * lack; to a reader both are opaque. `spki` is DER that was checked before.
 */
export function subjectKeyId(spki: Uint8Array): Uint8Array {
  const info = DerReader.of(spki, CHECKED_KEY).enter(TAG.sequence);
  info.content(TAG.sequence);
  // By way of text, as Node makes an ArrayBuffer of its own for each digest in bytes: 0.6 us against 1.7, twice for
  // each SVID.
  const digest = hash('sha256', info.bitStringOctets(), 'binary');
  return Buffer.from(digest.slice(0, SUBJECT_KEY_ID_OCTETS), 'latin1');
}

/**
 * True when `signature` over `data` is of the key in `spki` by `scheme`. False when it is not, and when the scheme
 * belongs to another family of keys.
 *
 * Throws `code` when the key itself is not usable: a point that is not on its curve, or a key that
 * {@link publicKeyShape} refuses.
 */
export function verifySignature(
  scheme: SignatureScheme,
  spki: Uint8Array,
  data: Uint8Array,
  signature: Uint8Array,
  code: ErrorCode,
): boolean {
  const { family, digest } = schemeSpec(scheme);
  // node:crypto would try an RSA key with a scheme that says ECDSA, and the other way round.
  if (publicKeyShape(spki, code).family !== family) return false;
  try {
    // The key goes in as PEM text: of a key in bytes or in an object, Node 24 finds out that it is no KeyObject by
    // four thrown errors with their stack traces, which cost more than half as much as the verification itself.
    return verify(digest, data, encodePem('PUBLIC KEY', spki), signature);
  } catch (cause) {
    throw new KedgeError(code, 'the public key is not usable: not a point on its curve, or a bad modulus', {
      cause,
    });
  }
}
