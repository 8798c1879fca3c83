import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { AuditLog } from '../../../../ca/issue/audit-log.ts';
import { MAX_NAMED, suppressedCount, SuppressedRefusals } from '../../../../ca/issue/audit-suppressed.ts';
import { verifyAuditLog } from '../../../../ca/issue/audit-verify.ts';
import {
  ATTESTED,
  type Refusal,
  RefusalLog,
  SUMMARY_INTERVAL_MS,
  UNATTESTED,
} from '../../../../ca/issue/refusal.ts';
import { RefusalBudget } from '../../../../ca/issue/refusal-budget.ts';
import { jsonLog } from '../../../../host/log.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { countedMetrics, instanceOf, START_MS } from '../../../support/issuing.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import { MemoryAuditFolder } from '../../../support/memory-audit-folder.ts';
import { checkProperty } from '../../../support/property.ts';

const PEER = '192.0.2.7';
const noToken = (address = PEER): Refusal => ({
  api: 'kedge.v1',
  error: new KedgeError('token_missing', 'the call has no bearer token'),
  peer: { address },
});
const denied = (number: number): Refusal => ({
  event: 'watch.refused',
  api: 'kedge.v1',
  error: new KedgeError('identity_denied', 'the policy denies this identity'),
  instance: instanceOf(number),
  peer: { address: PEER },
});

async function setup() {
  const clock = new ManualClock(START_MS);
  const folder = new MemoryAuditFolder();
  const lines: string[] = [];
  const log = jsonLog({ level: 'warn', write: (line) => lines.push(line), now: () => 0 });
  const audit = await AuditLog.open({ folder, clock, log });
  const metrics = countedMetrics();
  const refusals = new RefusalLog({ audit, metrics, clock, log });
  const eventsOf = (): string[] =>
    folder
      .records()
      .map(({ event }) => event)
      .filter((event) => !event.startsWith('audit.'));
  const summaries = (): Record<string, unknown>[] =>
    folder.records().filter(({ event }) => event === 'refusals.suppressed');
  /** Refusals that the log tells: one for each line, and what the summaries count. */
  const told = (): number =>
    eventsOf().filter((event) => event.endsWith('.refused')).length +
    summaries().reduce((sum, { refused }) => sum + Number(refused), 0);
  return { clock, folder, audit, metrics, refusals, lines, eventsOf, summaries, told };
}

const repeat = (times: number, action: (n: number) => void): void => {
  for (let n = 0; n < times; n += 1) action(n);
};

