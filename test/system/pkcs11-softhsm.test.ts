import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import type { AuthorityKeyAlgorithm } from '../../ca/keys/key-manager.ts';
import { readPin } from '../../ca/keys/pkcs11/pin-file.ts';
import { Pkcs11KeyManager } from '../../ca/keys/pkcs11/pkcs11-key-manager.ts';
import { addonPath, WorkerTokenThread } from '../../ca/keys/pkcs11/token-thread.ts';
import { systemClock } from '../../host/clock.ts';
import { keyManagerConformance } from '../conformance/key-manager.ts';
import { expectRejection } from '../support/expect-code.ts';
import { PIN, SoftHsm, softHsmMissing } from '../support/softhsm.ts';
import { suiteFolder } from '../support/suite-folder.ts';

/** What the tests beside the key manager ask the library for. */
interface Library {
  load(path: string): void;
  C_Initialize(): void;
  C_GetSlotList(present: boolean): Buffer[];
  C_GetTokenInfo(slot: Buffer): { label: string };
  C_OpenSession(slot: Buffer, flags: number): Buffer;
  C_CloseAllSessions(slot: Buffer): void;
  C_FindObjectsInit(session: Buffer, template: readonly { type: number; value: number }[]): void;
  C_FindObjects(session: Buffer, max: number): Buffer[];
  C_FindObjectsFinal(session: Buffer): void;
  C_GetAttributeValue(session: Buffer, object: Buffer, query: { type: number }[]): { value: Buffer }[];
}

const missing = softHsmMissing();
const ALGORITHMS: readonly AuthorityKeyAlgorithm[] = ['ec-p256', 'ec-p384', 'rsa-3072'];
const DATA = Buffer.from('what is to be signed');

describe('keys in SoftHSM', { skip: missing ?? false }, () => {
  if (missing !== null) return;
  const folder = suiteFolder();
  const hsm = new SoftHsm(folder);
  const pinFile = join(folder, 'pin');
  writeFileSync(pinFile, `${PIN}\n`, { mode: 0o600 });
  const threads: WorkerTokenThread[] = [];
  after(async () => {
    for (const thread of threads) await thread.close();
  });
  let tokens = 0;

  const open = (token: string, pin = pinFile): Pkcs11KeyManager => {
    const thread = new WorkerTokenThread({ module: hsm.module, clock: systemClock, timeoutMs: 30_000 });
    threads.push(thread);
    return new Pkcs11KeyManager({ trustDomain: 'example.org', token, pin: () => readPin(pin), thread });
  };
  const newToken = (): string => {
    tokens += 1;
    const label = `kedge-${tokens}`;
    hsm.makeToken(label);
    return label;
  };
  /** The same library in this thread: it shares its sessions with every other thread of the process. */
  const addon = createRequire(import.meta.url)(addonPath()) as { PKCS11: new () => Library } & Record<
    string,
    number
  >;
  const library = (): Library => {
    const made = new addon.PKCS11();
    made.load(hsm.module);
    return made;
  };
  const slotOf = (label: string): Buffer =>
    library()
      .C_GetSlotList(true)
      .find(
        (slot) =>
          library()
            .C_GetTokenInfo(slot)
            .label.replace(/[\0 ]+$/, '') === label,
      ) ?? assert.fail('no such token');

  keyManagerConformance('SoftHSM', () => {
    const token = newToken();
    return { manager: 'pkcs11', algorithms: ALGORITHMS, open: async () => open(token) };
  });

  it('cannot be read out of the token by whoever is logged in', async () => {
    const token = newToken();
    const keys = open(token);
    for (const algorithm of ALGORITHMS) await keys.generate(algorithm, algorithm);
    const it = library();
    const session = it.C_OpenSession(slotOf(token), addon['CKF_SERIAL_SESSION'] ?? 0);
    it.C_FindObjectsInit(session, [{ type: addon['CKA_CLASS'] ?? 0, value: addon['CKO_PRIVATE_KEY'] ?? 0 }]);
    const found = it.C_FindObjects(session, 10);
    it.C_FindObjectsFinal(session);
    assert.equal(found.length, ALGORITHMS.length);
    for (const object of found) {
      const flag = (name: string) =>
        it.C_GetAttributeValue(session, object, [{ type: addon[name] ?? 0 }])[0]?.value[0];
      assert.deepEqual(
        ['CKA_SENSITIVE', 'CKA_EXTRACTABLE', 'CKA_NEVER_EXTRACTABLE', 'CKA_ALWAYS_SENSITIVE'].map(flag),
        [1, 0, 1, 1],
      );
      for (const secret of ['CKA_VALUE', 'CKA_PRIVATE_EXPONENT']) {
        assert.throws(() => flag(secret), /CKR_ATTRIBUTE_(SENSITIVE|TYPE_INVALID)/);
      }
    }
  });

  it('sign on when every session of the process is closed behind their back', async () => {
    const token = newToken();
    const keys = open(token);
    const signer = await keys.signer(await keys.generate('key', 'ec-p256'));
    for (let i = 0; i < 3; i += 1) {
      library().C_CloseAllSessions(slotOf(token));
      assert.ok((await signer.sign(DATA)).length > 0);
    }
  });

  it('sign again when the token was taken out and is back', async () => {
    const token = newToken();
    const keys = open(token);
    const signer = await keys.signer(await keys.generate('key', 'ec-p256'));
    hsm.remove();
    await assert.rejects(async () => signer.sign(DATA), { code: /^hsm_(token_missing|unavailable)$/ });
    hsm.putBack();
    assert.ok((await signer.sign(DATA)).length > 0);
  });

  it('leave the event loop free while the token works', async () => {
    const keys = open(newToken());
    let turns = 0;
    const counting = setInterval(() => {
      turns += 1;
    }, 1);
    await keys.generate('key', 'rsa-3072');
    clearInterval(counting);
    assert.ok(turns > 3, `${turns} turns of the event loop while an RSA key was made`);
  });

  it('are not reached with a wrong PIN, a PIN that others can read, or none', async () => {
    const token = newToken();
    const bad = (name: string, text: string): string => {
      mkdirSync(join(folder, 'pins'), { recursive: true });
      writeFileSync(join(folder, 'pins', name), text, { mode: 0o600 });
      return join(folder, 'pins', name);
    };
    await expectRejection('hsm_pin_wrong', open(token, bad('wrong', '9999')).generate('key', 'ec-p256'));
    const exposed = bad('exposed', PIN);
    chmodSync(exposed, 0o644);
    for (const file of [exposed, bad('empty', '\n'), join(folder, 'absent'), folder]) {
      await expectRejection('hsm_pin_file_invalid', open(token, file).generate('key', 'ec-p256'));
    }
  });

  it('are not reached by a library that is none', async (t: TestContext) => {
    const module = join(folder, 'pin');
    const thread = new WorkerTokenThread({ module, clock: systemClock, timeoutMs: 30_000 });
    t.after(() => thread.close());
    const keys = new Pkcs11KeyManager({
      trustDomain: 'example.org',
      token: 'x',
      pin: async () => PIN,
      thread,
    });
    for (let i = 0; i < 2; i += 1)
      await expectRejection('hsm_module_unavailable', keys.generate('key', 'ec-p256'));
  });
});
