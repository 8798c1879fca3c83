/**
 * Runs one tier of tests: `node scripts/test.ts fast|system|cluster|fuzz|model [file...]`.
 *
 * Tiers:
 * - fast: test/unit and test/conformance, in parallel, ends within 5 minutes on 2 cores;
 * - system: test/system, whole processes and real peers, one file at a time, and beside them the one that waits most;
 * - cluster: test/cluster, on a real kube-apiserver and etcd, in the same way;
 * - fuzz: test/fuzz, at least 100,000 hostile inputs over the parsers;
 * - model: test/model, every state of the model of a rotation, with `spin`, and the real lifecycle under at least
 *   20,000 random schedules.
 *
 * `cluster --bench` runs the benchmark on that API server instead: see test/bench/cluster-main.ts.
 *
 * Each prints node's closing counts; a tier of two lanes those of each lane, and then the sums. Exits with the runner's code;
 * a tier without a file fails.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';

interface Tier {
  readonly globs: readonly string[];
  readonly options: readonly string[];
  /** A file that mostly waits: it runs beside the others. */
  readonly beside?: string;
}

const TIERS: Readonly<Record<string, Tier>> = {
  fast: {
    globs: ['test/architecture/*.test.ts', 'test/unit/**/*.test.ts'],
    options: ['--test-concurrency=2', '--test-timeout=120000'],
  },
  system: {
    globs: ['test/system/**/*.test.ts'],
    options: ['--test-concurrency=1', '--test-timeout=1200000'],
    beside: 'test/system/proxied-traffic.test.ts',
  },
  cluster: {
    globs: ['test/cluster/**/*.test.ts'],
    options: ['--test-concurrency=1', '--test-timeout=600000'],
    beside: 'test/cluster/identity-plane.test.ts',
  },
  fuzz: { globs: ['test/fuzz/**/*.test.ts'], options: ['--test-concurrency=2', '--test-timeout=900000'] },
  model: { globs: ['test/model/**/*.test.ts'], options: ['--test-concurrency=1', '--test-timeout=900000'] },
};

const [name = 'fast', ...chosen] = process.argv.slice(2);
const tier = TIERS[name];
if (tier === undefined) {
  console.error(`error: no test tier ${JSON.stringify(name)}; there are ${Object.keys(TIERS).join(', ')}`);
  process.exit(2);
}
const root = join(import.meta.dirname, '..');
if (name === 'cluster' && chosen.includes('--bench')) {
  const args = chosen.filter((argument) => argument !== '--bench');
  const bench = spawnSync(process.execPath, ['test/bench/cluster-main.ts', ...args], {
    cwd: root,
    stdio: 'inherit',
  });
  process.exit(bench.status ?? 1);
}
const files = chosen.length > 0 ? chosen : tier.globs.flatMap((glob) => globSync(glob, { cwd: root })).sort();
if (files.length === 0) {
  console.error(`error: tier ${name} has no test file`);
  process.exit(1);
}

/** Node's closing counts, in its order. */
const COUNTS = ['tests', 'suites', 'pass', 'fail', 'cancelled', 'skipped', 'todo'];

/** Runs files in one process; gives its code, and what it printed where that is kept back. */
async function runLane(
  lane: readonly string[],
  isShown: boolean,
): Promise<{ readonly code: number; readonly output: string }> {
  // The spec reporter lists every test by name; its closing lines are the counts.
  const args = ['--test', '--test-reporter=spec', ...(tier?.options ?? []), ...lane];
  const child = spawn(process.execPath, args, {
    cwd: root,
    stdio: ['inherit', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '--disable-warning=ExperimentalWarning' },
  });
  let output = '';
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (text: string) => {
    output += text;
    if (isShown) process.stdout.write(text);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 1, output };
}

const beside = files.filter((file) => file === tier.beside);
const others = files.filter((file) => file !== tier.beside);
if (beside.length === 0 || others.length === 0) process.exit((await runLane(files, true)).code);

const [shown, kept] = await Promise.all([runLane(others, true), runLane(beside, false)]);
console.log(`\nbeside these ran ${beside.join(', ')}:\n${kept.output}`);
const sumOf = (name: string): number =>
  [shown, kept].reduce(
    (sum, { output }) => sum + Number(new RegExp(`^ℹ ${name} (\\d+)$`, 'm').exec(output)?.[1] ?? 0),
    0,
  );
console.log(`both together:\n${COUNTS.map((name) => `ℹ ${name} ${sumOf(name)}`).join('\n')}`);
process.exit(Math.max(shown.code, kept.code));
