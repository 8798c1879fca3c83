import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { openVaultAccess } from '../../../../../ca/upstream/vault/open-vault.ts';
import type { VaultCall } from '../../../../../ca/upstream/vault/vault-client.ts';
import type { VaultSettings } from '../../../../../ca/upstream/vault/vault-settings.ts';
import { silentLog } from '../../../../../host/log.ts';
import type { ErrorCode } from '../../../../../pki/error-table.ts';
import { LIMITS } from '../../../../../pki/limits.ts';
import {
  FakeVault,
  type FakeVaultOptions,
  ROOT_TOKEN,
  type VaultFault,
} from '../../../../fakes/fake-vault.ts';
import { fixedRandom } from '../../../../fakes/fixed-random.ts';
import { NOW_MS } from '../../../../support/certificates.ts';
import { expectRejection } from '../../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { selfSignedTlsCertificate } from '../../../../support/tls-certificate.ts';
import { vaultSettings } from '../../../../support/vault.ts';

const never = new AbortController().signal;
const SIGN: VaultCall = {
  operation: 'write',
  path: 'pki/root/sign-intermediate',
  body: {},
  token: ROOT_TOKEN,
  mountKind: 'PKI secrets engine',
};

async function setUp(t: TestContext, options: FakeVaultOptions = {}, settings: Partial<VaultSettings> = {}) {
  const clock = new ManualClock(NOW_MS);
  const fake = await FakeVault.start({ now: () => clock.now(), ...options });
  t.after(() => fake.close());
  const login = { kind: 'token', tokenFile: '/nowhere' } as const;
  const access = openVaultAccess({
    settings: vaultSettings({ address: fake.url, login, clock, settings }),
    clock,
    random: fixedRandom(0.5),
    log: silentLog,
  });
  t.after(() => access.close());
  const call = (more: Partial<VaultCall> = {}, signal = never) =>
    access.client.call({ ...SIGN, ...more }, signal);
  return { fake, clock, call, client: access.client };
}

const answer = (status: number, body: object | string, headers: Record<string, string> = {}): VaultFault => ({
  kind: 'answer',
  status,
  body: typeof body === 'string' ? body : JSON.stringify(body),
  headers,
});
const errors = (...texts: readonly string[]) => ({ errors: texts });

interface Case {
  readonly name: string;
  readonly fault: VaultFault;
  readonly code: ErrorCode;
  readonly hint: RegExp;
  /** What `sys/health` answers, where it is asked. */
  readonly health?: VaultFault;
}

