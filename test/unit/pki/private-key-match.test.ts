import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCertificate } from '../../../pki/certificate.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { checkPrivateKey } from '../../../pki/private-key-match.ts';
import { makeAnchor, makeLeaf, newPrivateKey, newSigner } from '../../support/certificates.ts';

describe('a private key', () => {
  for (const kind of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as const) {
    it(`of ${kind} is the one of its certificate and of no other`, async () => {
      const signer = newSigner(kind);
      const certificate = parseCertificate(await makeLeaf(await makeAnchor(), { signer }));
      checkPrivateKey(certificate, signer.privateKey);
      assert.throws(
        () => checkPrivateKey(certificate, newPrivateKey('ec-p256')),
        (error) => isKedgeError(error, 'svid_private_key_mismatch'),
      );
    });
  }
});
