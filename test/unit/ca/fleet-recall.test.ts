import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Fleet } from '../../../ca/fleet/fleet.ts';
import { recallFleet } from '../../../ca/fleet-recall.ts';
import { segmentName } from '../../../ca/issue/audit-line.ts';
import { isoTime } from '../../../ca/issue/audit-record.ts';
import { silentLog } from '../../../host/log.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';
import { MemoryAuditFolder } from '../../support/memory-audit-folder.ts';

const HOUR = 3_600_000;
const never = new AbortController().signal;

function setUp() {
  const clock = new ManualClock();
  const fleet = new Fleet({ maxInstances: 10, trust: () => null, log: silentLog });
  fleet.awaitHistory('the audit log was not read yet');
  const folder = new MemoryAuditFolder();
  return { clock, fleet, folder, recall: { fleet, folder, ttlMs: 24 * HOUR, clock, log: silentLog } };
}

describe('what a CA recalls of its fleet when it starts', () => {
  it('is whoever was issued an SVID within its lifetime', async () => {
    const { clock, fleet, folder, recall } = setUp();
    const record = {
      seq: 1,
      time: isoTime(clock.now() - HOUR),
      prev: '0'.repeat(64),
      event: 'svid.issued',
      not_after: isoTime(clock.now() + 23 * HOUR),
      pod_uid: 'u1',
    };
    folder.files.set(segmentName(1), Buffer.from(`${JSON.stringify(record)}\n`));
    await recallFleet(recall, never);
    assert.deepEqual([fleet.complete, fleet.instances().map(({ id }) => id)], [true, ['u1']]);
  });

  it('is nothing that can be relied on for the lifetime of an SVID, where the log cannot be read', async () => {
    const { clock, fleet, folder, recall } = setUp();
    const broken = {
      ...recall,
      folder: Object.assign(folder, { list: () => Promise.reject(new Error('EIO')) }),
    };
    const recalled = recallFleet(broken, never);
    await settle();
    assert.match(fleet.unknown, /could not be read for SVIDs from before the start/);
    await clock.advance(24 * HOUR - 1);
    assert.equal(fleet.complete, false);
    await clock.advance(1);
    await recalled;
    assert.equal(fleet.complete, true);
  });

  it('ends with the CA', async () => {
    const { fleet, folder, recall } = setUp();
    const stop = new AbortController();
    const broken = {
      ...recall,
      folder: Object.assign(folder, { list: () => Promise.reject(new Error('EIO')) }),
    };
    const recalled = recallFleet(broken, stop.signal);
    await settle();
    stop.abort();
    await recalled;
    assert.equal(fleet.complete, false);
  });
});
