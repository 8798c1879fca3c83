/** What real Vaults do that a client written from the API's overview would fall into: one test each. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { UpstreamAnchor } from '../../../../../ca/upstream/upstream-authority.ts';
import type { VaultSettings } from '../../../../../ca/upstream/vault/vault-settings.ts';
import { issuerCsr } from '../../../../../pki/authority-profile.ts';
import { parseCertificate } from '../../../../../pki/certificate.ts';
import type { ErrorCode } from '../../../../../pki/error-table.ts';
import { decodePem, encodePem } from '../../../../../pki/pem.ts';
import { TrustDomain } from '../../../../../pki/spiffe-id.ts';
import { isSelfIssued } from '../../../../../pki/verify-issuer.ts';
import type { VaultFlavour } from '../../../../fakes/vault/vault-answer.ts';
import { pemOf } from '../../../../fakes/vault/vault-certificates.ts';
import { VaultPkiMount } from '../../../../fakes/vault/vault-pki.ts';
import {
  ext,
  HOUR_MS,
  makeAnchor,
  makeIssuer,
  newSigner,
  type TestCa,
} from '../../../../support/certificates.ts';
import { expectRejection } from '../../../../support/expect-code.ts';
import { type ManualClock, settle } from '../../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { vaultUpstream } from '../../../../support/vault.ts';
import { type Json, root, type VaultBed, vaultBed } from '../../../../support/vault-bed.ts';
import { documentedPolicy } from '../../../../support/vault-policy.ts';

const never = new AbortController().signal;
const trustDomain = TrustDomain.parse('example.org');
const DAY_MS = 24 * HOUR_MS;
const FLAVOURS = ['vault-1.8', 'openbao-2.6'] as const;

async function setUp(t: TestContext, flavour: VaultFlavour, settings: Partial<VaultSettings> = {}) {
  const folder = temporaryFolder(t);
  const bed = await vaultBed(flavour, documentedPolicy(), folder);
  t.after(() => bed.close());
  const fake = bed.fake!;
  const clock = bed.clock as ManualClock;
  const pki = fake.mounts.get(`${bed.mount}/`) as VaultPkiMount;
  const access = vaultUpstream({ ...bed, settings: { mount: bed.mount, ...settings } });
  t.after(() => access.close());
  const { upstream } = access;
  const nowMs = clock.now();
  const times = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 30 * DAY_MS };
  const newAnchor = (known: readonly Uint8Array[] = []) => upstream.newAnchor({ known, ...times }, never);
  const anchor = async (): Promise<UpstreamAnchor> => (await newAnchor()) ?? assert.fail('no anchor');
  const signer = newSigner();
  const csr = await issuerCsr({ trustDomain, signer });
  const mint = async (under: UpstreamAnchor, wish: Partial<typeof times> = {}) =>
    (await upstream.mintIssuer({ csr, anchor: under, ...times, ...wish }, never)).chain;
  /** Where Vault was asked to sign, in order. */
  const signed = (): readonly string[] =>
    fake.seen.map(({ line }) => line).filter((line) => line.endsWith('sign-intermediate'));
  const file = (name: string, ...ders: readonly Uint8Array[]): string => {
    writeFileSync(join(folder, name), ders.map((der) => encodePem('CERTIFICATE', der)).join('some text\n'));
    return join(folder, name);
  };
  return { ...bed, fake, clock, pki, upstream, newAnchor, anchor, mint, signed, signer, file, times, nowMs };
}