describe('a call to Vault', () => {
  const cases: readonly Case[] = [
    {
      name: 'sealed',
      fault: answer(503, errors('Vault is sealed')),
      code: 'vault_sealed',
      hint: /vault operator unseal/,
    },
    {
      name: 'not initialized',
      fault: answer(501, { initialized: false, sealed: true }),
      code: 'vault_sealed',
      hint: /unseal/,
    },
    {
      name: 'a standby that says 429, as sys/health does',
      fault: answer(429, { initialized: true, sealed: false, standby: true }),
      code: 'vault_standby',
      hint: /active node/,
    },
    {
      name: 'a disaster recovery secondary',
      fault: answer(472, { initialized: true, sealed: false, standby: true }),
      code: 'vault_standby',
      hint: /active node/,
    },
    { name: 'a performance standby', fault: answer(473, {}), code: 'vault_standby', hint: /load balancer/ },
    {
      name: 'a standby whose leader is not known',
      fault: answer(500, errors('local node not active but active cluster node not found')),
      code: 'vault_standby',
      hint: /active node/,
    },
    {
      name: 'a standby that redirects',
      fault: answer(307, '{}', { location: 'http://127.0.0.1:1/v1/' }),
      code: 'vault_standby',
      hint: /redirects/,
    },
    {
      name: 'a standby that redirects, as Vault does, without a body',
      fault: answer(307, '', { location: 'http://127.0.0.1:1/v1/', 'content-type': 'text/plain' }),
      code: 'vault_standby',
      hint: /active node/,
    },
    {
      name: 'a standby that lags behind',
      fault: answer(412, errors('required index state not present')),
      code: 'vault_unavailable',
      hint: /log/,
    },
    {
      name: 'permission denied',
      fault: answer(403, errors('1 error occurred:\n\t* permission denied\n\n')),
      code: 'vault_forbidden',
      hint: /path "pki\/root\/sign-intermediate" \{ capabilities = \["update"\] \}/,
    },
    {
      name: 'rate limited',
      fault: answer(429, errors('request path "pki": rate limit quota exceeded'), { 'retry-after': '7' }),
      code: 'vault_throttled',
      hint: /quota/,
    },
    {
      name: 'no such mount, in the words of Vault 1.8',
      fault: answer(404, errors("no handler for route 'pki/root/sign-intermediate'")),
      code: 'vault_mount_missing',
      hint: /no PKI secrets engine there: vault secrets list/,
    },
    {
      name: 'no such mount, in the words of OpenBao',
      fault: answer(404, errors('no handler for route "pki/x". route entry not found.')),
      code: 'vault_mount_missing',
      hint: /vault secrets list/,
    },
    {
      name: 'no such namespace',
      fault: answer(404, errors('namespace not found')),
      code: 'vault_namespace_missing',
      hint: /upstream.vault.namespace/,
    },
    {
      name: 'another refusal',
      fault: answer(400, errors('"csr" is empty')),
      code: 'vault_refused',
      hint: /audit log/,
    },
    {
      name: 'an error of its own',
      fault: answer(500, errors('boom')),
      code: 'vault_unavailable',
      hint: /log/,
    },
    {
      name: 'HTML with the status of success',
      fault: answer(200, '<!doctype html><p>sign in', { 'content-type': 'text/html' }),
      code: 'vault_answer_html',
      hint: /proxies/,
    },
    {
      name: 'HTML that says it were JSON',
      fault: answer(200, '\n <html></html>'),
      code: 'vault_answer_html',
      hint: /proxies/,
    },
    { name: 'an empty body', fault: answer(200, ''), code: 'vault_answer_empty', hint: /proxies/ },
    {
      name: 'another content type',
      fault: answer(200, '{}', { 'content-type': 'text/plain' }),
      code: 'vault_answer_not_json',
      hint: /proxies/,
    },
    {
      name: 'JSON that is cut off',
      fault: answer(200, '{"data":'),
      code: 'vault_answer_not_json',
      hint: /proxies/,
    },
    {
      name: 'bytes that are no text',
      fault: answer(200, '{"\u00e9'),
      code: 'vault_answer_not_json',
      hint: /proxies/,
    },
    {
      name: 'JSON that is no object',
      fault: answer(200, '[1]'),
      code: 'vault_answer_invalid',
      hint: /proxies/,
    },
    {
      name: 'a huge body',
      fault: answer(200, `{"x":"${'y'.repeat(LIMITS.vaultAnswerBytes)}"}`),
      code: 'vault_answer_too_large',
      hint: /upstream.vault.address/,
    },
    {
      name: 'a connection that is cut',
      fault: { kind: 'cut' },
      code: 'vault_unreachable',
      hint: /Vault runs/,
    },
    {
      name: 'an answer that is cut',
      fault: { kind: 'cut body' },
      code: 'vault_unreachable',
      hint: /Vault runs/,
    },
    {
      name: 'a load balancer before a sealed Vault',
      fault: answer(503, '<html>no backend', { 'content-type': 'text/html' }),
      health: answer(503, { initialized: true, sealed: true, standby: true }),
      code: 'vault_sealed',
      hint: /unseal/,
    },
    {
      name: 'a load balancer before a standby',
      fault: answer(502, ''),
      health: answer(429, { initialized: true, sealed: false }),
      code: 'vault_standby',
      hint: /active node/,
    },
  ];
  for (const { name, fault, health, code, hint } of cases) {
    it(`says ${code} of ${name}`, async (t) => {
      const { fake, call } = await setUp(t);
      fake.next(/sign-intermediate/, fault);
      if (health !== undefined) fake.next(/sys\/health/, health);
      const error = await expectRejection(code, call());
      assert.match(error.hint ?? '', hint);
      assert.doesNotMatch(`${error.message}${error.hint}`, new RegExp(ROOT_TOKEN));
    });
  }

  it('has a code of its own for each way of being no answer', () => {
    const ways = cases.filter(({ code }) => code.startsWith('vault_answer')).map(({ code }) => code);
    assert.equal(new Set(ways).size, 5);
  });

  it('waits as long as Vault says when it is throttled, at most ten minutes', async (t) => {
    const { fake, call } = await setUp(t);
    for (const [after, wantMs] of [
      ['7', 7_000],
      ['999999', 600_000],
      ['soon', undefined],
    ] as const) {
      fake.next(/sign/, answer(429, errors('quota exceeded'), { 'retry-after': after }));
      assert.equal((await expectRejection('vault_throttled', call())).retryAfterMs, wantMs);
    }
  });

  it('goes to no other server that an answer names', async (t) => {
    const { fake, call } = await setUp(t);
    const other = await FakeVault.start();
    t.after(() => other.close());
    fake.next(/sign/, answer(307, '{}', { location: `${other.url}/v1/pki/root/sign-intermediate` }));
    await expectRejection('vault_standby', call());
    assert.equal(other.seen.length, 0);
  });

  it('ends when its time is over, and when it is told to', async (t) => {
    const { fake, clock, call } = await setUp(t);
    fake.next(/sign/, { kind: 'silence' }, true);
    const late = expectRejection('vault_unreachable', call());
    while (fake.seen.length === 0) await settle();
    await clock.advance(5_000);
    assert.match((await late).message, /did not answer in 5000 ms/);
    const stop = new AbortController();
    const reason = new Error('stop');
    const stopped = assert.rejects(call({}, stop.signal), reason);
    while (fake.seen.length === 1) await settle();
    stop.abort(reason);
    await stopped;
  });

  it('takes nothing from the environment of other clients of Vault', async (t) => {
    const before = { ...process.env };
    t.after(() => {
      process.env = before;
    });
    Object.assign(process.env, {
      VAULT_ADDR: 'http://127.0.0.1:1',
      VAULT_TOKEN: 'from-the-environment',
      VAULT_NAMESPACE: 'other',
      VAULT_PREFIX: '/other',
      VAULT_SKIP_VERIFY: 'true',
    });
    const { fake, client } = await setUp(t);
    fake.mountPki('pki');
    await expectRejection('vault_refused', client.call({ operation: 'read', path: 'pki/cert/ca' }, never));
    const [{ request } = assert.fail()] = fake.seen;
    assert.deepEqual([request.token, request.namespace, request.path], [undefined, undefined, 'pki/cert/ca']);
  });

  it('names the namespace that is configured', async (t) => {
    const { fake, call } = await setUp(t, {}, { namespace: 'team/a' });
    await expectRejection('vault_namespace_missing', call());
    fake.namespaces.add('team/a');
    await expectRejection('vault_mount_missing', call());
  });

  it('knows how far the clock of Vault is from ours', async (t) => {
    const clock = new ManualClock(NOW_MS);
    const { fake, client } = await setUp(t, { now: () => clock.now() + 120_000 });
    fake.mountPki('pki');
    await expectRejection('vault_refused', client.call({ operation: 'read', path: 'pki/cert/ca' }, never));
    assert.equal(client.clockSkewMs, 120_000);
  });
});

