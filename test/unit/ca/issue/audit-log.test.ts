import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { AuditLog, type AuditLogOptions, AuditReceipt } from '../../../../ca/issue/audit-log.ts';
import { STALL_MS } from '../../../../ca/issue/audit-health.ts';
import { formatHeadFile, HEAD_FILE, segmentName } from '../../../../ca/issue/audit-line.ts';
import { auditEntry, type AuditEntry } from '../../../../ca/issue/audit-record.ts';
import { verifyAuditLog } from '../../../../ca/issue/audit-verify.ts';
import { jsonLog, silentLog } from '../../../../host/log.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import {
  type AuditOperation,
  type FaultKind,
  MemoryAuditFolder,
} from '../../../support/memory-audit-folder.ts';
import { checkAsyncProperty } from '../../../support/property.ts';

const FIRST_SEGMENT = segmentName(1);

function openLog(folder: MemoryAuditFolder, options: Partial<AuditLogOptions> = {}): Promise<AuditLog> {
  return AuditLog.open({ folder, clock: new ManualClock(), log: silentLog, ...options });
}

function entry(n: number): AuditEntry {
  return auditEntry('policy.loaded', Date.UTC(2026, 0, 1), { n });
}

function numbersOf(folder: MemoryAuditFolder): unknown[] {
  return folder.records().flatMap((record) => (record.event === 'policy.loaded' ? [record['n']] : []));
}

