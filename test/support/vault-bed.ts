/** A Vault to run a suite on, made ready by its own API: a fake of either kind, or a real one. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VaultLogin } from '../../ca/upstream/vault/vault-settings.ts';
import { type Clock, systemClock } from '../../host/clock.ts';
import { FakeVault, ROOT_TOKEN } from '../fakes/fake-vault.ts';
import type { VaultFlavour } from '../fakes/vault/vault-answer.ts';
import { NOW_MS } from './certificates.ts';
import { ManualClock } from './manual-clock.ts';

/** What a suite may ask of its Vault beyond what Kedge asks. */
export interface VaultBed {
  readonly address: string;
  /** Null for a real one. */
  readonly fake: FakeVault | null;
  /** Stands still for a fake. */
  readonly clock: Clock;
  /** Path of the PKI mount with a root. */
  readonly mount: string;
  /** An AppRole whose token has the documented policy and nothing else. */
  readonly login: VaultLogin;
  /** Whether the mount has issuers. */
  readonly hasIssuers: boolean;
  /** A call with a token that may do anything; its JSON. */
  readonly admin: (method: string, path: string, body?: object) => Promise<Json>;
  close(): Promise<void>;
}

export type Json = { readonly [member: string]: unknown };
export type VaultKind = VaultFlavour | 'real';

const { KEDGE_TEST_VAULT_ADDR: REAL_ADDRESS, KEDGE_TEST_VAULT_TOKEN: REAL_TOKEN } = process.env;

/** The fakes, and the real one that the environment names. */
export const VAULT_KINDS: readonly VaultKind[] = [
  'vault-1.8',
  'openbao-2.6',
  ...(REAL_ADDRESS !== undefined && REAL_TOKEN !== undefined ? (['real'] as const) : []),
];

/** `policy` is for a mount at `pki`; `folder` takes the files of the login. */
export async function vaultBed(kind: VaultKind, policy: string, folder: string): Promise<VaultBed> {
  const clock = kind === 'real' ? systemClock : new ManualClock(NOW_MS);
  const fake = kind === 'real' ? null : await FakeVault.start({ flavour: kind, now: () => clock.now() });
  const address = (fake?.url ?? REAL_ADDRESS ?? '').replace(/\/$/, '');
  const token = fake === null ? (REAL_TOKEN ?? '') : ROOT_TOKEN;
  const admin = async (method: string, path: string, body?: object): Promise<Json> => {
    const answer = await fetch(`${address}/v1/${path}`, {
      method,
      headers: { 'x-vault-token': token },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === '' ? {} : (JSON.parse(text) as Json);
  };
  const name = `kedge-test-${randomBytes(4).toString('hex')}`;
  await admin('POST', `sys/mounts/${name}`, { type: 'pki', config: { max_lease_ttl: '87600h' } });
  await admin('POST', `${name}/root/generate/internal`, root('A'));
  await admin('PUT', `sys/policies/acl/${name}`, { policy: policy.replaceAll('"pki/', `"${name}/`) });
  await admin('POST', `sys/auth/${name}`, { type: 'approle' });
  await admin('POST', `auth/${name}/role/kedge`, {
    token_policies: name,
    token_no_default_policy: true,
    token_ttl: '10m',
    token_max_ttl: '20m',
  });
  const { role_id: roleId } = (await admin('GET', `auth/${name}/role/kedge/role-id`))['data'] as Json;
  const { secret_id: secretId } = (await admin('POST', `auth/${name}/role/kedge/secret-id`, {}))[
    'data'
  ] as Json;
  const [roleIdFile, secretIdFile] = [join(folder, `${name}.role-id`), join(folder, `${name}.secret-id`)];
  writeFileSync(roleIdFile, String(roleId));
  writeFileSync(secretIdFile, `${String(secretId)}\n`);
  const version = String((await admin('GET', 'sys/health'))['version']);
  return {
    address,
    fake,
    clock,
    mount: name,
    login: { kind: 'appRole', mount: name, roleIdFile, secretIdFile },
    hasIssuers: /^2\.|^1\.(1[1-9]|[2-9]\d)/.test(version),
    admin,
    async close() {
      if (fake !== null) return fake.close();
      await admin('DELETE', `sys/auth/${name}`);
      await admin('DELETE', `sys/mounts/${name}`);
      await admin('DELETE', `sys/policies/acl/${name}`);
    },
  };
}

/** What a new root is made by. */
export function root(name: string, more: object = {}): object {
  return { common_name: `Example Root ${name}`, key_type: 'ec', key_bits: 256, ttl: '87600h', ...more };
}
