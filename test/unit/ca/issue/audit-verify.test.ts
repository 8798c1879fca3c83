import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { fileAuditFolder } from '../../../../ca/issue/audit-folder.ts';
import { formatHead, HEAD_FILE, segmentName } from '../../../../ca/issue/audit-line.ts';
import { AuditLog } from '../../../../ca/issue/audit-log.ts';
import { auditEntry, isoTime, issuedEntry, refusedEntry } from '../../../../ca/issue/audit-record.ts';
import { SuppressedRefusals } from '../../../../ca/issue/audit-suppressed.ts';
import { verifyAuditLog } from '../../../../ca/issue/audit-verify.ts';
import { silentLog } from '../../../../host/log.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { MemoryAuditFolder } from '../../../support/memory-audit-folder.ts';
import { checkAsyncProperty, checkProperty } from '../../../support/property.ts';

/** 12 records in 4 segments or so. */
async function writtenLog(): Promise<MemoryAuditFolder> {
  const folder = new MemoryAuditFolder();
  const log = await AuditLog.open({ folder, clock: new ManualClock(), log: silentLog, segmentBytes: 700 });
  for (let n = 0; n < 11; n += 1) await log.append([auditEntry('policy.loaded', 0, { n })]);
  await log.close();
  return folder;
}

function segments(folder: MemoryAuditFolder): string[] {
  return [...folder.files.keys()].filter((name) => name !== HEAD_FILE).sort();
}

/** Writes `lines` as one segment, with names that fit: what a careful forger without the later lines would do. */
function replaceLines(folder: MemoryAuditFolder, change: (lines: string[]) => string[]): void {
  const lines = change(folder.lines());
  for (const name of segments(folder)) folder.files.delete(name);
  folder.files.set(segmentName(1), Buffer.from(lines.map((line) => `${line}\n`).join('')));
}

