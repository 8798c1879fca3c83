/**
 * A hook that goes wrong after a rotation, all the way up to the report for the CA: the code arrives there, what is
 * claimed is what was loaded before, and the feed beside it has long moved on.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { after as later, instantOf } from '../../../../agent/deadline.ts';
import { FilesFeed } from '../../../../agent/feed/files-feed.ts';
import type { Hook } from '../../../../agent/feed/hook.ts';
import { FeedPublisher } from '../../../../agent/publisher.ts';
import { buildReport } from '../../../../agent/report.ts';
import type { IdentitySnapshot } from '../../../../agent/snapshot.ts';
import type { Log } from '../../../../host/log.ts';
import { silentLog } from '../../../../host/log.ts';
import { FakeFeed } from '../../../fakes/fake-feed.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

const HOUR_MS = 3_600_000;
const TIMEOUT_MS = 5_000;

describe('a hook that goes wrong at a rotation', () => {
  let first: IdentitySnapshot;
  let second: IdentitySnapshot;
  before(async () => {
    const factory = await SnapshotFactory.make(Date.UTC(2026, 0, 1));
    [first, second] = [await factory.snapshot(1), await factory.snapshot(2)];
  });

  /** Does well at the first publication; at the second it says that it has begun, and then does what the script says. */
  const command =
    (script: string) =>
    (folder: string): Hook => ({
      type: 'command',
      argv: [
        '/bin/sh',
        '-c',
        `test -e ${folder}/once || { touch ${folder}/once; exit 0; }; touch ${folder}/begun; ${script}`,
      ],
      timeoutMs: TIMEOUT_MS,
    });
  const OVERTIME = /did not end within 5000 ms/;
  const cases: readonly {
    readonly name: string;
    readonly hook: (folder: string) => Hook;
    readonly said: RegExp;
  }[] = [
    { name: 'exits with an error', hook: command('exit 3'), said: /exited with 3/ },
    { name: 'cannot find its program', hook: command('exec /nowhere/reload'), said: /exited with 127/ },
    { name: 'hangs', hook: command('exec sleep 1000'), said: OVERTIME },
    {
      name: 'ignores what asks it to end',
      hook: command("trap '' TERM INT HUP; while :; do sleep 9; done"),
      said: OVERTIME,
    },
    { name: 'writes endless output', hook: command('exec yes kedge'), said: OVERTIME },
    { name: 'forks and hangs', hook: command('sleep 1000 & wait'), said: OVERTIME },
    { name: 'forks and fails', hook: command('sleep 1000 & exit 1'), said: /exited with 1/ },
    {
      name: 'fails behind a fork of another session that keeps its pipes',
      hook: command('setsid sleep 3 & exit 1'),
      said: /exited with 1/,
    },
  ];
  for (const { name, hook, said } of cases) {
    it(`because it ${name}: hook_failed is reported, with what was loaded before`, async (t) => {
      const folder = temporaryFolder(t);
      const clock = new ManualClock();
      const errors: string[] = [];
      const log: Log = { ...silentLog, warn: (_event, fields) => void errors.push(JSON.stringify(fields)) };
      const files = await FilesFeed.open({
        folder: join(folder, 'files'),
        preset: 'plain',
        keyFormat: 'pkcs8',
        keyMode: 0o600,
        bundleDocument: false,
        hook: hook(folder),
        clock,
        log,
        onConsumersChange: () => {},
      });
      const other = new FakeFeed('other');
      const stop = new AbortController();
      const publishers = [files, other].map(
        (feed) =>
          new FeedPublisher({
            feed,
            clock,
            random: fixedRandom(0.5),
            log,
            onChange: () => {},
            onPublication: () => {},
          }),
      );
      const running = publishers.map((publisher) => publisher.run(stop.signal));
      const offer = (snapshot: IdentitySnapshot): void => {
        const expiry = later(instantOf(clock), HOUR_MS);
        for (const publisher of publishers) publisher.offer({ snapshot, expiry });
      };
      const report = () =>
        buildReport({
          agentVersion: '1.2.3',
          feeds: publishers.map((publisher) => publisher.status),
          clockSkewMs: null,
          canaryResult: null,
        });

      offer(first);
      while (report().bundleSequence !== 1n) await settle();
      offer(second);
      while (!existsSync(join(folder, 'begun'))) await settle();
      if (said === OVERTIME) await clock.advance(TIMEOUT_MS);
      // A step at a time, for the moment that the last output is waited for.
      while (report().feeds[0]?.errorCode === '') await clock.advance(1);
      const { bundleSequence, feeds } = report();
      const [filesReport, otherReport] = feeds;
      assert.equal(filesReport?.errorCode, 'hook_failed');
      assert.equal(filesReport?.consumers[0]?.errorCode, 'hook_failed');
      assert.equal(filesReport?.consumers[0]?.delivered?.bundleSequence, 2n);
      assert.equal(filesReport?.consumers[0]?.loaded?.bundleSequence, 1n);
      assert.equal(filesReport?.bundleSequence, 1n, 'no more is claimed than was loaded');
      assert.equal(bundleSequence, 1n);
      assert.deepEqual([otherReport?.errorCode, otherReport?.bundleSequence], ['', 2n]);
      assert.deepEqual(other.log, ['publish 1', 'publish 2']);
      assert.ok(
        errors.some((line) => said.test(JSON.parse(line).error?.message ?? '')),
        errors.join('\n'),
      );

      stop.abort();
      await Promise.all(running);
      await files.close();
    });
  }
});

describe('a pid file that goes wrong at a rotation', () => {
  it('is hook_failed in the report, and is read anew at the next try', async (t) => {
    const factory = await SnapshotFactory.make(Date.UTC(2026, 0, 1));
    const folder = temporaryFolder(t);
    const pidFile = join(folder, 'proxy.pid');
    const clock = new ManualClock();
    const files = await FilesFeed.open({
      folder: join(folder, 'files'),
      preset: 'plain',
      keyFormat: 'pkcs8',
      keyMode: 0o600,
      bundleDocument: false,
      hook: { type: 'signal', pidFile, signal: 'SIGWINCH' },
      clock,
      log: silentLog,
      onConsumersChange: () => {},
    });
    const publisher = new FeedPublisher({
      feed: files,
      clock,
      random: fixedRandom(0.5),
      log: silentLog,
      onChange: () => {},
      onPublication: () => {},
    });
    const stop = new AbortController();
    const running = publisher.run(stop.signal);
    const status = () =>
      buildReport({ agentVersion: '1', feeds: [publisher.status], clockSkewMs: null, canaryResult: null })
        .feeds[0];
    // Of a process that has ended: as a stale pid file has it.
    writeFileSync(pidFile, String(spawnSync('/bin/true').pid));
    publisher.offer({ snapshot: await factory.snapshot(1), expiry: later(instantOf(clock), HOUR_MS) });
    while (status()?.errorCode === '') await settle();
    assert.equal(status()?.errorCode, 'hook_failed');
    assert.ok(existsSync(join(folder, 'files', 'tls.crt')));
    // The parent of this test takes no notice of SIGWINCH.
    writeFileSync(pidFile, String(process.ppid));
    while (status()?.errorCode !== '') await clock.advance(100);
    assert.equal(status()?.bundleSequence, 1n);
    assert.equal(readFileSync(pidFile, 'utf8'), String(process.ppid));
    stop.abort();
    await running;
    await files.close();
  });
});
