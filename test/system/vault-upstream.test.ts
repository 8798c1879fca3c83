/** A CA process with its root in Vault, and an agent: Vault comes and goes, and nobody notices but the operator. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { decodePem } from '../../pki/pem.ts';
import { FakeVault } from '../fakes/fake-vault.ts';
import type { VaultFlavour } from '../fakes/vault/vault-answer.ts';
import { IdentityPlane, type KedgeDaemon, until } from '../support/identity-plane.ts';
import { runKedge } from '../support/kedge-process.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { root } from '../support/vault-bed.ts';
import { documentedPolicy } from '../support/vault-policy.ts';

/** A Vault with a root, and a role for the CA with the documented policy; its settings, as lines of YAML. */
async function startVault(t: TestContext, folder: string, flavour: VaultFlavour) {
  const fake = await FakeVault.start({ flavour });
  t.after(() => fake.close().catch(() => undefined));
  const pki = fake.mountPki('pki');
  await pki.generateRoot(root('A') as Readonly<Record<string, unknown>>);
  fake.policy('kedge', documentedPolicy());
  const role = fake.mountAuth('approle', 'approle').role('kedge', { policies: ['kedge'], ttlSeconds: 20 });
  role.secretIds.add('the-secret-id');
  writeFileSync(join(folder, 'role-id'), role.roleId);
  writeFileSync(join(folder, 'secret-id'), 'the-secret-id\n');
  const settings = [
    'svid: { ttl: 4s, backdate: 1s }',
    'issuer: { lifetime: 60s, renewAfter: 5s }',
    'upstream:',
    '  kind: vault',
    `  vault: { address: "${fake.url}", login: appRole, roleIdFile: role-id, secretIdFile: secret-id, pollInterval: 1s, timeout: 2s }`,
  ].join('\n');
  return { fake, pki, settings };
}

/** Vault's process ends, and comes back at the same address. */
function outage(fake: FakeVault): { begin(): Promise<void>; end(): Promise<void> } {
  const { port } = fake;
  return { begin: () => fake.close(), end: () => fake.listen(port) };
}

async function metric(plane: IdentityPlane, name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${plane.httpPort}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}

async function bundle(plane: IdentityPlane): Promise<readonly Uint8Array[]> {
  const shown = await runKedge(['bundle', 'show', '--data', join(plane.folder, 'ca'), '--output', 'pem']);
  assert.equal(shown.code, 0, shown.stderr);
  return decodePem(shown.stdout, 'CERTIFICATE');
}

const issued = (agent: KedgeDaemon): number => agent.events('svid.issued').length;

/** An agent that writes files, and renews every few seconds. */
async function startAgent(plane: IdentityPlane): Promise<KedgeDaemon> {
  const out = join(plane.folder, 'web', 'out');
  mkdirSync(out, { recursive: true, mode: 0o700 });
  const agent = await plane.agent('web', [
    '--files-folder',
    out,
    '--socket',
    join(plane.folder, 'web', 's.sock'),
  ]);
  await until('the agent has an SVID', () => issued(agent) > 0);
  return agent;
}

for (const flavour of ['vault-1.8', 'openbao-2.6'] as const) {
  describe(`a CA under ${flavour}`, () => {
    it('signs under the root of Vault, through an outage, a restart in it, and beyond', async (t) => {
      const folder = temporaryFolder(t);
      const { fake, pki, settings } = await startVault(t, folder, flavour);
      const plane = await IdentityPlane.start(t, folder, settings);
      assert.deepEqual(await bundle(plane), [pki.default!.der]);
      const agent = await startAgent(plane);
      const vault = outage(fake);
      const mints = (): number => fake.count(/sign-intermediate$/);

      await until('issuers are replaced', () => mints() >= 2);
      await vault.begin();
      await until('the outage is seen', async () => (await metric(plane, 'kedge_upstream_ok')) === 0);
      const before = issued(agent);
      await until('SVIDs are issued without Vault', () => issued(agent) >= before + 2);
      assert.ok((await metric(plane, 'kedge_issuer_expiry_timestamp_seconds')) > Date.now() / 1_000 + 5);

      assert.equal(await plane.ca.end(), 0);
      await plane.restartCa();
      const restarted = issued(agent);
      await until('SVIDs are issued after a start without Vault', () => issued(agent) >= restarted + 1);

      const mintsBefore = mints();
      await vault.end();
      await until(
        'the CA has recovered by itself',
        async () => (await metric(plane, 'kedge_upstream_ok')) === 1,
      );
      await until('issuers are replaced again', () => mints() > mintsBefore);
      const after = issued(agent);
      await until('SVIDs are issued', () => issued(agent) > after);
    });

    it('waits for a sealed Vault when it has nothing to sign with, and says so', async (t) => {
      const folder = temporaryFolder(t);
      const { fake, settings } = await startVault(t, folder, flavour);
      fake.isSealed = true;
      const starting = IdentityPlane.start(t, folder, settings);
      await until('Vault is asked', () => fake.seen.length > 2);
      fake.isSealed = false;
      const plane = await starting;
      const failed = plane.ca.events('authority_engine.failed');
      assert.equal(failed[0]?.['code'], 'vault_sealed');
      assert.match(String(failed[0]?.['hint']), /vault operator unseal/);
    });

    it('says which line of the policy is missing, and starts when it is there', async (t) => {
      const folder = temporaryFolder(t);
      const { fake, settings } = await startVault(t, folder, flavour);
      fake.policy('kedge', 'path "nothing" { capabilities = ["read"] }');
      const starting = IdentityPlane.start(t, folder, settings);
      await until('Vault has refused', () => fake.count(/sign-intermediate$/) > 0);
      fake.policy('kedge', documentedPolicy());
      const plane = await starting;
      const [failure] = plane.ca.events('authority_engine.failed');
      assert.equal(failure?.['code'], 'vault_forbidden');
      assert.match(
        String(failure?.['hint']),
        /path "pki\/root\/sign-intermediate" \{ capabilities = \["update"\] \}/,
      );
      assert.doesNotMatch(plane.ca.log, /the-secret-id/);
    });
  });
}