describe('refusals on the audit log', () => {
  it('have a line each while they are few', async () => {
    const { refusals, eventsOf, folder, metrics } = await setup();
    refusals.record(noToken());
    refusals.record(denied(1));
    refusals.record({ api: 'internal', error: new TypeError('secret detail') });
    await settle();
    assert.deepEqual(eventsOf(), ['svid.refused', 'watch.refused', 'svid.refused']);
    assert.deepEqual(metrics.refusals, ['token_missing', 'identity_denied', 'internal']);
    assert.equal(folder.lines().join('').includes('secret'), false);
  });

  it('of one peer without a token become one line an interval, and every one is counted', async () => {
    const { refusals, clock, eventsOf, summaries, folder, metrics } = await setup();
    repeat(20_000, () => refusals.record(noToken()));
    await clock.advance(5_000);
    repeat(20_000, () => refusals.record(noToken()));
    await clock.advance(SUMMARY_INTERVAL_MS);
    assert.equal(eventsOf().filter((event) => event === 'svid.refused').length, UNATTESTED.perKey.burst);
    const suppressed = 40_000 - UNATTESTED.perKey.burst;
    const [summary, ...more] = summaries();
    assert.deepEqual(more, []);
    const { seq, prev, time, event, ...fields } = summary ?? {};
    assert.deepEqual(fields, {
      refused: suppressed,
      since: new Date(START_MS).toISOString(),
      until: new Date(START_MS + 5_000).toISOString(),
      events: { 'svid.refused': suppressed },
      codes: { token_missing: suppressed },
      peers: { [PEER]: suppressed },
      other_peers: 0,
      instances: {},
      other_instances: 0,
    });
    assert.deepEqual([typeof seq, typeof prev, event], ['number', 'string', 'refusals.suppressed']);
    assert.equal(time, new Date(START_MS + SUMMARY_INTERVAL_MS).toISOString());
    assert.deepEqual([metrics.refusals.length, metrics.suppressedCount], [40_000, suppressed]);
    const verified = await verifyAuditLog(folder);
    assert.deepEqual([verified.brokenAt, verified.suppressedRefusals], [null, suppressed]);
  });

  it('write a bounded number of bytes a day, from ever new addresses and with the longest messages', async () => {
    const { refusals, clock, folder } = await setup();
    const error = new KedgeError('token_malformed', 'x'.repeat(300));
    const minutes = 20;
    let peer = 0;
    for (let minute = 0; minute < minutes; minute += 1) {
      repeat(2_000, () => {
        peer += 1;
        refusals.record({ api: 'kedge.v1', error, peer: { address: `2001:db8::${peer.toString(16)}` } });
      });
      await clock.advance(60_000);
    }
    const bytes = folder.lines().join('\n').length;
    const lines = UNATTESTED.overall.burst + (minutes * 60_000) / UNATTESTED.overall.intervalMs + minutes;
    assert.ok(folder.lines().length <= lines + 2, `${folder.lines().length} lines, at most ${lines}`);
    assert.ok(bytes / lines < 700, `${bytes} bytes in ${lines} lines`);
  });

  it('of attested instances have room of their own, each, whatever those without a token do', async () => {
    const { refusals, eventsOf, summaries, clock } = await setup();
    repeat(5_000, (n) => refusals.record(noToken(`10.0.${n % 250}.1`)));
    repeat(100, () => refusals.record(denied(1)));
    refusals.record(denied(2));
    refusals.record({ api: 'internal', error: new KedgeError('issuer_unavailable', 'no issuer') });
    await settle();
    const events = eventsOf();
    assert.equal(events.filter((event) => event === 'watch.refused').length, ATTESTED.perKey.burst + 1);
    assert.equal(events.at(-1), 'svid.refused');
    await clock.advance(SUMMARY_INTERVAL_MS);
    const [summary] = summaries();
    assert.deepEqual(summary?.['instances'], { 'uid-1': 100 - ATTESTED.perKey.burst });
    assert.deepEqual(summary?.['events'], {
      'svid.refused': 5_000 - UNATTESTED.overall.burst,
      'watch.refused': 100 - ATTESTED.perKey.burst,
    });
  });

  it('have a line each again once they are few again', async () => {
    const { refusals, clock, eventsOf } = await setup();
    repeat(1_000, () => refusals.record(noToken()));
    await clock.advance(UNATTESTED.perKey.intervalMs * 2);
    const before = eventsOf().length;
    repeat(3, () => refusals.record(noToken()));
    await settle();
    assert.deepEqual(eventsOf().slice(before), ['svid.refused', 'svid.refused']);
  });

  it('rest when there is nothing to sum up', async () => {
    const { refusals, clock, summaries } = await setup();
    repeat(100, () => refusals.record(noToken()));
    await clock.advance(SUMMARY_INTERVAL_MS);
    assert.equal(clock.sleeping, 0);
    await clock.advance(SUMMARY_INTERVAL_MS);
    assert.equal(summaries().length, 1);
    repeat(100, () => refusals.record(noToken()));
    await clock.advance(SUMMARY_INTERVAL_MS);
    assert.equal(summaries().length, 2);
  });

  const faults = [
    { name: 'not persisted', fault: 'lost' },
    { name: 'persisted but reported as failed', fault: 'persisted' },
  ] as const;
  for (const { name, fault } of faults) {
    it(`are summed up in the next summary where one could not be written: ${name}`, async () => {
      const { refusals, clock, folder, summaries, told } = await setup();
      repeat(500, () => refusals.record(noToken()));
      await settle();
      folder.failNext('datasync', fault);
      await clock.advance(SUMMARY_INTERVAL_MS);
      refusals.record(noToken());
      repeat(100, () => refusals.record(noToken()));
      await clock.advance(SUMMARY_INTERVAL_MS);
      assert.equal(summaries().length, 1);
      assert.equal(told(), 601);
      assert.equal((await verifyAuditLog(folder)).brokenAt, null);
    });
  }

  it('are all told when the CA ends, the last ones too', async () => {
    const { refusals, audit, clock, folder, told } = await setup();
    repeat(500, () => refusals.record(noToken()));
    await refusals.close();
    await refusals.close();
    await audit.close();
    assert.equal(told(), 500);
    assert.equal(clock.sleeping, 0);
    assert.equal((await verifyAuditLog(folder)).brokenAt, null);
  });

  it('that cannot be told when the CA ends are a line of its log', async () => {
    const { refusals, folder, lines } = await setup();
    repeat(500, () => refusals.record(noToken()));
    await settle();
    folder.failNext('datasync');
    await refusals.close();
    assert.match(lines.at(-1) ?? '', /"event":"audit.summary_lost".*"refused":490/);
  });
});

