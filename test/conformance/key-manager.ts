import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { describe, it, type TestContext } from 'node:test';
import type { AuthorityKeyAlgorithm, KeyHandle, KeyManager } from '../../ca/keys/key-manager.ts';
import { schemeOf, type SignatureAlgorithm } from '../../pki/algorithms.ts';
import { keyTypeOfSpki, verifySignature } from '../../pki/public-key.ts';

/** One set of keys, as a backend's test gives it. */
export interface KeyManagerHarness {
  /** Another manager of the same keys, as another replica, or this one after a restart, has it. */
  readonly open: () => Promise<KeyManager>;
  readonly manager: KeyHandle['manager'];
  readonly algorithms: readonly AuthorityKeyAlgorithm[];
}

const SIGNATURES: Readonly<Record<AuthorityKeyAlgorithm, SignatureAlgorithm>> = {
  'ec-p256': 'ecdsa-p256-sha256',
  'ec-p384': 'ecdsa-p384-sha384',
  'rsa-3072': 'rsa-pkcs1-sha256',
};

const DATA = Buffer.from('what is to be signed');

/** What every {@link KeyManager} must do, wherever its keys are: see the contract in its file. */
export function keyManagerConformance(
  name: string,
  makeHarness: (t: TestContext) => KeyManagerHarness,
): void {
  const setUp = async (t: TestContext) => {
    const harness = makeHarness(t);
    const keys = await harness.open();
    const [algorithm] = harness.algorithms;
    return { ...harness, keys, algorithm: algorithm! };
  };

  const signs = async (keys: KeyManager, handle: KeyHandle): Promise<boolean> => {
    const signer = await keys.signer(handle);
    const signature = await signer.sign(DATA);
    return verifySignature(schemeOf(signer.algorithm), handle.spki, DATA, signature, 'internal');
  };

  describe(`${name} as a key manager`, () => {
    it('makes keys of each algorithm that it names, and signs with them', async (t) => {
      const { keys, manager, algorithms } = await setUp(t);
      for (const algorithm of algorithms) {
        const handle = await keys.generate(`key-${algorithm}`, algorithm);
        assert.deepEqual(
          [handle.id, handle.manager, handle.algorithm, keyTypeOfSpki(handle.spki)],
          [`key-${algorithm}`, manager, algorithm, algorithm],
        );
        const signer = await keys.signer(handle);
        assert.equal(signer.algorithm, SIGNATURES[algorithm]);
        assert.deepEqual(signer.spki, handle.spki);
        assert.ok(await signs(keys, handle), algorithm);
      }
    });

    it('finds a key again through its handle, elsewhere and after the handle was stored', async (t) => {
      const { keys, open, algorithm } = await setUp(t);
      const handle = await keys.generate('key', algorithm);
      const stored: KeyHandle = {
        ...handle,
        spki: Uint8Array.from(handle.spki),
        reference: Uint8Array.from(handle.reference),
      };
      assert.ok(await signs(await open(), stored));
    });

    it('makes another key each time, also under the same algorithm', async (t) => {
      const { keys, algorithm } = await setUp(t);
      const [a, b] = [await keys.generate('key-a', algorithm), await keys.generate('key-b', algorithm)];
      assert.notDeepEqual(a.spki, b.spki);
      const signature = await (await keys.signer(a)).sign(DATA);
      const scheme = schemeOf(SIGNATURES[algorithm]);
      assert.equal(verifySignature(scheme, b.spki, DATA, signature, 'internal'), false);
    });

    it('never puts the private key into the handle in the clear', async (t) => {
      const { keys, algorithm } = await setUp(t);
      const handle = await keys.generate('key', algorithm);
      // OneAsymmetricKey and ECPrivateKey repeat the public key, or the modulus: a part of it would be there.
      const jwk = createPublicKey({ key: Buffer.from(handle.spki), format: 'der', type: 'spki' }).export({
        format: 'jwk',
      });
      const part = Buffer.from(jwk.x ?? jwk.n ?? '', 'base64url').subarray(0, 16);
      assert.equal(part.length, 16);
      assert.equal(Buffer.from(handle.reference).indexOf(part), -1);
    });

    it('serves many signatures at once', async (t) => {
      const { keys, algorithm } = await setUp(t);
      const handle = await keys.generate('key', algorithm);
      const signer = await keys.signer(handle);
      const scheme = schemeOf(signer.algorithm);
      const all = await Promise.all(
        Array.from({ length: 50 }, async (_, i) => {
          const data = Buffer.from(`data ${i}`);
          return verifySignature(scheme, handle.spki, data, await signer.sign(data), 'internal');
        }),
      );
      assert.ok(all.every(Boolean));
    });

    it('signs with a destroyed key no more: neither through a signer that is out, nor through its handle', async (t) => {
      const { keys, algorithm } = await setUp(t);
      const handle = await keys.generate('key', algorithm);
      const signer = await keys.signer(handle);
      await keys.destroy(handle);
      await assert.rejects(async () => signer.sign(DATA), { code: 'key_not_found' });
      await assert.rejects(keys.signer(handle), { code: 'key_not_found' });
    });

    it('destroys a key that nobody has used, and one that is destroyed', async (t) => {
      const { keys, algorithm } = await setUp(t);
      const handle = await keys.generate('key', algorithm);
      await keys.destroy(handle);
      await keys.destroy(handle);
      await assert.rejects(keys.signer(handle), { code: 'key_not_found' });
    });

    it('leaves the other keys alone when one is destroyed', async (t) => {
      const { keys, algorithm } = await setUp(t);
      const [a, b] = [await keys.generate('key-a', algorithm), await keys.generate('key-b', algorithm)];
      await keys.destroy(a);
      assert.ok(await signs(keys, b));
    });

    it('refuses algorithms that it does not know', async (t) => {
      const { keys, algorithm } = await setUp(t);
      const handle = await keys.generate('key', algorithm);
      for (const name of ['ed25519', 'rsa-1024', '', 'constructor', '__proto__']) {
        const other = name as AuthorityKeyAlgorithm;
        await assert.rejects(keys.generate('other', other), { code: 'key_algorithm_unsupported' }, other);
        await assert.rejects(keys.signer({ ...handle, algorithm: other }), {
          code: 'key_algorithm_unsupported',
        });
      }
    });

    it('refuses the handle of another key manager', async (t) => {
      const { keys, algorithm, manager } = await setUp(t);
      const handle = await keys.generate('key', algorithm);
      const other = manager === 'store' ? 'pkcs11' : 'store';
      await assert.rejects(keys.signer({ ...handle, manager: other }), { code: 'key_not_found' });
    });

    it('refuses a handle whose public key is of another key', async (t) => {
      const { keys, open, algorithm } = await setUp(t);
      const [a, b] = [await keys.generate('key-a', algorithm), await keys.generate('key-b', algorithm)];
      await assert.rejects((await open()).signer({ ...a, spki: b.spki }), {
        code: /^key_(sealed|not_found)$/,
      });
      await keys.signer(a);
      await assert.rejects(keys.signer({ ...a, spki: b.spki }), { code: /^key_(sealed|not_found)$/ });
    });
  });
}
