/** One look at a process while it works. */
export interface MemorySample {
  /** Rotations so far. */
  readonly rotation: number;
  readonly kib: number;
}

/** What a run says about growth: the fitted line over the settled part, and what it must exceed to be believed. */
export interface MemoryGrowth {
  /** By the slope, over all rotations of the run, KiB. */
  readonly grownKib: number;
  /** A growth that is no larger than this cannot be told from none, KiB over all rotations. */
  readonly noiseKib: number;
  /** Rotations of the part that was looked at. */
  readonly rotations: number;
}

/**
 * The share of a run that is not looked at. A heap finds its size first: feeds get their buffers, V8 its pages and the
 * allocator its arenas over the first hundreds of rotations, which ends, and is no growth.
 */
const SETTLING_SHARE = 0.4;
/** With the full run each is longer than the minute between two trims of the agent's heap. */
const WINDOWS = 10;
/** Student's t for eight degrees of freedom, two-sided 95 %. */
const T_95 = 2.306;
/** V8 takes memory from the system by pages of 256 KiB: one page more or less says nothing. */
const PAGE_KIB = 256;

/**
 * Whether memory grows with the rotations. Of each of ten windows of the settled part the lowest sample counts (what
 * is above it is garbage that waits for its collection), and a line is fitted to the ten. The noise is the 95 %
 * confidence bound of its slope by the scatter of the ten around it, but never less than one page of V8's heap.
 *
 * Something that is kept for each rotation, be it 1 KiB, stands out: it adds 1,000 KiB over 1,000 rotations.
 */
export function growthOf(samples: readonly MemorySample[]): MemoryGrowth {
  const last = samples.at(-1)?.rotation ?? 0;
  const settled = last * SETTLING_SHARE;
  const width = (last - settled) / WINDOWS;
  const lowest: MemorySample[] = [];
  for (let window = 0; window < WINDOWS; window += 1) {
    const from = settled + window * width;
    const inside = samples.filter(({ rotation }) => rotation > from && rotation <= from + width);
    const [low] = inside.toSorted((a, b) => a.kib - b.kib);
    if (low === undefined) throw new RangeError(`no sample in rotations ${from} to ${from + width}`);
    // In the middle of its window: where the lowest lies in it is chance.
    lowest.push({ rotation: from + width / 2, kib: low.kib });
  }
  const mean = (pick: keyof MemorySample): number =>
    lowest.reduce((sum, sample) => sum + sample[pick], 0) / WINDOWS;
  const [x, y] = [mean('rotation'), mean('kib')];
  const spread = lowest.reduce((sum, { rotation }) => sum + (rotation - x) ** 2, 0);
  const slope = lowest.reduce((sum, { rotation, kib }) => sum + (rotation - x) * (kib - y), 0) / spread;
  const scatter = lowest.reduce((sum, { rotation, kib }) => sum + (kib - y - slope * (rotation - x)) ** 2, 0);
  const slopeError = Math.sqrt(scatter / (WINDOWS - 2) / spread);
  return {
    grownKib: slope * last,
    noiseKib: Math.max(T_95 * slopeError * last, PAGE_KIB),
    rotations: Math.round(last - settled),
  };
}
