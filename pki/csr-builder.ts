import { type KeyObject, createPublicKey } from 'node:crypto';
import { algorithmOfKeyType, schemeOf, schemeSpec, signWith } from './algorithms.ts';
import {
  derBitString,
  derContext,
  derContextPrimitive,
  derExtension,
  derInteger,
  derOid,
  derSequence,
  derSetOf,
  ia5Octets,
} from './der-writer.ts';
import { OID } from './oid.ts';
import { keyTypeOfSpki } from './public-key.ts';
import type { SpiffeId } from './spiffe-id.ts';

/** What a CSR is made from. */
export interface CsrOptions {
  /** P-256, P-384, Ed25519 or RSA of 2048 to 4096 bits; stays with the caller. */
  readonly privateKey: KeyObject;
  /** The ID to ask for, as some CAs want it; the CA gives the attested one or refuses. */
  readonly uriSan?: SpiffeId;
}

/**
 * A PKCS #10 request, DER (RFC 2986 section 4): version 0, empty subject, and at most a critical SubjectAltName
 * with one URI. Signed with the hash that goes with the key: SHA-256, for P-384 SHA-384.
 *
 * Throws `key_algorithm_unsupported` for a key of another type.
 */
export function buildCsr(options: CsrOptions): Uint8Array {
  const { privateKey, uriSan } = options;
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const algorithm = algorithmOfKeyType(keyTypeOfSpki(spki, 'key_algorithm_unsupported'));
  const attributes = uriSan === undefined ? [] : [extensionRequest(uriSan)];
  const info = derSequence(derInteger(0), derSequence(), spki, derContext(0, ...attributes));
  const signature = signWith(algorithm, privateKey, info);
  const { algorithmIdentifier } = schemeSpec(schemeOf(algorithm));
  return derSequence(info, algorithmIdentifier, derBitString(signature));
}

/** The attribute of RFC 2985 section 5.4.2; the SAN is critical, for the subject is empty. */
function extensionRequest(uriSan: SpiffeId): Uint8Array {
  const names = derSequence(derContextPrimitive(6, ia5Octets(uriSan.toString())));
  const extensions = derSequence(derExtension(OID.subjectAltName, true, names));
  return derSequence(derOid(OID.extensionRequest), derSetOf(extensions));
}