describe('a summary of refusals', () => {
  it('names so many peers and instances, counts the others, and fits into a line', () => {
    const summary = new SuppressedRefusals();
    repeat(1_000, (n) =>
      summary.add({
        timeMs: n,
        event: 'watch.refused',
        code: 'identity_denied',
        peerAddress: `2001:db8:ffff:ffff:ffff:ffff:ffff:${n.toString(16)}`,
        podUid: `${n}${'\u{1f4a3}'.repeat(512)}`,
      }),
    );
    const { json } = summary.entry(0);
    assert.ok(json.length < LIMITS.auditLineBytes - 512, `${json.length} bytes`);
    const record = JSON.parse(`{"x":0${json}}`) as Record<string, object>;
    assert.equal(Object.keys(record['peers'] ?? {}).length, MAX_NAMED.peers);
    assert.equal(record['other_peers'], 1_000 - MAX_NAMED.peers);
    assert.equal(Object.keys(record['instances'] ?? {}).length, MAX_NAMED.instances);
    assert.equal(record['other_instances'], 1_000 - MAX_NAMED.instances);
  });

  it('adds up however its refusals were gathered (property)', () => {
    const refusal = fc.record({
      timeMs: fc.integer({ min: 0, max: 1_000 }),
      event: fc.constantFrom('svid.refused', 'watch.refused'),
      code: fc.constantFrom('token_missing', 'token_expired', 'identity_denied'),
      peerAddress: fc.option(fc.integer({ min: 0, max: 60 }).map((n) => `10.0.0.${n}`)),
      podUid: fc.option(fc.integer({ min: 0, max: 40 }).map((n) => `uid-${n}`)),
    });
    const some = fc.array(refusal, { minLength: 1, maxLength: 80 });
    checkProperty(
      fc.property(some, some, (first, second) => {
        const [whole, parts, later] = [
          new SuppressedRefusals(),
          new SuppressedRefusals(),
          new SuppressedRefusals(),
        ];
        for (const one of [...first, ...second]) whole.add(one);
        for (const one of first) parts.add(one);
        for (const one of second) later.add(one);
        parts.merge(later);
        assert.deepEqual(parts.entry(0), whole.entry(0));
        const record: unknown = JSON.parse(`{"x":0${whole.entry(0).json}}`);
        assert.equal(suppressedCount(record), first.length + second.length);
      }),
    );
  });

  const good = {
    refused: 3,
    since: '2026-01-01T00:00:00.000Z',
    until: '2026-01-01T00:00:01.000Z',
    events: { 'svid.refused': 3 },
    codes: { token_missing: 2, token_expired: 1 },
  };
  const wrong: readonly { readonly name: string; readonly record: unknown }[] = [
    { name: 'is no object', record: null },
    { name: 'counts nothing', record: { ...good, refused: 0 } },
    { name: 'counts with text', record: { ...good, refused: '3' } },
    { name: 'counts more than its codes', record: { ...good, refused: 4 } },
    { name: 'counts other codes than events', record: { ...good, codes: { token_missing: 2 } } },
    { name: 'has codes that are a list', record: { ...good, codes: [3] } },
    { name: 'has a code less than once', record: { ...good, codes: { a: 4, b: -1 } } },
    { name: 'ends before it begins', record: { ...good, since: good.until, until: good.since } },
    { name: 'does not say when', record: { ...good, since: undefined } },
  ];
  for (const { name, record } of wrong) {
    it(`that ${name} is none`, () => assert.equal(suppressedCount(record), null));
  }

  it('as it was written is one', () => assert.equal(suppressedCount(good), 3));
});

describe('a budget of refusals', () => {
  const RATES = { perKey: { burst: 2, intervalMs: 1_000 }, overall: { burst: 5, intervalMs: 100 } };

  it('gives each key its burst, and then one an interval', async () => {
    const clock = new ManualClock();
    const budget = new RefusalBudget({ ...RATES, maxKeys: 10, clock });
    assert.deepEqual([budget.take('a'), budget.take('a'), budget.take('a')], [true, true, false]);
    assert.equal(budget.take('b'), true);
    await clock.advance(1_000);
    assert.deepEqual([budget.take('a'), budget.take('a')], [true, false]);
    await clock.advance(3_600_000);
    assert.deepEqual([budget.take('a'), budget.take('a'), budget.take('a')], [true, true, false]);
  });

  it('bounds all keys together, also where it had to forget some, and takes nothing from who is refused', async () => {
    const clock = new ManualClock();
    const budget = new RefusalBudget({ ...RATES, maxKeys: 3, clock });
    let taken = 0;
    repeat(100, (n) => (taken += Number(budget.take(`key ${n}`))));
    assert.equal(taken, RATES.overall.burst);
    assert.equal(budget.keys, 3);
    await clock.advance(200);
    assert.deepEqual([budget.take('new'), budget.take('new'), budget.take('new')], [true, true, false]);
  });
});
