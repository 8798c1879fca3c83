import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gradeOfHook, HOOK_OUTPUT_BYTES, type Hook, runHook } from '../../../../agent/feed/hook.ts';
import { systemClock } from '../../../../host/clock.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import { suiteFolder } from '../../../support/suite-folder.ts';

const folder = suiteFolder();
const never = new AbortController().signal;
const sh = (script: string, timeoutMs = 60_000): Hook => ({
  type: 'command',
  argv: ['/bin/sh', '-c', script],
  timeoutMs,
});
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    // A zombie waits only for whoever started it.
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
};
const pidIn = async (path: string): Promise<number> => {
  while (!existsSync(path) || readFileSync(path, 'utf8').trim() === '') await settle();
  return Number(readFileSync(path, 'utf8'));
};

describe('a hook that is a command', () => {
  it('that exits with 0 says that the files are loaded', async () => {
    await runHook(sh('exit 0'), {}, systemClock, never);
    assert.equal(gradeOfHook(sh('exit 0')), 'loaded');
  });

  it('runs without a shell of ours: arguments stay what they are', async () => {
    const path = join(folder, 'arguments');
    const hook: Hook = {
      type: 'command',
      argv: ['/bin/sh', '-c', 'printf "%s|" "$@" > "$0"', path, '$(id)', 'a b', '*'],
      timeoutMs: 60_000,
    };
    await runHook(hook, {}, systemClock, never);
    assert.equal(readFileSync(path, 'utf8'), '$(id)|a b|*|');
  });

  it('gets an environment of PATH and what it is given, no input, and / as its folder', async () => {
    const path = join(folder, 'environment');
    process.env['KEDGE_TEST_SECRET'] = 'hidden';
    await runHook(sh(`env > ${path}; pwd >> ${path}; cat >> ${path}`), { KEDGE_X: '1' }, systemClock, never);
    delete process.env['KEDGE_TEST_SECRET'];
    const lines = readFileSync(path, 'utf8').trim().split('\n');
    const names = lines
      .map((line) => line.split('=')[0])
      .filter((name) => !['PWD', 'OLDPWD', '_', 'SHLVL'].includes(name ?? ''));
    assert.deepEqual(new Set(names), new Set(['/', 'KEDGE_X', 'PATH']));
  });

  const failures: readonly { name: string; hook: Hook; message: RegExp }[] = [
    { name: 'exits with another code', hook: sh('exit 3'), message: /exited with 3$/ },
    { name: 'is killed', hook: sh('kill -9 $$'), message: /was killed by SIGKILL$/ },
    {
      name: 'says why',
      hook: sh('echo no config >&2; exit 1'),
      message: /exited with 1; it said "no config"$/,
    },
    {
      name: 'does not exist',
      hook: { type: 'command', argv: ['/nowhere/hook'], timeoutMs: 1_000 },
      message: /cannot be started: ENOENT$/,
    },
    {
      name: 'may not be run',
      hook: { type: 'command', argv: ['/etc/passwd'], timeoutMs: 1_000 },
      message: /cannot be started: EACCES$/,
    },
  ];
  for (const { name, hook, message } of failures) {
    it(`that ${name} is hook_failed`, async () => {
      const error = await expectRejection('hook_failed', runHook(hook, {}, systemClock, never));
      assert.match(error.message, message);
    });
  }

  it('that hangs is killed, with all that it forked, when its time is over', async () => {
    const [parent, child] = [join(folder, 'hang.pid'), join(folder, 'hang-child.pid')];
    const clock = new ManualClock();
    const script = `sleep 1000 & echo $! > ${child}; echo $$ > ${parent}; trap '' TERM; wait`;
    const hook = runHook(sh(script, 5_000), {}, clock, never);
    const outcome = expectRejection('hook_failed', hook);
    const pids = [await pidIn(parent), await pidIn(child)];
    await clock.advance(4_999);
    assert.ok(pids.every(isAlive));
    await clock.advance(1);
    assert.match((await outcome).message, /did not end within 5000 ms/);
    while (pids.some(isAlive)) await settle();
  });

  it('is killed when the publication is interrupted', async () => {
    const path = join(folder, 'interrupted.pid');
    const interrupt = new AbortController();
    const hook = runHook(sh(`echo $$ > ${path}; sleep 1000`), {}, systemClock, interrupt.signal);
    const outcome = expectRejection('hook_failed', hook);
    const pid = await pidIn(path);
    interrupt.abort();
    await outcome;
    while (isAlive(pid)) await settle();
  });

  it('that leaves a program in the background is not waited for: its own exit counts', async () => {
    const path = join(folder, 'background.pid');
    await runHook(sh(`sleep 1000 & echo $! > ${path}`), {}, systemClock, never);
    process.kill(await pidIn(path), 'SIGKILL');
  });

  it('that fails takes what it forked with it', async () => {
    const path = join(folder, 'failed-child.pid');
    await expectRejection(
      'hook_failed',
      runHook(sh(`sleep 1000 & echo $! > ${path}; exit 1`), {}, systemClock, never),
    );
    const pid = await pidIn(path);
    while (isAlive(pid)) await settle();
  });

  it('that floods its output is read to the end, and only the start is kept', async () => {
    const script = 'i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; exit 1';
    const error = await expectRejection('hook_failed', runHook(sh(script), {}, systemClock, never));
    assert.ok(error.message.length < HOOK_OUTPUT_BYTES);
  });
});

