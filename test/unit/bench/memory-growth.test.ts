import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { growthOf, type MemorySample } from '../../bench/memory-growth.ts';

/** A heap: garbage that piles up and is collected every 45 rotations, a settling start, and what `extra` adds. */
function run(rotations: number, extra: (rotation: number) => number): MemorySample[] {
  return Array.from({ length: rotations }, (_, i) => {
    const garbage = 20 * (i % 45);
    const settling = 3_000 * (1 - Math.exp(-i / (rotations / 20)));
    // Some 60 KiB of scatter, the same each time.
    const scatter = 30 * Math.sin(i * 1.7) + 30 * Math.sin(i * 0.31);
    return { rotation: i + 1, kib: Math.round(15_000 + settling + garbage + scatter + extra(i)) };
  });
}

describe('the growth of memory over rotations', () => {
  for (const rotations of [300, 1_000]) {
    it(`is within the noise of a heap that settles and then stays, over ${rotations} rotations`, () => {
      const { grownKib, noiseKib } = growthOf(run(rotations, () => 0));
      assert.ok(grownKib <= noiseKib, `${grownKib} KiB, noise ${noiseKib} KiB`);
    });
  }

  it('is seen where each of 1,000 rotations keeps 1 KiB', () => {
    const { grownKib, noiseKib, rotations } = growthOf(run(1_000, (i) => i));
    assert.ok(grownKib > noiseKib, `${grownKib} KiB, noise ${noiseKib} KiB`);
    assert.ok(Math.abs(grownKib - 1_000) < 150, `${grownKib} KiB`);
    assert.equal(rotations, 600);
  });

  it('is seen where every tenth rotation keeps 8 KiB, though garbage hides it', () => {
    const { grownKib, noiseKib } = growthOf(run(1_000, (i) => 8 * Math.floor(i / 10)));
    assert.ok(grownKib > noiseKib, `${grownKib} KiB, noise ${noiseKib} KiB`);
  });

  it('is negative where memory shrinks', () => {
    assert.ok(growthOf(run(1_000, (i) => -i)).grownKib < -800);
  });

  it('is no more than one page of V8 off where nothing scatters', () => {
    const flat = Array.from({ length: 100 }, (_, i) => ({ rotation: i + 1, kib: 15_000 }));
    assert.deepEqual(growthOf(flat), { grownKib: 0, noiseKib: 256, rotations: 60 });
  });

  it('cannot be told from a run without samples in the settled part', () => {
    assert.throws(() => growthOf([{ rotation: 100, kib: 1 }]), RangeError);
    assert.throws(() => growthOf([]), RangeError);
  });
});
