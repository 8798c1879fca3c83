/**
 * A CA above and a nested one, each with a workload, while the root above is replaced: at every moment each workload's
 * SVID verifies against the bundle that the other one has.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { decodePem } from '../../pki/pem.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { freePort, IdentityPlane, until } from '../support/identity-plane.ts';
import { runKedge } from '../support/kedge-process.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { makeHierarchy, UpstreamFiles } from '../support/upstream-files.ts';

const DAY_MS = 86_400_000;
const PATIENCE_MS = 180_000;
const TIMES = 'svid: { ttl: 60s, backdate: 1s }\nissuer: { lifetime: 10m, renewAfter: 5m }\nclockSkew: 1s';

interface Status {
  readonly anchors: readonly { readonly id: string; readonly phase: string }[];
  readonly lifecycle: string;
}

describe('a rotation above a nested CA', () => {
  it('takes both fleets along, and neither stops to verify the other', { timeout: 400_000 }, async (t) => {
    const folder = temporaryFolder(t);
    const files = new UpstreamFiles(join(folder, 'root'));
    mkdirSync(join(folder, 'root'));
    const newRoot = async (): Promise<void> => {
      const validity = { notBeforeMs: Date.now() - DAY_MS, notAfterMs: Date.now() + DAY_MS };
      const { root, intermediate } = await makeHierarchy({ root: validity, intermediate: validity });
      files.writePair(intermediate, root);
    };
    await newRoot();
    const port = await freePort();
    const { certificateFile, keyFile } = files.settings;
    mkdirSync(join(folder, 'above'));
    const above = await IdentityPlane.start(
      t,
      join(folder, 'above'),
      [
        TIMES,
        `upstream: { kind: disk, disk: { certificateFile: ${certificateFile}, keyFile: ${keyFile} } }`,
        `downstream: { address: "127.0.0.1:${port}", allow: ["spiffe://example.org/ns/demo/sa/east-ca"] }`,
      ].join('\n'),
    );
    const agentFolder = (plane: IdentityPlane, name: string): string => join(plane.folder, `${name}-files`);
    const agent = async (plane: IdentityPlane, name: string): Promise<string> => {
      const made = agentFolder(plane, name);
      const daemon = await plane.agent(name, ['--files-folder', made]);
      await until(`${name} has its files: ${daemon.log}`, () => daemon.events('feed.published').length > 0);
      return made;
    };
    const identity = await agent(above, 'east-ca');
    mkdirSync(join(folder, 'east'));
    const kedge = JSON.stringify({
      address: `127.0.0.1:${port}`,
      certificateFile: join(identity, 'tls.crt'),
      keyFile: join(identity, 'tls.key'),
      bundleFile: join(identity, 'ca.crt'),
      pollInterval: '500ms',
    });
    const east = await IdentityPlane.start(
      t,
      join(folder, 'east'),
      `${TIMES}\nupstream: { kind: kedge, kedge: ${kedge} }`,
    );
    const workloads = [await agent(above, 'web'), await agent(east, 'shop')];

    const certificates = (path: string): Uint8Array[] => decodePem(readFileSync(path, 'utf8'), 'CERTIFICATE');
    let looks = 0;
    const noSplit = (): void => {
      looks += 1;
      // What is presented is read before what it is held against: a bundle only ever gets ahead.
      for (const one of workloads) {
        const chain = certificates(join(one, 'tls.crt'));
        for (const other of workloads) {
          const anchors = certificates(join(other, 'ca.crt'));
          verifyX509Svid({ chain, bundles: () => anchors, nowMs: Date.now() });
        }
      }
    };
    const statusOf = async (plane: IdentityPlane): Promise<Status> => {
      const { stdout } = await runKedge(['status', '--data', join(plane.folder, 'ca'), '--output', 'json']);
      return JSON.parse(stdout) as Status;
    };
    noSplit();
    const before = (await statusOf(above)).anchors[0]?.id;
    await newRoot();
    const stop = new AbortController();
    const checking = (async () => {
      while (!stop.signal.aborted) {
        noSplit();
        await delay(50);
      }
    })();
    let last: readonly Status[] = [];
    try {
      await until(
        'both have only the new root',
        async () => {
          await delay(500);
          last = await Promise.all([statusOf(above), statusOf(east)]);
          return last.every(({ anchors }) => anchors.length === 1 && anchors[0]?.id !== before);
        },
        PATIENCE_MS,
      ).catch((error: unknown) => {
        throw new Error(`${String(error)}: ${JSON.stringify(last)}`);
      });
    } finally {
      stop.abort();
      await checking;
    }
    noSplit();
    t.diagnostic(`${looks} looks at both workloads, each verified by both`);
    assert.ok(looks > 50, `${looks} looks`);
    assert.equal(last[0]?.anchors[0]?.id, last[1]?.anchors[0]?.id);
  });
});
