import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { execCredential, type ExecPlugin } from '../../../../ca/kubernetes/exec-plugin.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

const API = 'client.authentication.k8s.io/v1';
const PLUGIN: ExecPlugin = { apiVersion: API, command: 'plugin', args: ['a'], environment: { REGION: 'x' } };
const credential = (status: object, more: object = {}): string =>
  JSON.stringify({ apiVersion: API, kind: 'ExecCredential', status, ...more });
const textOf = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString();

/** A plugin that is a program. */
function program(t: TestContext, script: string): ExecPlugin {
  const path = join(temporaryFolder(t), 'plugin');
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o700);
  return { ...PLUGIN, command: path };
}

describe('a credential plugin', () => {
  it('hands out a token until it expires', async () => {
    const { token, certificate, expiresAtMs } = await execCredential(PLUGIN, async () =>
      credential({ token: 'abc', expirationTimestamp: '2026-06-01T12:00:00Z' }),
    );
    assert.equal(textOf(token), 'abc');
    assert.equal(certificate, undefined);
    assert.equal(expiresAtMs, Date.UTC(2026, 5, 1, 12));
  });

  it('hands out a client certificate with its key, for ever where it does not say for how long', async () => {
    const { token, certificate, key, expiresAtMs } = await execCredential(PLUGIN, async () =>
      credential({ clientCertificateData: 'CERT', clientKeyData: 'KEY' }),
    );
    assert.deepEqual(
      [token, textOf(certificate), textOf(key), expiresAtMs],
      [undefined, 'CERT', 'KEY', null],
    );
  });

  it('is told that nobody can be asked, and of the cluster where the kubeconfig says so', async () => {
    const infos: unknown[] = [];
    const run = async (_: ExecPlugin, info: string): Promise<string> => {
      infos.push(JSON.parse(info));
      return credential({ token: 'abc' });
    };
    await execCredential(PLUGIN, run);
    await execCredential({ ...PLUGIN, cluster: { server: 'https://a' } }, run);
    const info = (spec: object) => ({ apiVersion: API, kind: 'ExecCredential', spec });
    assert.deepEqual(infos, [
      info({ interactive: false }),
      info({ interactive: false, cluster: { server: 'https://a' } }),
    ]);
  });

  const ANSWERS: readonly { readonly name: string; readonly output: string; readonly says: RegExp }[] = [
    { name: 'nothing', output: '', says: /printed no ExecCredential/ },
    { name: 'what is no JSON', output: 'hunter2', says: /printed no ExecCredential/ },
    { name: 'a list', output: '[]', says: /printed no ExecCredential/ },
    {
      name: 'another kind',
      output: credential({ token: 'hunter2' }, { kind: 'Secret' }),
      says: /printed no ExecCredential/,
    },
    {
      name: 'another version than was asked for',
      output: credential({ token: 'hunter2' }, { apiVersion: 'client.authentication.k8s.io/v1beta1' }),
      says: /of client\.authentication\.k8s\.io\/v1$/,
    },
    {
      name: 'no status',
      output: JSON.stringify({ apiVersion: API, kind: 'ExecCredential' }),
      says: /no credentials/,
    },
    { name: 'no credentials', output: credential({ token: '' }), says: /no credentials/ },
    { name: 'a token that is a number', output: credential({ token: 7 }), says: /token that is no text/ },
    {
      name: 'a token over the limit',
      output: credential({ token: 'hunter2'.repeat(LIMITS.tokenBytes) }),
      says: /token of over/,
    },
    {
      name: 'a certificate without its key',
      output: credential({ token: 'hunter2', clientCertificateData: 'CERT' }),
      says: /without its key/,
    },
    {
      name: 'an expiry that is no time',
      output: credential({ token: 'hunter2', expirationTimestamp: 'tomorrow' }),
      says: /expirationTimestamp/,
    },
  ];
  for (const { name, output, says } of ANSWERS) {
    it(`is refused when it prints ${name}, and nothing of that is told`, async () => {
      const error = await expectRejection(
        'kubernetes_credentials_unavailable',
        execCredential(PLUGIN, async () => output),
      );
      assert.match(error.message, says);
      assert.ok(!JSON.stringify([error.message, error.hint, String(error.cause)]).includes('hunter2'));
    });
  }

  it('is run with its arguments and its environment', { skip: process.platform === 'win32' }, async (t) => {
    const plugin = program(
      t,
      `printf '{"apiVersion":"${API}","kind":"ExecCredential","status":{"token":"%s-%s-%s"}}' "$1" "$REGION" "\${#KUBERNETES_EXEC_INFO}"`,
    );
    const { token } = await execCredential(plugin);
    assert.match(textOf(token), /^a-x-\d{2,}$/);
  });

  const FAILURES: readonly { readonly name: string; readonly script: string; readonly says: RegExp }[] = [
    { name: 'ends badly', script: 'echo hunter2; exit 3', says: /ended with 3$/ },
    { name: 'prints too much', script: 'yes hunter2', says: /printed too much$/ },
    {
      name: 'waits for an answer, which it does not get',
      script: 'read line && echo "$line"',
      says: /ended with 1$/,
    },
  ];
  for (const { name, script, says } of FAILURES) {
    it(`that ${name} is refused`, async (t) => {
      const error = await expectRejection(
        'kubernetes_credentials_unavailable',
        execCredential(program(t, script)),
      );
      assert.match(error.message, says);
      assert.ok(!JSON.stringify([error.message, error.hint, String(error.cause)]).includes('hunter2'));
    });
  }

  it('that is not there is refused, with how to get it', async () => {
    const plugin = { ...PLUGIN, command: '/nowhere/plugin', installHint: 'apt install plugin' };
    const error = await expectRejection('kubernetes_credentials_unavailable', execCredential(plugin));
    assert.match(error.message, /cannot be run \(ENOENT\)$/);
    assert.match(error.hint ?? '', /apt install plugin/);
  });
});
