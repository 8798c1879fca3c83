import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { openVaultAccess } from '../../../../../ca/upstream/vault/open-vault.ts';
import type { VaultLogin, VaultSettings } from '../../../../../ca/upstream/vault/vault-settings.ts';
import { silentLog } from '../../../../../host/log.ts';
import type { ErrorCode } from '../../../../../pki/error-table.ts';
import type { KedgeError } from '../../../../../pki/kedge-error.ts';
import type { VaultAuthMount } from '../../../../fakes/vault/vault-auth.ts';
import { FakeVault, type FakeVaultOptions } from '../../../../fakes/fake-vault.ts';
import { fixedRandom } from '../../../../fakes/fixed-random.ts';
import { NOW_MS } from '../../../../support/certificates.ts';
import { expectRejection } from '../../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { selfSignedTlsCertificate } from '../../../../support/tls-certificate.ts';
import { vaultSettings } from '../../../../support/vault.ts';

const never = new AbortController().signal;
const READ = { operation: 'read', path: 'secret/thing' } as const;
const POLICY = `
path "secret/thing" { capabilities = ["read"] }
`;

/** A call that only a good token gets through with: 404, for nothing is mounted there. */
async function setUp(
  t: TestContext,
  makeLogin: (fake: FakeVault, file: (name: string, text: string) => string) => VaultLogin,
  options: FakeVaultOptions = {},
  settings: Partial<VaultSettings> = {},
) {
  const clock = new ManualClock(NOW_MS);
  const fake = await FakeVault.start({ now: () => clock.now(), ...options });
  t.after(() => fake.close());
  fake.policy('kedge', POLICY);
  const folder = temporaryFolder(t);
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const login = makeLogin(fake, file);
  const access = openVaultAccess({
    settings: vaultSettings({ address: fake.url, login, clock, settings }),
    clock,
    random: fixedRandom(0.5),
    log: silentLog,
  });
  t.after(() => access.close());
  const fails = (code: ErrorCode): Promise<KedgeError> =>
    expectRejection(code, access.session.call(READ, never));
  const works = async (): Promise<void> => void (await fails('vault_mount_missing'));
  const logins = (): number => fake.count(/^POST auth\/[^/]+\/login$/);
  const renewals = (): number => fake.count(/renew-self/);
  /** Waits for what goes over real sockets. */
  const until = async (isDone: () => boolean): Promise<void> => {
    while (!isDone()) await settle();
  };
  return { fake, clock, file, works, fails, logins, renewals, until, session: access.session };
}

const appRole = (fake: FakeVault, file: (name: string, text: string) => string): VaultLogin => {
  const role = fake.mountAuth('approle', 'approle').role('kedge', { policies: ['kedge'] });
  role.secretIds.add('secret-1');
  return {
    kind: 'appRole',
    mount: 'approle',
    roleIdFile: file('role-id', `${role.roleId}\n`),
    secretIdFile: file('secret-id', 'secret-1\n'),
  };
};

