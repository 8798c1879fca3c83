import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, after, before, describe, it } from 'node:test';
import { askHaproxy } from '../../../../agent/feed/haproxy-connection.ts';
import {
  HAPROXY_FILE_NAMES,
  HaproxyFeed,
  type HaproxyFeedOptions,
} from '../../../../agent/feed/haproxy-feed.ts';
import type { IdentitySnapshot } from '../../../../agent/snapshot.ts';
import { systemClock } from '../../../../host/clock.ts';
import { silentLog } from '../../../../host/log.ts';
import { feedConformance } from '../../../conformance/feed.ts';
import { FakeHaproxy, type FakeHaproxyFile, type FakeHaproxyVersion } from '../../../fakes/fake-haproxy.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { HOUR_MS } from '../../../support/certificates.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';
import { suiteFolder } from '../../../support/suite-folder.ts';

const NOW_MS = Date.UTC(2026, 0, 1);
const signal = new AbortController().signal;
const root = suiteFolder();
let count = 0;
const newFolder = (): string => join(root, `h${(count += 1)}`);

const serialOf = (pem: string): string => new X509Certificate(pem).serialNumber.toLowerCase();
const serialOfSnapshot = ({ svid }: IdentitySnapshot): string =>
  Buffer.from(svid.serialNumber).toString('hex');
const onDisk = (folder: string): string => readFileSync(join(folder, HAPROXY_FILE_NAMES.certificate), 'utf8');
/** What a HAProxy that starts now has loaded. */
const loaded = (folder: string): ReadonlyMap<string, FakeHaproxyFile> =>
  new Map(
    (
      [
        ['certificate', 'cert'],
        ['authorities', 'ca-file'],
        ['crls', 'crl-file'],
      ] as const
    ).map(([name, kind]) => {
      const path = join(folder, HAPROXY_FILE_NAMES[name]);
      return [path, { kind, pem: existsSync(path) ? readFileSync(path, 'utf8') : '' }];
    }),
  );

const open = (
  folder: string,
  paths: readonly string[],
  options: Partial<HaproxyFeedOptions> = {},
): Promise<HaproxyFeed> =>
  HaproxyFeed.open({
    folder,
    keyMode: 0o600,
    addresses: paths.map((path) => ({ path })),
    crls: true,
    serverLinesOnly: false,
    timeoutMs: 5_000,
    maxCommandBytes: 16_384,
    clock: new ManualClock(NOW_MS),
    random: fixedRandom(0.5),
    log: silentLog,
    onConsumersChange: () => {},
    ...options,
  });

/** Real sockets need real turns of the loop between moves of the clock. */
async function advanceUntil(clock: ManualClock, stepMs: number, isDone: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !isDone(); i += 1) {
    await clock.advance(stepMs);
    await settle();
  }
  assert.ok(isDone(), 'it never came');
}

