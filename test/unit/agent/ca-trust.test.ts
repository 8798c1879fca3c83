import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { anchorFingerprint, CaTrust, REMOVED_ANCHORS, type TrustMemory } from '../../../agent/ca-trust.ts';
import type { BundleSnapshot } from '../../../agent/snapshot.ts';
import { expectRejection } from '../../support/expect-code.ts';
import { checkAsyncProperty } from '../../support/property.ts';
import { EXAMPLE_ORG } from '../../support/snapshots.ts';

/** What counts here is which anchors there are, not what is in them. */
const der = (name: string): Uint8Array => Buffer.from(name);
const bundleOf = (sequence: number, ...anchors: readonly string[]): BundleSnapshot => ({
  trustDomain: EXAMPLE_ORG,
  sequence: BigInt(sequence),
  refreshHintSeconds: 300,
  x509Authorities: anchors.map(der),
  crls: [],
});

/** A trust whose bootstrap bundle file holds what a test says. */
function setup(...bootstrap: readonly string[]) {
  const file = { anchors: bootstrap, reads: 0, beforeRead: (): void => {} };
  const trust = new CaTrust({
    readBootstrap: async () => {
      const { anchors } = file;
      file.reads += 1;
      await Promise.resolve();
      file.beforeRead();
      return anchors.map(der);
    },
  });
  const anchors = (of: CaTrust = trust): Promise<string[]> =>
    of.withAnchors((chosen) => chosen.map((anchor) => Buffer.from(anchor).toString()));
  return { file, trust, anchors };
}

/** The same agent after a restart, with its cache. */
function restarted(memory: TrustMemory | null, ...bootstrap: readonly string[]) {
  const next = setup(...bootstrap);
  if (memory !== null) next.trust.restore(memory);
  return next;
}

describe('the anchors that the CA is checked with', () => {
  it('are those of the bootstrap bundle, until there is a bundle, and then its own alone', async () => {
    const { trust, anchors, file } = setup('a', 'b');
    assert.deepEqual(await anchors(), ['a', 'b']);
    trust.accept(bundleOf(1, 'b', 'c'));
    assert.deepEqual(await anchors(), ['b', 'c']);
    assert.equal(file.reads, 1);
  });

  it('change between the newest bundle and the bootstrap bundle, read anew, while the CA does not verify', async () => {
    const { trust, anchors, file } = setup('a');
    await anchors();
    trust.accept(bundleOf(1, 'a'));
    file.anchors = ['b'];
    const seen = [];
    for (let attempt = 0; attempt < 4; attempt += 1) {
      trust.reject();
      seen.push(await anchors());
    }
    assert.deepEqual(seen, [['b'], ['a'], ['b'], ['a']]);
  });

  it('are of the newest bundle also when that came while the file was read', async () => {
    const { trust, anchors, file } = setup('old', 'new');
    file.beforeRead = () => trust.accept(bundleOf(1, 'new'));
    assert.deepEqual(await anchors(), ['new']);
  });

  it('are chosen in the turn in which they are used: a mark that comes later finds the connection', async () => {
    const { trust } = setup('old', 'new');
    const order: string[] = [];
    const connecting = trust.withAnchors(() => order.push('connected'));
    await Promise.resolve();
    await Promise.resolve();
    await Promise.resolve();
    order.push('bundle');
    trust.accept(bundleOf(1, 'new'));
    await connecting;
    assert.deepEqual(order, ['connected', 'bundle']);
  });
});

