import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Pkcs11KeyManager } from '../../../../../ca/keys/pkcs11/pkcs11-key-manager.ts';
import type { ErrorCode } from '../../../../../pki/error-table.ts';
import { keyManagerConformance } from '../../../../conformance/key-manager.ts';
import { FakeToken } from '../../../../fakes/fake-token.ts';
import { expectRejection } from '../../../../support/expect-code.ts';
import { InlineTokenThread } from '../../../../support/token-threads.ts';

const DATA = Buffer.from('what is to be signed');

function setUp(token = new FakeToken()) {
  const pin = { value: token.pin };
  const open = (): Pkcs11KeyManager =>
    new Pkcs11KeyManager({
      trustDomain: 'example.org',
      token: 'kedge',
      pin: async () => pin.value,
      thread: new InlineTokenThread(token.addon()),
    });
  return { token, pin, open, keys: open() };
}

for (const givesRawPoints of [false, true]) {
  keyManagerConformance(`a token that gives ${givesRawPoints ? 'raw' : 'wrapped'} EC points`, () => {
    const token = new FakeToken();
    token.givesRawPoints = givesRawPoints;
    const { open } = setUp(token);
    return { manager: 'pkcs11', algorithms: ['ec-p256', 'ec-p384', 'rsa-3072'], open: async () => open() };
  });
}

describe('keys in a PKCS#11 token', () => {
  it('are sensitive and not extractable, and have a label that says whose they are', async () => {
    const { token, keys } = setUp();
    await keys.generate('anchor-1', 'ec-p256');
    const stored = [...token.objects.values()];
    assert.deepEqual(
      stored.map(({ label }) => label),
      ['kedge example.org anchor-1', 'kedge example.org anchor-1'],
    );
    assert.equal(stored.filter(({ isPrivate }) => isPrivate).length, 1);
  });

  it('are refused, and destroyed, when the token makes them extractable all the same', async () => {
    const { token, keys } = setUp();
    token.makesExtractable = true;
    const error = await expectRejection('key_algorithm_unsupported', keys.generate('key', 'ec-p256'));
    assert.match(error.message, /can be taken out/);
    assert.equal(token.objects.size, 0);
  });

  it('are gone from the token once destroyed: the private and the public part', async () => {
    const { token, keys } = setUp();
    const handle = await keys.generate('key', 'ec-p256');
    assert.equal(token.objects.size, 2);
    await keys.destroy(handle);
    assert.equal(token.objects.size, 0);
  });

  const LOSSES: readonly { name: string; lose: (token: FakeToken) => void }[] = [
    { name: 'its session is closed', lose: (token) => token.sessions.clear() },
    {
      name: 'the device says that it failed once',
      lose: (token) => token.faults.push({ method: 'C_Sign', reason: 'CKR_DEVICE_ERROR' }),
    },
    {
      name: 'the library sees the token only after a new start',
      lose: (token) => {
        token.sessions.clear();
        token.needsRestart = true;
      },
    },
    {
      name: 'the login was lost',
      lose: (token) => token.faults.push({ method: 'C_SignInit', reason: 'CKR_USER_NOT_LOGGED_IN' }),
    },
  ];
  for (const { name, lose } of LOSSES) {
    it(`sign on when ${name}, and nobody notices`, async () => {
      const { token, keys } = setUp();
      const signer = await keys.signer(await keys.generate('key', 'ec-p256'));
      for (let i = 0; i < 2; i += 1) {
        lose(token);
        assert.ok((await signer.sign(DATA)).length > 0);
      }
    });
  }

  it('sign again when the token is back: until then it is said that it is away', async () => {
    const { token, keys } = setUp();
    const handle = await keys.generate('key', 'ec-p256');
    const signer = await keys.signer(handle);
    token.isPresent = false;
    for (const call of [() => signer.sign(DATA), () => keys.signer(handle), () => keys.destroy(handle)]) {
      const error = await expectRejection('hsm_token_missing', Promise.resolve(call()));
      assert.equal(error.retryAfterMs, 5_000);
    }
    token.isPresent = true;
    assert.ok((await signer.sign(DATA)).length > 0);
  });

  it('are lost to signers everywhere once another replica has destroyed them', async () => {
    const { keys, open } = setUp();
    const handle = await keys.generate('key', 'ec-p256');
    const signer = await keys.signer(handle);
    await open().destroy(handle);
    await expectRejection('key_not_found', Promise.resolve(signer.sign(DATA)));
  });

  it('open one session for all who wait for one', async () => {
    const { token, keys } = setUp();
    const signer = await keys.signer(await keys.generate('key', 'ec-p256'));
    const before = token.logins.length;
    token.sessions.clear();
    await Promise.all(Array.from({ length: 20 }, async () => signer.sign(DATA)));
    assert.ok(token.logins.length - before <= 2, `${token.logins.length - before} logins`);
  });

  it('are not reached with a wrong PIN, which is tried once; a new one in the file is', async () => {
    const { token, pin, keys } = setUp();
    pin.value = 'wrong';
    for (let i = 0; i < 3; i += 1) await expectRejection('hsm_pin_wrong', keys.generate('key', 'ec-p256'));
    assert.deepEqual(token.logins, ['wrong']);
    pin.value = token.pin;
    await keys.generate('key', 'ec-p256');
    assert.deepEqual(token.logins, ['wrong', token.pin]);
  });

  const REFUSALS: readonly { method: string; reason: string; code: ErrorCode; times: number }[] = [
    {
      method: 'C_GenerateKeyPair',
      reason: 'CKR_MECHANISM_INVALID',
      code: 'key_algorithm_unsupported',
      times: 1,
    },
    {
      method: 'C_GenerateKeyPair',
      reason: 'CKR_CURVE_NOT_SUPPORTED',
      code: 'key_algorithm_unsupported',
      times: 1,
    },
    { method: 'C_GenerateKeyPair', reason: 'CKR_DEVICE_MEMORY', code: 'hsm_unavailable', times: 3 },
    { method: 'C_Login', reason: 'CKR_PIN_LOCKED', code: 'hsm_pin_locked', times: 2 },
    { method: 'C_Initialize', reason: 'CKR_GENERAL_ERROR', code: 'hsm_unavailable', times: 2 },
  ];
  for (const { method, reason, code, times } of REFUSALS) {
    it(`tell ${reason} of ${method} as ${code}`, async () => {
      const { token, keys } = setUp();
      for (let i = 0; i < times; i += 1) token.faults.push({ method, reason });
      const error = await expectRejection(code, keys.generate('key', 'ec-p256'));
      assert.notEqual(error.hint, undefined);
      await keys.generate('key', 'ec-p256');
    });
  }

  it('are of one token: none of another label is taken for it', async () => {
    const { keys } = setUp(new FakeToken('other'));
    const error = await expectRejection('hsm_token_missing', keys.generate('key', 'ec-p256'));
    assert.match(error.message, /label "kedge"/);
  });
});