describe('a session with Vault', () => {
  it('logs in by an AppRole', async (t) => {
    const { works, logins } = await setUp(t, appRole);
    await works();
    await works();
    assert.equal(logins(), 1);
  });

  for (const kind of ['kubernetes', 'jwt'] as const) {
    it(`logs in by ${kind}, with the token that is in the file at that moment`, async (t) => {
      const { works, fails, file, fake, logins } = await setUp(t, (fake, file) => {
        fake.mountAuth(kind, kind).role('kedge', { policies: ['kedge'], jwt: 'a.b.c' });
        return { kind, mount: kind, role: 'kedge', tokenFile: file('token', 'x.y.z') };
      });
      const refused = await fails('vault_login_refused');
      assert.match(refused.hint ?? '', new RegExp(`vault read auth/${kind}/role/kedge`));
      assert.doesNotMatch(refused.message, /x\.y\.z/);
      file('token', 'a.b.c\n');
      await works();
      fake.tokens.revokeAll();
      await works();
      assert.equal(logins(), 3);
    });
  }

  it('logs in by a TLS client certificate', async (t) => {
    const server = await selfSignedTlsCertificate();
    const client = await selfSignedTlsCertificate('kedge-ca');
    const folder = temporaryFolder(t);
    const path = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const tls = {
      cert: server.certificate,
      key: server.key,
      ca: client.certificate,
      requestCert: true,
      rejectUnauthorized: false,
    };
    const { works } = await setUp(
      t,
      (fake) => {
        fake.mountAuth('cert', 'cert').role('kedge', { policies: ['kedge'], commonName: 'kedge-ca' });
        return { kind: 'certificate', mount: 'cert', role: 'kedge' };
      },
      { tls },
      {
        authoritiesFile: path('ca.pem', server.certificate),
        certificateFile: path('client.pem', client.certificate),
        keyFile: path('client.key', client.key),
      },
    );
    await works();
  });

  it('uses the token of a file, and another one that is put there', async (t) => {
    const { fake, works, fails, file } = await setUp(t, (fake, file) => ({
      kind: 'token',
      tokenFile: file('token', fake.token({ policies: ['kedge'], ttlSeconds: null })),
    }));
    await works();
    fake.tokens.revokeAll();
    const refused = await fails('vault_login_refused');
    assert.match(refused.hint ?? '', /write a new one into the file/);
    file('token', fake.token({ policies: ['kedge'], ttlSeconds: null }));
    await works();
  });

  for (const flavour of ['vault-1.8', 'openbao-2.6'] as const) {
    it(`tells wrong credentials from an auth method that is not there (${flavour})`, async (t) => {
      const { fake, fails } = await setUp(t, appRole, { flavour });
      fake.mounts.delete('auth/approle/');
      const missing = await fails('vault_login_refused');
      assert.match(missing.hint ?? '', /vault auth list/);
      fake.mountAuth('approle', 'approle');
      const wrong = await fails('vault_login_refused');
      assert.match(wrong.message, /invalid role/);
    });
  }

  it('renews its token before it ends, and logs in again when it has lived its longest', async (t) => {
    const { clock, works, renewals, logins, until } = await setUp(t, appRole);
    await works();
    // 120 s each, 300 s in all: renewed at 80, 160 and 240 s, when there are 60 s left; at 280 s it is not worth it.
    for (const [atSeconds, wantRenewals, wantLogins] of [
      [79, 0, 1],
      [80, 1, 1],
      [160, 2, 1],
      [240, 3, 1],
      [280, 4, 2],
    ] as const) {
      await clock.advance(atSeconds * 1_000 - clock.monotonic());
      await until(() => renewals() === wantRenewals && logins() === wantLogins);
      await works();
    }
  });

  it('logs in again before its end where a token cannot be renewed', async (t) => {
    const { clock, works, renewals, logins, until } = await setUp(t, (fake, file) => {
      const login = appRole(fake, file);
      const { roles } = fake.mounts.get('auth/approle/') as VaultAuthMount;
      roles.get('kedge')!.renewable = false;
      return login;
    });
    await works();
    await clock.advance(80_000);
    await until(() => logins() === 2);
    assert.equal(renewals(), 0);
    await works();
  });

  it('logs in again, once, when Vault suddenly takes the token no more', async (t) => {
    const { fake, works, logins } = await setUp(t, appRole);
    await works();
    fake.tokens.revokeAll();
    await Promise.all([works(), works(), works()]);
    assert.equal(logins(), 2);
  });

  it('says that a policy is missing when the token is good, without a new login', async (t) => {
    const { fake, session, logins } = await setUp(t, appRole);
    fake.policy('kedge', 'path "other" { capabilities = ["read"] }');
    const error = await expectRejection('vault_forbidden', session.call(READ, never));
    assert.match(error.hint ?? '', /path "secret\/thing" \{ capabilities = \["read"\] \}/);
    assert.equal(logins(), 1);
  });

  it('goes on with a token that is still good while it cannot be renewed, and retries with back-off', async (t) => {
    const { clock, fake, works, renewals, until } = await setUp(t, appRole);
    await works();
    fake.next(/renew-self/, { kind: 'cut' }, true);
    await clock.advance(80_000);
    // By the loop, and by the call.
    await until(() => renewals() === 1);
    await works();
    assert.equal(renewals(), 2);
    await settle();
    // The first wait is half of a second: full jitter, the fraction being a half.
    await clock.advance(400);
    assert.equal(renewals(), 2);
    await clock.advance(200);
    await until(() => renewals() === 3);
    fake.faults = [];
    await settle();
    await clock.advance(60_000);
    await works();
  });

  it('recovers by itself after Vault was sealed beyond the life of its token', async (t) => {
    const { clock, fake, works, fails, logins } = await setUp(t, appRole);
    await works();
    fake.isSealed = true;
    await clock.advance(400_000);
    await fails('vault_sealed');
    fake.isSealed = false;
    await works();
    assert.ok(logins() >= 2);
  });

  it('ends a call, but not the login that another one waits for', async (t) => {
    const { fake, session, works, logins } = await setUp(t, appRole);
    fake.next(/login$/, { kind: 'silence' });
    const stop = new AbortController();
    const first = assert.rejects(session.call(READ, stop.signal), /stop/);
    const second = works();
    while (fake.seen.length === 0) await settle();
    stop.abort(new Error('stop'));
    await Promise.all([first, second]);
    assert.equal(logins(), 2);
  });
});