describe('verifying an audit log', () => {
  it('finds nothing wrong with a log as it was written', async () => {
    const folder = await writtenLog();
    assert.ok(segments(folder).length >= 3);
    const { records, segments: count, brokenAt, headFile, head, tornBytes } = await verifyAuditLog(folder);
    assert.deepEqual(
      { records, count, brokenAt, headFile, tornBytes, seq: head.seq },
      {
        records: 12,
        count: segments(folder).length,
        brokenAt: null,
        headFile: 'compared',
        tornBytes: 0,
        seq: 12,
      },
    );
  });

  it('finds nothing wrong with a log that was never written', async () => {
    const { records, brokenAt, headFile } = await verifyAuditLog(new MemoryAuditFolder());
    assert.deepEqual({ records, brokenAt, headFile }, { records: 0, brokenAt: null, headFile: 'absent' });
  });

  it('finds any one byte that was altered, anywhere (property)', async () => {
    const original = await writtenLog();
    const names = segments(original);
    await checkAsyncProperty(
      fc.asyncProperty(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 255 }), async (which, where, flip) => {
        const folder = await copyOf(original);
        const content = folder.files.get(names[which % names.length]!)!;
        content[where % content.length]! ^= flip;
        assert.notEqual((await verifyAuditLog(folder)).brokenAt, null);
      }),
      600,
    );
  });

  it('finds lines that were removed, repeated or moved, the last one too (property)', async () => {
    const original = await writtenLog();
    const index = fc.nat({ max: 11 });
    await checkAsyncProperty(
      fc.asyncProperty(fc.constantFrom('remove', 'repeat', 'swap'), index, index, async (kind, a, b) => {
        fc.pre(kind !== 'swap' || a !== b);
        const folder = await copyOf(original);
        replaceLines(folder, (lines) => {
          if (kind === 'remove') return lines.toSpliced(a, 1);
          if (kind === 'repeat') return lines.toSpliced(b, 0, lines[a]!);
          return lines.with(a, lines[b]!).with(b, lines[a]!);
        });
        assert.notEqual((await verifyAuditLog(folder)).brokenAt, null);
      }),
      300,
    );
  });

  const cases: readonly {
    name: string;
    change: (folder: MemoryAuditFolder) => void;
    want: { code: string; segment?: string | null; line?: number | null; reason: RegExp } | null;
  }[] = [
    {
      name: 'the first segment removed',
      change: (folder) => folder.files.delete(segments(folder)[0]!),
      want: { code: 'audit_chain_broken', reason: /line 1 is missing/ },
    },
    {
      name: 'a segment in the middle removed',
      change: (folder) => folder.files.delete(segments(folder)[1]!),
      want: { code: 'audit_chain_broken', reason: /is missing: the segment begins with/ },
    },
    {
      name: 'the last segment removed',
      change: (folder) => folder.files.delete(segments(folder).at(-1)!),
      want: { code: 'audit_chain_broken', segment: null, line: null, reason: /the end was removed/ },
    },
    {
      name: 'all segments removed',
      change: (folder) => segments(folder).forEach((name) => folder.files.delete(name)),
      want: { code: 'audit_chain_broken', segment: null, line: null, reason: /line 12 was committed/ },
    },
    {
      name: 'the last line altered',
      change: (folder) =>
        replaceLines(folder, (lines) => lines.with(11, lines[11]!.replace('"n":10', '"n":11'))),
      want: { code: 'audit_chain_broken', line: 12, reason: /was another line/ },
    },
    {
      name: 'the last line altered, and audit.head removed: nothing inside the folder can tell',
      change: (folder) => {
        folder.files.delete(HEAD_FILE);
        replaceLines(folder, (lines) => lines.with(11, lines[11]!.replace('"n":10', '"n":11')));
      },
      want: null,
    },
    {
      name: 'a segment cut within its last line',
      change: (folder) => {
        const name = segments(folder)[0]!;
        folder.files.set(name, folder.files.get(name)!.subarray(0, -5));
      },
      want: { code: 'audit_malformed', reason: /cut short/ },
    },
    {
      name: 'an empty line',
      change: (folder) => replaceLines(folder, (lines) => lines.toSpliced(3, 0, '')),
      want: { code: 'audit_malformed', line: 4, reason: /not one of Kedge/ },
    },
    {
      name: 'a line without end',
      change: (folder) => folder.files.set(segments(folder).at(-1)!, Buffer.alloc(1_000_000, 'x')),
      want: { code: 'audit_malformed', line: 1, reason: /not one of Kedge/ },
    },
  ];
  for (const { name, change, want } of cases) {
    it(`${want === null ? 'cannot see' : 'names'} ${name}`, async () => {
      const folder = await writtenLog();
      change(folder);
      const { brokenAt } = await verifyAuditLog(folder);
      if (want === null) {
        assert.equal(brokenAt, null);
        return;
      }
      const { reason, ...rest } = want;
      assert.ok(brokenAt !== null);
      assert.match(brokenAt.reason, reason);
      assert.deepEqual({ ...brokenAt, ...rest }, brokenAt);
    });
  }

  it('sees a rewritten log by a head that was noted elsewhere', async () => {
    const original = await writtenLog();
    const noted = formatHead((await verifyAuditLog(original)).head);
    assert.equal((await verifyAuditLog(original, { expectedHead: noted })).brokenAt, null);
    const forged = new MemoryAuditFolder();
    const log = await AuditLog.open({ folder: forged, clock: new ManualClock(), log: silentLog });
    for (let n = 0; n < 20; n += 1) await log.append([auditEntry('policy.loaded', 0, { n: -n })]);
    await log.close();
    assert.equal((await verifyAuditLog(forged)).brokenAt, null, 'by itself it is a good log');
    const { brokenAt } = await verifyAuditLog(forged, { expectedHead: noted });
    assert.match(brokenAt?.reason ?? '', /was another line/);
  });

  it('verifies what is left after older segments were archived, given where they ended', async () => {
    const folder = await writtenLog();
    const [first] = segments(folder);
    const archived = new MemoryAuditFolder();
    archived.files.set(first!, folder.files.get(first!)!);
    folder.files.delete(first!);
    const { head } = await verifyAuditLog(archived);
    const rest = await verifyAuditLog(folder, { after: formatHead(head) });
    assert.equal(rest.brokenAt, null);
    assert.equal(rest.records, 12 - head.seq);
    const wrong = await verifyAuditLog(folder, { after: formatHead({ ...head, hash: 'f'.repeat(64) }) });
    assert.match(wrong.brokenAt?.reason ?? '', /said to begin after/);
    await assert.rejects(
      verifyAuditLog(folder, { after: formatHead(head), expectedHead: `1:${'0'.repeat(64)}` }),
      (error) => isKedgeError(error, 'usage_invalid'),
    );
  });

  it('takes a line that is being written for no harm', async () => {
    const folder = await writtenLog();
    const last = segments(folder).at(-1)!;
    folder.files.set(last, Buffer.concat([folder.files.get(last)!, Buffer.from('{"seq":13,')]));
    const { brokenAt, tornBytes } = await verifyAuditLog(folder);
    assert.deepEqual({ brokenAt, tornBytes }, { brokenAt: null, tornBytes: 10 });
  });

  it('counts the refusals that summaries tell, and names a summary that does not add up', async () => {
    const folder = new MemoryAuditFolder();
    const log = await AuditLog.open({ folder, clock: new ManualClock(), log: silentLog });
    const refusal = { event: 'svid.refused', code: 'token_missing', peerAddress: '10.0.0.1', podUid: null };
    const summary = new SuppressedRefusals();
    for (let timeMs = 0; timeMs < 5; timeMs += 1) summary.add({ ...refusal, timeMs });
    await log.append([summary.entry(9), summary.entry(10)]);
    const good = await verifyAuditLog(folder);
    assert.deepEqual([good.brokenAt, good.suppressedRefusals], [null, 10]);
    // Chained as it should be: whoever wrote it had the log in hand.
    const entry = summary.entry(11);
    await log.append([{ ...entry, json: entry.json.replace('"refused":5', '"refused":1') }]);
    const { brokenAt, suppressedRefusals } = await verifyAuditLog(folder);
    assert.deepEqual([brokenAt?.code, brokenAt?.line, suppressedRefusals], ['audit_malformed', 4, 10]);
  });

  it('refuses a head that is none, stops when told, and names a folder that it cannot read', async () => {
    const folder = await writtenLog();
    for (const expectedHead of ['', 'abc', '1:abc', `-1:${'0'.repeat(64)}`, `1:${'G'.repeat(64)}`]) {
      await assert.rejects(verifyAuditLog(folder, { expectedHead }), (error) =>
        isKedgeError(error, 'usage_invalid'),
      );
    }
    const reason = new Error('enough');
    await assert.rejects(verifyAuditLog(folder, { signal: AbortSignal.abort(reason) }), reason);
    await assert.rejects(verifyAuditLog('/dev/null/audit'), (error) =>
      isKedgeError(error, 'file_unreadable'),
    );
  });
});

