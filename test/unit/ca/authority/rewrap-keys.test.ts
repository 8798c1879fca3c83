import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it, type TestContext } from 'node:test';
import { rewrapKeys } from '../../../../ca/authority/rewrap-keys.ts';
import { keysOf } from '../../../../ca/authority/trust-state-rules.ts';
import type { KeyHandle } from '../../../../ca/keys/key-manager.ts';
import { SealedKeyManager } from '../../../../ca/keys/sealed-key-manager.ts';
import { systemRandom } from '../../../../host/random.ts';
import { Secret } from '../../../../pki/secret.ts';
import { never, type Replica, TestTrustDomain, until } from '../../../support/authority-replica.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { SWAP_FAULTS } from '../../../support/faulty-trust-store.ts';

const DATA = Buffer.from('what is to be signed');

/** A trust domain at work under an old sealing key, and a manager that has the new one beside it. */
async function setUp(t: TestContext) {
  const domain = new TestTrustDomain(t);
  const replica = domain.replica();
  await domain.start(replica);
  const newKey = systemRandom.bytes(32);
  const manager = (sealingKey: Uint8Array, ...others: readonly Uint8Array[]): SealedKeyManager =>
    new SealedKeyManager({
      trustDomain: 'example.org',
      sealingKey: new Secret(Uint8Array.from(sealingKey)),
      otherSealingKeys: others.map((key) => new Secret(Uint8Array.from(key))),
      random: systemRandom,
    });
  const both = manager(newKey, domain.sealingKey);
  const rewrap = (handle: KeyHandle) => both.rewrap(handle);
  return { domain, replica, newKey, manager, both, rewrap };
}

const signs = async (replica: Replica): Promise<boolean> =>
  (await replica.engine.signingIssuer()!.signer.sign(DATA)).length > 0;

describe('sealing the keys of a trust state anew', () => {
  it('leaves them open to the new sealing key alone, with nothing else of the state changed', async (t) => {
    const { domain, replica, newKey, manager, rewrap } = await setUp(t);
    const before = await domain.stored();
    assert.deepEqual(await rewrapKeys({ store: domain.openStore(), rewrap }, never), {
      keys: 2,
      rewrapped: 2,
    });
    const after = await domain.stored();
    for (const key of keysOf(after)) {
      await manager(newKey).signer(key);
      await expectRejection('key_sealed', manager(domain.sealingKey).signer(key));
    }
    const withoutReferences = (state: typeof after) =>
      JSON.stringify(state, (name, value: unknown) => (name === 'reference' ? null : value));
    assert.equal(withoutReferences(after), withoutReferences(before));
    assert.ok(await signs(replica));
  });

  it('is seen by a replica at work, which signs on with the key that it has open', async (t) => {
    const { domain, replica, rewrap } = await setUp(t);
    const open = replica.engine.signingIssuer()!;
    await rewrapKeys({ store: domain.openStore(), rewrap }, never);
    const stored = await domain.stored();
    await domain.clock.advance(2_000);
    await until(() => {
      const [issuer] = replica.engine.knownState?.issuers ?? [];
      return Buffer.from(issuer?.key.reference ?? []).equals(Buffer.from(stored.issuers[0]!.key.reference));
    });
    assert.equal(replica.engine.signingIssuer()?.signer, open.signer);
    assert.ok(await signs(replica));
  });

  it('does nothing where nothing is to be done: a second time, or in an empty store', async (t) => {
    const { domain, rewrap } = await setUp(t);
    const store = domain.openStore();
    await rewrapKeys({ store, rewrap }, never);
    const { version } = (await store.read(never))!;
    assert.deepEqual(await rewrapKeys({ store, rewrap }, never), { keys: 2, rewrapped: 0 });
    assert.equal((await store.read(never))?.version, version);
    const empty = new TestTrustDomain(t).openStore();
    assert.deepEqual(await rewrapKeys({ store: empty, rewrap }, never), { keys: 0, rewrapped: 0 });
  });

  it('changes nothing when one key opens with none of the sealing keys', async (t) => {
    const { domain, manager, newKey } = await setUp(t);
    const before = await domain.stored();
    const stranger = manager(newKey, randomBytes(32));
    const rewrap = (handle: KeyHandle) => stranger.rewrap(handle);
    await expectRejection('key_sealed', rewrapKeys({ store: domain.openStore(), rewrap }, never));
    assert.deepEqual(await domain.stored(), before);
  });

  it('decides anew when another writer is faster, and gives up when that never ends', async (t) => {
    const { domain, rewrap } = await setUp(t);
    const store = domain.openStore();
    const { document } = (await store.read(never))!;
    let races = 3;
    const racing = Object.assign(Object.create(store) as typeof store, {
      read: async (signal: AbortSignal) => {
        const read = await store.read(signal);
        races -= 1;
        if (races >= 0 && read !== null) await store.swap(read.version, document, signal);
        return read;
      },
      swap: store.swap.bind(store),
    });
    assert.deepEqual(await rewrapKeys({ store: racing, rewrap }, never), { keys: 2, rewrapped: 2 });
    assert.equal(races, -1);
  });

  for (const fault of SWAP_FAULTS) {
    it(`can be done again after a swap that was ${fault}`, async (t) => {
      const { domain, replica, rewrap } = await setUp(t);
      const { store } = replica;
      store.failSwap(store.swaps + 1, fault);
      await expectRejection('store_unavailable', rewrapKeys({ store, rewrap }, never));
      const again = await rewrapKeys({ store, rewrap }, never);
      assert.equal(again.rewrapped, fault === 'not persisted' ? 2 : 0);
      for (const key of keysOf(await domain.stored())) assert.equal(rewrap(key), null);
    });
  }
});

describe('a change of the sealing key', () => {
  it('lets replicas with both keys, in either order, open what the other seals', async (t) => {
    const { domain, newKey, manager } = await setUp(t);
    const [before, after] = [manager(domain.sealingKey, newKey), manager(newKey, domain.sealingKey)];
    for (const [maker, user] of [
      [before, after],
      [after, before],
    ] as const) {
      const signer = await user.signer(await maker.generate('key', 'ec-p256'));
      assert.ok((await signer.sign(DATA)).length > 0);
    }
  });
});
