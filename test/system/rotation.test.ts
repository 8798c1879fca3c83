/**
 * The trust anchor is rotated under traffic between workloads behind real proxies: with an agent that does not follow, a
 * CA that is killed in the middle of it, an abort, and an anchor in wrong hands; and no request fails.
 *
 * One CA with an embedded trust store. SVIDs live longer than the test: whoever renews does so because the CA asked.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { haproxySkip } from '../support/haproxy.ts';
import { IdentityPlane, until } from '../support/identity-plane.ts';
import { runKedge } from '../support/kedge-process.ts';
import { nginxSkip } from '../support/nginx.ts';
import { countsSince, type PairKinds, ProxiedPair, type ProxiedWorkload } from '../support/proxied-pair.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const PAIRS: readonly PairKinds[] = [
  ['nginx', 'nginx'],
  ['haproxy', 'haproxy'],
];
const PATIENCE_MS = 90_000;
const SETTINGS = 'svid: { ttl: 20m, backdate: 1s }\nissuer: { lifetime: 2h }\nclockSkew: 1s';

/** What `kedge rotate status --output json` says, as far as it matters here. */
interface RotationAnswer {
  readonly current?: {
    readonly step: string;
    readonly gate?: { readonly stragglers: number; readonly named: readonly { readonly name: string }[] };
  };
  readonly past: readonly { readonly outcome: string; readonly kind: string; readonly cutOffCount: number }[];
  readonly anchors: readonly { readonly id: string; readonly phase: string }[];
}

/**
 * What an operator of a HAProxy before 3.0 does: it takes new trust anchors by a reload only, its agent says so, and the
 * rotation waits for that.
 */
class ReloadKeeper {
  readonly #stop = new AbortController();
  readonly #done: Promise<unknown>;
  count = 0;

  constructor(workloads: readonly ProxiedWorkload[]) {
    this.#done = Promise.all(workloads.map((workload) => this.#keep(workload)));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #keep(workload: ProxiedWorkload): Promise<void> {
    let seen = 0;
    while (!this.#stop.signal.aborted) {
      const needed = workload.log.split('haproxy_reload_needed').length - 1;
      if (needed > seen) {
        this.count += 1;
        await workload.sidecar.replace();
      }
      seen = needed;
      await delay(200);
    }
  }
}

