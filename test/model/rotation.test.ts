import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isExecutable } from '../../scripts/executable.ts';
import { findPeer } from '../../scripts/peer-folder.ts';

/*
 * `rotation.pml` beside this file, state by state. Spin makes a C program of it that goes through all states of the
 * model and says whether a property, written in linear temporal logic, holds in each.
 */

const SPIN = findPeer('spin');
const COMPILER =
  (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, 'cc'))
    .find(isExecutable) ?? null;
const skip =
  SPIN === null ? 'no spin here (npm run peers)' : COMPILER === null ? 'no C compiler here (cc)' : false;

/** Deeper than any path through it; a search that needs more says so, and is not taken for a proof. */
const MAX_DEPTH = 5_000_000;

interface Verdict {
  readonly holds: boolean;
  readonly states: number;
}

describe('the model of a rotation', { skip }, () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'kedge-model-'));
    copyFileSync(join(import.meta.dirname, 'rotation.pml'), join(folder, 'rotation.pml'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('no split: 2 replicas, 3 agents, one of which restarts without a memory', (t) => {
    const { holds, states } = verify('no_split', { AGENTS: 3, RESTARTS: 1 });
    assert.ok(holds);
    assert.ok(states > 1_000_000, `only ${states} states`);
    t.diagnostic(`${states} states`);
  });

  it('no split: 2 replicas, 2 agents that restart three times', () => {
    assert.ok(verify('no_split', { AGENTS: 2, RESTARTS: 3 }).holds);
  });

  for (const [rule, what] of [
    ['GATES', 'steps that wait for nobody'],
    ['SWAP', 'replicas that write over each other'],
    ['ISSUE_VOIDS', 'reports that count whatever was issued since'],
    ['REPLICAS_FOLLOW', 'gates that open while a replica is behind'],
  ] as const) {
    it(`finds the split that comes of ${what}`, () => {
      assert.equal(verify('no_split', { AGENTS: 2, RESTARTS: 1, [rule]: 0 }).holds, false);
    });
  }

  for (const [property, end] of [
    ['never_removed', 'a rotation'],
    ['never_given_up', 'an abort before the new anchor signed'],
    ['never_back', 'an abort after the new anchor signed'],
  ] as const) {
    it(`finds the way to the end of ${end}: what it proves is not empty`, () => {
      assert.equal(verify(property, { AGENTS: 2, RESTARTS: 0 }).holds, false);
    });
  }

  function verify(property: string, defines: Readonly<Record<string, number>>): Verdict {
    const run = (program: string, args: readonly string[]): string =>
      execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    run(SPIN ?? '', [
      '-a',
      ...Object.entries(defines).map(([name, value]) => `-D${name}=${value}`),
      'rotation.pml',
    ]);
    // Safety only: each property is one of the kind "always". Collapsed states take a third of the memory.
    run(COMPILER ?? '', ['-w', '-O2', '-DSAFETY', '-DCOLLAPSE', '-DMEMLIM=8000', '-o', 'pan', 'pan.c']);
    const output = run('./pan', [`-m${MAX_DEPTH}`, '-w24', '-N', property]);
    assert.doesNotMatch(output, /max search depth too small|out of memory|reached -DMEMLIM/, output);
    const [, errors, states] = /errors: (\d+)\n\s*(\d+) states, stored/.exec(output) ?? [];
    if (errors === undefined || states === undefined) throw new Error(`spin gave no verdict: ${output}`);
    if (errors === '0') assert.doesNotMatch(output, /Search not completed/, output);
    else assert.match(output, /assertion violated/, output);
    return { holds: errors === '0', states: Number(states) };
  }
});
