/**
 * The bound: what any CA on `node:crypto` must do for one SVID, and nothing else: import the CSR's public key,
 * verify the CSR's signature with it, sign the certificate.
 */
import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign, verify } from 'node:crypto';
import { parseCsr } from '../../pki/csr.ts';

/** One CSR, taken apart beforehand: parsing is ours, so it is not in the bound. */
export interface BoundInput {
  readonly spki: Buffer;
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

export function boundInputs(csrs: readonly Uint8Array[]): BoundInput[] {
  return csrs.map((der) => {
    const csr = parseCsr(der);
    return { spki: Buffer.from(csr.spki), signed: csr.info, signature: csr.signature };
  });
}

/** A signing key and as many bytes to sign as a TBSCertificate has. */
export function boundSigner(): { key: KeyObject; tbs: Buffer } {
  return { key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, tbs: randomBytes(440) };
}

export function boundStep(input: BoundInput, signer: { key: KeyObject; tbs: Buffer }): void {
  const key = createPublicKey({ key: input.spki, format: 'der', type: 'spki' });
  if (!verify('sha256', input.signed, key, input.signature))
    throw new Error('a CSR of the benchmark does not verify');
  sign('sha256', signer.tbs, signer.key);
}
