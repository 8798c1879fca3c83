import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { WorkloadInstance } from '../../../../ca/attest/attestor.ts';
import type { KnownTrust } from '../../../../ca/fleet/counted-report.ts';
import { Fleet } from '../../../../ca/fleet/fleet.ts';
import { coverageOf, fleetCoverage, stragglersOf } from '../../../../ca/fleet/fleet-coverage.ts';
import { isLive } from '../../../../ca/fleet/instance.ts';
import type { ReportedState, ReportedSvid } from '../../../../ca/fleet/reported-state.ts';
import type { IssuedSvid } from '../../../../ca/issue/issuance.ts';
import { jsonLog, silentLog } from '../../../../host/log.ts';
import { SpiffeId } from '../../../../pki/spiffe-id.ts';
import { Evidence } from '../../../../proto/gen/kedge/v1/identity.ts';
import { checkProperty } from '../../../support/property.ts';
import { coverageOfAll, liveInstance } from '../../../support/coverage.ts';

const ID = 'spiffe://example.org/ns/shop/sa/cart';
const ISSUER = 'aa'.repeat(20);

const instanceOf = (podUid: string, cluster = 'c1'): WorkloadInstance => ({
  cluster,
  namespace: 'shop',
  serviceAccount: 'cart',
  podName: `cart-${podUid}`,
  podUid,
  nodeName: undefined,
  tokenExpiresAtMs: 1e12,
});

const svid = (notAfterMs: number): IssuedSvid => ({
  chain: [],
  spiffeId: SpiffeId.parse(ID),
  serialNumber: Buffer.from('0102', 'hex'),
  notBeforeMs: 0,
  notAfterMs,
  authorityKeyId: ISSUER,
});

const report = (bundleSequence: number, notAfterMs: number | null = null): ReportedState => ({
  agentVersion: '0.1.0',
  bundleSequence,
  svid: notAfterMs === null ? null : { serialNumber: '0102', authorityKeyId: ISSUER, notAfterMs },
  clockSkewMs: null,
  feeds: [],
});

/** When the issuer ends. */
const ISSUER_ENDS_MS = 50_000;
const TRUST: KnownTrust = {
  sequence: 10,
  issuers: [{ id: ISSUER, phase: 'active', notAfterMs: ISSUER_ENDS_MS }],
};

const fleetOf = (maxInstances = 100, trust: () => KnownTrust | null = () => TRUST): Fleet =>
  new Fleet({ maxInstances, trust, log: silentLog });