describe('a removed anchor', () => {
  it('that was in a bundle of the CA is not taken from the bootstrap bundle', async () => {
    const { trust, anchors } = setup('old', 'new');
    trust.accept(bundleOf(1, 'old', 'new'));
    trust.accept(bundleOf(2, 'new'));
    trust.reject();
    assert.deepEqual(await anchors(), ['new']);
  });

  it('that the first bundle lacks is never trusted again, though the bootstrap bundle holds it', async () => {
    const { trust, anchors } = setup('old', 'new');
    assert.deepEqual(await anchors(), ['old', 'new']);
    trust.accept(bundleOf(1, 'new'));
    trust.reject();
    assert.deepEqual(await anchors(), ['new']);
  });

  it('stays removed over a restart, whatever the bootstrap bundle still holds', async () => {
    const before = setup('old', 'new');
    await before.anchors();
    before.trust.accept(bundleOf(1, 'new'));
    const { trust, anchors } = restarted(before.trust.memory, 'old', 'new');
    assert.deepEqual(await anchors(), ['new']);
    trust.reject();
    assert.deepEqual(await anchors(), ['new']);
    // And over the next one, for which this process wrote the cache.
    const third = restarted(trust.memory, 'old');
    third.trust.reject();
    await expectRejection('bundle_empty', third.anchors());
  });

  it('is trusted again once a bundle of the CA has it again', async () => {
    const { trust, anchors } = setup('old', 'new');
    await anchors();
    trust.accept(bundleOf(1, 'new'));
    trust.accept(bundleOf(2, 'new', 'old'));
    assert.deepEqual(trust.memory?.removedAnchors, []);
    trust.reject();
    assert.deepEqual(await anchors(), ['old', 'new']);
  });

  it('that is all that the bootstrap bundle holds leaves the next attempt to the newest bundle', async () => {
    const { trust, anchors } = setup('old');
    await anchors();
    trust.accept(bundleOf(1, 'new'));
    trust.reject();
    await expectRejection('bundle_empty', anchors());
    assert.deepEqual(await anchors(), ['new']);
  });

  it('is one of so many, of which those that were removed first are forgotten', () => {
    const { trust } = setup();
    for (let n = 0; n <= REMOVED_ANCHORS + 1; n += 1) trust.accept(bundleOf(n, `anchor ${n}`));
    const { removedAnchors } = trust.memory ?? assert.fail();
    assert.equal(removedAnchors.length, REMOVED_ANCHORS);
    assert.equal(removedAnchors[0], anchorFingerprint(der('anchor 1')));
  });

  it('never comes back but by a bundle of the CA, through any bundles, refusals and restarts (property)', async () => {
    const some = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 4 });
    const step = fc.oneof(
      fc.record({ kind: fc.constant('bundle' as const), anchors: some }),
      fc.record({ kind: fc.constant('reject' as const) }),
      fc.record({ kind: fc.constant('connect' as const) }),
      fc.record({ kind: fc.constant('restart' as const) }),
    );
    await checkAsyncProperty(
      fc.asyncProperty(some, fc.array(step, { maxLength: 30 }), async (bootstrap, steps) => {
        let agent = setup(...bootstrap);
        const removed = new Set<string>();
        let newest: readonly string[] = [];
        // What the file holds never changes here, so that after the first bundle nothing in it is new.
        await agent.anchors();
        let sequence = 0;
        for (const one of [{ kind: 'bundle' as const, anchors: bootstrap.slice(0, 1) }, ...steps]) {
          if (one.kind === 'bundle') {
            sequence += 1;
            for (const anchor of [...bootstrap, ...newest]) removed.add(anchor);
            for (const anchor of one.anchors) removed.delete(anchor);
            newest = one.anchors;
            agent.trust.accept(bundleOf(sequence, ...one.anchors));
          } else if (one.kind === 'reject') agent.trust.reject();
          else if (one.kind === 'restart') agent = restarted(agent.trust.memory, ...bootstrap);
          else {
            const chosen = await agent.anchors().catch(() => []);
            assert.deepEqual(
              chosen.filter((anchor) => removed.has(anchor)),
              [],
            );
          }
        }
      }),
      300,
    );
  });
});

describe('an agent that was cut off while the anchors changed', () => {
  it('heals by a new bootstrap bundle file', async () => {
    const { trust, anchors, file } = setup('old');
    await anchors();
    trust.accept(bundleOf(1, 'old'));
    file.anchors = ['old', 'new'];
    trust.reject();
    assert.deepEqual(await anchors(), ['old', 'new']);
    trust.accept(bundleOf(3, 'new'));
    trust.reject();
    assert.deepEqual(await anchors(), ['new']);
  });

  it('heals by it after a restart too, though the file is read before the cache', async () => {
    const before = setup('old');
    await before.anchors();
    before.trust.accept(bundleOf(1, 'old'));
    const after = setup('new');
    await after.anchors();
    after.trust.restore(before.trust.memory ?? assert.fail());
    // The agent tells of the bundle that it found in the cache, as of any other.
    after.trust.accept(after.trust.memory?.bundle ?? assert.fail());
    assert.deepEqual(await after.anchors(), ['old']);
    after.trust.reject();
    assert.deepEqual(await after.anchors(), ['new']);
  });

  it('does not heal by an anchor that the CA had not in its bundle when it last spoke, until the CA has', async () => {
    const { trust, anchors } = setup('old', 'early');
    await anchors();
    trust.accept(bundleOf(1, 'old'));
    trust.reject();
    assert.deepEqual(await anchors(), ['old']);
    trust.accept(bundleOf(2, 'old', 'early'));
    trust.reject();
    assert.deepEqual(await anchors(), ['old', 'early']);
  });
});
