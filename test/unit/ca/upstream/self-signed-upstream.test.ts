import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { SealedKeyManager } from '../../../../ca/keys/sealed-key-manager.ts';
import type { AuthorityKeyAlgorithm, KeyHandle } from '../../../../ca/keys/key-manager.ts';
import { SelfSignedUpstream } from '../../../../ca/upstream/self-signed-upstream.ts';
import { systemRandom } from '../../../../host/random.ts';
import { issuerCsr } from '../../../../pki/authority-profile.ts';
import { parseCertificate } from '../../../../pki/certificate.ts';
import { Secret } from '../../../../pki/secret.ts';
import { TrustDomain } from '../../../../pki/spiffe-id.ts';
import { upstreamAuthorityConformance } from '../../../conformance/upstream-authority.ts';
import { newSigner } from '../../../support/certificates.ts';
import { expectRejection } from '../../../support/expect-code.ts';

const NOW_MS = Date.UTC(2026, 0, 1);
const TIMES = { notBeforeMs: NOW_MS - 60_000, notAfterMs: NOW_MS + 86_400_000 };
const never = new AbortController().signal;
const trustDomain = TrustDomain.parse('example.org');

/** Remembers which keys were destroyed. */
class WatchedKeyManager extends SealedKeyManager {
  readonly generated: string[] = [];
  readonly destroyed: string[] = [];
  override async generate(id: string, algorithm: AuthorityKeyAlgorithm): Promise<KeyHandle> {
    this.generated.push(id);
    return super.generate(id, algorithm);
  }
  override async destroy(handle: KeyHandle): Promise<void> {
    this.destroyed.push(handle.id);
    await super.destroy(handle);
  }
}

function setUp(options: { uriNameConstraints?: boolean; keyAlgorithm?: AuthorityKeyAlgorithm } = {}) {
  const { uriNameConstraints = false, keyAlgorithm = 'ec-p256' } = options;
  const keys = new WatchedKeyManager({
    trustDomain: 'example.org',
    sealingKey: new Secret(randomBytes(32)),
    random: systemRandom,
  });
  const upstream = new SelfSignedUpstream({
    trustDomain,
    keys,
    keyAlgorithm,
    random: systemRandom,
    uriNameConstraints,
  });
  return { keys, upstream };
}

for (const keyAlgorithm of ['ec-p256', 'ec-p384', 'rsa-3072'] as const) {
  upstreamAuthorityConformance(`the self-signed upstream (${keyAlgorithm})`, async () => {
    const { upstream } = setUp({ keyAlgorithm });
    return { upstream, nowMs: NOW_MS };
  });
}

describe('the self-signed upstream', () => {
  it('makes an anchor with a new key in the key manager each time it is asked, with the times asked for', async () => {
    const { keys, upstream } = setUp();
    const first = await upstream.newAnchor({ known: [], ...TIMES }, never);
    const second = await upstream.newAnchor({ known: [first.certificate], ...TIMES }, never);
    assert.equal(keys.generated.length, 2);
    assert.deepEqual([first.key?.id, second.key?.id], keys.generated);
    assert.ok(keys.generated.every((id) => /^anchor-[0-9a-f]{16}$/.test(id)));
    const { notBeforeMs, notAfterMs, spki } = parseCertificate(first.certificate);
    assert.deepEqual({ notBeforeMs, notAfterMs }, TIMES);
    assert.deepEqual(Uint8Array.from(spki), first.key?.spki);
  });

  it('confines an anchor to its trust domain only when it is told to', async () => {
    for (const uriNameConstraints of [false, true]) {
      const { upstream } = setUp({ uriNameConstraints });
      const { certificate } = await upstream.newAnchor({ known: [], ...TIMES }, never);
      assert.equal(parseCertificate(certificate).nameConstraints !== undefined, uriNameConstraints);
    }
  });

  it('mints on a replica that has just started, from what the trust state holds', async () => {
    const { keys, upstream } = setUp();
    const anchor = await upstream.newAnchor({ known: [], ...TIMES }, never);
    const other = new SelfSignedUpstream({
      trustDomain,
      keys,
      keyAlgorithm: 'ec-p256',
      random: systemRandom,
      uriNameConstraints: false,
    });
    const csr = await issuerCsr({ trustDomain, signer: newSigner() });
    assert.equal((await other.mintIssuer({ csr, anchor, ...TIMES }, never)).chain.length, 1);
  });

  it('refuses an anchor whose key is not ours, and says what to do', async () => {
    const { upstream } = setUp();
    const { certificate } = await upstream.newAnchor({ known: [], ...TIMES }, never);
    const csr = await issuerCsr({ trustDomain, signer: newSigner() });
    const minting = upstream.mintIssuer({ csr, anchor: { certificate, key: null }, ...TIMES }, never);
    assert.match(
      (await expectRejection('key_not_found', minting)).hint ?? '',
      /upstream authority that holds it/,
    );
  });

  it('leaves no key behind when the anchor cannot be made', async () => {
    const { keys, upstream } = setUp();
    const backwards = { notBeforeMs: TIMES.notAfterMs, notAfterMs: TIMES.notBeforeMs };
    await expectRejection('authority_unusable', upstream.newAnchor({ known: [], ...backwards }, never));
    assert.equal(keys.generated.length, 1);
    assert.deepEqual(keys.destroyed, keys.generated);
  });
});
