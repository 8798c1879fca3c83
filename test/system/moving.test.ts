/**
 * Moving the trust anchor while workloads talk: from the CA's own key to a CA in files, to another root in the same
 * files, and back to a key of the CA's own, which is in a PKCS#11 token where the machine has one. Each is a change of
 * the configuration or the files and nothing else; the rotation follows by itself, and no request fails, by the
 * client's count and by the logs of both proxies.
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
import { countsSince, type PairKinds, ProxiedPair } from '../support/proxied-pair.ts';
import { PIN, SoftHsm, softHsmMissing } from '../support/softhsm.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { makeHierarchy, UpstreamFiles } from '../support/upstream-files.ts';

const PAIRS: readonly PairKinds[] = [
  ['haproxy', 'nginx'],
  ['nginx', 'haproxy'],
];
const DAY_MS = 86_400_000;
/** One move: its bundle, its SVIDs, and the end of the last SVIDs under the anchor before. */
const MOVE_MS = 240_000;

interface Status {
  readonly bundleSequence: string | number;
  readonly lifecycle: string;
  readonly anchors: readonly { readonly id: string; readonly phase: string; readonly upstream: string }[];
}

describe('moving the trust anchor', { skip: nginxSkip || haproxySkip }, () => {
  it('takes traffic along, without a failed request', { timeout: 900_000 }, async (t) => {
    const folder = temporaryFolder(t);
    const hsm = softHsmMissing() === null ? new SoftHsm(folder) : null;
    const common = [
      'svid: { ttl: 30s, backdate: 1s }',
      'issuer: { lifetime: 4m, renewAfter: 2m }',
      'clockSkew: 1s',
      `policy: { file: ${join(folder, 'policy.yaml')} }`,
    ];
    writeFileSync(
      join(folder, 'policy.yaml'),
      'defaults: { ttl: 30s, dnsNames: ["{serviceAccount}.{namespace}.svc"] }\n',
    );
    const plane = await IdentityPlane.start(t, folder, common.join('\n'));
    const listen = `listen: { grpc: "127.0.0.1:${plane.grpcPort}", http: "127.0.0.1:${plane.httpPort}" }`;
    const reconfigure = async (...settings: readonly string[]): Promise<void> => {
      const lines = [`dataFolder: ${join(folder, 'ca')}`, listen, ...common, ...settings];
      assert.equal(await plane.ca.end(), 0, plane.ca.log);
      writeFileSync(join(folder, 'kedge.yaml'), `${lines.join('\n')}\n`);
      await plane.restartCa();
    };
    mkdirSync(join(folder, 'upstream'));
    const files = new UpstreamFiles(join(folder, 'upstream'));
    const { certificateFile, keyFile } = files.settings;
    const disk = `disk: { certificateFile: ${certificateFile}, keyFile: ${keyFile} }`;
    const newFiles = async (): Promise<void> => {
      const validity = { notBeforeMs: Date.now() - DAY_MS, notAfterMs: Date.now() + DAY_MS };
      const { root, intermediate } = await makeHierarchy({ root: validity, intermediate: validity });
      files.writePair(intermediate, root);
    };

    mkdirSync(join(folder, 'proxies'));
    const pairs: ProxiedPair[] = [];
    for (const kinds of PAIRS) pairs.push(await ProxiedPair.start(t, plane, join(folder, 'proxies'), kinds));
    const status = async (): Promise<Status> => {
      const { stdout } = await runKedge(['status', '--data', join(folder, 'ca'), '--output', 'json']);
      return JSON.parse(stdout) as Status;
    };

    /** HAProxy before 3.0 takes new trust anchors at a reload only; its agent says when. */
    const reloadHaproxies = async (): Promise<void> => {
      for (const { sidecar } of pairs.flatMap(({ workloads }) => workloads)) {
        if (sidecar.agentOptions.includes('--haproxy-sockets')) await sidecar.replace();
      }
    };

    /** Says and checks what every pair did until the anchor of `upstream` is the only one. */
    const move = async (name: string, upstream: string, act: () => Promise<void>): Promise<void> => {
      const before = pairs.map((pair) => pair.counts);
      const { anchors: old, bundleSequence: first } = await status();
      const startMs = performance.now();
      await act();
      let sequence = Number(first);
      let last: Status | null = null;
      await until(
        `${name} is done`,
        async () => {
          await delay(500);
          last = await status().catch(() => last);
          if (last === null) return false;
          if (Number(last.bundleSequence) !== sequence) {
            sequence = Number(last.bundleSequence);
            // The agents have the bundle a moment after the CA.
            await delay(2_000);
            await reloadHaproxies();
          }
          const [anchor, ...more] = last.anchors;
          return more.length === 0 && anchor?.upstream === upstream && anchor.id !== old[0]?.id;
        },
        MOVE_MS,
      ).catch((error: unknown) => {
        throw new Error(`${String(error)}: ${JSON.stringify(last?.anchors)} ${String(last?.lifecycle)}`);
      });
      const seconds = Math.round((performance.now() - startMs) / 1_000);
      for (const [index, pair] of pairs.entries()) {
        const { counts } = pair;
        const { requests, failed, complaints } = countsSince(before[index] ?? counts, counts);
        t.diagnostic(
          `${name}, ${seconds} s, ${pair.name}: ${requests} requests, ${failed.length} failed, ${complaints.length} complaints`,
        );
        assert.deepEqual([failed, complaints], [[], []], `${name}, ${pair.name}`);
        assert.ok(requests > 0, `${name}, ${pair.name}: there was no traffic`);
      }
    };

    await move('self to disk', 'disk', async () => {
      await newFiles();
      await reconfigure(`upstream: { kind: disk, ${disk} }`);
    });
    await move('disk to another root on disk', 'disk', newFiles);
    const token =
      hsm === null
        ? []
        : [
            'anchor: { keyManager: pkcs11 }',
            `keys: { pkcs11: { module: ${hsm.module}, token: moving, pinFile: ${join(folder, 'pin')} } }`,
          ];
    hsm?.makeToken('moving');
    writeFileSync(join(folder, 'pin'), PIN, { mode: 0o600 });
    await move(`disk to self${hsm === null ? '' : ', with the key in a token'}`, 'self', () =>
      reconfigure(`upstream: { kind: self, ${disk} }`, ...token),
    );

    await Promise.all(pairs.map((pair) => pair.stopLoad()));
    await until('the logs hold every request', async () => {
      const logged = await Promise.all(pairs.map((pair) => pair.isLogged()));
      return logged.every(Boolean);
    });
    for (const pair of pairs)
      assert.deepEqual([pair.counts.failed, pair.counts.complaints], [[], []], pair.name);
    for (const workload of pairs.flatMap(({ workloads }) => workloads)) {
      assert.equal(await workload.endAgent(), 0, workload.log);
    }
    assert.equal(await plane.ca.end(), 0, plane.ca.log);
  });
});