describe('the HAProxy feed', () => {
  let factory: SnapshotFactory;
  let first: IdentitySnapshot;
  let second: IdentitySnapshot;
  before(async () => {
    factory = await SnapshotFactory.make(NOW_MS);
    [first, second] = [await factory.snapshot(1), await factory.snapshot(2, 3 * HOUR_MS)];
  });

  const start = async (
    t: TestContext,
    options: Partial<HaproxyFeedOptions> = {},
    version: FakeHaproxyVersion = '3.4.0',
  ): Promise<{
    folder: string;
    clock: ManualClock;
    feed: HaproxyFeed;
    haproxy: FakeHaproxy;
    path: string;
  }> => {
    const folder = newFolder();
    const path = `${folder}.sock`;
    const clock = new ManualClock(NOW_MS);
    const feed = await open(folder, [path], { clock, ...options });
    const haproxy = await FakeHaproxy.start(path, loaded(folder), version);
    t.after(async () => {
      await feed.close();
      await haproxy.close();
    });
    return { folder, clock, feed, haproxy, path: join(folder, HAPROXY_FILE_NAMES.certificate) };
  };

  it('brings certificate, CAs and CRLs into the running HAProxy, and says so', async (t) => {
    const { feed, haproxy, folder } = await start(t);
    await feed.publish(first, signal);
    assert.equal(
      serialOf(haproxy.inUse(join(folder, HAPROXY_FILE_NAMES.certificate))),
      serialOfSnapshot(first),
    );
    const ca = haproxy.inUse(join(folder, HAPROXY_FILE_NAMES.authorities));
    assert.deepEqual(new X509Certificate(ca).raw, Buffer.from(factory.anchor.der));
    assert.equal(feed.consumers()[0]?.loaded?.generation, 1);
    const order = haproxy.commands
      .filter((command) => command.startsWith('commit'))
      .map((c) => c.split(' ')[2]);
    assert.deepEqual(order.slice(-3), ['crl-file', 'ca-file', 'cert']);
  });

  it('brings it in anew after HAProxy restarted from older files', async (t) => {
    const { feed, haproxy, folder, clock, path } = await start(t);
    const old = loaded(folder);
    await feed.publish(first, signal);
    haproxy.restart(old);
    await advanceUntil(clock, 500, () => serialOf(haproxy.inUse(path)) === serialOfSnapshot(first));
  });

  describe('of HAProxy 3.0.11, which does not survive a commit of CAs', () => {
    it('replaces the certificate alone, in what it presents too, and says that the CAs wait for a reload', async (t) => {
      const { feed, haproxy, folder, path } = await start(t, { crls: false }, '3.0.11');
      for (const snapshot of [first, second]) {
        await expectRejection('haproxy_reload_needed', feed.publish(snapshot, signal));
        assert.equal(serialOf(haproxy.presented(path)), serialOfSnapshot(snapshot));
      }
      assert.ok(!haproxy.commands.some((command) => /^(?:set|commit) ssl (?:ca|crl)-file/.test(command)));
      assert.equal(feed.consumers()[0]?.errorCode, 'haproxy_reload_needed');
      haproxy.restart(loaded(folder));
      await feed.publish(second, signal);
      assert.equal(feed.consumers()[0]?.loaded?.generation, 2);
      const third = await factory.snapshot(3, 3 * HOUR_MS);
      await feed.publish(third, signal);
      assert.equal(serialOf(haproxy.presented(path)), serialOfSnapshot(third), 'with no reload for an SVID');
    });

    it('never calls a certificate loaded that is shown and not presented, since somebody else committed CAs', async (t) => {
      const { feed, haproxy, folder, path } = await start(t, { crls: false }, '3.0.11');
      await expectRejection('haproxy_reload_needed', feed.publish(first, signal));
      haproxy.restart(loaded(folder));
      await feed.publish(first, signal);
      const ca = join(folder, HAPROXY_FILE_NAMES.authorities);
      for (const command of [
        `set ssl ca-file ${ca} <<\n${haproxy.inUse(ca)}\n`,
        `commit ssl ca-file ${ca}\n`,
      ]) {
        const address = { path: haproxy.path };
        await askHaproxy(command, { address, timeoutMs: 5_000, clock: systemClock }, signal);
      }
      await expectRejection('haproxy_config_unusable', feed.publish(second, signal));
      assert.equal(feed.consumers()[0]?.loaded, null);
      assert.equal(serialOf(haproxy.inUse(path)), serialOfSnapshot(second), 'it shows the new one');
      assert.equal(serialOf(haproxy.presented(path)), serialOfSnapshot(first), 'and presents the old one');
    });
  });

  it('leaves no transaction open when HAProxy refuses the commit', async (t) => {
    const { feed, haproxy } = await start(t);
    haproxy.fault = (command) => (command.startsWith('commit ssl cert') ? "no\nCan't commit!\n\n" : null);
    await expectRejection('haproxy_refused', feed.publish(first, signal));
    assert.ok(haproxy.commands.some((command) => command.startsWith('abort ssl cert')));
  });

  describe('never leaves an expired certificate in use', () => {
    for (const [name, refuses] of [
      ['refuses the next one', (command: string) => command.startsWith('set ssl cert')],
      ['refuses to commit the next one', (command: string) => command.startsWith('commit ssl cert')],
    ] as const) {
      it(`where HAProxy ${name}: the placeholder takes its place at the end of the one in use`, async (t) => {
        const { feed, haproxy, clock, path } = await start(t);
        await feed.publish(first, signal);
        let isRefusing = true;
        haproxy.fault = (command) => (isRefusing && refuses(command) ? "no\nCan't update!\n\n" : null);
        await expectRejection('haproxy_refused', feed.publish(second, signal));
        await clock.advance(HOUR_MS - 60_000);
        assert.equal(serialOf(haproxy.inUse(path)), serialOfSnapshot(first), 'until then it stays');
        // The placeholder is small: what refuses the next one for its size takes that.
        isRefusing = false;
        haproxy.fault = (command) => {
          const isNext = haproxy.commands.filter((c) => c.startsWith('set ssl cert')).length % 2 === 0;
          return refuses(command) && isNext ? "no\nCan't update!\n\n" : null;
        };
        await clock.advance(120_000);
        await advanceUntil(clock, 500, () => serialOf(haproxy.inUse(path)) !== serialOfSnapshot(first));
      });
    }

    it('where the next one is larger than HAProxy takes a command', async (t) => {
      const { feed, haproxy, clock, path } = await start(t, { maxCommandBytes: 3_000 });
      await feed.publish(first, signal);
      const large = {
        ...second,
        svid: { ...second.svid, chain: [...second.svid.chain, ...second.svid.chain, ...second.svid.chain] },
      };
      await expectRejection('haproxy_payload_too_large', feed.publish(large, signal));
      await clock.advance(HOUR_MS - 60_000);
      assert.equal(serialOf(haproxy.inUse(path)), serialOfSnapshot(first), 'until then it stays');
      await clock.advance(120_000);
      await advanceUntil(
        clock,
        500,
        () => new X509Certificate(haproxy.inUse(path)).subject === 'CN=kedge: no identity',
      );
      assert.equal(feed.consumers()[0]?.loaded, null);
      assert.equal(feed.consumers()[0]?.errorCode, 'haproxy_payload_too_large');
      await feed.publish({ ...second, generation: 3 }, signal);
      assert.equal(serialOf(haproxy.inUse(path)), serialOfSnapshot(second));
    });
  });

  describe('over files that an earlier agent left', () => {
    it('leaves them, and the HAProxy that has them, alone while they are good', async (t) => {
      const { feed, haproxy, folder, path } = await start(t);
      await feed.publish(first, signal);
      await feed.close();
      const again = await open(folder, [haproxy.path]);
      t.after(() => again.close());
      await settle();
      assert.equal(serialOf(onDisk(folder)), serialOfSnapshot(first));
      assert.equal(serialOf(haproxy.inUse(path)), serialOfSnapshot(first));
    });

    for (const [when, startAt] of [
      ['expired before it started', 2 * HOUR_MS],
      ['expire while it runs', HOUR_MS - 5_000],
    ] as const) {
      it(`puts the placeholder into the files and into the running HAProxy when they ${when}`, async (t) => {
        const { feed, haproxy, folder, path } = await start(t);
        await feed.publish(first, signal);
        await feed.close();
        const clock = new ManualClock(NOW_MS + startAt);
        const again = await open(folder, [haproxy.path], { clock });
        t.after(() => again.close());
        await advanceUntil(clock, 1_000, () => serialOf(haproxy.inUse(path)) !== serialOfSnapshot(first));
        assert.equal(new X509Certificate(haproxy.inUse(path)).subject, 'CN=kedge: no identity');
        assert.equal(new X509Certificate(onDisk(folder)).subject, 'CN=kedge: no identity');
      });
    }

    it('never puts the placeholder over what is published in the moment in which they expire', async (t) => {
      for (let i = 0; i < 10; i += 1) {
        const { feed, haproxy, folder } = await start(t);
        await feed.publish(first, signal);
        await feed.close();
        const clock = new ManualClock(first.svid.notAfterMs - 1);
        const again = await open(folder, [haproxy.path], { clock });
        t.after(() => again.close());
        const expiring = clock.advance(i % 3);
        await again.publish(second, signal);
        await expiring;
        assert.equal(serialOf(onDisk(folder)), serialOfSnapshot(second));
      }
    });
  });

  const fakes: FakeHaproxy[] = [];
  after(() => Promise.all(fakes.map((fake) => fake.close())));
  feedConformance('HaproxyFeed', async () => {
    const folder = newFolder();
    const feed = await open(folder, [`${folder}.sock`]);
    const haproxy = await FakeHaproxy.start(`${folder}.sock`, loaded(folder));
    fakes.push(haproxy);
    const path = join(folder, HAPROXY_FILE_NAMES.certificate);
    const leafInUse = (): X509Certificate => new X509Certificate(haproxy.inUse(path));
    const isIdentity = (): boolean => leafInUse().subject !== 'CN=kedge: no identity';
    return {
      feed,
      servedSerial: async () => (isIdentity() ? leafInUse().serialNumber.toLowerCase() : null),
      isConsistent: async () => {
        const { createPrivateKey } = await import('node:crypto');
        return leafInUse().checkPrivateKey(createPrivateKey(haproxy.inUse(path)));
      },
    };
  });
});
