import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { coverageOf, stragglersOf } from '../../../../ca/fleet/fleet-coverage.ts';
import { type FleetSources, joinFleet, mergedInstance } from '../../../../ca/fleet/fleet-join.ts';
import { isLive } from '../../../../ca/fleet/instance.ts';
import type { WorkloadPod } from '../../../../ca/fleet/workload-pod.ts';
import { liveInstance } from '../../../support/coverage.ts';
import { fleetInstance, reported, workloadPod } from '../../../support/fleet-instances.ts';
import { checkProperty } from '../../../support/property.ts';

const NOW_MS = 50_000;
const TTL_MS = 20_000;

function join(
  change: Partial<Omit<FleetSources, 'pods' | 'gone'>> & {
    pods?: WorkloadPod[];
    gone?: string[];
    sinceMs?: number;
  },
) {
  const { pods = [], gone = [], sinceMs = NOW_MS, ...rest } = change;
  return joinFleet({
    cluster: 'c1',
    reported: [],
    spiffeIdOf: ({ serviceAccount }) => `spiffe://example.org/sa/${serviceAccount}`,
    maxSvidTtlMs: TTL_MS,
    ...rest,
    pods: new Map(pods.map((pod) => [pod.uid, { pod, sinceMs }])),
    gone: new Set(gone),
  });
}

const live = (instances: ReturnType<typeof join>, nowMs = NOW_MS): string[] =>
  instances.filter((instance) => isLive(instance, nowMs)).map(({ id }) => id);

