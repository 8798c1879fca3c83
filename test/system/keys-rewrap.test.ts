import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { FakeVault } from '../fakes/fake-vault.ts';
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

  it('moves a CA from a sealing key in the clear to one that Vault Transit has sealed', async (t) => {
    const folder = temporaryFolder(t);
    const [file, sealed] = [join(temporaryFolder(t), 'ca.yaml'), join(folder, 'sealing-key.vault')];
    const vault = await FakeVault.start();
    t.after(() => vault.close());
    vault.policy('kedge', 'path "transit/decrypt/kedge" { capabilities = ["update"] }');
    vault.mountTransit('transit');
    const asRoot = async (path: string, body: object): Promise<{ data?: { ciphertext?: string } }> => {
      const headers = { 'x-vault-token': 'root-token' };
      const response = await fetch(`${vault.url}/v1/${path}`, {
        method: 'POST',
        headers,
        body: JSON.stringify(body),
      });
      return response.status === 204 ? {} : ((await response.json()) as { data?: { ciphertext?: string } });
    };
    await asRoot('transit/keys/kedge', {});
    const { data } = await asRoot('transit/encrypt/kedge', { plaintext: randomBytes(32).toString('base64') });
    writeFileSync(sealed, data?.ciphertext ?? '', { mode: 0o600 });
    const tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, vault.token({ policies: ['kedge'], ttlSeconds: null }), { mode: 0o600 });
    const access = `upstream: { vault: { address: "${vault.url}", login: token, tokenFile: ${tokenFile} } }`;

    const old = await runningCa(t, { folder });
    await issue(await old.connect(), old.token());
    await old.ca.close();
    const keys = (others: string): string =>
      `${access}\nkeys: { sealingKeyFile: ${sealed}, transit: { key: kedge }${others} }\n`;
    writeFileSync(file, keys(`, otherSealingKeyFiles: [${join(folder, 'sealing-key')}]`));
    const both = await runningCa(t, { folder, file });
    const { code, stdout } = await runKedge(['keys', 'rewrap', '--data', folder]);
    assert.equal(code, 0);
    assert.match(stdout, /^2 of 2 keys were sealed anew/);
    await both.ca.close();
    writeFileSync(file, keys(''));
    const renewed = await runningCa(t, { folder, file });
    await vault.close();
    // Vault is needed at the start, and not after.
    await issue(await renewed.connect(), renewed.token());
  });

  it('exits 1 without a CA that answers', async (t) => {
    const { code, stderr } = await runKedge(['keys', 'rewrap', '--data', temporaryFolder(t)]);
    assert.equal(code, 1);
    assert.match(stderr, /ca_unreachable|cannot be reached/);
  });
});
