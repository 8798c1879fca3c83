import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { SealedKeyManager } from '../../../../ca/keys/sealed-key-manager.ts';
import { systemRandom } from '../../../../host/random.ts';
import { schemeOf } from '../../../../pki/algorithms.ts';
import { verifySignature } from '../../../../pki/public-key.ts';
import { Secret } from '../../../../pki/secret.ts';
import { keyManagerConformance } from '../../../conformance/key-manager.ts';
import { newPrivateKey, spkiOf } from '../../../support/certificates.ts';
import { expectRejection } from '../../../support/expect-code.ts';

const SEALING_KEY = randomBytes(32);

function manager(options: { trustDomain?: string; sealingKey?: Uint8Array } = {}): SealedKeyManager {
  const { trustDomain = 'example.org', sealingKey = SEALING_KEY } = options;
  return new SealedKeyManager({
    trustDomain,
    sealingKey: new Secret(Uint8Array.from(sealingKey)),
    random: systemRandom,
  });
}

keyManagerConformance('the sealed key manager', () => ({
  manager: 'store',
  algorithms: ['ec-p256', 'ec-p384', 'rsa-3072'],
  open: async () => manager(),
}));

describe('a key that others made', () => {
  for (const algorithm of ['ec-p256', 'ec-p384', 'rsa-3072'] as const) {
    it(`is kept like one of our own: ${algorithm}`, async () => {
      const privateKey = newPrivateKey(algorithm);
      const handle = await manager().importKey('taken', privateKey);
      assert.deepEqual(
        [handle.id, handle.manager, handle.algorithm, handle.spki],
        ['taken', 'store', algorithm, spkiOf(privateKey)],
      );
      const signer = await manager().signer(handle);
      const data = Buffer.from('data');
      const signature = await signer.sign(data);
      assert.ok(verifySignature(schemeOf(signer.algorithm), handle.spki, data, signature, 'internal'));
    });
  }

  it('is refused when it is of an algorithm that the manager does not make', async () => {
    for (const type of ['rsa-2048', 'ed25519'] as const) {
      await expectRejection('key_algorithm_unsupported', manager().importKey('taken', newPrivateKey(type)));
    }
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-521' });
    await expectRejection('key_algorithm_unsupported', manager().importKey('taken', privateKey));
  });
});

describe('a sealed key', () => {
  it('opens only with the sealing key, the trust domain, the id and the algorithm that it was sealed with', async () => {
    const handle = await manager().generate('key', 'ec-p256');
    const table = [
      { name: 'another sealing key', open: manager({ sealingKey: randomBytes(32) }), handle },
      { name: 'another trust domain', open: manager({ trustDomain: 'example.com' }), handle },
      { name: 'another id', open: manager(), handle: { ...handle, id: 'other' } },
      { name: 'another algorithm', open: manager(), handle: { ...handle, algorithm: 'ec-p384' } as const },
    ];
    for (const { name, open, handle } of table) {
      const error = await expectRejection('key_sealed', open.signer(handle));
      assert.match(error.hint ?? '', /sealing key/, name);
    }
  });

  it('signs at once, without a turn of the event loop', async () => {
    const keys = manager();
    const signer = await keys.signer(await keys.generate('key', 'ec-p256'));
    assert.ok(signer.sign(Buffer.from('data')) instanceof Uint8Array);
  });

  it('is unsealed once for all signers of one manager', async () => {
    const keys = manager();
    const handle = await keys.generate('key', 'ec-p256');
    await keys.signer(handle);
    const spoiled = { ...handle, reference: new Uint8Array(handle.reference.length) };
    const signer = await keys.signer(spoiled);
    assert.ok(signer.sign(Buffer.from('data')) instanceof Uint8Array);
  });

  it('stays hidden when manager, handle and signer are printed', async () => {
    const keys = manager();
    const handle = await keys.generate('key', 'ec-p256');
    const printed = inspect([keys, handle, await keys.signer(handle)], { depth: 10, showHidden: true });
    assert.ok(!printed.includes(SEALING_KEY.toString('hex')));
    assert.ok(!printed.includes('PRIVATE'));
  });
});
