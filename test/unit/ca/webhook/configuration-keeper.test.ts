import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { webhooks, withCaBundle } from '../../../../ca/inject/webhook-configuration.ts';
import { ConfigurationKeeper } from '../../../../ca/webhook/configuration-keeper.ts';
import { jsonLog } from '../../../../host/log.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { encodePem } from '../../../../pki/pem.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { OneObject } from '../../../fakes/one-object.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const WANTED = webhooks({
  target: { kind: 'service', namespace: 'kedge', name: 'kedge-ca', port: 443 },
  failurePolicy: 'Fail',
  timeoutSeconds: 5,
  ownNamespace: 'kedge',
});
const [A, B] = [1, 2].map((n) => encodePem('CERTIFICATE', Uint8Array.of(0x30, 1, n))) as [string, string];

async function keeping(t: TestContext, server: OneObject, clock = new ManualClock()) {
  const world = { anchors: A };
  const log: string[] = [];
  const current: boolean[] = [];
  const keeper = new ConfigurationKeeper({
    api: server,
    name: 'kedge',
    webhooks: WANTED,
    anchorsPem: () => world.anchors,
    onCurrent: (now) => void current.push(now),
    onTrusted: () => {},

    onWrite: () => {},
    clock,
    random: fixedRandom(0.5),
    log: jsonLog({ level: 'info', now: () => 0, write: (line) => void log.push(line) }),
  });
  const stop = new AbortController();
  const running = keeper.run(stop.signal);
  t.after(async () => {
    stop.abort();
    await running;
  });
  await settle();
  /** Lets so much time pass in small steps, for loops that sleep again. */
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 250) {
      await clock.advance(Math.min(250, left));
      await settle();
    }
  };
  return { keeper, world, log, current, pass, clock };
}

const bundleIn = ({ object }: OneObject): string => {
  assert.ok(object !== null);
  const [hook] = object['webhooks'] as { clientConfig: { caBundle: string } }[];
  return atob(hook?.clientConfig.caBundle ?? '');
};

describe('the MutatingWebhookConfiguration', () => {
  it('gets the trust anchors when it was just installed, and keeps what others wrote', async (t) => {
    const server = new OneObject();
    server.set(WANTED);
    const { pass, keeper, current } = await keeping(t, server);
    await pass(1_000);
    assert.equal(bundleIn(server), A);
    assert.equal(server.writes.length, 1);
    assert.deepEqual(server.writes[0]?.metadata?.['labels'], { theirs: 'stays' });
    assert.equal(keeper.isCurrent, true);
    assert.deepEqual(current, [true]);
  });

  it('follows each change of the trust bundle', async (t) => {
    const server = new OneObject();
    server.set(withCaBundle(WANTED, A));
    const { pass, keeper, world, current } = await keeping(t, server);
    await pass(1_000);
    assert.equal(server.writes.length, 0);
    world.anchors = A + B;
    keeper.trustChanged();
    await pass(1_000);
    assert.equal(bundleIn(server), A + B);
    assert.deepEqual(current, [true, false, true]);
  });

  it('is repaired when somebody edits it, and more slowly each time that it is edited again', async (t) => {
    const server = new OneObject();
    server.set(withCaBundle(WANTED, A));
    const { pass } = await keeping(t, server);
    for (let i = 0; i < 4; i += 1) {
      server.set([]);
      await pass(1_000);
    }
    const fast = server.writes.length;
    assert.ok(fast >= 1 && fast <= 3, `${fast} writes in 4 s`);
    await pass(120_000);
    assert.equal(bundleIn(server), A);
    await pass(600_000);
    const before = server.writes.length;
    server.set([]);
    await pass(1_000);
    assert.equal(server.writes.length, before + 1, 'after a calm it is repaired at once');
  });

  it('does not lose an anchor in a hurry that another replica may have read of first', async (t) => {
    const server = new OneObject();
    server.set(withCaBundle(WANTED, A + B));
    const { pass, keeper, world } = await keeping(t, server);
    await pass(8_000);
    assert.equal(server.writes.length, 0);
    world.anchors = A + B;
    keeper.trustChanged();
    await pass(60_000);
    assert.equal(server.writes.length, 0, 'the news came here too');
    world.anchors = B;
    keeper.trustChanged();
    await pass(12_000);
    assert.equal(bundleIn(server), B, 'an anchor that was removed goes after a while');
  });

  it('is written by one of many replicas', async (t) => {
    const server = new OneObject();
    const clock = new ManualClock();
    server.set([]);
    const [one] = await Promise.all([0, 1, 2].map(() => keeping(t, server, clock)));
    await one?.pass(5_000);
    assert.equal(server.writes.length, 1);
  });

  for (const done of [false, true]) {
    it(`is right in the end when a write fails, ${done ? 'carried out all the same' : 'not carried out'}`, async (t) => {
      const server = new OneObject();
      server.set([]);
      server.faults.push({ error: new KedgeError('kubernetes_unreachable', 'cut'), done });
      const { pass, keeper, log } = await keeping(t, server);
      await pass(60_000);
      assert.equal(bundleIn(server), A);
      assert.equal(keeper.isCurrent, true);
      assert.match(log.join(''), /webhook_configuration\.failed/);
    });
  }

  it('is waited for where it is not installed, and said so once', async (t) => {
    const server = new OneObject();
    const { pass, log, keeper } = await keeping(t, server);
    await pass(2_000_000);
    assert.equal(log.filter((line) => line.includes('webhook_configuration.missing')).length, 1);
    server.set([]);
    await pass(1_000);
    assert.equal(keeper.isCurrent, true);
    server.remove();
    await pass(1_000);
    assert.equal(keeper.isCurrent, false);
    assert.equal(log.filter((line) => line.includes('webhook_configuration.missing')).length, 2);
  });
});
