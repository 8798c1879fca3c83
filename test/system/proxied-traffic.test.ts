/**
 * Traffic between workloads behind real proxies: through 50 rotations on both sides, proxies that are replaced, agents
 * that are killed, and a CA that is away for most of a lifetime; and no request fails, by the client's count and by the
 * logs of both proxies.
 *
 * All pairs of proxies run at once, on one CA, under the same faults. Lifetimes are long enough for a slow and busy
 * machine, not for an operator to take over.
 */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { haproxySkip } from '../support/haproxy.ts';
import { IdentityPlane, until } from '../support/identity-plane.ts';
import { nginxSkip } from '../support/nginx.ts';
import { countsSince, type PairKinds, ProxiedPair } from '../support/proxied-pair.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const PAIRS: readonly PairKinds[] = [
  ['haproxy', 'haproxy'],
  ['nginx', 'nginx'],
  ['haproxy', 'nginx'],
];
const ROTATIONS = 50;
/** While nothing else is wrong: a rotation each 9 s, and 6 s for it. */
const SHORT_TTL_SECONDS = 16;
/** While something is: an SVID must outlive the fault and the way back. */
const LONG_TTL_SECONDS = 60;
/** How long the CA is away: most of a lifetime, and past the latest moment at which a renewal begins (65 %). */
const OUTAGE_SECONDS = 40;
/** How long the proxies have no agent. */
const KILLED_SECONDS = 2;
const PATIENCE_MS = 900_000;

describe('proxies on their feeds', { skip: nginxSkip || haproxySkip }, () => {
  it(`carry traffic through ${ROTATIONS} rotations and every fault without a failed request`, async (t) => {
    const folder = temporaryFolder(t);
    const policy = join(folder, 'policy.yaml');
    const setTtl = (seconds: number): void => {
      const terms = `ttl: ${seconds}s, dnsNames: ["{serviceAccount}.{namespace}.svc"]`;
      writeFileSync(`${policy}.new`, `defaults: { ${terms} }\n`);
      renameSync(`${policy}.new`, policy);
    };
    setTtl(SHORT_TTL_SECONDS);
    const settings = [
      `svid: { ttl: ${LONG_TTL_SECONDS}s, backdate: 1s }`,
      'issuer: { lifetime: 4m, renewAfter: 2m }',
      'clockSkew: 1s',
      `policy: { file: ${policy} }`,
    ].join('\n');
    const plane = await IdentityPlane.start(t, folder, settings);
    mkdirSync(join(folder, 'proxies'));
    const pairs: ProxiedPair[] = [];
    for (const kinds of PAIRS) pairs.push(await ProxiedPair.start(t, plane, join(folder, 'proxies'), kinds));
    const workloads = pairs.flatMap((pair) => pair.workloads);

    const rotatedTo = (count: (index: number) => number): Promise<void> =>
      until(
        'everyone has rotated',
        () => workloads.every(({ rotations }, index) => rotations >= count(index)),
        PATIENCE_MS,
      );
    const rotatedOnce = (before: readonly number[]): Promise<void> =>
      rotatedTo((index) => (before[index] ?? 0) + 1);
    const rotationsNow = (): number[] => workloads.map(({ rotations }) => rotations);

    /** Says and checks what every pair did while `act` went on. */
    const step = async (name: string, act: () => Promise<unknown>): Promise<void> => {
      const before = pairs.map((pair) => pair.counts);
      const startMs = performance.now();
      await act();
      const seconds = Math.round((performance.now() - startMs) / 1_000);
      for (const [index, pair] of pairs.entries()) {
        const counts = pair.counts;
        const done = countsSince(before[index] ?? counts, counts);
        const { requests, failed, resent, rotations, served, complaints } = done;
        t.diagnostic(
          `${name}, ${seconds} s, ${pair.name}: ${requests} requests, ${failed.length} failed, ` +
            `${resent} sent again on a new connection; rotations ${rotations.join(' and ')}; ` +
            `in the proxies' logs ${served.join(' and ')} requests, ${complaints.length} complaints`,
        );
        assert.deepEqual(failed, [], `${name}, ${pair.name}`);
        assert.deepEqual(complaints, [], `${name}, ${pair.name}`);
        assert.ok(requests > 0, `${name}, ${pair.name}: there was no traffic`);
      }
    };

    await step(`${ROTATIONS} rotations at ${SHORT_TTL_SECONDS} s`, () => rotatedTo(() => ROTATIONS));

    await step('a longer lifetime', async () => {
      setTtl(LONG_TTL_SECONDS);
      await until(
        'everyone has it',
        () => workloads.every((one) => (one.lifetimeSeconds ?? 0) > SHORT_TTL_SECONDS),
        PATIENCE_MS,
      );
    });

    await step('every proxy replaced while it serves', async () => {
      for (const { sidecar } of workloads) await sidecar.replace();
    });

    await step('every agent killed, and started again', async () => {
      const before = rotationsNow();
      await Promise.all(workloads.map((workload) => workload.killAgent()));
      await delay(KILLED_SECONDS * 1_000);
      await Promise.all(workloads.map((workload) => workload.startAgent()));
      await rotatedOnce(before);
    });

    // Every SVID is fresh now: each is asked to be renewed before the CA is back, and none expires.
    await step(`no CA for ${OUTAGE_SECONDS} s of ${LONG_TTL_SECONDS} s`, async () => {
      const before = rotationsNow();
      await plane.ca.end('SIGKILL');
      await delay(OUTAGE_SECONDS * 1_000);
      for (const { name, failedRenewals } of workloads) {
        assert.ok(failedRenewals > 0, `${name} did not need the CA while it was away`);
      }
      await plane.restartCa();
      await rotatedOnce(before);
    });

    await Promise.all(pairs.map((pair) => pair.stopLoad()));
    // HAProxy's log comes through a pipe, behind its answers.
    await until('the logs hold every request', async () => {
      const logged = await Promise.all(pairs.map((pair) => pair.isLogged()));
      return logged.every(Boolean);
    });
    for (const pair of pairs) {
      const { requests, failed, resent, rotations, complaints } = pair.counts;
      t.diagnostic(
        `${pair.name} in all: ${requests} requests, ${failed.length} failed, ${resent} sent again; ` +
          `rotations ${rotations.join(' and ')}; ${pair.clientSvidsSeen} client SVIDs seen by the server's proxy`,
      );
      assert.deepEqual([failed, complaints], [[], []], pair.name);
      assert.ok(
        pair.clientSvidsSeen > ROTATIONS,
        `${pair.name}: the proxy saw ${pair.clientSvidsSeen} SVIDs`,
      );
      assert.ok(requests > 100 * ROTATIONS, `${pair.name}: hardly any traffic`);
    }
    for (const workload of workloads) assert.equal(await workload.endAgent(), 0, workload.log);
    assert.equal(await plane.ca.end(), 0, plane.ca.log);
  });
});
