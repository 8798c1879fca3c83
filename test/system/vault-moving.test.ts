/** Under traffic: from the embedded anchor to Vault, to another root there, and to another Vault. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { decodePem } from '../../pki/pem.ts';
import { FakeVault } from '../fakes/fake-vault.ts';
import { IdentityPlane, until } from '../support/identity-plane.ts';
import { runKedge } from '../support/kedge-process.ts';
import { nginxSkip } from '../support/nginx.ts';
import { ProxiedPair } from '../support/proxied-pair.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { root } from '../support/vault-bed.ts';
import { documentedPolicy } from '../support/vault-policy.ts';

type Names = Readonly<Record<string, unknown>>;

const POLICY = 'defaults: { dnsNames: ["{serviceAccount}.{namespace}.svc"] }\n';

const LIVES = [
  'policy: { file: policy.yaml }',
  'svid: { ttl: 20s, backdate: 1s }',
  'issuer: { lifetime: 20m, renewAfter: 10m }',
  'clockSkew: 1s',
];

/** A Vault with a root, and the lines of a configuration that has its root there. */
async function startVault(t: TestContext, folder: string, name: string) {
  const fake = await FakeVault.start();
  t.after(() => fake.close());
  const pki = fake.mountPki('pki');
  const { der } = await pki.generateRoot(root(name) as Names);
  fake.policy('kedge', documentedPolicy());
  const tokenFile = join(folder, `${name}.token`);
  writeFileSync(tokenFile, fake.token({ policies: ['kedge'], ttlSeconds: null }));
  const vault = `{ address: "${fake.url}", login: token, tokenFile: "${tokenFile}", pollInterval: 1s }`;
  return { fake, pki, rootDer: der, vault };
}

describe('a trust domain that moves', { skip: nginxSkip }, () => {
  it('to Vault, to another root there, and to another Vault, without a failed request', async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'policy.yaml'), POLICY);
    const [one, other] = [await startVault(t, folder, 'A'), await startVault(t, folder, 'C')];
    const settings = (upstream: string): string => [...LIVES, `upstream: { ${upstream} }`].join('\n');
    const plane = await IdentityPlane.start(t, folder, settings('kind: self'));
    const bundle = async (): Promise<readonly Uint8Array[]> => {
      const shown = await runKedge(['bundle', 'show', '--data', join(folder, 'ca'), '--output', 'pem']);
      return shown.code === 0 ? decodePem(shown.stdout, 'CERTIFICATE') : [];
    };
    /** Until that root is the only one that is trusted. */
    const arrives = (what: string, rootDer: Uint8Array): Promise<void> =>
      until(
        what,
        async () => {
          const trusted = await bundle();
          return trusted.length === 1 && Buffer.from(rootDer).equals(trusted[0] ?? new Uint8Array());
        },
        100_000,
      ).catch((error: unknown) => {
        throw new Error(`${String(error).slice(0, 200)}: ${plane.ca.log.slice(-3_000)}`);
      });
    const pair = await ProxiedPair.start(t, plane, folder, ['nginx', 'nginx']);
    const reconfigure = async (upstream: string): Promise<void> => {
      await plane.ca.end();
      const file = join(folder, 'kedge.yaml');
      const listen = `listen: { grpc: "127.0.0.1:${plane.grpcPort}", http: "127.0.0.1:${plane.httpPort}" }`;
      writeFileSync(file, `dataFolder: ${join(folder, 'ca')}\n${listen}\n${settings(upstream)}\n`);
      await plane.restartCa();
    };

    await reconfigure(`kind: vault, vault: ${one.vault}`);
    await arrives('self to Vault', one.rootDer);

    const next = await one.pki.generateRoot(root('B', { issuer_name: 'root-b' }) as Names);
    one.pki.defaultId = next.id;
    await arrives('another root in Vault', next.der);

    await reconfigure(`kind: vault, vault: ${other.vault}`);
    await arrives('another Vault', other.rootDer);

    const { requests, failed, complaints } = pair.counts;
    assert.deepEqual(failed, []);
    assert.deepEqual(complaints, []);
    assert.ok(requests > 100, `${requests} requests`);
    // Nothing was signed under a root before it was trusted: two issuers in the first Vault, one in the second.
    assert.deepEqual(
      [one, other].map(({ fake }) => fake.count(/sign-intermediate$/)),
      [2, 1],
    );
  });
});
