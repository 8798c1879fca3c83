import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runKedge } from '../support/kedge-process.ts';
import { issue, runningCa } from '../support/running-ca.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

describe('kedge keys rewrap', () => {
  it('moves a CA from one sealing key file to another: the old one can then be dropped', async (t) => {
    const folder = temporaryFolder(t);
    const file = join(temporaryFolder(t), 'ca.yaml');
    const newKey = join(folder, 'new-key');
    writeFileSync(newKey, randomBytes(32), { mode: 0o600 });
    const rewrap = async (...more: readonly string[]) => {
      const { code, stdout, stderr } = await runKedge(['keys', 'rewrap', '--data', folder, ...more]);
      assert.equal(code, 0, stderr);
      return stdout;
    };

    const old = await runningCa(t, { folder });
    assert.match(await rewrap(), /^0 of 2 keys were sealed anew/);
    await old.ca.close();

    writeFileSync(
      file,
      `keys: {sealingKeyFile: ${newKey}, otherSealingKeyFiles: [${join(folder, 'sealing-key')}]}\n`,
    );
    const both = await runningCa(t, { folder, file });
    const client = await both.connect();
    await issue(client, both.token());
    assert.deepEqual(JSON.parse(await rewrap('--output', 'json')), { keys: 2, rewrapped: 2 });
    await issue(client, both.token());
    await both.ca.close();

    writeFileSync(file, `keys: {sealingKeyFile: ${newKey}}\n`);
    const renewed = await runningCa(t, { folder, file });
    await issue(await renewed.connect(), renewed.token());
    await renewed.ca.close();

    await assert.rejects(runningCa(t, { folder }), { code: 'key_sealed' });
  });

  it('exits 1 without a CA that answers', async (t) => {
    const { code, stderr } = await runKedge(['keys', 'rewrap', '--data', temporaryFolder(t)]);
    assert.equal(code, 1);
    assert.match(stderr, /ca_unreachable|cannot be reached/);
  });
});