describe('a fleet joined from pods and reports', () => {
  it('has a pod that runs and never reported: live, named, and holding nothing', () => {
    const joined = join({ pods: [workloadPod('a')] });
    assert.deepEqual(live(joined), ['a']);
    const [instance] = joined;
    assert.deepEqual(
      [instance?.spiffeId, instance?.namespace, instance?.podName, instance?.connected, instance?.lastSeenMs],
      ['spiffe://example.org/sa/cart', 'shop', 'pod-a', false, 0],
    );
    const coverage = coverageOf(joined, NOW_MS);
    assert.deepEqual(coverage.instances, [liveInstance({ id: 'a', name: 'shop/pod-a' })]);
    assert.equal(stragglersOf(coverage, { bundleSequence: 1, authorityKeyId: null }).length, 1);
  });

  it('lets a silent pod count no longer than an SVID from before could live', () => {
    const joined = join({ pods: [workloadPod('a')], sinceMs: NOW_MS });
    assert.deepEqual(live(joined, NOW_MS + TTL_MS - 1), ['a']);
    assert.deepEqual(live(joined, NOW_MS + TTL_MS), []);
  });

  const silent: readonly { readonly name: string; readonly pod: WorkloadPod }[] = [
    { name: 'is starting', pod: workloadPod('a', { stage: 'starting' }) },
    { name: 'has ended', pod: workloadPod('a', { stage: 'ended' }) },
    { name: 'is being deleted', pod: workloadPod('a', { deleting: true }) },
  ];
  for (const { name, pod } of silent) {
    it(`does not wait for a pod that ${name} and never reported`, () => {
      assert.deepEqual(join({ pods: [pod] }), []);
    });
  }

  it('drops what a pod holds once it is gone, or has ended', () => {
    const instance = fleetInstance('a', { report: reported(3), connected: false });
    assert.deepEqual(live(join({ reported: [[instance]] })), ['a'], 'not known to be gone');
    assert.deepEqual(live(join({ reported: [[instance]], gone: ['a'] })), []);
    assert.deepEqual(
      live(join({ reported: [[instance]], pods: [workloadPod('a', { stage: 'ended' })] })),
      [],
    );
    assert.equal(coverageOf(join({ reported: [[instance]], gone: ['a'] }), NOW_MS).instances.length, 0);
  });

  it('keeps a pod that is being deleted while its report says that it holds an SVID', () => {
    const instance = fleetInstance('a', { report: reported(3), connected: true });
    assert.deepEqual(live(join({ reported: [[instance]], pods: [workloadPod('a', { deleting: true })] })), [
      'a',
    ]);
  });

  it('keeps a reported instance that carries no label, until its SVID expires', () => {
    const instance = fleetInstance('a', { report: reported(3, 'aa', NOW_MS + 1) });
    assert.deepEqual(live(join({ reported: [[instance]], pods: [workloadPod('b')] })), ['a', 'b']);
    assert.deepEqual(live(join({ reported: [[instance]] }), NOW_MS + 1), []);
  });

  it('knows the pods of its own cluster only: the same UID elsewhere is another instance', () => {
    const other = fleetInstance('a', { cluster: 'c2', report: reported(3) });
    const joined = join({ reported: [[other]], gone: ['a'], pods: [workloadPod('b')] });
    assert.deepEqual(live(joined).toSorted(), ['a', 'b']);
  });

  it('takes the names from the pod: reports of other replicas come without', () => {
    const bare = fleetInstance('a', { namespace: '', podName: '', report: reported(3) });
    const [instance] = join({ reported: [[bare]], pods: [workloadPod('a', { name: 'cart-1' })] });
    assert.deepEqual([instance?.namespace, instance?.podName, instance?.pod], ['shop', 'cart-1', 'running']);
  });

  it('counts an instance once that several replicas know, as the one has it that it is connected to', () => {
    const here = fleetInstance('a', { report: reported(3), connected: false, lastSeenMs: 9_000 });
    const there = fleetInstance('a', { report: reported(4), connected: true, lastSeenMs: 8_000 });
    for (const both of [
      [[here], [there]],
      [[there], [here]],
    ]) {
      const joined = join({ reported: both });
      assert.equal(joined.length, 1);
      assert.deepEqual([joined[0]?.report?.bundleSequence, joined[0]?.connected], [4, true]);
    }
  });

  it('takes, of two that are both connected or both not, the one that heard of it last', () => {
    for (const connected of [true, false]) {
      const older = fleetInstance('a', { report: reported(5), connected, lastSeenMs: 8_000 });
      const newer = fleetInstance('a', { report: reported(4), connected, lastSeenMs: 9_000 });
      assert.equal(join({ reported: [[older], [newer]] })[0]?.report?.bundleSequence, 4);
      assert.equal(join({ reported: [[newer], [older]] })[0]?.report?.bundleSequence, 4);
    }
  });

  it('keeps the SVID that one replica issued while the agent reports to another', () => {
    const issuer = fleetInstance('a', {
      issued: { serialNumber: '01', authorityKeyId: 'bb', notAfterMs: 90_000 },
      lastSeenMs: 8_000,
    });
    const watcher = fleetInstance('a', {
      report: reported(4, 'aa', 40_000),
      connected: true,
      lastSeenMs: 9_000,
    });
    const [instance] = join({ reported: [[watcher], [issuer]] });
    assert.deepEqual(
      [instance?.issued?.authorityKeyId, instance?.report?.svid?.authorityKeyId],
      ['bb', 'aa'],
    );
    assert.deepEqual(live([instance!], 80_000), ['a']);
  });

  it('does not depend on the order in which replicas are read', () => {
    const instance = fc
      .record({
        id: fc.constantFrom('a', 'b', 'c', 'd'),
        connected: fc.boolean(),
        lastSeenMs: fc.nat(50).map((n) => n * 1_000),
        sequence: fc.nat(5),
        issued: fc.option(fc.nat(5)),
      })
      .map(({ id, connected, lastSeenMs, sequence, issued }) =>
        fleetInstance(id, {
          connected,
          lastSeenMs,
          report: reported(sequence),
          issued:
            issued === null ? null : { serialNumber: '', authorityKeyId: 'bb', notAfterMs: issued * 1_000 },
        }),
      );
    checkProperty(
      fc.property(
        fc.array(fc.uniqueArray(instance, { selector: ({ id }) => id, maxLength: 4 }), { maxLength: 4 }),
        fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 3 }),
        (reports, gone) => {
          // Ties are broken by order: no two replicas heard of an instance in the same millisecond.
          const spread = reports.map((instances, r) =>
            instances.map((one) => ({ ...one, lastSeenMs: one.lastSeenMs + r })),
          );
          const forward = join({ reported: spread, gone, pods: [workloadPod('a'), workloadPod('e')] });
          const backward = join({
            reported: spread.toReversed(),
            gone,
            pods: [workloadPod('e'), workloadPod('a')],
          });
          const key = (instances: typeof forward) => instances.map((one) => JSON.stringify(one)).toSorted();
          assert.deepEqual(key(forward), key(backward));
          assert.equal(new Set(forward.map(({ id }) => id)).size, forward.length, 'each once');
          for (const id of gone) assert.ok(!live(forward).includes(id));
        },
      ),
    );
  });
});

describe('an instance merged from two replicas', () => {
  it('has a report where one of them has one', () => {
    const silent = fleetInstance('a', { connected: true, lastSeenMs: 9_000 });
    const spoke = fleetInstance('a', { report: reported(2), lastSeenMs: 8_000 });
    assert.equal(mergedInstance(silent, spoke).report?.bundleSequence, 2);
  });
});
