/**
 * The benchmarks: `npm run bench`, `npm run --silent bench -- --json`, `-- --quick` for a short run, `-- --only
 * in-process`, `end-to-end`, `start-up`, `hsm` or `memory` for one part. The whole takes half an hour, most of it a thousand
 * rotations; a short run has too few of them to tell a small growth from noise.
 *
 * Every figure is a ratio of two things measured in turns in one run, so that it means the same on another machine.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { agentMemory } from './agent-memory.ts';
import { endToEnd } from './end-to-end.ts';
import { hsm } from './hsm.ts';
import { type Measurement, median, medianRatio, toJson, toTable } from './measurement.ts';
import { canPin, JsonChild } from './processes.ts';
import { startTimes } from './start-times.ts';

const PARTS = ['in-process', 'end-to-end', 'start-up', 'hsm', 'memory'] as const;
type Part = (typeof PARTS)[number];

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
});
if (values.only !== undefined && !PARTS.some((part) => part === values.only)) {
  throw new RangeError(`--only takes one of ${PARTS.join(', ')}`);
}
const rounds = values.quick ? 3 : 9;
const progress = (text: string): void => {
  if (!values.json) console.log(text);
};

async function inProcess(folder: string): Promise<Measurement[]> {
  const child = new JsonChild('server', ['test/bench/in-process.ts', folder, String(rounds)]);
  const { bound, kedge, stock } = await child.next<Record<'bound' | 'kedge' | 'stock', number[]>>();
  await child.stop();
  const us = (figures: readonly number[]): string => `${median(figures).toFixed(0)} us`;
  return [
    {
      metric: 'issue_in_process_over_bound',
      value: medianRatio(bound, kedge),
      reach: 0.75,
      better: 'higher',
      detail: `${us(kedge)} of CPU each, bound ${us(bound)}`,
    },
    {
      metric: 'issue_in_process_over_peculiar_x509',
      value: medianRatio(stock, kedge),
      reach: 12,
      better: 'higher',
      detail: `${us(kedge)} of CPU each, @peculiar/x509 ${us(stock)}`,
    },
  ];
}

const folder = mkdtempSync(join(tmpdir(), 'kedge-bench-'));
try {
  if (!canPin) progress('taskset is not here: processes are not bound to a core each');
  const measurements: Measurement[] = [];
  const parts: Readonly<Record<Part, () => Promise<Measurement[]>>> = {
    'in-process': () => inProcess(folder),
    'end-to-end': () => endToEnd(folder, rounds, values.quick ? 1_500 : 3_000),
    'start-up': () => startTimes(folder, values.quick ? 7 : 21),
    hsm: () => hsm(values.quick ? 5 : 21, progress),
    memory: () => agentMemory(folder, values.quick ? 1 : 3, values.quick ? 250 : 1_000),
  };
  for (const part of PARTS) {
    if (values.only !== undefined && values.only !== part) continue;
    progress(`${part} ...`);
    measurements.push(...(await parts[part]()));
  }
  console.log(values.json ? JSON.stringify(toJson(measurements)) : `\n${toTable(measurements)}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
