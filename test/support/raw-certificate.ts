/**
 * Certificates and CSRs put together from raw DER, each part replaceable by one that is wrong. Signatures are
 * placeholders unless a test gives a real one.
 */
import {
  derBitString,
  derContext,
  derElement,
  derExtension,
  derInteger,
  derOid,
  derSequence,
  derSetOf,
  derTime,
  derUtf8String,
} from '../../pki/der-writer.ts';
import { OID } from '../../pki/oid.ts';
import { hex } from './hex.ts';

/** A point of P-256 (its generator), in its SubjectPublicKeyInfo. */
export const P256_SPKI = hex(`
  3059301306072a8648ce3d020106082a8648ce3d030107034200
  046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296
  4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5`);

export const ECDSA_SHA256 = derSequence(derOid(OID.ecdsaWithSha256));

/** A Name with one attribute. */
export function commonName(text: string): Uint8Array {
  return derSequence(derSetOf(derSequence(derOid(OID.commonName), derUtf8String(text))));
}

/** Any INTEGER, by its content octets, right or wrong. */
export function integerOf(content: string): Uint8Array {
  return derElement(0x02, hex(content));
}

/** The parts of a certificate; null leaves one out. All are whole elements. */
export interface RawCertificate {
  version?: Uint8Array | null;
  serialNumber?: Uint8Array;
  algorithm?: Uint8Array;
  outerAlgorithm?: Uint8Array;
  issuer?: Uint8Array;
  validity?: Uint8Array;
  subject?: Uint8Array;
  spki?: Uint8Array;
  /** Between key and extensions. */
  uniqueIds?: Uint8Array;
  /** Each an Extension; null for no extensions at all. */
  extensions?: readonly Uint8Array[] | null;
  signature?: Uint8Array;
  /** Behind the signature. */
  extra?: Uint8Array;
}

const NONE = new Uint8Array(0);

export function rawTbs(parts: RawCertificate = {}): Uint8Array {
  const { extensions = [derExtension(OID.basicConstraints, true, derSequence())] } = parts;
  return derSequence(
    parts.version === null ? NONE : (parts.version ?? derContext(0, derInteger(2))),
    parts.serialNumber ?? derInteger(1),
    parts.algorithm ?? ECDSA_SHA256,
    parts.issuer ?? commonName('issuer'),
    parts.validity ?? derSequence(derTime(Date.UTC(2026, 0, 1)), derTime(Date.UTC(2027, 0, 1))),
    parts.subject ?? commonName('subject'),
    parts.spki ?? P256_SPKI,
    parts.uniqueIds ?? NONE,
    extensions === null ? NONE : derContext(3, derSequence(...extensions)),
  );
}

export function rawCertificate(parts: RawCertificate = {}): Uint8Array {
  return derSequence(
    rawTbs(parts),
    parts.outerAlgorithm ?? parts.algorithm ?? ECDSA_SHA256,
    parts.signature ?? derBitString(hex('3006020101020101')),
    parts.extra ?? NONE,
  );
}

/** The parts of a CSR; null leaves one out. */
export interface RawCsr {
  version?: Uint8Array;
  subject?: Uint8Array;
  spki?: Uint8Array;
  /** Each an Attribute, written in this order; null for no attributes field. */
  attributes?: readonly Uint8Array[] | null;
  algorithm?: Uint8Array;
  signature?: Uint8Array;
  extra?: Uint8Array;
}

export function rawCsrInfo(parts: RawCsr = {}): Uint8Array {
  const { attributes = [] } = parts;
  return derSequence(
    parts.version ?? derInteger(0),
    parts.subject ?? derSequence(),
    parts.spki ?? P256_SPKI,
    attributes === null ? NONE : derContext(0, ...attributes),
  );
}

export function rawCsr(parts: RawCsr = {}): Uint8Array {
  return derSequence(
    rawCsrInfo(parts),
    parts.algorithm ?? ECDSA_SHA256,
    parts.signature ?? derBitString(hex('3006020101020101')),
    parts.extra ?? NONE,
  );
}

/** The attribute that asks for extensions. */
export function extensionRequest(...extensions: readonly Uint8Array[]): Uint8Array {
  return derSequence(derOid(OID.extensionRequest), derSetOf(derSequence(...extensions)));
}
