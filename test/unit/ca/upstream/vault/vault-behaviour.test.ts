/**
 * What Kedge relies on in Vault, by Vault's API alone: on the fakes, and on a real Vault or OpenBao where
 * `KEDGE_TEST_VAULT_ADDR` and `KEDGE_TEST_VAULT_TOKEN` name one.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { UpstreamAnchor } from '../../../../../ca/upstream/upstream-authority.ts';
import type { VaultLogin, VaultSettings } from '../../../../../ca/upstream/vault/vault-settings.ts';
import { VaultTransit } from '../../../../../ca/upstream/vault/vault-transit.ts';
import { checkAuthority } from '../../../../../pki/authority-check.ts';
import { issuerCsr } from '../../../../../pki/authority-profile.ts';
import { parseCertificate } from '../../../../../pki/certificate.ts';
import { decodePem, encodePem } from '../../../../../pki/pem.ts';
import { TrustDomain } from '../../../../../pki/spiffe-id.ts';
import { isSelfIssued } from '../../../../../pki/verify-issuer.ts';
import { newSigner } from '../../../../support/certificates.ts';
import { expectRejection } from '../../../../support/expect-code.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { vaultUpstream } from '../../../../support/vault.ts';
import { type Json, root, VAULT_KINDS, vaultBed, type VaultKind } from '../../../../support/vault-bed.ts';
import { documentedPolicy } from '../../../../support/vault-policy.ts';

const never = new AbortController().signal;
const trustDomain = TrustDomain.parse('example.org');
const DAY_MS = 86_400_000;

async function setUp(t: TestContext, kind: VaultKind, policy = documentedPolicy()) {
  const folder = temporaryFolder(t);
  const bed = await vaultBed(kind, policy, folder);
  t.after(() => bed.close());
  const nowMs = bed.clock.now();
  const times = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 30 * DAY_MS };
  const signer = newSigner();
  const csr = await issuerCsr({ trustDomain, signer });
  const open = (settings: Partial<VaultSettings> = {}, login: VaultLogin = bed.login) => {
    const access = vaultUpstream({ ...bed, login, settings: { mount: bed.mount, ...settings } });
    t.after(() => access.close());
    const { upstream } = access;
    return {
      ...access,
      newAnchor: (known: readonly Uint8Array[] = []) => upstream.newAnchor({ known, ...times }, never),
      anchor: async (): Promise<UpstreamAnchor> =>
        (await upstream.newAnchor({ known: [], ...times }, never)) ?? assert.fail('no anchor'),
      mint: async (anchor: UpstreamAnchor) =>
        (await upstream.mintIssuer({ csr, anchor, ...times }, never)).chain,
    };
  };
  const checks = (chain: readonly Uint8Array[], anchor: UpstreamAnchor): void => {
    const now = bed.clock.now();
    checkAuthority({ trustDomain, chain, anchor: anchor.certificate, spki: signer.spki, nowMs: now });
  };
  const data = async (method: string, path: string, body?: object): Promise<Json> =>
    (await bed.admin(method, path, body))['data'] as Json;
  /** A further mount, gone with the test. */
  const mount = async (suffix: string, type: string): Promise<string> => {
    const path = `${bed.mount}-${suffix}`;
    await bed.admin('POST', `sys/mounts/${path}`, { type, ...(type === 'pki' ? MAX_TTL : {}) });
    t.after(() => bed.admin('DELETE', `sys/mounts/${path}`).catch(() => undefined));
    return path;
  };
  return { ...bed, folder, open, checks, data, moreMount: mount };
}

const MAX_TTL = { config: { max_lease_ttl: '87600h' } };
const derOf = (pem: unknown): Uint8Array => decodePem(String(pem), 'CERTIFICATE')[0] ?? assert.fail('no PEM');

