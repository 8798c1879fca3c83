import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { AGENT_NODE_OPTIONS } from '../../host/node-options.ts';
import { AGENT_COMMANDS } from '../../cli/agent-command-table.ts';
import { COMMANDS } from '../../cli/command-table.ts';
import { compileProgram } from '../../host/code-cache.ts';
import { KEDGE_VERSION } from '../../host/version.ts';
import { olderNode, ROOT, RunningKedge, runKedge } from '../support/kedge-process.ts';

describe('the bundles of npm run build', () => {
  const folders = [1, 2].map(() => mkdtempSync(join(tmpdir(), 'kedge-build-')));
  const [first = '', second = ''] = folders;
  const filesOf = (folder: string): string[] =>
    globSync('**', { cwd: folder, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
      .sort();
  /** All code of one program. */
  const codeOf = (name: string): string =>
    filesOf(first)
      .filter(
        (file) => file === name || (file.endsWith('.cjs') && file.startsWith(name.replace('.mjs', '/'))),
      )
      .map((file) => readFileSync(join(first, file), 'utf8'))
      .join('\n');
  const packagesOf = (code: string): Set<string | undefined> =>
    new Set(
      [...code.matchAll(/^ *\/\/ node_modules\/((?:@[\w.-]+\/)?[\w.-]+)\//gm)].map((match) => match[1]),
    );

  before(() => {
    for (const folder of folders) execFileSync(process.execPath, ['scripts/build.ts', folder], { cwd: ROOT });
  });
  after(() => {
    for (const folder of folders) rmSync(folder, { recursive: true });
  });

  it('are the same bytes each time', () => {
    const files = filesOf(first);
    for (const name of [
      'kedge.mjs',
      'kedge/program.cjs',
      'kedge/program.cache',
      'kedge/x509-library.cjs',
      'kedge/x509-library.cache',
      'kedge/vault-library.cjs',
      'kedge/vault-library.cache',
      'kedge.licenses.txt',
      'kedge-agent.mjs',
      'kedge-agent/program.cjs',
      'kedge-agent/program.cache',
      'kedge-agent.licenses.txt',
    ]) {
      assert.ok(files.includes(name), name);
    }
    assert.deepEqual(filesOf(second), files);
    for (const name of files) {
      assert.ok(readFileSync(join(first, name)).equals(readFileSync(join(second, name))), name);
    }
  });

  it('have a source map beside each file of code, and know no path of this machine', () => {
    for (const file of filesOf(first)) {
      assert.equal(readFileSync(join(first, file), 'utf8').includes(ROOT), false, file);
      if (/\.[cm]js$/.test(file)) assert.ok(existsSync(join(first, `${file}.map`)), file);
    }
  });

  it('are in characters of one byte, as their code caches are made for', () => {
    for (const file of filesOf(first).filter((name) => name.endsWith('.cjs'))) {
      assert.ok(
        readFileSync(join(first, file)).every((byte) => byte < 0x80),
        file,
      );
    }
  });

  it('begin with what Node is told before them, as pods tell it', () => {
    const firstLine = (name: string): string => readFileSync(join(first, name), 'utf8').split('\n')[0] ?? '';
    assert.equal(firstLine('kedge.mjs'), '#!/usr/bin/env node');
    assert.equal(firstLine('kedge-agent.mjs'), `#!/usr/bin/env -S node ${AGENT_NODE_OPTIONS.join(' ')}`);
  });

  it('come with code caches that the Node which built them takes', () => {
    for (const name of [
      'kedge/program',
      'kedge/x509-library',
      'kedge/vault-library',
      'kedge-agent/program',
    ]) {
      const [file, cacheFile] = [join(first, `${name}.cjs`), join(first, `${name}.cache`)];
      assert.equal(compileProgram({ file, cacheFile, uid: process.geteuid?.() }).cache, 'used', name);
    }
  });

  const older = olderNode();
  const programs = [
    { name: 'kedge.mjs', files: ['kedge.mjs', 'kedge'], entries: COMMANDS },
    { name: 'kedge-agent.mjs', files: ['kedge-agent.mjs', 'kedge-agent'], entries: AGENT_COMMANDS },
  ];
  for (const { name, files, entries } of programs) {
    it(`${name} runs without anything but ${files.join(' and ')}`, async () => {
      const alone = mkdtempSync(join(tmpdir(), 'kedge-alone-'));
      try {
        for (const file of files) cpSync(join(first, file), join(alone, file), { recursive: true });
        const { code, stdout, stderr } = await runKedge(['version'], {
          program: join(alone, name),
          cwd: alone,
        });
        const version = `kedge ${KEDGE_VERSION} (node ${process.versions.node})\n`;
        assert.deepEqual([code, stdout, stderr], [0, version, '']);
      } finally {
        rmSync(alone, { recursive: true });
      }
    });

    it(`${name} runs with a code cache that it does not take, and without a word about it`, async () => {
      const spoiled = mkdtempSync(join(tmpdir(), 'kedge-spoiled-'));
      try {
        for (const file of files) cpSync(join(first, file), join(spoiled, file), { recursive: true });
        const cache = join(spoiled, name.replace('.mjs', ''), 'program.cache');
        const program = { program: join(spoiled, name) };
        const want = [0, `kedge ${KEDGE_VERSION} (node ${process.versions.node})\n`, ''];
        const kinds = [
          () => chmodSync(cache, 0o666),
          () => writeFileSync(cache, readFileSync(cache).fill(0, 4_096), { mode: 0o644 }),
          () => rmSync(cache),
        ];
        for (const spoil of kinds) {
          spoil();
          const { code, stdout, stderr } = await runKedge(['version'], program);
          assert.deepEqual([code, stdout, stderr], want);
        }
      } finally {
        rmSync(spoiled, { recursive: true });
      }
    });

    it(`${name} explains each of its commands as the source does`, async () => {
      for (const entry of entries) {
        const argv = ['help', ...entry.name.split(' ')];
        const program = join(first, name);
        const [bundled, fromSource] = await Promise.all([runKedge(argv, { program }), runKedge(argv)]);
        assert.deepEqual(bundled, fromSource, entry.name);
      }
    });

    const skip = older === undefined && 'this machine has no older Node';
    it(`${name} says in one line, on an older Node, what it needs, and exits with 2`, { skip }, async () => {
      const ended = await runKedge(['version'], { program: join(first, name), node: older ?? '' });
      assert.deepEqual([ended.code, ended.stdout], [2, '']);
      assert.match(ended.stderr, /^error: kedge needs Node 24 or newer, this is Node \d+\.\d+\.\d+\n$/);
    });

    it(`${name} imports nothing of Node before it has checked it`, () => {
      assert.match(readFileSync(join(first, name), 'utf8'), /^#!.*\nif \(Number\(process\.versions\.node/);
      assert.doesNotMatch(codeOf(name), /^(?:import|export)\b[^;]*?\bfrom\b/m);
    });

    it(`${name} comes with the license of every package that is in it`, () => {
      const licenses = readFileSync(join(first, name.replace('.mjs', '.licenses.txt')), 'utf8');
      const packages = packagesOf(codeOf(name));
      assert.ok(packages.size > 0);
      for (const one of packages) {
        assert.match(codeOf(name), new RegExp(`^// - ${one} \\d`, 'm'));
        assert.match(licenses, new RegExp(`^${one} \\d+\\.\\d+\\.\\d+ \\(.+\\)$`, 'm'));
      }
    });
  }

  it('keep out of the agent what only the CA needs', () => {
    const agent = codeOf('kedge-agent.mjs');
    assert.deepEqual(
      packagesOf(agent),
      new Set(['@bufbuild/protobuf', '@grpc/grpc-js', '@js-sdsl/ordered-map']),
    );
    assert.doesNotMatch(agent, /^ *\/\/ ca\//m);
    // Were the marks of modules gone, the lines above would see nothing.
    for (const one of ['zod', 'yaml', '@peculiar/x509'])
      assert.ok(packagesOf(codeOf('kedge.mjs')).has(one), one);
  });

  it('serve an identity: the CA and the agent as they are deployed', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'kedge-bundled-'));
    const path = (name: string): string => join(folder, name);
    const program = join(first, 'kedge.mjs');
    const listen = ['--grpc-address', '127.0.0.1:0', '--http-address', '127.0.0.1:0'];
    const running: RunningKedge[] = [];
    context.after(async () => {
      for (const one of running) one.process.kill('SIGKILL');
      await Promise.all(running.map(({ ended }) => ended));
      rmSync(folder, { recursive: true });
    });
    const ca = new RunningKedge(program, ['ca', '--data', path('data'), ...listen]);
    running.push(ca);
    const { grpcAddress = '' } = await ca.event('ca.started');
    const bundle = await runKedge(['bundle', 'show', '--data', path('data'), '-o', 'pem'], { program });
    writeFileSync(path('bundle.pem'), bundle.stdout);
    const identity = ['--namespace', 'demo', '--service-account', 'web', '--write', path('token')];
    assert.equal((await runKedge(['token', '--data', path('data'), ...identity], { program })).code, 0);
    const argv = [
      'agent',
      '--ca-address',
      grpcAddress,
      '--trust-domain',
      'example.org',
      '--token-file',
      path('token'),
    ];
    argv.push('--bootstrap-bundle', path('bundle.pem'), '--socket', path('api.sock'));
    const agent = new RunningKedge(join(first, 'kedge-agent.mjs'), argv);
    running.push(agent);
    await agent.event('feed.published');
    const fetched = await runKedge(['svid', 'fetch', '--socket', path('api.sock')], { program });
    assert.match(fetched.stdout, /^SPIFFE ID {4}spiffe:\/\/example\.org\/ns\/demo\/sa\/web$/m);
    await agent.end('SIGTERM');
    await ca.end('SIGTERM');
  });
});