describe('the fleet', () => {
  it('knows an instance from its SVID, and what was issued to it', () => {
    const fleet = fleetOf();
    fleet.issued(instanceOf('u1'), svid(1_000), 10);
    assert.deepEqual(fleet.instances(), [
      {
        id: 'u1',
        cluster: 'c1',
        spiffeId: ID,
        namespace: 'shop',
        podName: 'cart-u1',
        issued: { serialNumber: '0102', authorityKeyId: ISSUER, notAfterMs: 1_000 },
        report: null,
        connected: false,
        lastSeenMs: 10,
        pod: 'unknown',
        unheardUntilMs: 0,
      },
    ]);
  });

  it('tells the same pod UID in two clusters apart', () => {
    const fleet = fleetOf();
    fleet.issued(instanceOf('u1', 'c1'), svid(1_000), 10);
    fleet.issued(instanceOf('u1', 'c2'), svid(1_000), 10);
    assert.equal(fleet.size, 2);
  });

  it('takes reports of a session, and keeps the last one when it closes', () => {
    const fleet = fleetOf();
    const session = fleet.connect(instanceOf('u1'), ID, 10);
    assert.equal(fleet.connected, 1);
    session.report(report(3), 20);
    session.close(30);
    session.close(40);
    const [instance] = fleet.instances();
    assert.equal(instance?.report?.bundleSequence, 3);
    assert.deepEqual([instance?.connected, instance?.lastSeenMs, fleet.connected], [false, 30, 0]);
  });

  it('takes nothing any more from a session that a newer one of the same instance replaced', () => {
    const fleet = fleetOf();
    const older = fleet.connect(instanceOf('u1'), ID, 10);
    older.report(report(9), 11);
    const newer = fleet.connect(instanceOf('u1'), ID, 20);
    newer.report(report(4), 21);
    older.report(report(9), 22);
    older.close(23);
    const [instance] = fleet.instances();
    assert.deepEqual([instance?.report?.bundleSequence, instance?.connected], [4, true]);
    assert.equal(fleet.connected, 1);
  });

  it('forgets who holds nothing any more, unless it is connected', () => {
    const fleet = fleetOf();
    fleet.issued(instanceOf('expired'), svid(1_000), 10);
    fleet.issued(instanceOf('live'), svid(5_000), 10);
    fleet.connect(instanceOf('connected'), ID, 10);
    fleet.prune(1_000);
    assert.deepEqual(
      fleet
        .instances()
        .map(({ id }) => id)
        .sort(),
      ['connected', 'live'],
    );
  });

  it('is bounded: of a full fleet it forgets the one that ends first, and says so', () => {
    const lines: string[] = [];
    const log = jsonLog({ level: 'warn', write: (line) => lines.push(line), now: () => 0 });
    const fleet = new Fleet({ maxInstances: 3, trust: () => TRUST, log });
    fleet.issued(instanceOf('long'), svid(9_000), 10);
    fleet.issued(instanceOf('short'), svid(5_000), 10);
    fleet.connect(instanceOf('connected'), ID, 10);
    fleet.issued(instanceOf('new'), svid(6_000), 20);
    assert.deepEqual(
      fleet
        .instances()
        .map(({ id }) => id)
        .sort(),
      ['connected', 'long', 'new'],
    );
    assert.match(lines.join(''), /"event":"fleet.full"/);
  });

  it('never grows beyond its bound, whatever comes', () => {
    const step = fc.record({
      uid: fc.integer({ min: 0, max: 30 }),
      kind: fc.constantFrom('issue', 'connect', 'close'),
      untilMs: fc.integer({ min: 0, max: 100 }),
    });
    checkProperty(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const fleet = fleetOf(8);
        const sessions = new Map<number, ReturnType<Fleet['connect']>>();
        for (const [nowMs, { uid, kind, untilMs }] of steps.entries()) {
          const instance = instanceOf(String(uid));
          if (kind === 'issue') fleet.issued(instance, svid(untilMs), nowMs);
          else if (kind === 'connect') sessions.set(uid, fleet.connect(instance, ID, nowMs));
          else sessions.get(uid)?.close(nowMs);
          assert.ok(fleet.size <= 8);
        }
      }),
    );
  });
});

describe('a report of what cannot be', () => {
  const FOREVER_MS = Date.UTC(9999, 0, 1);
  const forged = (change: Partial<ReportedSvid>): ReportedState => ({
    ...report(2),
    svid: { serialNumber: '0102', authorityKeyId: ISSUER, notAfterMs: FOREVER_MS, ...change },
  });
  const liveIds = (fleet: Fleet, nowMs: number): string[] =>
    coverageOf(fleet.instances(), nowMs).instances.map(({ id }) => id);

  it('keeps its instance live no longer than the issuer of its SVID', () => {
    const fleet = fleetOf();
    fleet.connect(instanceOf('liar'), ID, 10).report(forged({}), 10);
    assert.deepEqual(coverageOf(fleet.instances(), 20).instances, [
      liveInstance({ id: 'liar', bundleSequence: 2, authorityKeyId: ISSUER, svidNotAfterMs: ISSUER_ENDS_MS }),
    ]);
    assert.deepEqual(liveIds(fleet, ISSUER_ENDS_MS - 1), ['liar']);
    assert.deepEqual(liveIds(fleet, ISSUER_ENDS_MS), []);
  });

  it('under an issuer that there is not counts as none, and is forgotten with its session', () => {
    const fleet = fleetOf();
    const session = fleet.connect(instanceOf('liar'), ID, 10);
    session.report(forged({ authorityKeyId: 'bb'.repeat(20) }), 10);
    assert.equal(fleet.instances()[0]?.report?.svid, null);
    assert.deepEqual(liveIds(fleet, 20), []);
    session.close(30);
    fleet.prune(31);
    assert.equal(fleet.size, 0);
  });

  it('does not outlast honest instances in a full fleet', () => {
    const fleet = fleetOf(3);
    const session = fleet.connect(instanceOf('liar'), ID, 10);
    session.report(forged({ authorityKeyId: 'bb'.repeat(20) }), 10);
    session.close(11);
    fleet.issued(instanceOf('a'), svid(9_000), 20);
    fleet.issued(instanceOf('b'), svid(9_000), 20);
    fleet.issued(instanceOf('c'), svid(9_000), 20);
    assert.deepEqual(
      fleet.instances().map(({ id }) => id),
      ['a', 'b', 'c'],
    );
  });

  it('such as a bundle that was never published counts as none', () => {
    const fleet = fleetOf();
    fleet.connect(instanceOf('liar'), ID, 10).report(report(11, 2_000), 10);
    fleet.connect(instanceOf('honest'), ID, 10).report(report(10, 2_000), 10);
    assert.deepEqual(
      coverageOf(fleet.instances(), 20).instances.map(({ id, bundleSequence }) => [id, bundleSequence]),
      [
        ['liar', 0],
        ['honest', 10],
      ],
    );
  });

  it('counts once this replica has read the state that another one wrote, with no further report', () => {
    let trust: KnownTrust | null = null;
    const fleet = fleetOf(100, () => trust);
    const next = 'cc'.repeat(20);
    const ahead: ReportedState = {
      ...report(11),
      svid: { serialNumber: '0102', authorityKeyId: next, notAfterMs: 4_000 },
    };
    fleet.connect(instanceOf('ahead'), ID, 10).report(ahead, 10);
    assert.deepEqual(liveIds(fleet, 20), []);
    trust = TRUST;
    assert.deepEqual(liveIds(fleet, 20), []);
    trust = {
      sequence: 11,
      issuers: [...TRUST.issuers, { id: next, phase: 'active', notAfterMs: ISSUER_ENDS_MS }],
    };
    assert.deepEqual(coverageOf(fleet.instances(), 20).instances, [
      liveInstance({ id: 'ahead', bundleSequence: 11, authorityKeyId: next, svidNotAfterMs: 4_000 }),
    ]);
  });

  it('does not take away what this CA has issued to its instance', () => {
    const fleet = fleetOf();
    fleet.issued(instanceOf('u1'), svid(3_000), 10);
    fleet.connect(instanceOf('u1'), ID, 10).report(forged({ authorityKeyId: 'bb'.repeat(20) }), 10);
    assert.deepEqual(coverageOf(fleet.instances(), 20).instances, [
      liveInstance({ id: 'u1', bundleSequence: 2, confirmed: false }),
    ]);
  });
});

