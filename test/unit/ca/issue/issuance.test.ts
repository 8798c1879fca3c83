import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { AuditLog } from '../../../../ca/issue/audit-log.ts';
import { auditEntry } from '../../../../ca/issue/audit-record.ts';
import { registerIssuanceMetrics } from '../../../../ca/issue/issuance-metrics.ts';
import { PreparedSvid, SignedSvid, SigningTicket } from '../../../../ca/issue/issuance.ts';
import { SERIAL_RANDOM_BYTES, SerialPool } from '../../../../ca/issue/serial-pool.ts';
import { svidValidity } from '../../../../ca/issue/svid-validity.ts';
import { silentLog } from '../../../../host/log.ts';
import { MetricsRegistry } from '../../../../host/metrics.ts';
import { systemRandom } from '../../../../host/random.ts';
import { buildCsr } from '../../../../pki/csr-builder.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { SpiffeId } from '../../../../pki/spiffe-id.ts';
import { instanceOf, START_MS, testIssuer, TRUST_DOMAIN } from '../../../support/issuing.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { MemoryAuditFolder } from '../../../support/memory-audit-folder.ts';
import { checkProperty } from '../../../support/property.ts';

const CSR = buildCsr({ privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey });
const GRANT = { ttlMs: 3_600_000, keyTypes: new Set(['ec-p256'] as const), dnsNames: [] };

function prepared(): PreparedSvid {
  return PreparedSvid.prepare(
    {
      api: 'kedge.v1',
      instance: instanceOf(1),
      peerAddress: null,
      spiffeId: SpiffeId.of(TRUST_DOMAIN, '/ns/pay/sa/web'),
      csr: CSR,
    },
    { kind: 'granted', grant: GRANT },
  );
}

async function ticket(): Promise<SigningTicket> {
  const { signing } = await testIssuer();
  return prepared().ticket({ issuer: signing, nowMs: START_MS, backdateMs: 0, random: systemRandom });
}

describe('the steps of issuance', () => {
  it('go in order, each from the one before', async () => {
    const svid = await (await ticket()).sign();
    const audit = await AuditLog.open({
      folder: new MemoryAuditFolder(),
      clock: new ManualClock(),
      log: silentLog,
    });
    const [receipt] = await audit.append([svid.entry]);
    assert.ok(receipt);
    assert.equal(svid.release(receipt).chain.length, 2);
  });

  it('release nothing for the receipt of another entry, even one that says the same', async () => {
    const svid = await (await ticket()).sign();
    const audit = await AuditLog.open({
      folder: new MemoryAuditFolder(),
      clock: new ManualClock(),
      log: silentLog,
    });
    const receipts = await audit.append([auditEntry('policy.loaded', 0), { ...svid.entry }]);
    for (const receipt of receipts) assert.throws(() => svid.release(receipt), /another entry/);
  });

  it('use a ticket once', async () => {
    const once = await ticket();
    await once.sign();
    assert.throws(() => once.sign(), /was used/);
  });

  it('cannot be skipped: nobody else makes these objects, and nothing of them shows', async () => {
    const guard = Symbol('issuance step') as never;
    assert.throws(() => new SigningTicket(guard, {} as never), /the step before/);
    assert.throws(() => new SignedSvid(guard, {} as never, new Uint8Array()), /the step before/);
    const svid = await (await ticket()).sign();
    assert.deepEqual(Object.keys(svid), []);
    assert.deepEqual(Reflect.ownKeys(svid), []);
  });
});

