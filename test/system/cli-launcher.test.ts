import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { COMMANDS } from '../../cli/command-table.ts';
import { KEDGE, olderNode, ROOT, runKedge } from '../support/kedge-process.ts';

describe('the launcher of kedge', () => {
  const older = olderNode();
  it('says in one line, on an older Node, what it needs, and exits with 2', {
    skip: older === undefined && 'this machine has no older Node',
  }, async () => {
    const { code, stdout, stderr } = await runKedge(['version'], { node: older ?? '' });
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /^error: kedge needs Node 24 or newer, this is Node \d+\.\d+\.\d+\n$/);
  });

  it('uses nothing that an older Node cannot read', () => {
    const source = readFileSync(KEDGE, 'utf8');
    assert.deepEqual(
      [...source.matchAll(/^import .* from '(.*)';$/gm)].map((match) => match[1]),
      ['node:fs'],
    );
    assert.doesNotMatch(source, /\bawait\b|\?\?|\?\.|#[a-z]/);
  });

  it('runs from any folder, and prints the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    const { code, stdout, stderr } = await runKedge(['version'], { cwd: '/' });
    assert.deepEqual([code, stderr], [0, '']);
    assert.equal(stdout, `kedge ${version} (node ${process.versions.node})\n`);
    const json = await runKedge(['version', '--output', 'json']);
    assert.deepEqual(JSON.parse(json.stdout), { version, node: process.versions.node });
  });

  for (const { name, summary } of COMMANDS) {
    it(`explains kedge ${name}`, async () => {
      const { code, stdout, stderr } = await runKedge(['help', ...name.split(' ')]);
      assert.deepEqual([code, stderr], [0, '']);
      assert.ok(stdout.startsWith(`kedge ${name}: ${summary}\n`), stdout.split('\n')[0]);
    });
  }

  it('is quiet when the reader of its output goes away', async () => {
    const child = spawn(process.execPath, [KEDGE, 'help'], { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.destroy();
    let stderr = '';
    child.stderr.on('data', (chunk) => (stderr += String(chunk)));
    const [code] = await once(child, 'close');
    assert.deepEqual([code, stderr], [0, '']);
  });
});
