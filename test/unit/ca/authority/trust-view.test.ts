import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Issuer } from '../../../../ca/authority/trust-state.ts';
import { signingIssuerOf, trustView } from '../../../../ca/authority/trust-view.ts';
import type { KeyManager, Signer } from '../../../../ca/keys/key-manager.ts';
import { toHex } from '../../../../pki/bytes.ts';
import { parseCertificate } from '../../../../pki/certificate.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { makeAnchor, makeIssuer, newSigner } from '../../../support/certificates.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { activeState, emptyHandle, makeAuthorityPool } from '../../../support/trust-states.ts';

const anchor = await makeAnchor();
const ca = await makeIssuer(anchor);
const { notBeforeMs, notAfterMs, subjectKeyId } = parseCertificate(ca.der);
const issuer: Issuer = {
  id: toHex(subjectKeyId!),
  phase: 'active',
  phaseSinceMs: 0,
  taintedAtMs: null,
  certificate: ca.der,
  notBeforeMs,
  notAfterMs,
  anchorId: 'ab',
  intermediates: [],
  key: emptyHandle('issuer', ca.signer.spki),
};

/** A key manager that gives `signer`, whatever it is asked for. */
const giving = (signer: () => Promise<Signer>): KeyManager => ({
  generate: () => assert.fail('nothing is to be generated'),
  destroy: () => assert.fail('nothing is to be destroyed'),
  signer,
});

describe('an issuer that gets ready to sign', () => {
  it('has its template, its signer, and the chain up to the anchor', async () => {
    const intermediate = (await makeIssuer(anchor)).der;
    const ready = await signingIssuerOf(
      { ...issuer, intermediates: [intermediate] },
      giving(async () => ca.signer),
    );
    assert.deepEqual(ready.chain, [ca.der, intermediate]);
    assert.equal(ready.signer, ca.signer);
    assert.deepEqual(ready.template.issuerCertificate.der, ca.der);
    assert.ok(Object.isFrozen(ready));
  });

  it('may have its key in an HSM, which answers later', async () => {
    const later: Signer = { ...ca.signer, sign: async (data) => ca.signer.sign(data) };
    const ready = await signingIssuerOf(
      issuer,
      giving(async () => later),
    );
    assert.equal(ready.signer, later);
  });

  it('is refused when its key signs, but is another key', async () => {
    const getting = signingIssuerOf(
      issuer,
      giving(async () => ({ ...newSigner(), spki: ca.signer.spki })),
    );
    const error = await expectRejection('key_not_found', getting);
    assert.match(error.message, /"issuer" is not the one of its issuer/);
  });

  it('is refused when its key does not answer, is of another kind, or its certificate may not sign', async () => {
    const fault = new KedgeError('key_sealed', 'no');
    await assert.rejects(
      signingIssuerOf(
        issuer,
        giving(() => Promise.reject(fault)),
      ),
      fault,
    );
    const other = giving(async () => newSigner('ed25519'));
    await expectRejection('authority_unusable', signingIssuerOf(issuer, other));
    const leaf = await makeIssuer(anchor, { extensions: { basicConstraints: null } });
    const unusable = { ...issuer, certificate: leaf.der };
    await expectRejection(
      'authority_unusable',
      signingIssuerOf(
        unusable,
        giving(async () => leaf.signer),
      ),
    );
  });
});

describe('the view of a trust state', () => {
  it('has all anchors in the bundle, whatever their phase, and cannot be changed', async () => {
    const pool = await makeAuthorityPool(3, 1);
    const state = activeState(pool);
    const phases = ['active', 'prepared', 'retired'] as const;
    const anchors = pool.anchors.map((anchor, i) => ({ ...anchor, phase: phases[i]! }));
    const view = trustView({ ...state, sequence: 7, anchors }, null);
    assert.equal(view.bundle.sequence, 7);
    assert.deepEqual(
      view.bundle.x509Authorities,
      pool.anchors.map(({ certificate }) => certificate),
    );
    for (const part of [view, view.bundle, view.bundle.x509Authorities]) assert.ok(Object.isFrozen(part));
  });
});