for (const kind of VAULT_KINDS) {
  describe(`Vault (${kind}), with the documented policy and no other`, () => {
    it('has issuers signed under its root', async (t) => {
      const { open, checks } = await setUp(t, kind);
      const { anchor, mint } = open();
      const held = await anchor();
      const chain = await mint(held);
      checks(chain, held);
      assert.equal(chain.length, 1);
      const { basicConstraints, subjectAltName } = parseCertificate(chain[0]!);
      assert.equal(basicConstraints?.pathLength, 0);
      assert.deepEqual(subjectAltName?.uris, ['spiffe://example.org']);
    });

    it('says which line of a policy is missing', async (t) => {
      const lines = documentedPolicy()
        .split('\n')
        .filter((line) => !line.includes('sign-intermediate'));
      const { open, mount } = await setUp(t, kind, lines.join('\n'));
      const { anchor, mint } = open();
      const error = await expectRejection('vault_forbidden', mint(await anchor()));
      assert.ok(error.hint?.includes(`path "${mount}/root/sign-intermediate" { capabilities = ["update"] }`));
    });

    it('tells a mount that is not there from one without a CA', async (t) => {
      const { open, moreMount } = await setUp(t, kind);
      await expectRejection('vault_mount_missing', open({ mount: 'kedge-nowhere' }).newAnchor());
      const empty = await moreMount('empty', 'pki');
      await expectRejection('vault_root_missing', open({ mount: empty }).newAnchor());
    });

    it('tells wrong credentials', async (t) => {
      const { open, login, folder } = await setUp(t, kind);
      const secretIdFile = join(folder, 'wrong');
      writeFileSync(secretIdFile, '00000000-0000-4000-8000-000000000000');
      const { anchor, mint } = open({}, { ...login, secretIdFile } as VaultLogin);
      await expectRejection('vault_login_refused', mint(await anchor()));
    });

    it('gives an issuer no longer life than its root has', async (t) => {
      const { open, data, moreMount, checks, admin } = await setUp(t, kind);
      const short = await moreMount('short', 'pki');
      const made = await data('POST', `${short}/root/generate/internal`, root('S', { ttl: '2h' }));
      const name = short.replace(/-short$/, '');
      await admin('PUT', `sys/policies/acl/${name}`, {
        policy: documentedPolicy().replaceAll('"pki/', `"${short}/`),
      });
      const { anchor, mint } = open({ mount: short });
      const held = await anchor();
      assert.deepEqual(held.certificate, derOf(made['certificate']));
      checks(await mint(held), held);
    });

    it('hangs issuers of an intermediate CA under the root, which it may have to be given', async (t) => {
      const { open, data, moreMount, checks, admin, mount, folder } = await setUp(t, kind);
      const path = await moreMount('int', 'pki');
      const { csr } = await data('POST', `${path}/intermediate/generate/internal`, {
        common_name: 'Intermediate',
        key_type: 'ec',
        key_bits: 256,
      });
      const signed = await data('POST', `${mount}/root/sign-intermediate`, {
        csr,
        common_name: 'Intermediate',
        ttl: '8760h',
      });
      await admin('POST', `${path}/intermediate/set-signed`, { certificate: signed['certificate'] });
      await admin('PUT', `sys/policies/acl/${mount}`, {
        policy: documentedPolicy().replaceAll('"pki/', `"${path}/`),
      });
      await expectRejection('vault_root_missing', open({ mount: path }).newAnchor());
      const anchorsFile = join(folder, 'roots.pem');
      writeFileSync(anchorsFile, encodePem('CERTIFICATE', derOf(signed['issuing_ca'])));
      const { anchor, mint } = open({ mount: path, anchorsFile });
      const held = await anchor();
      assert.ok(isSelfIssued(parseCertificate(held.certificate)));
      const chain = await mint(held);
      assert.equal(chain.length, 2);
      checks(chain, held);
    });

    it('signs nothing under another root than the one that is asked for', async (t) => {
      const { open, checks, admin, mount, hasIssuers } = await setUp(t, kind);
      const { anchor, newAnchor, mint } = open();
      const old = await anchor();
      if (hasIssuers) {
        await admin('POST', `${mount}/root/rotate/internal`, root('B', { issuer_name: 'root-b' }));
        assert.equal(await newAnchor([old.certificate]), null);
        await admin('POST', `${mount}/root/replace`, { default: 'root-b' });
        checks(await mint(old), old);
        const pinned = open({ issuerRef: 'root-b' });
        const next = await pinned.anchor();
        checks(await pinned.mint(next), next);
        await expectRejection('vault_root_changed', pinned.mint(old));
        await expectRejection('vault_issuer_missing', open({ issuerRef: 'nope' }).newAnchor());
      } else {
        await admin('DELETE', `${mount}/root`);
        await admin('POST', `${mount}/root/generate/internal`, root('B'));
        await expectRejection('vault_root_changed', mint(old));
        await expectRejection('vault_issuer_missing', open({ issuerRef: 'root-b' }).newAnchor());
      }
      const next = (await newAnchor([old.certificate])) ?? assert.fail('no other root');
      assert.notDeepEqual(next.certificate, old.certificate);
      checks(await mint(next), next);
    });

    it('keeps its token alive with what the policy gives', async (t) => {
      const { open } = await setUp(t, kind);
      const { session } = open();
      const lookup = { operation: 'read', path: 'auth/token/lookup-self' } as const;
      const { data: before } = await session.call(lookup, never);
      assert.equal((before as Json)['renewable'], true);
      const renewed = await session.call(
        { operation: 'write', path: 'auth/token/renew-self', body: {} },
        never,
      );
      assert.equal(typeof (renewed['auth'] as Json)['lease_duration'], 'number');
    });

    it('seals by transit, and makes no key by accident', async (t) => {
      const { open, moreMount, admin, mount } = await setUp(t, kind);
      const path = await moreMount('transit', 'transit');
      await admin('POST', `${path}/keys/kedge`, { type: 'aes256-gcm96' });
      const policy = ['kedge', 'other'].flatMap((key) =>
        ['encrypt', 'decrypt', 'rewrap'].map(
          (verb) => `path "${path}/${verb}/${key}" { capabilities = ["update"] }`,
        ),
      );
      await admin('PUT', `sys/policies/acl/${mount}`, {
        policy: [...policy, 'path "auth/token/lookup-self" { capabilities = ["read"] }'].join('\n'),
      });
      const { session } = open();
      const transit = new VaultTransit({ session, mount: path, key: 'kedge' });
      const secret = Uint8Array.from({ length: 32 }, (_, i) => i);
      const sealed = await transit.encrypt(secret, never);
      await admin('POST', `${path}/keys/kedge/rotate`, {});
      assert.match(await transit.rewrap(sealed, never), /^vault:v2:/);
      assert.deepEqual(await transit.decrypt(sealed, never), secret);
      await expectRejection('key_sealed', transit.decrypt('vault:v1:AAAA', never));
      const other = new VaultTransit({ session, mount: path, key: 'other' });
      await expectRejection('key_sealed', other.decrypt(sealed, never));
      await expectRejection('vault_forbidden', other.encrypt(secret, never));
    });
  });
}
