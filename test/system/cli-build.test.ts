import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { AGENT_COMMANDS } from '../../cli/agent-command-table.ts';
import { COMMANDS } from '../../cli/command-table.ts';
import { KEDGE_VERSION } from '../../host/version.ts';
import { olderNode, ROOT, runKedge } from '../support/kedge-process.ts';

describe('the bundles of npm run build', () => {
  const folders = [1, 2].map(() => mkdtempSync(join(tmpdir(), 'kedge-build-')));
  const [first = '', second = ''] = folders;
  const program = (name: string): string => join(first, name);
  const source = (name: string): string => readFileSync(program(name), 'utf8');

  before(() => {
    for (const folder of folders) execFileSync(process.execPath, ['scripts/build.ts', folder], { cwd: ROOT });
  });
  after(() => {
    for (const folder of folders) rmSync(folder, { recursive: true });
  });

  it('are the same bytes each time', () => {
    const names = readdirSync(first).sort();
    assert.deepEqual(names, [
      'kedge-agent.licenses.txt',
      'kedge-agent.mjs',
      'kedge-agent.mjs.map',
      'kedge.licenses.txt',
      'kedge.mjs',
      'kedge.mjs.map',
    ]);
    for (const name of names)
      assert.ok(readFileSync(join(first, name)).equals(readFileSync(join(second, name))), name);
  });

  const older = olderNode();
  for (const [name, entries] of [
    ['kedge.mjs', COMMANDS],
    ['kedge-agent.mjs', AGENT_COMMANDS],
  ] as const) {
    it(`${name} runs from its one file alone`, async () => {
      const alone = mkdtempSync(join(tmpdir(), 'kedge-alone-'));
      try {
        execFileSync('cp', [program(name), alone]);
        const { code, stdout, stderr } = await runKedge(['version'], {
          program: join(alone, name),
          cwd: alone,
        });
        assert.deepEqual(
          [code, stdout, stderr],
          [0, `kedge ${KEDGE_VERSION} (node ${process.versions.node})\n`, ''],
        );
      } finally {
        rmSync(alone, { recursive: true });
      }
    });

    it(`${name} explains each of its commands as the source does`, async () => {
      for (const entry of entries) {
        const argv = ['help', ...entry.name.split(' ')];
        const [bundled, fromSource] = await Promise.all([
          runKedge(argv, { program: program(name) }),
          runKedge(argv),
        ]);
        assert.deepEqual(bundled, fromSource, entry.name);
      }
    });

    it(`${name} says in one line, on an older Node, what it needs, and exits with 2`, {
      skip: older === undefined && 'this machine has no older Node',
    }, async () => {
      const ended = await runKedge(['version'], { program: program(name), node: older ?? '' });
      assert.deepEqual([ended.code, ended.stdout], [2, '']);
      assert.match(ended.stderr, /^error: kedge needs Node 24 or newer, this is Node \d+\.\d+\.\d+\n$/);
    });

    it(`${name} imports nothing before it has checked the Node, and knows no path of this machine`, () => {
      const text = source(name);
      assert.doesNotMatch(text, /^(import|export) .*from/m);
      assert.equal(text.includes(ROOT), false);
      assert.equal(readFileSync(`${program(name)}.map`, 'utf8').includes(ROOT), false);
    });

    it(`${name} lists every package that is in it, with its license`, () => {
      const packages = new Set(
        [...source(name).matchAll(/^ *\/\/ node_modules\/((?:@[\w.-]+\/)?[\w.-]+)\//gm)].map((m) => m[1]),
      );
      const licenses = readFileSync(join(first, name.replace('.mjs', '.licenses.txt')), 'utf8');
      assert.ok(packages.size > 0);
      for (const one of packages) {
        assert.match(source(name), new RegExp(`^// - ${one} \\d`, 'm'));
        assert.match(licenses, new RegExp(`^${one} \\d+\\.\\d+\\.\\d+ \\(.+\\)$`, 'm'));
      }
    });
  }

  it('keep out of the agent what only the CA needs', () => {
    const text = source('kedge-agent.mjs');
    const packages = new Set(
      [...text.matchAll(/^ *\/\/ node_modules\/((?:@[\w.-]+\/)?[\w.-]+)\//gm)].map((m) => m[1]),
    );
    assert.deepEqual(packages, new Set(['@bufbuild/protobuf', '@grpc/grpc-js', '@js-sdsl/ordered-map']));
    assert.doesNotMatch(text, /^ *\/\/ ca\//m);
    assert.match(
      source('kedge.mjs'),
      /^ *\/\/ node_modules\/zod\//m,
      'the markers of modules are gone: this test sees nothing',
    );
  });
});
