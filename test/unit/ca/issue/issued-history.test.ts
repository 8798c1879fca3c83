import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { segmentName } from '../../../../ca/issue/audit-line.ts';
import { isoTime } from '../../../../ca/issue/audit-record.ts';
import { issuedSince } from '../../../../ca/issue/issued-history.ts';
import { MemoryAuditFolder } from '../../../support/memory-audit-folder.ts';

const NOW = Date.UTC(2026, 5, 1);
const HOUR = 3_600_000;
const never = new AbortController().signal;

const line = (seq: number, timeMs: number, members: object): string =>
  `${JSON.stringify({ seq, time: isoTime(timeMs), prev: '0'.repeat(64), ...members })}\n`;

const issued = (seq: number, timeMs: number, podUid: string, over: object = {}): string =>
  line(seq, timeMs, {
    event: 'svid.issued',
    spiffe_id: 'spiffe://example.org/ns/shop/sa/cart',
    serial: `0${seq}`,
    issuer_id: 'aa',
    not_after: isoTime(timeMs + 24 * HOUR),
    cluster: 'c1',
    namespace: 'shop',
    pod_name: `cart-${podUid}`,
    pod_uid: podUid,
    ...over,
  });

/** Segments by the number of their first line. */
function folderOf(segments: Readonly<Record<number, string>>): MemoryAuditFolder {
  const folder = new MemoryAuditFolder();
  for (const [seq, content] of Object.entries(segments)) {
    folder.files.set(segmentName(Number(seq)), Buffer.from(content, 'latin1'));
  }
  return folder;
}

const found = async (folder: MemoryAuditFolder, sinceMs = NOW - 24 * HOUR) =>
  (await issuedSince(folder, sinceMs, NOW, never)).map(
    ({ podUid, serialNumber }) => `${podUid} ${serialNumber}`,
  );

describe('who was issued an SVID, by the audit log', () => {
  it('is every instance once, with the newest SVID, all that the fleet needs of it', async () => {
    const folder = folderOf({
      1: issued(1, NOW - 3 * HOUR, 'a') + issued(2, NOW - 2 * HOUR, 'b') + issued(3, NOW - HOUR, 'a'),
    });
    const records = await issuedSince(folder, NOW - 24 * HOUR, NOW, never);
    assert.deepEqual(records, [
      {
        podUid: 'a',
        cluster: 'c1',
        namespace: 'shop',
        podName: 'cart-a',
        spiffeId: 'spiffe://example.org/ns/shop/sa/cart',
        serialNumber: '03',
        issuerId: 'aa',
        issuedAtMs: NOW - HOUR,
        notAfterMs: NOW + 23 * HOUR,
      },
      { ...records[1], podUid: 'b', serialNumber: '02' },
    ]);
  });

  it('leaves out what has expired, what is older than asked, and what is about no instance', async () => {
    const folder = folderOf({
      1:
        issued(1, NOW - 25 * HOUR, 'old', { not_after: isoTime(NOW + HOUR) }) +
        issued(2, NOW - 2 * HOUR, 'expired', { not_after: isoTime(NOW) }) +
        issued(3, NOW - 2 * HOUR, 'own', { pod_uid: undefined }) +
        line(4, NOW - HOUR, { event: 'svid.refused', pod_uid: 'refused' }) +
        issued(5, NOW - HOUR, 'live'),
    });
    assert.deepEqual(await found(folder), ['live 05']);
  });

  it('passes over lines that are none, also one that was being written', async () => {
    const folder = folderOf({
      1: `nonsense "event":"svid.issued"\n{"event":"svid.issued"}\n${issued(1, NOW - HOUR, 'a')}${issued(2, NOW, 'torn').slice(0, -5)}`,
    });
    assert.deepEqual(await found(folder), ['a 01']);
  });

  it('reads on over segments, and no segment that ended before', async () => {
    const folder = folderOf({
      1: issued(1, NOW - 90 * HOUR, 'a') + 'x'.repeat(600_000),
      2: issued(2, NOW - 30 * HOUR, 'b') + issued(3, NOW - 20 * HOUR, 'c'),
      4: issued(4, NOW - HOUR, 'd'),
    });
    assert.deepEqual(await found(folder), ['c 03', 'd 04']);
    assert.ok(folder.bytesRead < 100_000, `it read ${folder.bytesRead} bytes`);
  });

  it('has lines that lie across the pieces in which a segment is read', async () => {
    const lines = Array.from({ length: 3_000 }, (_, i) => issued(i + 1, NOW - HOUR, `pod-${i}`));
    assert.equal((await found(folderOf({ 1: lines.join('') }))).length, 3_000);
  });

  it('is nobody where there is no log', async () => {
    assert.deepEqual(await found(new MemoryAuditFolder()), []);
  });
});