/** An intermediate CA in a mount of its own, signed by the root of the first; `bundle` says whether it brings that root. */
async function mountIntermediate(
  { admin, mount }: Pick<VaultBed, 'admin' | 'mount'>,
  bundle: boolean,
  more: object = {},
): Promise<string> {
  const path = `${mount}-int`;
  await admin('POST', `sys/mounts/${path}`, { type: 'pki', config: { max_lease_ttl: '43800h' } });
  const made = await admin('POST', `${path}/intermediate/generate/internal`, { common_name: 'Intermediate' });
  const { csr } = made['data'] as Json;
  const body = { csr, common_name: 'Intermediate', ttl: '43800h', format: 'pem', ...more };
  const signed = (await admin('POST', `${mount}/root/sign-intermediate`, body))['data'] as Json;
  const certificate = bundle
    ? `${String(signed['certificate'])}\n${String(signed['issuing_ca'])}`
    : String(signed['certificate']);
  await admin('POST', `${path}/intermediate/set-signed`, { certificate });
  return path;
}

const derOf = (pem: unknown): Uint8Array => decodePem(String(pem), 'CERTIFICATE')[0]!;

for (const flavour of FLAVOURS) {
  describe(`issuers under ${flavour}`, () => {
    it('are asked for by parameters, not by what the CSR says: URI SAN, path length 0, a name, a lifetime', async (t) => {
      const { anchor, mint, fake, times, nowMs } = await setUp(t, flavour);
      const [issuer] = await mint(await anchor());
      const { body } = fake.seen.find(({ line }) => line.endsWith('sign-intermediate'))!.request;
      assert.equal(body['use_csr_values'], undefined);
      assert.equal(body['uri_sans'], 'spiffe://example.org');
      assert.equal(body['max_path_length'], 0);
      assert.match(String(body['common_name']), /^Kedge issuer [0-9a-f]{16}$/);
      const certificate = parseCertificate(issuer!);
      assert.deepEqual(certificate.subjectAltName?.uris, ['spiffe://example.org']);
      assert.equal(certificate.basicConstraints?.pathLength, 0);
      assert.ok(certificate.notAfterMs <= times.notAfterMs);
      assert.ok(certificate.notAfterMs > times.notAfterMs - 60_000);
      assert.ok(certificate.notBeforeMs <= nowMs - 30_000);
    });

    it('never carry themselves twice, nor the root: the ca_chain of newer versions begins with the issuer', async (t) => {
      const { anchor, mint } = await setUp(t, flavour);
      assert.equal((await mint(await anchor())).length, 1);
    });

    it('end before the root, though Vault would sign beyond it', async (t) => {
      const { pki, mint, newAnchor, clock } = await setUp(t, flavour);
      const short = await makeAnchor({ notAfterMs: clock.now() + 3 * HOUR_MS });
      pki.issuers.length = 0;
      pki.defaultId = pki.add(short.der, short.signer).id;
      const anchor = (await newAnchor())!;
      const [issuer] = await mint(anchor);
      assert.ok(parseCertificate(issuer!).notAfterMs <= parseCertificate(short.der).notAfterMs);
      clock.jumpWall(3 * HOUR_MS - 20_000);
      const error = await expectRejection('authority_unusable', mint(anchor));
      assert.match(error.hint ?? '', /replace it in Vault/);
    });

    it('are shorter where the mount says so, which is no error', async (t) => {
      const { pki, anchor, mint, nowMs } = await setUp(t, flavour);
      pki.maxTtlSeconds = 7 * 86_400;
      const [issuer] = await mint(await anchor());
      assert.equal(parseCertificate(issuer!).notAfterMs, nowMs + 7 * DAY_MS);
    });

    it('hang under the root, never under the intermediate CA of the mount', async (t) => {
      const bed = await setUp(t, flavour);
      const mount = await mountIntermediate(bed, true);
      bed.fake.policy('both', documentedPolicy().replaceAll('"pki/', `"${mount}/`));
      const tokenFile = join(temporaryFolder(t), 'token');
      writeFileSync(tokenFile, bed.fake.token({ policies: ['both'], ttlSeconds: null }));
      const access = vaultUpstream({ ...bed, login: { kind: 'token', tokenFile }, settings: { mount } });
      t.after(() => access.close());
      const anchor = (await access.upstream.newAnchor({ known: [], ...bed.times }, never))!;
      assert.ok(isSelfIssued(parseCertificate(anchor.certificate)));
      assert.deepEqual(anchor.certificate, (await bed.anchor()).certificate);
      const csr = await issuerCsr({ trustDomain, signer: bed.signer });
      const { chain } = await access.upstream.mintIssuer({ csr, anchor, ...bed.times }, never);
      assert.equal(chain.length, 2);
    });

    it('need the root from a file where Vault does not have it', async (t) => {
      const bed = await setUp(t, flavour);
      const mount = await mountIntermediate(bed, false);
      const { certificate: rootDer } = await bed.anchor();
      const without = vaultUpstream({ ...bed, settings: { mount } });
      t.after(() => without.close());
      const missing = await expectRejection(
        'vault_root_missing',
        without.upstream.newAnchor({ known: [], ...bed.times }, never),
      );
      assert.match(missing.hint ?? '', /upstream.vault.anchorsFile/);
      const other = await makeAnchor();
      const anchorsFile = bed.file('roots.pem', other.der, rootDer);
      const access = vaultUpstream({ ...bed, settings: { mount, anchorsFile } });
      t.after(() => access.close());
      const anchor = await access.upstream.newAnchor({ known: [], ...bed.times }, never);
      assert.deepEqual(anchor?.certificate, rootDer);
    });

    it('cannot be had from a mount without a CA, or from none', async (t) => {
      const bed = await setUp(t, flavour);
      await bed.admin('POST', 'sys/mounts/empty', { type: 'pki' });
      for (const [mount, code, hint] of [
        ['empty', 'vault_root_missing', /root\/generate\/internal/],
        ['nowhere', 'vault_mount_missing', /vault secrets list/],
      ] as const) {
        const access = vaultUpstream({ ...bed, settings: { mount } });
        t.after(() => access.close());
        const error = await expectRejection(
          code,
          access.upstream.newAnchor({ known: [], ...bed.times }, never),
        );
        assert.match(error.hint ?? '', hint);
      }
    });

    it('are not signed under a root that the fleet does not know', async (t) => {
      const { admin, mount, pki, anchor, newAnchor, mint, signed } = await setUp(t, flavour);
      const old = await anchor();
      await admin('DELETE', `${mount}/root`);
      pki.issuers.length = 0;
      await admin('POST', `${mount}/root/generate/internal`, root('B'));
      const before = signed().length;
      const error = await expectRejection('vault_root_changed', mint(old));
      assert.match(error.hint ?? '', /the new root enters the bundle first/);
      assert.equal(signed().length, before);
      const next = await newAnchor([old.certificate]);
      assert.notEqual(next, null);
      assert.equal((await mint(next!)).length, 1);
    });

    it('say which line of the policy is missing', async (t) => {
      const { admin, mount, anchor, mint } = await setUp(t, flavour);
      const held = await anchor();
      await admin('PUT', `sys/policies/acl/${mount}`, {
        policy: 'path "auth/token/lookup-self" { capabilities = ["read"] }',
      });
      const error = await expectRejection('vault_forbidden', mint(held));
      assert.ok(error.hint?.includes(`path "${mount}/root/sign-intermediate" { capabilities = ["update"] }`));
    });

    it('are asked for at another path where one is configured', async (t) => {
      const { anchor, mint, signed, fake, mount } = await setUp(t, flavour, { signPath: 'custom/sign' });
      const held = await anchor();
      await expectRejection('vault_forbidden', mint(held));
      assert.equal(signed().length, 0);
      assert.equal(fake.count(/^POST custom\/sign$/), 1);
      assert.notEqual(mount, 'custom');
    });
  });
}