describe('the audit log on a real file system', () => {
  it('writes files that only their owner may read, and verifies by path', async () => {
    const path = await mkdtemp(join(tmpdir(), 'kedge-audit-'));
    try {
      const open = (): Promise<AuditLog> =>
        AuditLog.open({
          folder: fileAuditFolder(path),
          clock: new ManualClock(),
          log: silentLog,
          segmentBytes: 500,
        });
      for (let run = 0; run < 2; run += 1) {
        const log = await open();
        for (let n = 0; n < 5; n += 1) await log.append([auditEntry('policy.loaded', 0, { n })]);
        await log.close();
      }
      const { records, brokenAt, headFile } = await verifyAuditLog(path);
      assert.deepEqual(
        { records, brokenAt, headFile },
        { records: 12, brokenAt: null, headFile: 'compared' },
      );
      for (const name of [segmentName(1), HEAD_FILE]) {
        assert.equal((await stat(join(path, name))).mode & 0o777, 0o600);
      }
    } finally {
      await rm(path, { recursive: true });
    }
  });

  it('refuses to write where it cannot, and goes on once it can', async () => {
    const path = await mkdtemp(join(tmpdir(), 'kedge-audit-'));
    const folder = join(path, 'audit');
    try {
      const log = await AuditLog.open({
        folder: fileAuditFolder(folder),
        clock: new ManualClock(),
        log: silentLog,
      });
      await assert.rejects(log.append([auditEntry('policy.loaded', 0)]), (error) => {
        assert.ok(isKedgeError(error, 'audit_unavailable'));
        assert.match(error.message, /ENOENT/);
        return true;
      });
      const { mkdir } = await import('node:fs/promises');
      await mkdir(folder);
      await log.append([auditEntry('policy.loaded', 0)]);
      await log.close();
      assert.equal((await verifyAuditLog(folder)).brokenAt, null);
    } finally {
      await rm(path, { recursive: true });
    }
  });
});