describe('the dates of an SVID', () => {
  const issuer = { notBeforeMs: START_MS - 86_400_000, notAfterMs: START_MS + 86_400_000 };
  const base = { nowMs: START_MS, ttlMs: 3_600_000, backdateMs: 120_000, issuer };

  const cases: readonly { name: string; change: Partial<typeof base>; want: [number, number] }[] = [
    { name: 'go from the backdate to the TTL', change: {}, want: [-120_000, 3_600_000] },
    { name: 'are whole seconds', change: { nowMs: START_MS + 999 }, want: [-120_000, 3_600_000] },
    {
      name: 'are cut to the end of the issuer',
      change: { ttlMs: 100 * 86_400_000 },
      want: [-120_000, 86_400_000],
    },
    {
      name: 'are cut to the start of the issuer',
      change: { issuer: { ...issuer, notBeforeMs: START_MS - 5_000 } },
      want: [-5_000, 3_600_000],
    },
    {
      name: 'may be shorter than wished when the issuer ends soon',
      change: { issuer: { ...issuer, notAfterMs: START_MS + 60_000 } },
      want: [-120_000, 60_000],
    },
    {
      name: 'may be very short when that is what was granted',
      change: { ttlMs: 10_000, issuer: { ...issuer, notAfterMs: START_MS + 5_000 } },
      want: [-120_000, 5_000],
    },
  ];
  for (const { name, change, want } of cases) {
    it(name, () => {
      const { notBeforeMs, notAfterMs } = svidValidity({ ...base, ...change });
      assert.deepEqual([notBeforeMs - START_MS, notAfterMs - START_MS], want);
    });
  }

  const refusals: readonly { name: string; change: Partial<typeof base>; message: RegExp }[] = [
    { name: 'an issuer that has expired', change: { nowMs: issuer.notAfterMs + 1 }, message: /expired$/ },
    { name: 'an issuer that expires now', change: { nowMs: issuer.notAfterMs }, message: /expired$/ },
    {
      name: 'an issuer with too little left to be of use',
      change: { issuer: { ...issuer, notAfterMs: START_MS + 59_000 } },
      message: /only 59s left$/,
    },
    {
      name: 'a clock that jumped back to before the issuer',
      change: { nowMs: issuer.notBeforeMs - 1 },
      message: /is not valid before/,
    },
  ];
  for (const { name, change, message } of refusals) {
    it(`are refused with ${name}`, () => {
      assert.throws(
        () => svidValidity({ ...base, ...change }),
        (error) => {
          assert.ok(isKedgeError(error, 'issuer_unavailable'));
          assert.match(error.message, message);
          return (error.retryAfterMs ?? 0) > 0;
        },
      );
    });
  }

  it("never leave the issuer's, are never empty, and hold the present (property)", () => {
    const ms = fc.integer({ min: 0, max: 10 ** 10 });
    checkProperty(
      fc.property(ms, ms, ms, ms, ms, (now, start, length, ttlMs, backdateMs) => {
        const nowMs = START_MS + now;
        const bounds = { notBeforeMs: START_MS + start, notAfterMs: START_MS + start + length };
        try {
          const { notBeforeMs, notAfterMs } = svidValidity({ nowMs, ttlMs, backdateMs, issuer: bounds });
          assert.ok(notBeforeMs >= bounds.notBeforeMs - 999 && notAfterMs <= bounds.notAfterMs);
          assert.ok(notBeforeMs <= nowMs && notAfterMs >= nowMs);
          assert.ok(notAfterMs <= nowMs + ttlMs);
          assert.equal(notBeforeMs % 1000, 0);
          assert.equal(notAfterMs % 1000, 0);
        } catch (error) {
          assert.ok(isKedgeError(error, 'issuer_unavailable'), String(error));
        }
      }),
      2000,
    );
  });
});

describe('the serial number pool', () => {
  it('hands out each byte once, in pieces of their own, and goes on when it is used up', () => {
    let drawn = 0;
    const random = {
      bytes: (n: number) => Uint8Array.from({ length: n }, () => drawn++ % 256),
      fraction: () => 0,
    };
    const pool = new SerialPool(random, 3);
    const pieces = Array.from({ length: 4 }, () => pool.bytes(SERIAL_RANDOM_BYTES));
    assert.deepEqual(
      pieces.flatMap((piece) => [...piece]),
      Array.from({ length: 64 }, (_, n) => n),
    );
    pieces[0]?.fill(0);
    assert.equal(pieces[1]?.[0], 16);
    assert.equal(new SerialPool(random, 0).bytes(2).length, 2);
  });
});

describe('the metrics of the issuing path', () => {
  it('count what was issued, refused and committed', () => {
    const registry = new MetricsRegistry();
    const metrics = registerIssuanceMetrics(registry);
    metrics.observeQueue(() => 7);
    metrics.observeAudit(() => false);
    metrics.issued('kedge.v1', 20);
    metrics.refused('svid.refused', 'token_expired');
    metrics.refused('watch.refused', 'identity_denied');
    metrics.refusalSuppressed();
    metrics.auditCommitted({ records: 3, durationMs: 2 });
    const text = registry.render();
    for (const line of [
      'kedge_svid_issued_total{api="kedge.v1"} 1',
      'kedge_svid_refused_total{code="token_expired"} 1',
      'kedge_watch_refused_total{code="identity_denied"} 1',
      'kedge_audit_suppressed_refusals_total 1',
      'kedge_svid_issuance_duration_seconds_sum 0.02',
      'kedge_audit_commit_records_sum 3',
      'kedge_issuance_queue_requests 7',
      'kedge_audit_available 0',
    ]) {
      assert.ok(text.includes(`${line}\n`), `${line} is missing`);
    }
  });
});
