import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { openVaultAccess } from '../../../../../ca/upstream/vault/open-vault.ts';
import { VaultTransit } from '../../../../../ca/upstream/vault/vault-transit.ts';
import { silentLog } from '../../../../../host/log.ts';
import { FakeVault } from '../../../../fakes/fake-vault.ts';
import { fixedRandom } from '../../../../fakes/fixed-random.ts';
import { NOW_MS } from '../../../../support/certificates.ts';
import { expectRejection } from '../../../../support/expect-code.ts';
import { ManualClock } from '../../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { vaultSettings } from '../../../../support/vault.ts';

const never = new AbortController().signal;
const POLICY = `
path "transit/encrypt/kedge" { capabilities = ["update"] }
path "transit/decrypt/kedge" { capabilities = ["update"] }
path "transit/rewrap/kedge" { capabilities = ["update"] }
`;
const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i);

async function setUp(t: TestContext) {
  const clock = new ManualClock(NOW_MS);
  const fake = await FakeVault.start({ now: () => clock.now() });
  t.after(() => fake.close());
  fake.policy('kedge', POLICY);
  fake.mountTransit('transit');
  await fetch(`${fake.url}/v1/transit/keys/kedge`, {
    method: 'POST',
    headers: { 'x-vault-token': 'root-token' },
  });
  const tokenFile = join(temporaryFolder(t), 'token');
  writeFileSync(tokenFile, fake.token({ policies: ['kedge'], ttlSeconds: null }));
  const login = { kind: 'token', tokenFile } as const;
  const settings = vaultSettings({ address: fake.url, login, clock });
  const access = openVaultAccess({ settings, clock, random: fixedRandom(0.5), log: silentLog });
  t.after(() => access.close());
  const rotate = () =>
    fetch(`${fake.url}/v1/transit/keys/kedge/rotate`, {
      method: 'POST',
      headers: { 'x-vault-token': 'root-token' },
    });
  const transit = new VaultTransit({ session: access.session, mount: 'transit', key: 'kedge' });
  return { fake, transit, rotate, session: access.session };
}

describe('sealing by Vault Transit', () => {
  it('gives back what was sealed, also by an older version of the key', async (t) => {
    const { transit, rotate } = await setUp(t);
    const sealed = await transit.encrypt(SECRET, never);
    assert.match(sealed, /^vault:v1:/);
    await rotate();
    assert.deepEqual(await transit.decrypt(sealed, never), SECRET);
    const again = await transit.rewrap(sealed, never);
    assert.match(again, /^vault:v2:/);
    assert.deepEqual(await transit.decrypt(again, never), SECRET);
  });

  it('refuses what another key has sealed, or nobody', async (t) => {
    const { transit } = await setUp(t);
    const sealed = await transit.encrypt(SECRET, never);
    const altered = `${sealed.slice(0, -8)}AAAA${sealed.slice(-4)}`;
    for (const bad of [altered, 'vault:v1:AAAA', 'vault:v9:AAAA', 'AAAA', '', 'vault:v1:<x>']) {
      await expectRejection('key_sealed', transit.decrypt(bad, never));
    }
  });

  it('says how to make a key that is missing, and does not make it by sealing', async (t) => {
    const { fake, session } = await setUp(t);
    fake.policy('kedge', POLICY.replaceAll('/kedge"', '/other"'));
    const other = new VaultTransit({ session, mount: 'transit', key: 'other' });
    const error = await expectRejection('key_sealed', other.decrypt('vault:v1:AAAA', never));
    assert.match(error.hint ?? '', /vault write -f transit\/keys\/other/);
    await expectRejection('vault_forbidden', other.encrypt(SECRET, never));
  });

  it('has nothing of what it seals in its errors', async (t) => {
    const { fake, transit } = await setUp(t);
    fake.next(/encrypt/, { kind: 'answer', status: 400, body: '{"errors":["no"]}' });
    const error = await expectRejection('key_sealed', transit.encrypt(SECRET, never));
    assert.doesNotMatch(
      JSON.stringify(error),
      new RegExp(Buffer.from(SECRET).toString('base64').slice(0, 12)),
    );
  });
});
