import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { issuerCsr, mintAnchor, mintIssuer } from '../../pki/authority-profile.ts';
import type { AuthoritySigner } from '../../pki/authority-signer.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { SpiffeId, TrustDomain } from '../../pki/spiffe-id.ts';
import {
  assembleCertificate,
  buildSvidTbs,
  type SvidTemplate,
  svidTemplate,
} from '../../pki/x509-svid-profile.ts';

const DAY_MS = 86_400_000;

/** A P-256 key pair that signs as a key manager's does. */
export interface KeyPair extends AuthoritySigner {
  readonly privateKey: KeyObject;
  sign(data: Uint8Array): Uint8Array;
}

/** An anchor, an issuer below it and an SVID below that, made by Kedge's own profiles. Certificates are DER. */
export interface Hierarchy {
  readonly trustDomain: TrustDomain;
  readonly anchor: Uint8Array;
  readonly issuer: Uint8Array;
  readonly svid: Uint8Array;
  readonly template: SvidTemplate;
  readonly anchorKey: KeyPair;
  readonly issuerKey: KeyPair;
  readonly svidKey: KeyPair;
}

export function newKeyPair(): KeyPair {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = new Uint8Array(createPublicKey(privateKey).export({ format: 'der', type: 'spki' }));
  return {
    privateKey,
    algorithm: 'ecdsa-p256-sha256',
    spki,
    sign: (data) => sign('sha256', data, privateKey),
  };
}

/** `notBeforeMs` is that of all three; the SVID lives a day, the issuer 30, the anchor five years. */
export async function newHierarchy(notBeforeMs: number, uriNameConstraints = false): Promise<Hierarchy> {
  const trustDomain = TrustDomain.parse('example.org');
  const [anchorKey, issuerKey, svidKey] = [newKeyPair(), newKeyPair(), newKeyPair()];
  const serialNumber = new Uint8Array(randomBytes(16));
  const anchor = await mintAnchor({
    trustDomain,
    signer: anchorKey,
    notBeforeMs,
    notAfterMs: notBeforeMs + 1825 * DAY_MS,
    serialNumber,
    uriNameConstraints,
  });
  const issuer = await mintIssuer({
    csr: await issuerCsr({ trustDomain, signer: issuerKey }),
    trustDomain,
    anchor,
    signer: anchorKey,
    notBeforeMs,
    notAfterMs: notBeforeMs + 30 * DAY_MS,
    serialNumber,
  });
  const template = svidTemplate({
    issuerCertificate: parseCertificate(issuer),
    algorithm: issuerKey.algorithm,
  });
  const tbs = buildSvidTbs(template, {
    spiffeId: SpiffeId.parse('spiffe://example.org/ns/demo/sa/web'),
    dnsNames: ['web.demo.svc'],
    spki: svidKey.spki,
    serialNumber,
    notBeforeMs,
    notAfterMs: notBeforeMs + DAY_MS,
  });
  const svid = assembleCertificate(tbs, issuerKey.algorithm, issuerKey.sign(tbs));
  return { trustDomain, anchor, issuer, svid, template, anchorKey, issuerKey, svidKey };
}
