import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, dirname } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { haproxyOnPath } from '../../demo/haproxy-sidecar.ts';
import { findPeer, peerEnvironment } from '../../scripts/peer-folder.ts';
import { ROOT } from '../support/kedge-process.ts';

const PATIENCE_MS = 240_000;

/** The demo as a process, with what it has said so far. */
class Demo {
  readonly process: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  output = '';

  constructor(argv: readonly string[] = [], env: Readonly<Record<string, string>> = {}) {
    const child = spawn(process.execPath, ['demo/main.ts', ...argv], {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process = child;
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => (this.output += String(chunk)));
    this.ended = new Promise((resolve) => {
      child.on('close', (code, signal) => resolve({ code, signal }));
    });
  }

  async says(pattern: RegExp): Promise<void> {
    const endMs = performance.now() + PATIENCE_MS;
    while (!pattern.test(this.output)) {
      assert.ok(performance.now() < endMs, `the demo does not say ${String(pattern)}:\n${this.output}`);
      assert.equal(this.process.exitCode, null, this.output);
      await delay(50);
    }
  }

  /** The process ids of its children, by their command line. */
  children(): Map<string, number> {
    const { pid } = this.process;
    return new Map(
      childrenOf(pid ?? 0).map((child) => [
        readFileSync(`/proc/${child}/cmdline`, 'utf8').replaceAll('\0', ' '),
        child,
      ]),
    );
  }

  get folder(): string {
    return /(\/\S*kedge-demo-\w+)\/kedge status/.exec(this.output)?.[1] ?? assert.fail(this.output);
  }
}

function childrenOf(pid: number): number[] {
  const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return pids
    .split(' ')
    .filter((child) => child !== '')
    .map(Number);
}

async function gone(pids: Iterable<number>): Promise<void> {
  const endMs = performance.now() + 30_000;
  for (const pid of pids) {
    while (isAlive(pid)) {
      assert.ok(performance.now() < endMs, `process ${pid} is still there`);
      await delay(50);
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

const haproxy = findPeer('haproxy');

describe('npm start with HAProxy on PATH', {
  skip: haproxy === null && 'no HAProxy on this machine: npm run peers gets it from Debian',
}, () => {
  const env = {
    ...peerEnvironment('haproxy'),
    PATH: [dirname(haproxy ?? ''), process.env['PATH'] ?? ''].join(delimiter),
  };

  it('puts HAProxy in front of both workloads, and rotates without one failed request', async () => {
    const demo = new Demo(['--rotations', '3'], env);
    assert.deepEqual(await demo.ended, { code: 0, signal: null }, demo.output);
    assert.match(demo.output, /^started {2}the HAProxy of web /m);
    assert.match(demo.output, /web +X\.509-SVID \w{12} -> \w{12}, .* \d+ requests, 0 failures$/m);
    assert.match(demo.output, /; 0 failures\.$/m);
  });

  it('leaves no HAProxy behind when it is itself killed', async () => {
    const demo = new Demo([], env);
    await demo.says(/web +first X\.509-SVID/);
    const wrappers = [...demo.children()].filter(([line]) => line.includes('haproxy-process'));
    assert.equal(wrappers.length, 2);
    const all = wrappers.flatMap(([, pid]) => [pid, ...childrenOf(pid)]);
    assert.equal(all.length, 4);
    demo.process.kill('SIGKILL');
    await demo.ended;
    await gone(all);
    rmSync(demo.folder, { recursive: true });
  });
});

describe('npm start', {
  skip:
    (!existsSync('/proc/self/status') && 'the test looks for processes in /proc') ||
    (haproxyOnPath(process.env['PATH']) !== undefined && 'HAProxy is on PATH: see the suite above'),
}, () => {
  it('rotates SVIDs and issuers while traffic flows, without one failed request, two of it side by side', async () => {
    const demos = [new Demo(['--rotations', '10']), new Demo(['--rotations', '2'])];
    const ended = await Promise.all(demos.map(({ ended }) => ended));
    for (const [i, demo] of demos.entries()) {
      assert.deepEqual(ended[i], { code: 0, signal: null }, demo.output);
      assert.match(demo.output, /^started {2}the CA /m);
      assert.match(demo.output, /web +X\.509-SVID \w{12} -> \w{12}, .* \d+ requests, 0 failures$/m);
      assert.match(
        demo.output,
        /^[1-9]\d* requests, [1-9]\d* of them on new connections; .*; 0 failures\.$/m,
      );
      assert.equal(existsSync(demo.folder), false, 'its folder is still there');
    }
    for (const workload of ['web', 'echo']) {
      assert.match(demos[0]?.output ?? '', new RegExp(`${workload} +X.* ISSUER \\w{12} -> \\w{12},`));
    }
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`ends with everything that it started at ${signal}`, async () => {
      const demo = new Demo();
      await demo.says(/web +first X\.509-SVID/);
      const pids = [...demo.children().values()];
      assert.equal(pids.length, 5);
      demo.process.kill(signal);
      assert.deepEqual(await demo.ended, { code: 0, signal: null }, demo.output);
      assert.match(demo.output, new RegExp(`^${signal}: ending\\.$`, 'm'));
      assert.match(demo.output, /; 0 failures\.$/m);
      await gone(pids);
      assert.equal(existsSync(demo.folder), false);
    });
  }

  for (const [name, program] of [
    ['the CA', / ca /],
    ['the agent of web', / agent .*web/],
    ['the workload echo', /echo-server/],
  ] as const) {
    it(`says that ${name} has died, ends the rest, and exits with 1`, async () => {
      const demo = new Demo();
      await demo.says(/web +first X\.509-SVID/);
      const children = demo.children();
      const [, victim] =
        [...children].find(([line]) => program.test(line)) ?? assert.fail('there is no such child');
      process.kill(victim, 'SIGKILL');
      assert.deepEqual(await demo.ended, { code: 1, signal: null }, demo.output);
      assert.match(demo.output, new RegExp(`^error: ${name} was killed by SIGKILL$`, 'm'));
      await gone(children.values());
      assert.equal(existsSync(demo.folder), false);
    });
  }

  it('leaves no process behind when it is itself killed', async () => {
    const demo = new Demo();
    await demo.says(/web +first X\.509-SVID/);
    const pids = [...demo.children().values()];
    demo.process.kill('SIGKILL');
    assert.deepEqual(await demo.ended, { code: null, signal: 'SIGKILL' });
    await gone(pids);
    rmSync(demo.folder, { recursive: true });
  });

  it('ends at once at a signal while it still starts', async () => {
    const demo = new Demo();
    await demo.says(/^Kedge demo/);
    demo.process.kill('SIGINT');
    assert.deepEqual(await demo.ended, { code: 0, signal: null }, demo.output);
  });

  it('refuses an option that it does not take', async () => {
    const demo = new Demo(['--rotations', 'many']);
    assert.deepEqual(await demo.ended, { code: 2, signal: null });
    assert.match(demo.output, /^error: --rotations does not take "many"$/m);
  });
});
