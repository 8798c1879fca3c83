/**
 * Runs one tier of tests: `node scripts/test.ts fast|system|cluster|fuzz|model [file...]`.
 *
 * Tiers:
 * - fast: test/unit and test/conformance, in parallel, ends within 5 minutes on 2 cores;
 * - system: test/system, whole processes and real peers, one file at a time;
 * - cluster: test/cluster, on a real kube-apiserver and etcd, one file at a time;
 * - fuzz: test/fuzz, at least 100,000 hostile inputs over the parsers;
 * - model: test/model, every state of the model of a rotation, with `spin`.
 *
 * `cluster --bench` runs the benchmark on that API server instead: see test/bench/cluster-main.ts.
 *
 * Each prints node's closing counts. Exits with the runner's code; a tier without a file fails.
 */
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { join } from 'node:path';

const TIERS: Readonly<
  Record<string, { readonly globs: readonly string[]; readonly options: readonly string[] }>
> = {
  fast: {
    globs: ['test/architecture/*.test.ts', 'test/unit/**/*.test.ts'],
    options: ['--test-concurrency=2', '--test-timeout=120000'],
  },
  system: {
    globs: ['test/system/**/*.test.ts'],
    options: ['--test-concurrency=1', '--test-timeout=1200000'],
  },
  cluster: {
    globs: ['test/cluster/**/*.test.ts'],
    options: ['--test-concurrency=1', '--test-timeout=600000'],
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
// The spec reporter lists every test by name; its closing lines are the counts.
const run = spawnSync(process.execPath, ['--test', '--test-reporter=spec', ...tier.options, ...files], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, NODE_OPTIONS: '--disable-warning=ExperimentalWarning' },
});
process.exit(run.status ?? 1);