describe('a rotation of the trust anchor', { skip: nginxSkip || haproxySkip }, () => {
  it('fails no request: with a straggler, a CA killed, an abort, and a compromise', async (t) => {
    const folder = temporaryFolder(t);
    const policy = join(folder, 'policy.yaml');
    writeFileSync(policy, 'defaults: { dnsNames: ["{serviceAccount}.{namespace}.svc"] }\n');
    const plane = await IdentityPlane.start(t, folder, `${SETTINGS}\npolicy: { file: ${policy} }`);
    mkdirSync(join(folder, 'proxies'));
    const pairs: ProxiedPair[] = [];
    for (const kinds of PAIRS) pairs.push(await ProxiedPair.start(t, plane, join(folder, 'proxies'), kinds));
    const straggler = pairs[0]!.workloads[0];
    const reloads = new ReloadKeeper(pairs.flatMap((pair) => pair.workloads));
    t.after(() => reloads.stop());

    const kedge = async (...words: readonly string[]): Promise<RotationAnswer> => {
      const { code, stdout, stderr } = await runKedge([
        ...words,
        '--data',
        join(folder, 'ca'),
        '--output',
        'json',
      ]);
      assert.equal(code, 0, `kedge ${words.join(' ')}: ${stderr}`);
      return JSON.parse(stdout) as RotationAnswer;
    };
    const status = (): Promise<RotationAnswer> => kedge('rotate', 'status');
    const anchorIds = async (): Promise<readonly string[]> => (await status()).anchors.map(({ id }) => id);
    /** Waits until the rotation stands at `step`, and waits for exactly `stragglers` instances. */
    const standsAt = async (step: string, stragglers: number): Promise<void> => {
      let last = await status();
      const stands = async (): Promise<boolean> => {
        last = await status();
        return last.current?.step === step && last.current.gate?.stragglers === stragglers;
      };
      await until(`it stands at ${step}`, stands, PATIENCE_MS).catch((error: unknown) => {
        throw new Error(`${String(error)}, waiting for ${stragglers}: ${JSON.stringify(last)}`);
      });
    };
    const ends = async (): Promise<RotationAnswer> => {
      let last = await status();
      await until(
        'the rotation is over',
        async () => {
          last = await status();
          return last.current === undefined;
        },
        PATIENCE_MS,
      );
      return last;
    };
    /** Says and checks what every pair did while `act` went on. */
    const step = async (name: string, act: () => Promise<unknown>): Promise<void> => {
      const before = pairs.map((pair) => pair.counts);
      const startMs = performance.now();
      await act();
      const seconds = Math.round((performance.now() - startMs) / 1_000);
      for (const [index, pair] of pairs.entries()) {
        const counts = pair.counts;
        const { requests, failed, resent, rotations, complaints } = countsSince(
          before[index] ?? counts,
          counts,
        );
        t.diagnostic(
          `${name}, ${seconds} s, ${pair.name}: ${requests} requests, ${failed.length} failed, ${resent} sent again; ` +
            `rotations ${rotations.join(' and ')}; ${complaints.length} complaints`,
        );
        assert.deepEqual([failed, complaints], [[], []], `${name}, ${pair.name}`);
        assert.ok(requests > 0, `${name}, ${pair.name}: there was no traffic`);
      }
    };

    const [first] = await anchorIds();

    await step('planned, with an agent that stands still and the CA killed meanwhile', async () => {
      straggler.signalAgent('SIGSTOP');
      await kedge('rotate', 'start', '--reason', 'system test');
      await standsAt('acknowledge', 1);
      const { current } = await status();
      assert.deepEqual(
        current?.gate?.named.map(({ name }) => name),
        [`demo/${straggler.name}-0`],
      );
      await plane.ca.end('SIGKILL');
      await plane.restartCa();
      // The agent that stands still does not come back: the CA knows of it by its audit log.
      await standsAt('acknowledge', 1);
      assert.deepEqual((await anchorIds()).length, 2);
      straggler.signalAgent('SIGCONT');
      const { past } = await ends();
      assert.equal(past.at(-1)?.outcome, 'completed');
    });
    const [second, ...others] = await anchorIds();
    assert.deepEqual([second === first, others], [false, []]);

    await step('aborted while SVIDs come from the new anchor', async () => {
      straggler.signalAgent('SIGSTOP');
      await kedge('rotate', 'start');
      await standsAt('acknowledge', 1);
      await kedge('rotate', 'pause');
      straggler.signalAgent('SIGCONT');
      await standsAt('acknowledge', 0);
      straggler.signalAgent('SIGSTOP');
      await kedge('rotate', 'resume');
      await standsAt('renew', 1);
      await kedge('rotate', 'abort', '--reason', 'system test');
      straggler.signalAgent('SIGCONT');
      const { past } = await ends();
      assert.equal(past.at(-1)?.outcome, 'aborted');
    });
    assert.deepEqual(await anchorIds(), [second]);

    await step('a compromise, with the CA killed at the end of it', async () => {
      await kedge('incident', 'anchor-compromised', '--deadline', '10m', '--yes');
      await until(
        'the tainted anchor is gone',
        async () => !(await anchorIds()).includes(second ?? ''),
        PATIENCE_MS,
      );
      await plane.ca.end('SIGKILL');
      await plane.restartCa();
      const { past } = await ends();
      const last = past.at(-1);
      assert.deepEqual([last?.outcome, last?.kind, last?.cutOffCount], ['completed', 'compromise', 0]);
    });

    await Promise.all(pairs.map((pair) => pair.stopLoad()));
    for (const pair of pairs) {
      const { requests, failed, complaints } = pair.counts;
      assert.deepEqual([failed, complaints], [[], []], pair.name);
      assert.ok(requests > 1_000, `${pair.name}: hardly any traffic`);
      for (const workload of pair.workloads) {
        // At the start, and by each rotation; the straggler went back before it had followed.
        assert.ok(workload.rotations >= 4, `${workload.name} renewed ${workload.rotations} times`);
      }
    }
  });
});
