/** One line of the benchmark: a ratio of two things measured side by side in one run. */
export interface Measurement {
  readonly metric: string;
  readonly value: number;
  /** The goal, as the issue gives it. */
  readonly reach: number;
  /** Whether a higher or a lower ratio is better. */
  readonly better: 'higher' | 'lower';
  /** The two absolute figures behind the ratio, for the reader of the table. */
  readonly detail: string;
}

/** What `--json` prints for one metric. */
export interface MeasurementJson {
  readonly value: number;
  readonly reach: number;
  readonly ok: boolean;
  readonly detail: string;
}

export function isOk(m: Measurement): boolean {
  return m.better === 'higher' ? m.value >= m.reach : m.value <= m.reach;
}

/** `{"<metric>": {"value", "reach", "ok", "detail"}}`. */
export function toJson(measurements: readonly Measurement[]): Record<string, MeasurementJson> {
  return Object.fromEntries(
    measurements.map((m) => [
      m.metric,
      { value: Number(m.value.toFixed(3)), reach: m.reach, ok: isOk(m), detail: m.detail },
    ]),
  );
}

export function toTable(measurements: readonly Measurement[]): string {
  const width = Math.max(...measurements.map((m) => m.metric.length));
  return measurements
    .map((m) => {
      const bound = `${m.better === 'higher' ? '>=' : '<='} ${m.reach}`;
      return `${m.metric.padEnd(width)}  ${m.value.toFixed(2).padStart(7)}  ${bound.padEnd(8)} ${isOk(m) ? 'ok  ' : 'MISS'}  ${m.detail}`;
    })
    .join('\n');
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? Number.NaN) + high) / 2;
}

/**
 * Measures several things in turns, `rounds` times over, so that a noisy neighbour hits all of them; gives the
 * figures of each, round by round. The first round warms up and is dropped.
 */
export async function inTurns<K extends string>(
  rounds: number,
  things: Readonly<Record<K, () => number | Promise<number>>>,
): Promise<Record<K, number[]>> {
  const names = Object.keys(things) as K[];
  const figures = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<K, number[]>;
  for (let round = 0; round <= rounds; round += 1) {
    for (const name of names) {
      const figure = await things[name]();
      if (round > 0) figures[name].push(figure);
    }
  }
  return figures;
}

/** The median over the rounds of one figure over the other. */
export function medianRatio(over: readonly number[], under: readonly number[]): number {
  return median(over.map((value, i) => value / (under[i] ?? Number.NaN)));
}
