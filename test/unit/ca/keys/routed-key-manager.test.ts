import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { Pkcs11KeyManager } from '../../../../ca/keys/pkcs11/pkcs11-key-manager.ts';
import { RoutedKeyManager } from '../../../../ca/keys/routed-key-manager.ts';
import { SealedKeyManager } from '../../../../ca/keys/sealed-key-manager.ts';
import { systemRandom } from '../../../../host/random.ts';
import { Secret } from '../../../../pki/secret.ts';
import { FakeToken } from '../../../fakes/fake-token.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { InlineTokenThread } from '../../../support/token-threads.ts';

function setUp() {
  const store = new SealedKeyManager({
    trustDomain: 'example.org',
    sealingKey: new Secret(randomBytes(32)),
    random: systemRandom,
  });
  const token = new FakeToken();
  const pkcs11 = new Pkcs11KeyManager({
    trustDomain: 'example.org',
    token: token.label,
    pin: async () => token.pin,
    thread: new InlineTokenThread(token.addon()),
  });
  return { token, managers: { store, pkcs11 } };
}

describe('several key managers as one', () => {
  it('make new keys in one of them, and sign with and destroy each key where it is', async () => {
    const { token, managers } = setUp();
    const before = new RoutedKeyManager({ managers, makes: 'store' });
    const after = new RoutedKeyManager({ managers, makes: 'pkcs11' });
    const [old, next] = [await before.generate('old', 'ec-p256'), await after.generate('next', 'ec-p256')];
    assert.deepEqual([old.manager, next.manager], ['store', 'pkcs11']);
    for (const handle of [old, next]) {
      const signer = await after.signer(handle);
      assert.ok((await signer.sign(Buffer.from('data'))).length > 0);
      await after.destroy(handle);
      await expectRejection('key_not_found', after.signer(handle));
    }
    assert.equal(token.objects.size, 0);
  });

  it('say which one to configure for a key that is in none of them', async () => {
    const { managers } = setUp();
    const handle = await managers.pkcs11.generate('key', 'ec-p256');
    const { store } = managers;
    const routed = new RoutedKeyManager({ managers: { store }, makes: 'store' });
    for (const call of [routed.signer(handle), routed.destroy(handle)]) {
      assert.match((await expectRejection('key_not_found', call)).hint ?? '', /configure keys\.pkcs11/);
    }
  });
});
