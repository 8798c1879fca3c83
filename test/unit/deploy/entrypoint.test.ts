import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { AGENT_NODE_OPTIONS } from '../../../host/node-options.ts';
import { suiteFolder } from '../../support/suite-folder.ts';

const ENTRYPOINT = join(import.meta.dirname, '../../../deploy/kedge-entrypoint.cjs');
const folder = suiteFolder();

/** The entry point of the image, with programs that say how they were started in place of ours. */
function run(...argv: string[]): unknown {
  for (const name of ['kedge', 'kedge-agent']) {
    const started = `['${name}', process.execArgv, process.argv.slice(2), process.env.KEDGE_TEST]`;
    writeFileSync(join(folder, `${name}.mjs`), `console.log(JSON.stringify(${started}));`);
  }
  const entrypoint = join(folder, 'entrypoint.cjs');
  const text = readFileSync(ENTRYPOINT, 'utf8');
  assert.ok(text.includes("'/usr/local/lib/kedge'"));
  writeFileSync(entrypoint, text.replace("'/usr/local/lib/kedge'", JSON.stringify(folder)));
  const env = { KEDGE_TEST: 'kept' };
  const stdout = execFileSync(process.execPath, [entrypoint, ...argv], { encoding: 'utf8', env });
  return JSON.parse(stdout);
}

describe('the entry point of the image', () => {
  for (const argv of [['agent', '--socket', '/run/kedge/workload.sock'], ['agent']]) {
    it(`starts an agent as pods do: kedge ${argv.join(' ')}`, () => {
      assert.deepEqual(run(...argv), ['kedge-agent', AGENT_NODE_OPTIONS, argv, 'kept']);
    });
  }

  for (const [program, ...argv] of [
    ['kedge-agent', 'agent', 'healthcheck', '--socket', '/s'],
    ['kedge-agent', 'agent', 'wait'],
    ['kedge', 'ca', '--config', 'kedge.yaml'],
    ['kedge', 'help'],
  ] as const) {
    it(`runs what ends soon, or is no agent, at once: kedge ${argv.join(' ')}`, () => {
      assert.deepEqual(run(...argv), [program, [], argv, 'kept']);
    });
  }
});
