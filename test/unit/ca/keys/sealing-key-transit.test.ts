import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  openOrCreateSealingKey,
  openSealingKey,
  type Transit,
} from '../../../../ca/keys/sealing-key-transit.ts';
import { readSealingKey } from '../../../../ca/keys/sealing-key.ts';
import { systemRandom } from '../../../../host/random.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

const never = new AbortController().signal;
const KEY = Uint8Array.from({ length: 32 }, (_, i) => i + 1);

/** A Transit that turns bytes around. */
const transit: Transit = {
  encrypt: async (plaintext) => `vault:v1:${Buffer.from(plaintext).reverse().toString('base64')}`,
  decrypt: async (ciphertext) =>
    Uint8Array.from(Buffer.from(ciphertext.replace('vault:v1:', ''), 'base64').reverse()),
};

describe('a sealing key in a file', () => {
  it('is opened in the clear and as Transit has sealed it, with or without a line end', async (t) => {
    const folder = temporaryFolder(t);
    const sealed = await transit.encrypt(KEY, never);
    for (const [name, content] of [
      ['clear', KEY],
      ['sealed', sealed],
      ['line', `${sealed}\n`],
    ] as const) {
      writeFileSync(join(folder, name), content, { mode: 0o600 });
      assert.deepEqual(
        Uint8Array.from((await openSealingKey(join(folder, name), transit, never)).expose()),
        KEY,
        name,
      );
    }
    await expectRejection('sealing_key_invalid', readSealingKey(join(folder, 'sealed')));
  });

  it('is made so that only what Transit has sealed lies in the file, and found again', async (t) => {
    const path = join(temporaryFolder(t), 'sealing-key');
    const made = await openOrCreateSealingKey(path, transit, systemRandom, never);
    assert.match(readFileSync(path, 'utf8'), /^vault:v1:\S+\n$/);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(readFileSync(path).indexOf(Buffer.from(made.expose())), -1);
    const found = await openOrCreateSealingKey(path, transit, systemRandom, never);
    assert.deepEqual(found.expose(), made.expose());
  });

  it('is refused where no Transit is configured, or where what was sealed is no sealing key', async (t) => {
    const path = join(temporaryFolder(t), 'key');
    writeFileSync(path, await transit.encrypt(KEY, never), { mode: 0o600 });
    const error = await expectRejection('sealing_key_invalid', openSealingKey(path, null, never));
    assert.match(error.hint ?? '', /keys\.transit\.key/);
    writeFileSync(path, await transit.encrypt(KEY.subarray(1), never));
    await expectRejection('sealing_key_invalid', openSealingKey(path, transit, never));
    for (const bad of ['', 'x'.repeat(33), `vault:v${'1'.repeat(9_000)}`]) {
      writeFileSync(path, bad);
      await expectRejection('sealing_key_invalid', openSealingKey(path, transit, never));
    }
  });
});