describe('audit records', () => {
  const instance = {
    cluster: 'c1',
    namespace: 'pay',
    serviceAccount: 'web',
    podName: 'web-1',
    podUid: 'u-1',
    nodeName: 'n1',
    tokenExpiresAtMs: 0,
  };

  it('say everything about an issued SVID', () => {
    const { event, json } = issuedEntry({
      timeMs: 0,
      api: 'kedge.v1',
      spiffeId: 'spiffe://td/ns/pay/sa/web',
      serialNumber: Uint8Array.of(1, 0xab),
      issuerId: 'aa00',
      notBeforeMs: Date.UTC(2026, 0, 1),
      notAfterMs: Date.UTC(2026, 0, 2),
      keyType: 'ec-p256',
      spki: Uint8Array.of(1, 2, 3),
      dnsNames: ['web.pay.svc'],
      instance,
      peerAddress: '10.0.0.1:999',
    });
    assert.equal(event, 'svid.issued');
    assert.deepEqual(JSON.parse(`{"x":0${json}}`), {
      x: 0,
      api: 'kedge.v1',
      spiffe_id: 'spiffe://td/ns/pay/sa/web',
      serial: '01ab',
      issuer_id: 'aa00',
      not_before: '2026-01-01T00:00:00.000Z',
      not_after: '2026-01-02T00:00:00.000Z',
      key_type: 'ec-p256',
      spki_sha256: '039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81',
      dns_names: ['web.pay.svc'],
      cluster: 'c1',
      namespace: 'pay',
      service_account: 'web',
      pod_name: 'web-1',
      pod_uid: 'u-1',
      node: 'n1',
      peer: '10.0.0.1:999',
    });
  });

  it('leave out what is not known of a refusal', () => {
    const { json } = refusedEntry({
      event: 'svid.refused',
      timeMs: 0,
      api: 'kedge.v1',
      code: 'token_expired',
      message: 'the token has "expired"',
      spiffeId: null,
      instance: null,
      peerAddress: null,
    });
    assert.equal(json, ',"api":"kedge.v1","code":"token_expired","message":"the token has \\"expired\\""');
  });

  it('are ASCII on one line, whatever text they are given, and read back to it (property)', () => {
    checkProperty(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const { json } = auditEntry('policy.loaded', 0, { text, list: [text], flag: true, nothing: null });
        assert.match(json, /^[ -~]*$/);
        const parsed = JSON.parse(`{"x":0${json}}`) as Record<string, unknown>;
        assert.deepEqual(parsed, { x: 0, text, list: [text], flag: true, nothing: null });
      }),
      500,
    );
  });

  it('take no field that would look like the envelope, and no number that JSON has not', () => {
    for (const fields of [{ seq: 1 }, { prev: 'x' }, { 'a-b': 1 }, { n: Number.NaN }]) {
      assert.throws(() => auditEntry('policy.loaded', 0, fields), TypeError);
    }
  });

  it('write times as Date does (property)', () => {
    checkProperty(
      fc.property(fc.integer({ min: 0, max: Date.UTC(9999, 11, 31, 23, 59, 59, 999) }), (ms) => {
        assert.equal(isoTime(ms), new Date(ms).toISOString());
      }),
      5000,
    );
    for (const day of ['2000-02-29', '2100-02-28', '2100-03-01', '2024-12-31', '1970-01-01']) {
      assert.equal(isoTime(Date.parse(day)), `${day}T00:00:00.000Z`);
    }
  });
});

function copyOf(original: MemoryAuditFolder): Promise<MemoryAuditFolder> {
  const folder = new MemoryAuditFolder();
  for (const [name, content] of original.files) folder.files.set(name, Buffer.from(content));
  return Promise.resolve(folder);
}