describe('coverage', () => {
  it('counts as held only what was reported', () => {
    const fleet = fleetOf();
    fleet.issued(instanceOf('silent'), svid(1_000), 10);
    fleet.connect(instanceOf('reporting'), ID, 10).report(report(2, 2_000), 10);
    fleet.connect(instanceOf('empty'), ID, 10).report(report(2), 10);
    assert.deepEqual(coverageOf(fleet.instances(), 500), {
      instances: [
        liveInstance({ id: 'silent', confirmed: false }),
        liveInstance({ id: 'reporting', bundleSequence: 2, authorityKeyId: ISSUER, svidNotAfterMs: 2_000 }),
      ],
    });
  });

  it('leaves out an instance from the moment on at which its last SVID ends', () => {
    const fleet = fleetOf();
    fleet.connect(instanceOf('u1'), ID, 10).report(report(2, 2_000), 10);
    fleet.issued(instanceOf('u1'), svid(3_000), 20);
    const [instance] = fleet.instances();
    assert.ok(isLive(instance!, 2_999));
    assert.ok(!isLive(instance!, 3_000));
    // What it reported is over, what it was issued may not have arrived: live, and holding nothing.
    assert.deepEqual(coverageOf(fleet.instances(), 2_500).instances, [
      liveInstance({ id: 'u1', bundleSequence: 2, confirmed: false }),
    ]);
  });

  it('takes a report as void from the next SVID on, until the instance reports that one or a later', () => {
    const fleet = fleetOf();
    const session = fleet.connect(instanceOf('u1'), ID, 10);
    const confirmed = (): boolean | undefined => coverageOf(fleet.instances(), 500).instances[0]?.confirmed;
    session.report(report(2, 2_000), 10);
    assert.equal(confirmed(), true, 'an SVID from before this process, or of another replica');
    fleet.issued(instanceOf('u1'), svid(3_000), 20);
    assert.equal(confirmed(), false);
    session.report(report(3, 2_000), 30);
    assert.equal(confirmed(), false, 'it says nothing of the newer one');
    session.report(report(3, 3_000), 40);
    assert.equal(confirmed(), true);
  });

  const coverage = coverageOfAll(
    { id: 'follows', bundleSequence: 5, authorityKeyId: 'new', svidNotAfterMs: 9 },
    { id: 'old-bundle', bundleSequence: 4, authorityKeyId: 'new', svidNotAfterMs: 9 },
    { id: 'old-issuer', bundleSequence: 6, authorityKeyId: 'old', svidNotAfterMs: 9 },
    { id: 'nothing' },
  );
  const rows = [
    { goal: { bundleSequence: 5, authorityKeyId: null }, want: ['old-bundle', 'nothing'] },
    { goal: { bundleSequence: 5, authorityKeyId: 'new' }, want: ['old-bundle', 'old-issuer', 'nothing'] },
    { goal: { bundleSequence: 0, authorityKeyId: null }, want: [] },
  ];
  for (const { goal, want } of rows) {
    it(`names the stragglers behind bundle ${goal.bundleSequence} and issuer ${goal.authorityKeyId}`, () => {
      assert.deepEqual(
        stragglersOf(coverage, goal).map(({ id }) => id),
        want,
      );
    });
  }
});