describe('the audit log', () => {
  it('begins with audit.opened, and each line carries the digest of the one before', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    const receipts = await log.append([entry(1), entry(2)]);
    assert.deepEqual(
      folder.records().map(({ seq, event }) => [seq, event]),
      [
        [1, 'audit.opened'],
        [2, 'policy.loaded'],
        [3, 'policy.loaded'],
      ],
    );
    const verified = await verifyAuditLog(folder);
    assert.equal(verified.brokenAt, null);
    assert.deepEqual(verified.head, log.head);
    assert.deepEqual(receipts.at(-1)?.head, log.head);
  });

  it('gives its lines to whoever wants a copy, once they are durable and never before', async () => {
    const folder = new MemoryAuditFolder();
    const copied: string[] = [];
    const log = await openLog(folder, {
      onLines: (lines) => void copied.push(Buffer.from(lines).toString()),
    });
    await log.append([entry(1), entry(2)]);
    const gate = Promise.withResolvers<void>();
    folder.gate = gate.promise;
    const before = copied.join('');
    const appended = log.append([entry(3)]);
    await settle();
    assert.equal(copied.join(''), before);
    gate.resolve();
    await appended;
    const events = copied
      .join('')
      .split('\n')
      .slice(0, -1)
      .map((line) => (JSON.parse(line) as { seq: number }).seq);
    assert.deepEqual(
      events,
      folder.records().map(({ seq }) => seq),
    );
  });

  it('gives a receipt only after the sync', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    await log.append([entry(0)]);
    const gate = Promise.withResolvers<void>();
    folder.gate = gate.promise;
    let receipts: readonly AuditReceipt[] | null = null;
    const appended = log.append([entry(1)]).then((given) => (receipts = given));
    await settle();
    assert.deepEqual(numbersOf(folder), [0, 1], 'the line is written');
    assert.equal(receipts, null, 'but nobody was told');
    assert.equal(log.head.seq, 2);
    gate.resolve();
    await appended;
    assert.equal(log.head.seq, 3);
  });

  it('covers everything that waits with one write and one sync', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    await log.append([entry(0)]);
    const gate = Promise.withResolvers<void>();
    folder.gate = gate.promise;
    const first = log.append([entry(1)]);
    await settle();
    const later = Array.from({ length: 50 }, (_, n) => log.append([entry(2 + n)]));
    log.note(entry(52));
    const before = { ...folder.counts };
    gate.resolve();
    await Promise.all([first, ...later]);
    await log.close();
    const headWrites = 2;
    assert.equal(
      folder.counts.datasync - before.datasync,
      2,
      'one for the commit under way, one for all others',
    );
    assert.ok(folder.counts.write - before.write <= 1 + headWrites);
    assert.deepEqual(
      numbersOf(folder),
      Array.from({ length: 53 }, (_, n) => n),
    );
  });

  it('goes on in a new segment when one is full, and the chain with it', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder, { segmentBytes: 450 });
    for (let n = 0; n < 10; n += 1) await log.append([entry(n)]);
    await log.close();
    const segments = [...folder.files.keys()].filter((name) => name !== HEAD_FILE);
    assert.ok(segments.length > 3, `${segments.length} segments`);
    const again = await openLog(folder, { segmentBytes: 450 });
    await again.append([entry(10)]);
    const verified = await verifyAuditLog(folder);
    assert.equal(verified.brokenAt, null);
    assert.equal(verified.records, 13);
    assert.deepEqual(numbersOf(folder), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  const faults: readonly { name: string; fault: [AuditOperation, FaultKind]; during?: 'rolling' }[] = [
    { name: 'the file cannot be opened', fault: ['open', 'lost'], during: 'rolling' },
    {
      name: 'the new file was made, but reported as failed',
      fault: ['open', 'persisted'],
      during: 'rolling',
    },
    { name: 'the name of a new segment cannot be synced', fault: ['sync', 'lost'], during: 'rolling' },
    { name: 'a write failed and left nothing', fault: ['write', 'lost'] },
    { name: 'a write failed and left a part', fault: ['write', 'partial'] },
    { name: 'everything was written, but reported as failed', fault: ['write', 'persisted'] },
    { name: 'a write to a new segment left a part', fault: ['write', 'partial'], during: 'rolling' },
    { name: 'the sync failed', fault: ['datasync', 'lost'] },
    { name: 'the sync happened, but was reported as failed', fault: ['datasync', 'persisted'] },
    { name: 'the sync of a new segment failed', fault: ['datasync', 'lost'], during: 'rolling' },
  ];
  for (const { name, fault, during } of faults) {
    it(`refuses what it could not commit, and recovers by itself: ${name}`, async () => {
      const folder = new MemoryAuditFolder();
      const segmentBytes = during === 'rolling' ? 300 : 1_000_000;
      const log = await openLog(folder, { segmentBytes });
      await log.append([entry(0), entry(1)]);
      await settle();
      folder.failNext(...fault);
      await assert.rejects(log.append([entry(2), entry(3)]), (error) =>
        isKedgeError(error, 'audit_unavailable'),
      );
      assert.equal(log.available, false);
      const [receipt] = await log.append([entry(4)]);
      assert.equal(log.available, true);
      assert.deepEqual(numbersOf(folder), [0, 1, 4], 'what was refused left no trace');
      const recovered = folder.records().find((record) => record.event === 'audit.recovered');
      assert.equal(recovered?.['refused_records'], 2);
      await log.close();
      const verified = await verifyAuditLog(folder);
      assert.equal(verified.brokenAt, null);
      assert.deepEqual(verified.head, receipt?.head);
      await openLog(folder, { segmentBytes });
    });
  }

  it('says what to do about a full disk, and stays refusing for as long as it is full', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    await log.append([entry(0)]);
    await settle();
    for (let n = 0; n < 5; n += 1) {
      folder.failNext('write', 'partial', 'ENOSPC');
      await assert.rejects(log.append([entry(99)]), (error) => {
        assert.ok(isKedgeError(error, 'audit_unavailable'));
        assert.match(error.message, /ENOSPC/);
        assert.match(error.hint ?? '', /free some room/);
        return true;
      });
    }
    await log.append([entry(1)]);
    assert.deepEqual(numbersOf(folder), [0, 1]);
    const [recovered] = folder.records().filter((record) => record.event === 'audit.recovered');
    assert.equal(recovered?.['refused_records'], 5);
    assert.match(String(recovered?.['reason']), /ENOSPC/);
  });

  it('recovers without being asked: a CA that is not ready gets no requests', async () => {
    const folder = new MemoryAuditFolder();
    const clock = new ManualClock();
    const log = await openLog(folder, { clock });
    await log.append([entry(0)]);
    await settle();
    for (let n = 0; n < 3; n += 1) folder.failNext('write', 'lost', 'ENOSPC');
    await assert.rejects(log.append([entry(1)]));
    for (let n = 0; n < 3; n += 1) {
      assert.equal(log.available, false);
      await clock.advance(1_000);
    }
    assert.equal(log.available, true);
    await clock.advance(1_000);
    assert.equal(clock.sleeping, 0, 'then it rests');
    assert.equal(folder.records().at(-1)?.event, 'audit.recovered');
    folder.failNext('write');
    await assert.rejects(log.append([entry(2)]));
    await settle();
    await log.close();
    assert.equal(clock.sleeping, 0, 'and it ends with the log');
  });

  it('is not available while a commit hangs', async () => {
    const folder = new MemoryAuditFolder();
    const clock = new ManualClock();
    const log = await openLog(folder, { clock });
    await log.append([entry(0)]);
    const gate = Promise.withResolvers<void>();
    folder.gate = gate.promise;
    const appended = log.append([entry(1)]);
    await clock.advance(STALL_MS);
    assert.equal(log.available, true);
    await clock.advance(1);
    assert.equal(log.available, false);
    gate.resolve();
    await appended;
    assert.equal(log.available, true);
  });

  it('stays refusing when the file was changed by another hand meanwhile', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    await log.append([entry(0)]);
    await settle();
    folder.failNext('datasync');
    await assert.rejects(log.append([entry(1)]));
    const content = folder.files.get(FIRST_SEGMENT);
    assert.ok(content);
    content[content.indexOf('policy')] = 0x71;
    await assert.rejects(log.append([entry(2)]), /does not end with line|in audit-|says that line/);
    folder.files.set(FIRST_SEGMENT, content.subarray(0, 10));
    await assert.rejects(log.append([entry(2)]), /was cut short/);
  });

  it('cuts off and records a last line that a crash cut short, wherever it did', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    await log.append([entry(0), entry(1)]);
    await log.close();
    const whole = folder.files.get(FIRST_SEGMENT);
    assert.ok(whole);
    const lastLine = whole.lastIndexOf(0x0a, whole.length - 2) + 1;
    for (let end = lastLine + 1; end < whole.length; end += 1) {
      const torn = new MemoryAuditFolder();
      torn.files.set(FIRST_SEGMENT, Buffer.from(whole.subarray(0, end)));
      const reopened = await openLog(torn);
      await reopened.append([entry(7)]);
      assert.deepEqual(numbersOf(torn), [0, 7]);
      const [record] = torn.records().filter(({ event }) => event === 'audit.recovered');
      assert.equal(record?.['torn_bytes'], end - lastLine);
      assert.equal((await verifyAuditLog(torn)).brokenAt, null);
    }
  });

  const zeroTails: readonly { readonly name: string; readonly partial: number; readonly zeros: number }[] = [
    { name: 'zeros alone', partial: 0, zeros: 4_096 },
    { name: 'a part of a line and zeros', partial: 100, zeros: 3_996 },
    { name: 'the whole line but its newline, and one zero', partial: -1, zeros: 1 },
    { name: 'zeros for more than any line', partial: 20, zeros: 1_000_000 },
  ];
  for (const { name, partial, zeros } of zeroTails) {
    it(`cuts off and records what a file system leaves of a write when the power goes: ${name}`, async () => {
      const folder = new MemoryAuditFolder();
      const log = await openLog(folder);
      await log.append([entry(0), entry(1)]);
      await log.close();
      const whole = folder.files.get(FIRST_SEGMENT)!;
      const lastLine = whole.lastIndexOf(0x0a, whole.length - 2) + 1;
      const kept = whole.subarray(0, partial < 0 ? whole.length + partial : lastLine + partial);
      const torn = new MemoryAuditFolder();
      torn.files.set(FIRST_SEGMENT, Buffer.concat([kept, Buffer.alloc(zeros)]));
      const tornBytes = kept.length - lastLine + zeros;
      const before = await verifyAuditLog(torn);
      assert.deepEqual([before.brokenAt, before.records, before.tornBytes], [null, 2, tornBytes]);
      const lines: string[] = [];
      const ownLog = jsonLog({ level: 'warn', write: (line) => lines.push(line), now: () => 0 });
      const reopened = await openLog(torn, { log: ownLog });
      await reopened.append([entry(7)]);
      assert.deepEqual(numbersOf(torn), [0, 7]);
      const [record] = torn.records().filter(({ event }) => event === 'audit.recovered');
      assert.deepEqual([record?.['torn_bytes'], record?.['zero_bytes']], [tornBytes, zeros]);
      assert.match(lines.join(), /"event":"audit.torn_line"/);
      const after = await verifyAuditLog(torn);
      assert.deepEqual([after.brokenAt, after.tornBytes], [null, 0]);
      assert.ok(!torn.files.get(FIRST_SEGMENT)?.includes(0));
    });
  }

  it('begins anew in a segment of zeros alone, which a crash left before its first line was written', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    await log.append([entry(0)]);
    await log.close();
    folder.files.set(segmentName(3), Buffer.alloc(500_000));
    await (await openLog(folder)).append([entry(1)]);
    assert.equal((await verifyAuditLog(folder)).brokenAt, null);
    assert.deepEqual(numbersOf(folder), [0, 1]);
  });

  it('begins anew in a segment that a crash left empty, or with a part of its first line', async () => {
    for (const rest of ['', '{"seq":3,"ti']) {
      const folder = new MemoryAuditFolder();
      const log = await openLog(folder);
      await log.append([entry(0)]);
      await log.close();
      folder.files.set(segmentName(3), Buffer.from(rest));
      const again = await openLog(folder);
      await again.append([entry(1)]);
      assert.equal((await verifyAuditLog(folder)).brokenAt, null);
      assert.deepEqual(numbersOf(folder), [0, 1]);
    }
  });

  const damage: readonly {
    name: string;
    change: (folder: MemoryAuditFolder) => void;
    wantCode: 'audit_malformed' | 'audit_chain_broken';
  }[] = [
    {
      name: 'a last line that is none of Kedge',
      change: (folder) => append(folder, 'hello\n'),
      wantCode: 'audit_malformed',
    },
    {
      name: 'a last line that is not JSON behind its envelope',
      change: (folder) =>
        append(
          folder,
          `{"seq":5,"time":"2026-01-01T00:00:00.000Z","prev":"${'0'.repeat(64)}","event":"a.b",}\n`,
        ),
      wantCode: 'audit_malformed',
    },
    {
      name: 'more than a line behind the last line',
      change: (folder) => append(folder, 'x'.repeat(40_000)),
      wantCode: 'audit_malformed',
    },
    {
      name: 'zeros before a later line, whole as it is',
      change: (folder) => {
        const content = folder.files.get(FIRST_SEGMENT)!;
        const last = content.lastIndexOf(0x0a, content.length - 2) + 1;
        const parts = [content.subarray(0, last), Buffer.alloc(512), content.subarray(last)];
        folder.files.set(FIRST_SEGMENT, Buffer.concat(parts));
      },
      wantCode: 'audit_malformed',
    },
    {
      name: 'zeros in the place of an earlier line',
      change: (folder) => {
        const content = folder.files.get(FIRST_SEGMENT)!;
        const last = content.lastIndexOf(0x0a, content.length - 2) + 1;
        const before = content.lastIndexOf(0x0a, last - 2) + 1;
        content.fill(0, before, last - 1);
      },
      wantCode: 'audit_malformed',
    },
    {
      name: 'zeros in the place of the last line, which was committed',
      change: (folder) => {
        const content = folder.files.get(FIRST_SEGMENT)!;
        content.fill(0, content.lastIndexOf(0x0a, content.length - 2) + 1);
      },
      wantCode: 'audit_chain_broken',
    },
    {
      name: 'zeros at the end of a segment that is not the last',
      change: (folder) => {
        const content = folder.files.get(FIRST_SEGMENT)!;
        folder.files.set(FIRST_SEGMENT, Buffer.concat([content, Buffer.alloc(4_096)]));
        folder.files.set(segmentName(5), Buffer.alloc(0));
      },
      wantCode: 'audit_chain_broken',
    },
    {
      name: 'an altered line near the end',
      change: (folder) => {
        const content = folder.files.get(FIRST_SEGMENT)!;
        content[content.indexOf('"n":0') + 4] = 0x39;
      },
      wantCode: 'audit_chain_broken',
    },
    {
      name: 'an altered last line',
      change: (folder) => {
        const content = folder.files.get(FIRST_SEGMENT)!;
        content[content.lastIndexOf('"n":') + 4] = 0x39;
      },
      wantCode: 'audit_chain_broken',
    },
    {
      name: 'a last line that was removed',
      change: (folder) => {
        const content = folder.files.get(FIRST_SEGMENT)!;
        const end = content.lastIndexOf(0x0a, content.length - 2) + 1;
        folder.files.set(FIRST_SEGMENT, content.subarray(0, end));
      },
      wantCode: 'audit_chain_broken',
    },
    {
      name: 'a log that was removed as a whole, but for audit.head',
      change: (folder) => folder.files.delete(FIRST_SEGMENT),
      wantCode: 'audit_chain_broken',
    },
    {
      name: 'a segment that does not follow the one before',
      change: (folder) => folder.files.set(segmentName(9), Buffer.alloc(0)),
      wantCode: 'audit_chain_broken',
    },
  ];
  for (const { name, change, wantCode } of damage) {
    it(`does not open with ${name}`, async () => {
      const folder = new MemoryAuditFolder();
      const log = await openLog(folder);
      await log.append([entry(0), entry(1), entry(2)]);
      await log.close();
      change(folder);
      await assert.rejects(openLog(folder), (error) => {
        assert.ok(isKedgeError(error, wantCode), String(error));
        assert.match(error.hint ?? '', /kedge audit verify/);
        return true;
      });
    });
  }

  it('opens when audit.head is missing, unreadable, or behind the log', async () => {
    for (const head of [null, 'rubbish', formatHeadFile({ seq: 1, hash: 'a'.repeat(64) })]) {
      const folder = new MemoryAuditFolder();
      const log = await openLog(folder);
      await log.append([entry(0)]);
      await log.close();
      if (head === null) folder.files.delete(HEAD_FILE);
      else folder.files.set(HEAD_FILE, Buffer.from(head));
      await (await openLog(folder)).append([entry(1)]);
      assert.deepEqual(numbersOf(folder), [0, 1]);
    }
  });

  it('reads only the end of a long log when it opens', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    for (let n = 0; n < 20; n += 1) await log.append(Array.from({ length: 500 }, (_, k) => entry(k)));
    await log.close();
    assert.ok((folder.files.get(FIRST_SEGMENT)?.length ?? 0) > 1_000_000);
    folder.bytesRead = 0;
    const again = await openLog(folder);
    assert.ok(folder.bytesRead < 200_000, `${folder.bytesRead} bytes were read`);
    await again.append([entry(0)]);
    assert.equal((await verifyAuditLog(folder)).brokenAt, null);
  });

  it('refuses more than it may hold, keeps half of the room from notes, and counts those it dropped', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder, { maxPendingRecords: 10 });
    await log.append([entry(0)]);
    const gate = Promise.withResolvers<void>();
    folder.gate = gate.promise;
    const first = log.append([entry(1)]);
    await settle();
    for (let n = 0; n < 8; n += 1) log.note(entry(10 + n));
    const fits = log.append(Array.from({ length: 5 }, (_, n) => entry(20 + n)));
    await assert.rejects(log.append([entry(30)]), (error) => isKedgeError(error, 'audit_unavailable'));
    gate.resolve();
    await Promise.all([first, fits]);
    assert.deepEqual(numbersOf(folder), [0, 1, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24]);
    const [recovered] = folder.records().filter(({ event }) => event === 'audit.recovered');
    assert.equal(recovered?.['refused_records'], 3);
    assert.equal(recovered?.['reason'], 'overload');
  });

  it('refuses an entry that is too long for a line, and nothing else with it', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    const long = auditEntry('policy.loaded', 0, {
      list: Array.from({ length: 100 }, () => 'x'.repeat(2000)),
    });
    await assert.rejects(log.append([long]), (error) => isKedgeError(error, 'internal'));
    await log.append([entry(0)]);
    assert.deepEqual(numbersOf(folder), [0]);
  });

  it('refuses everything once closed, and has committed what came before', async () => {
    const folder = new MemoryAuditFolder();
    const log = await openLog(folder);
    const pending = log.append([entry(0)]);
    await log.close();
    await pending;
    await assert.rejects(log.append([entry(1)]), (error) => isKedgeError(error, 'shutting_down'));
    log.note(entry(2));
    await settle();
    assert.deepEqual(numbersOf(folder), [0]);
  });

  it('gives receipts that cover their own entry only, and lets nobody else make one', async () => {
    const log = await openLog(new MemoryAuditFolder());
    const [one, two] = [entry(1), entry(1)];
    const [receipt] = await log.append([one]);
    assert.equal(receipt?.covers(one), true);
    assert.equal(receipt?.covers(two), false);
    assert.throws(
      () => new AuditReceipt(Symbol('receipt') as never, one, log.head),
      /only the audit log makes receipts/,
    );
  });

  it('never loses what it gave a receipt for, through any faults and crashes (property)', async () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({ kind: fc.constant('append' as const), count: fc.integer({ min: 1, max: 4 }) }),
      },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('fault' as const),
          operation: fc.constantFrom<AuditOperation>('open', 'write', 'datasync', 'truncate', 'sync'),
          fault: fc.constantFrom<FaultKind>('lost', 'partial', 'persisted'),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('crash' as const),
          share: fc.double({ min: 0, max: 1, noNaN: true }),
          rest: fc.constantFrom('cut' as const, 'zeros' as const),
        }),
      },
    );
    await checkAsyncProperty(
      fc.asyncProperty(
        fc.array(step, { maxLength: 25 }),
        fc.integer({ min: 200, max: 2000 }),
        async (steps, segmentBytes) => {
          let folder = new MemoryAuditFolder();
          let log = await openLog(folder, { segmentBytes });
          const acknowledged: number[] = [];
          let next = 0;
          for (const one of steps) {
            if (one.kind === 'append') {
              const numbers = Array.from({ length: one.count }, () => next++);
              await log.append(numbers.map(entry)).then(
                () => acknowledged.push(...numbers),
                (error: unknown) => assert.ok(isKedgeError(error, 'audit_unavailable'), String(error)),
              );
            } else if (one.kind === 'fault') {
              folder.failNext(one.operation, one.fault);
            } else {
              folder = folder.afterCrash(one.share, one.rest);
              log = await openLog(folder, { segmentBytes });
            }
          }
          folder.faults = [];
          await log.append([entry(-1)]);
          const found = numbersOf(folder) as number[];
          assert.deepEqual(
            found.filter((n) => acknowledged.includes(n)),
            acknowledged,
          );
          assert.equal(new Set(found).size, found.length, 'nothing is there twice');
          assert.equal((await verifyAuditLog(folder)).brokenAt, null);
        },
      ),
      150,
    );
  });
});

function append(folder: MemoryAuditFolder, text: string): void {
  const content = folder.files.get(FIRST_SEGMENT)!;
  folder.files.set(FIRST_SEGMENT, Buffer.concat([content, Buffer.from(text)]));
}