describe('issuers under a mount with several issuers', () => {
  const flavour = 'openbao-2.6';

  /** Root B made beside root A, and made the default where that is wanted. */
  async function withRootB(t: TestContext, settings: Partial<VaultSettings> = {}, makeDefault = true) {
    const bed = await setUp(t, flavour, settings);
    const oldAnchor: UpstreamAnchor = { certificate: bed.pki.issuers[0]!.der, key: null };
    await bed.admin('POST', `${bed.mount}/root/rotate/internal`, root('B', { issuer_name: 'root-b' }));
    if (makeDefault) await bed.admin('POST', `${bed.mount}/root/replace`, { default: 'root-b' });
    const [issuerA, issuerB] = bed.pki.issuers;
    return { ...bed, oldAnchor, issuerA: issuerA!, issuerB: issuerB! };
  }

  it('stay under the old root, by its id, while the new one is on its way to the fleet', async (t) => {
    const { mount, mint, oldAnchor, issuerA, signed } = await withRootB(t);
    const [issuer] = await mint(oldAnchor);
    assert.deepEqual(parseCertificate(issuer!).issuer, parseCertificate(issuerA.der).subject);
    assert.deepEqual(signed(), [`POST ${mount}/issuer/${issuerA.id}/sign-intermediate`]);
  });

  it('move to the new root once it is the anchor that is asked for', async (t) => {
    const { mount, mint, newAnchor, oldAnchor, issuerB, signed } = await withRootB(t);
    const anchor = (await newAnchor([oldAnchor.certificate]))!;
    assert.deepEqual(anchor.certificate, issuerB.der);
    await mint(anchor);
    assert.deepEqual(signed(), [`POST ${mount}/root/sign-intermediate`]);
  });

  it('do not move to a root that is not the default: it is being handed out by other means', async (t) => {
    const { newAnchor, oldAnchor } = await withRootB(t, {}, false);
    assert.equal(await newAnchor([oldAnchor.certificate]), null);
  });

  it('are thrown away when the default changes between the look and the signature', async (t) => {
    const { fake, mint, oldAnchor, issuerA, mount, signed } = await withRootB(t);
    // The look sees A, as a standby that lags behind would show it; the signature is B's.
    const data = { ca_chain: [pemOf(issuerA.der)], certificate: pemOf(issuerA.der), issuer_id: issuerA.id };
    fake.next(/issuer\/default\/json/, { kind: 'answer', status: 200, body: JSON.stringify({ data }) });
    const error = await expectRejection('vault_root_changed', mint(oldAnchor));
    assert.match(error.message, /thrown away/);
    assert.deepEqual(signed(), [`POST ${mount}/root/sign-intermediate`]);
  });

  it('are signed by the pinned issuer alone', async (t) => {
    const { mount, mint, anchor, oldAnchor, issuerB, signed } = await withRootB(
      t,
      { issuerRef: 'root-b' },
      false,
    );
    assert.deepEqual((await anchor()).certificate, issuerB.der);
    await mint(await anchor());
    assert.deepEqual(signed(), [`POST ${mount}/issuer/root-b/sign-intermediate`]);
    const error = await expectRejection('vault_root_changed', mint(oldAnchor));
    assert.match(error.hint ?? '', /issuerRef pins/);
  });

  it('say that the pinned issuer is not there', async (t) => {
    const { newAnchor } = await setUp(t, flavour, { issuerRef: 'nope' });
    const error = await expectRejection('vault_issuer_missing', newAnchor());
    assert.match(error.hint ?? '', /vault list .*\/issuers/);
    const old = await setUp(t, 'vault-1.8', { issuerRef: 'root-b' });
    const none = await expectRejection('vault_issuer_missing', old.newAnchor());
    assert.match(none.hint ?? '', /before 1.11/);
  });

  it('lead to either root of a cross-signed pair, by the chain that fits the anchor', async (t) => {
    const bed = await withRootB(t);
    const { pki, mint, anchor, oldAnchor, issuerA, issuerB } = bed;
    const named = (ca: { der: Uint8Array; signer: TestCa['signer'] | null }, subject: string): TestCa => ({
      der: ca.der,
      signer: ca.signer!,
      subject,
    });
    const crossed = await makeIssuer(named(issuerA, 'CN=Example Root A'), {
      signer: issuerB.signer!,
      subject: 'CN=Example Root B',
      extensions: { san: null },
    });
    pki.add(crossed.der, issuerB.signer, 'b-by-a');
    // As the documentation of cross-signing has it: the chain of B is given by hand, with both.
    issuerB.manualChain = [issuerB.der, crossed.der, issuerA.der];
    assert.deepEqual((await anchor()).certificate, issuerB.der);
    assert.equal((await mint(await anchor())).length, 1);
    assert.equal((await mint(oldAnchor)).length, 1);
    // With the key of A taken away, what is left under A is the cross-signed B.
    pki.issuers.splice(0, 1, { ...issuerA, signer: null, keyId: '' });
    const chain = await mint(oldAnchor);
    assert.equal(chain.length, 2);
    assert.deepEqual(chain[1], crossed.der);
  });

  it('are looked for in the mount before each mint, and the watch tells of another default', async (t) => {
    const { fake, upstream, admin, mount, clock } = await withRootB(t, {}, false);
    const stop = new AbortController();
    let yields = 0;
    const watching = (async () => {
      for await (const _ of upstream.watch(stop.signal)) yields += 1;
    })();
    const looks = (): number => fake.count(/issuer\/default\/json/);
    const until = async (isDone: () => boolean): Promise<void> => {
      while (!isDone()) await settle();
    };
    // The watch, and what keeps the token alive.
    const rests = (looked: number): Promise<void> => until(() => looks() === looked && clock.sleeping === 2);
    await rests(1);
    await clock.advance(60_000);
    await rests(2);
    assert.equal(yields, 0);
    await admin('POST', `${mount}/root/replace`, { default: 'root-b' });
    await clock.advance(60_000);
    await rests(3);
    assert.equal(yields, 1);
    // Away for a while: whatever changed meanwhile is asked for anew. A kept connection is tried twice.
    fake.next(/issuer\/default\/json/, { kind: 'cut' });
    fake.next(/issuer\/default\/json/, { kind: 'cut' });
    await clock.advance(60_000);
    await until(() => upstream.problem() !== null && clock.sleeping === 2);
    assert.match(upstream.problem() ?? '', /no answer from Vault/);
    await clock.advance(1_000);
    await until(() => yields === 2);
    assert.equal(upstream.problem(), null);
    // The reads are of public paths, and need no token.
    assert.ok(
      fake.seen
        .filter(({ line }) => line.includes('/json'))
        .every(({ request }) => request.token === undefined),
    );
    stop.abort();
    await watching;
  });
});