describe('TLS to Vault', () => {
  it('takes a certificate of the configured CA alone, and for the configured name', async (t) => {
    const { certificate, key } = await selfSignedTlsCertificate('vault.example');
    const folder = temporaryFolder(t);
    const authoritiesFile = join(folder, 'ca.pem');
    writeFileSync(authoritiesFile, certificate);
    const tls = { cert: certificate, key };
    const unknown = await setUp(t, { tls });
    const refused = await expectRejection('vault_unreachable', unknown.call());
    assert.match(refused.hint ?? '', /upstream.vault.authoritiesFile/);
    // The address is an IP address, which is in the certificate; SNI and check by the name of it.
    const good = await setUp(t, { tls }, { authoritiesFile, serverName: 'vault.example' });
    await expectRejection('vault_mount_missing', good.call());
    const misnamed = await setUp(t, { tls }, { authoritiesFile, serverName: 'other.example' });
    const wrong = await expectRejection('vault_unreachable', misnamed.call());
    assert.match(wrong.hint ?? '', /serverName/);
  });

  it('follows a CA file that is replaced, and keeps the last good one while it is broken', async (t) => {
    const [one, other] = [await selfSignedTlsCertificate(), await selfSignedTlsCertificate()];
    const authoritiesFile = join(temporaryFolder(t), 'ca.pem');
    writeFileSync(authoritiesFile, other.certificate);
    const { call, clock } = await setUp(
      t,
      { tls: { cert: one.certificate, key: one.key } },
      { authoritiesFile },
    );
    await expectRejection('vault_unreachable', call());
    writeFileSync(authoritiesFile, one.certificate);
    await clock.advance(10_000);
    await expectRejection('vault_mount_missing', call());
    writeFileSync(authoritiesFile, '-----BEGIN CERTIFICATE-----\nnot\n-----END CERTIFICATE-----\n');
    await clock.advance(10_000);
    await expectRejection('vault_mount_missing', call());
  });

  it('says which setting to look at when the files make no sense', async (t) => {
    const { certificate, key } = await selfSignedTlsCertificate();
    const other = await selfSignedTlsCertificate();
    const folder = temporaryFolder(t);
    const [certificateFile, keyFile] = [join(folder, 'client.pem'), join(folder, 'client.key')];
    writeFileSync(certificateFile, certificate);
    writeFileSync(keyFile, other.key);
    const { call } = await setUp(t, { tls: { cert: certificate, key } }, { certificateFile, keyFile });
    const error = await expectRejection('config_invalid', call());
    assert.match(error.hint ?? '', /certificateFile/);
  });
});
