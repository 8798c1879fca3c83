/**
 * The benchmark on a real kube-apiserver: `npm run test:cluster -- --bench`, with `--json`, and `--quick` for a short run.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { clusterSkip } from '../support/kubernetes-cluster.ts';
import { toJson, toTable } from './measurement.ts';
import { canPin } from './processes.ts';
import { tokenReview } from './token-review.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
  },
});
if (clusterSkip !== false) {
  console.error(`error: ${clusterSkip}`);
  process.exit(1);
}
if (!canPin && !values.json) console.log('taskset is not here: processes are not bound to a core each');
const folder = mkdtempSync(join(tmpdir(), 'kedge-bench-'));
const ends: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
try {
  const lifetime = { after: (end: () => unknown) => void ends.unshift(end) };
  const [rounds, ms] = values.quick ? [3, 3_000] : [9, 5_000];
  const measurements = await tokenReview(lifetime, folder, rounds, ms);
  console.log(values.json ? JSON.stringify(toJson(measurements)) : `\n${toTable(measurements)}`);
} finally {
  for (const end of ends) await end();
}