describe('what Vault signs', () => {
  const cases: readonly {
    readonly name: string;
    readonly code: ErrorCode;
    readonly forge: (root: TestCa, own: ReturnType<typeof newSigner>, nowMs: number) => Promise<Uint8Array>;
  }[] = [
    {
      name: 'another key',
      code: 'vault_certificate_key_mismatch',
      forge: async (root) => (await makeIssuer(root)).der,
    },
    {
      name: 'CA:false',
      code: 'vault_certificate_not_ca',
      forge: async (root, signer) =>
        (await makeIssuer(root, { signer, extensions: { basicConstraints: ext.basicConstraints(false) } }))
          .der,
    },
    {
      name: 'no key usage',
      code: 'vault_certificate_key_usage',
      forge: async (root, signer) => (await makeIssuer(root, { signer, extensions: { keyUsage: null } })).der,
    },
    {
      name: 'another trust domain',
      code: 'vault_certificate_trust_domain',
      forge: async (root, signer) =>
        (await makeIssuer(root, { signer, extensions: { san: ext.uris('spiffe://example.com') } })).der,
    },
    {
      name: 'no trust domain',
      code: 'vault_certificate_trust_domain',
      forge: async (root, signer) => (await makeIssuer(root, { signer, extensions: { san: null } })).der,
    },
    {
      name: 'an issuer that has expired',
      code: 'vault_certificate_expired',
      forge: async (root, signer, nowMs) =>
        (await makeIssuer(root, { signer, notAfterMs: nowMs - 1_000 })).der,
    },
    {
      name: 'an issuer that is not valid yet',
      code: 'vault_certificate_not_yet_valid',
      forge: async (root, signer, nowMs) =>
        (await makeIssuer(root, { signer, notBeforeMs: nowMs + 5_000 })).der,
    },
  ];
  for (const { name, code, forge } of cases) {
    it(`is not taken when it is ${name}: ${code}`, async (t) => {
      const { pki, mint, newAnchor, signer, nowMs, upstream } = await setUp(t, 'openbao-2.6');
      const root = await makeAnchor({ notAfterMs: nowMs + 365 * DAY_MS, extensions: { san: null } });
      pki.issuers.length = 0;
      pki.defaultId = pki.add(root.der, root.signer).id;
      const anchor = (await newAnchor())!;
      const forged = await forge(root, signer, nowMs);
      pki.tamper = (data) => ({
        ...data,
        certificate: pemOf(forged),
        ca_chain: [pemOf(forged), pemOf(root.der)],
      });
      const error = await expectRejection(code, mint(anchor));
      assert.ok((error.hint ?? '').length > 10);
      assert.match(
        upstream.problem() ?? '',
        new RegExp(error.message.slice(0, 20).replaceAll(/[^\w ]/g, '.')),
      );
    });
  }

  it('has a code of its own for each fault', () => {
    const codes = new Set(cases.map(({ code }) => code));
    assert.equal(codes.size, cases.length - 1);
  });

  it('leaves no room below a CA whose path length is too short', async (t) => {
    const { pki, mint, newAnchor, nowMs } = await setUp(t, 'openbao-2.6');
    const root = await makeAnchor({
      notAfterMs: nowMs + 365 * DAY_MS,
      extensions: { basicConstraints: ext.basicConstraints(true, 0), san: null },
    });
    pki.issuers.length = 0;
    pki.defaultId = pki.add(root.der, root.signer).id;
    const error = await expectRejection('vault_certificate_path_length', mint((await newAnchor())!));
    assert.match(error.hint ?? '', /max_path_length of 1/);
  });

  it('is not valid now where the clocks differ', async (t) => {
    const { pki, mint, newAnchor, signer, nowMs, fake } = await setUp(t, 'openbao-2.6');
    const root = await makeAnchor({ notAfterMs: nowMs + 365 * DAY_MS, extensions: { san: null } });
    pki.issuers.length = 0;
    pki.defaultId = pki.add(root.der, root.signer).id;
    const anchor = (await newAnchor())!;
    for (const [aheadMs, times, want] of [
      [3_600_000, { notBeforeMs: nowMs + 3_570_000, notAfterMs: nowMs + DAY_MS }, /3600 s ahead of ours/],
      [-DAY_MS, { notBeforeMs: nowMs - DAY_MS, notAfterMs: nowMs - HOUR_MS }, /86400 s behind ours/],
    ] as const) {
      const { der } = await makeIssuer(root, { signer, ...times });
      const data = { certificate: pemOf(der), issuing_ca: pemOf(root.der) };
      fake.next(/sign-intermediate/, {
        kind: 'answer',
        status: 200,
        body: JSON.stringify({ data }),
        headers: { date: new Date(nowMs + aheadMs).toUTCString() },
      });
      assert.match((await expectRejection('vault_clock_skewed', mint(anchor))).message, want);
    }
  });

  it('is nothing that can be read', async (t) => {
    const { fake, mint, anchor } = await setUp(t, 'openbao-2.6');
    const held = await anchor();
    for (const data of [
      null,
      {},
      { certificate: '' },
      { certificate: 7 },
      { certificate: 'no PEM' },
      { certificate: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' },
      { certificate: [null] },
      { certificate: pemOf(held.certificate).repeat(40) },
    ]) {
      fake.next(/sign-intermediate/, { kind: 'answer', status: 200, body: JSON.stringify({ data }) });
      await expectRejection('vault_answer_invalid', mint(held));
    }
    assert.deepEqual(derOf(pemOf(held.certificate)), held.certificate);
  });
});