describe('a hook that is a signal', () => {
  const signalHook = (pidFile: string): Hook => ({ type: 'signal', pidFile, signal: 'SIGHUP' });

  it('reaches the process that the pid file names, and proves no more than delivery', async () => {
    const [pidFile, got] = [join(folder, 'proxy.pid'), join(folder, 'got')];
    const proxy = spawn('/bin/sh', [
      '-c',
      `trap 'echo yes > ${got}; exit' HUP; echo $$ > ${pidFile}; while :; do sleep 0.02; done`,
    ]);
    await pidIn(pidFile);
    await runHook(signalHook(pidFile), {}, systemClock, never);
    assert.equal(gradeOfHook(signalHook(pidFile)), 'delivered');
    await new Promise((resolve) => proxy.once('exit', resolve));
    assert.equal(readFileSync(got, 'utf8').trim(), 'yes');
  });

  it('goes by the first line alone, as in the postmaster.pid of PostgreSQL', async () => {
    const pidFile = join(folder, 'postmaster.pid');
    const child = spawn('/bin/sleep', ['1000']);
    const ended = new Promise((resolve) => child.once('exit', (_, killedBy) => resolve(killedBy)));
    writeFileSync(pidFile, `${child.pid}\n/var/lib/postgresql/data\n1769860800\n5432\n/tmp\nready\n`);
    await runHook(signalHook(pidFile), {}, systemClock, never);
    assert.equal(await ended, 'SIGHUP');
  });

  const contents: readonly { name: string; content: string | null }[] = [
    { name: 'does not exist', content: null },
    { name: 'is empty', content: '' },
    { name: 'holds no number', content: 'nginx' },
    { name: 'holds 0, which is our own process group', content: '0' },
    { name: 'holds 1, which is the init of the pod', content: '1' },
    { name: 'holds -1, which is every process', content: '-1' },
    { name: 'holds two numbers', content: '123 456' },
    { name: 'holds a number out of range', content: '99999999999' },
    { name: 'is large', content: '1'.repeat(1000) },
    { name: 'is larger than any', content: `123\n${'x'.repeat(20_000)}` },
    { name: 'has its number on the second line', content: '\n123\n' },
    { name: 'holds a number that is none of a process', content: '4294967297' },
    { name: 'holds the agent itself', content: String(process.pid) },
    { name: 'is stale', content: '4194304' },
  ];
  for (const [index, { name, content }] of contents.entries()) {
    it(`is hook_failed when the pid file ${name}`, async () => {
      const pidFile = join(folder, `bad-${index}.pid`);
      if (content !== null) writeFileSync(pidFile, content);
      await expectRejection('hook_failed', runHook(signalHook(pidFile), {}, systemClock, never));
    });
  }
});
