import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { signWith } from '../../pki/algorithms.ts';
import type { AuthoritySigner } from '../../pki/authority-signer.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { createCrl } from '../../pki/crl-builder.ts';
import {
  derBoolean,
  derContext,
  derExtension,
  derInteger,
  derNamedBits,
  derOctetString,
  derOid,
  derSequence,
  derSetOf,
  derTime,
  derUnsignedInteger,
  derUtf8String,
} from '../../pki/der-writer.ts';
import { schemeOf, schemeSpec } from '../../pki/algorithms.ts';
import { OID } from '../../pki/oid.ts';
import { subjectKeyId } from '../../pki/public-key.ts';
import { assembleCertificate } from '../../pki/x509-svid-profile.ts';
import type { PlaceholderDer } from './haproxy-material.ts';

const VALIDITY_MS = 10 * 365 * 86_400_000;
const BACKDATE_MS = 86_400_000;
const ALGORITHM = 'ecdsa-p256-sha256';
/** Bits of KeyUsage (RFC 5280 section 4.2.1.3). */
const DIGITAL_SIGNATURE = 0;
const KEY_CERT_SIGN = 5;
const CRL_SIGN = 6;

/**
 * What HAProxy holds while it has no identity: it starts only with files that parse, and it cannot drop those in use.
 *
 * The certificate is signed by its own key, so no peer accepts it; the CA's key is thrown away here, so there is no
 * certificate that this HAProxy accepts. Both fail closed, and both are replaced by the first SVID without a restart.
 */
export async function makePlaceholder(nowMs: number): Promise<PlaceholderDer> {
  const [own, authority] = [newKey(), newKey()];
  const certificate = selfSigned(own, 'kedge: no identity', false, nowMs);
  const anchor = selfSigned(authority, 'kedge: no authority', true, nowMs);
  const crl = await createCrl({
    issuer: parseCertificate(anchor),
    signer: authority,
    number: 0,
    thisUpdateMs: nowMs - BACKDATE_MS,
    nextUpdateMs: nowMs + VALIDITY_MS,
    entries: [],
  });
  const privateKey = new Uint8Array(own.privateKey.export({ type: 'pkcs8', format: 'der' }));
  return { chain: [certificate], privateKey, authorities: [anchor], crl };
}

interface KeyOfOurs extends AuthoritySigner {
  readonly privateKey: KeyObject;
  sign(data: Uint8Array): Uint8Array;
}

function newKey(): KeyOfOurs {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    algorithm: ALGORITHM,
    privateKey,
    spki: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })),
    sign: (data) => signWith(ALGORITHM, privateKey, data),
  };
}

/** A self-signed v3 certificate (RFC 5280 section 4.1). */
function selfSigned(key: KeyOfOurs, commonName: string, isCa: boolean, nowMs: number): Uint8Array {
  const name = derSequence(derSetOf(derSequence(derOid(OID.commonName), derUtf8String(commonName))));
  const usages = isCa ? [KEY_CERT_SIGN, CRL_SIGN] : [DIGITAL_SIGNATURE];
  const tbs = derSequence(
    derContext(0, derInteger(2)),
    derUnsignedInteger(randomBytes(16).fill(0x4b, 0, 1)),
    schemeSpec(schemeOf(ALGORITHM)).algorithmIdentifier,
    name,
    derSequence(derTime(nowMs - BACKDATE_MS), derTime(nowMs + VALIDITY_MS)),
    name,
    key.spki,
    derContext(
      3,
      derSequence(
        derExtension(OID.basicConstraints, true, isCa ? derSequence(derBoolean(true)) : derSequence()),
        derExtension(OID.keyUsage, true, derNamedBits(usages)),
        derExtension(OID.subjectKeyIdentifier, false, derOctetString(subjectKeyId(key.spki))),
      ),
    ),
  );
  return assembleCertificate(tbs, ALGORITHM, key.sign(tbs));
}