describe('a fleet after a restart of the CA', () => {
  const record = (podUid: string, notAfterMs: number) => ({
    podUid,
    cluster: 'c1',
    namespace: 'shop',
    podName: `cart-${podUid}`,
    spiffeId: ID,
    serialNumber: '0102',
    issuerId: ISSUER,
    issuedAtMs: 5,
    notAfterMs,
  });

  it('is not complete before it was told who was issued an SVID, and says why', () => {
    const fleet = fleetOf();
    assert.deepEqual([fleet.complete, fleet.unknown], [true, '']);
    fleet.awaitHistory('the audit log was not read');
    assert.deepEqual([fleet.complete, fleet.unknown], [false, 'the audit log was not read']);
    assert.deepEqual(fleetCoverage(fleet, 10), {
      instances: [],
      complete: false,
      unknown: 'the audit log was not read',
    });
    fleet.remember([]);
    assert.equal(fleet.complete, true);
  });

  it('counts who has not come back as live, holding nothing, until the SVID ends', () => {
    const fleet = fleetOf();
    fleet.awaitHistory('the audit log was not read');
    fleet.remember([record('u1', 1_000)]);
    const { instances } = fleetCoverage(fleet, 500);
    assert.deepEqual(instances, [liveInstance({ id: 'u1', confirmed: false })]);
    assert.deepEqual(fleetCoverage(fleet, 1_000).instances, []);
  });

  it('keeps what it has heard since', () => {
    const fleet = fleetOf();
    fleet.connect(instanceOf('back'), ID, 10).report(report(2, 2_000), 10);
    fleet.issued(instanceOf('renewed'), svid(3_000), 10);
    fleet.remember([record('back', 1_000), record('renewed', 1_000)]);
    const held = fleet
      .instances()
      .map(({ id, issued, report }) => [id, issued?.notAfterMs, report?.bundleSequence]);
    assert.deepEqual(held, [
      ['back', 1_000, 2],
      ['renewed', 3_000, undefined],
    ]);
  });

  it('is not complete any more once it had to forget somebody who may be live', () => {
    const fleet = fleetOf(2);
    for (const id of ['a', 'b', 'c']) fleet.issued(instanceOf(id), svid(1_000), 10);
    assert.equal(fleet.complete, false);
    assert.match(fleet.unknown, /more instances than the 2 that are remembered/);
  });
});

describe('proof', () => {
  const feed = (evidence: Evidence, consumerCount = 1) => ({
    name: `feed-${evidence}`,
    evidence,
    bundleSequence: 2,
    svidSerialNumber: '0102',
    errorCode: '',
    consumers: [],
    consumerCount,
  });
  const rows = [
    { name: 'no feed', feeds: [], want: false },
    { name: 'one feed that proves', feeds: [feed(Evidence.EVIDENCE_PROVEN)], want: true },
    {
      name: 'one that proves beside one that only loads',
      feeds: [feed(Evidence.EVIDENCE_PROVEN), feed(Evidence.EVIDENCE_LOADED)],
      want: false,
    },
    {
      name: 'one that proves beside one that serves nobody',
      feeds: [feed(Evidence.EVIDENCE_PROVEN), feed(Evidence.EVIDENCE_UNSPECIFIED, 0)],
      want: true,
    },
    { name: 'one that serves nobody', feeds: [feed(Evidence.EVIDENCE_PROVEN, 0)], want: false },
  ];
  for (const { name, feeds, want } of rows) {
    it(`${want ? 'is' : 'is not'} given by ${name}`, () => {
      const fleet = fleetOf();
      fleet.connect(instanceOf('u1'), ID, 10).report({ ...report(2, 2_000), feeds }, 10);
      assert.equal(fleetCoverage(fleet, 20).instances[0]?.proven, want);
    });
  }
});
