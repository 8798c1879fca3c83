import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it, type TestContext } from 'node:test';
import { SealedKeyManager } from '../../../../../ca/keys/sealed-key-manager.ts';
import type { DiskSettings } from '../../../../../ca/upstream/disk/disk-settings.ts';
import { DiskSource } from '../../../../../ca/upstream/disk/disk-source.ts';
import { DiskUpstream } from '../../../../../ca/upstream/disk/disk-upstream.ts';
import { systemRandom } from '../../../../../host/random.ts';
import { checkAuthority, tryThrowawaySvid } from '../../../../../pki/authority-check.ts';
import { issuerCsr } from '../../../../../pki/authority-profile.ts';
import { parseCertificate } from '../../../../../pki/certificate.ts';
import { Secret } from '../../../../../pki/secret.ts';
import { TrustDomain } from '../../../../../pki/spiffe-id.ts';
import { upstreamAuthorityConformance } from '../../../../conformance/upstream-authority.ts';
import { RecordingLog } from '../../../../support/authority-replica.ts';
import {
  HOUR_MS,
  makeAnchor,
  makeIssuer,
  newPrivateKey,
  newSigner,
  NOW_MS,
  spkiOf,
  type TestKeyType,
} from '../../../../support/certificates.ts';
import { expectRejection } from '../../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { keyPem, makeHierarchy, pemOf, POLL_MS, UpstreamFiles } from '../../../../support/upstream-files.ts';

const never = new AbortController().signal;
const trustDomain = TrustDomain.parse('example.org');
const TIMES = { notBeforeMs: NOW_MS - 60_000, notAfterMs: NOW_MS + HOUR_MS };

function setUp(t: TestContext, settings: Partial<DiskSettings> = {}) {
  const files = new UpstreamFiles(temporaryFolder(t), settings);
  const clock = new ManualClock(NOW_MS);
  const keys = new SealedKeyManager({
    trustDomain: trustDomain.name,
    sealingKey: new Secret(randomBytes(32)),
    random: systemRandom,
  });
  const source = new DiskSource({ settings: files.settings, trustDomain, clock, log: new RecordingLog() });
  const upstream = new DiskUpstream({
    settings: files.settings,
    source,
    trustDomain,
    keys,
    clock,
    random: systemRandom,
  });
  const mint = async (root: Uint8Array) => {
    const csr = await issuerCsr({ trustDomain, signer: newSigner() });
    return upstream.mintIssuer({ csr, anchor: { certificate: root, key: null }, ...TIMES }, never);
  };
  return { files, clock, keys, source, upstream, mint };
}

for (const keyType of ['ec-p384', 'rsa-2048'] satisfies TestKeyType[]) {
  upstreamAuthorityConformance(`an intermediate CA in files (${keyType})`, async (t) => {
    const { files, upstream } = setUp(t);
    const { root, intermediate } = await makeHierarchy({ intermediate: { signer: newSigner(keyType) } });
    files.writePair(intermediate, root);
    return { upstream, nowMs: NOW_MS };
  });
}

upstreamAuthorityConformance('a root in files that signs issuers itself', async (t) => {
  const { files, upstream } = setUp(t);
  files.writePair(await makeAnchor());
  return { upstream, nowMs: NOW_MS };
});

describe('an upstream in files', () => {
  it('mints below the whole chain, and never beyond what ends first in it', async (t) => {
    const { files, mint } = setUp(t);
    const ends = NOW_MS + HOUR_MS / 2;
    const root = await makeAnchor({ extensions: { san: null }, notAfterMs: ends });
    const high = await makeIssuer(root, { notAfterMs: ends + 1_000 });
    const low = await makeIssuer(high);
    files.writePair(low, root, high);
    const { chain } = await mint(root.der);
    assert.deepEqual(chain.slice(1), [low.der, high.der]);
    assert.equal(parseCertificate(chain[0]!).notAfterMs, ends);
  });

  it('says so when its files hang under another root than the anchor, and offers that root', async (t) => {
    const { files, source, upstream, mint } = setUp(t);
    const [a, b] = [await makeHierarchy(), await makeHierarchy()];
    files.writePair(a.intermediate, a.root);
    assert.equal((await mint(a.root.der)).chain.length, 2);
    files.writePair(b.intermediate, b.root);
    for (let i = 0; i < 2; i += 1) await source.check();
    assert.match(
      (await expectRejection('upstream_refused', mint(a.root.der))).hint ?? '',
      /rotation to their root/,
    );
    const offered = await upstream.newAnchor({ known: [a.root.der], ...TIMES }, never);
    assert.deepEqual(offered, { certificate: b.root.der, key: null });
    assert.equal(await upstream.newAnchor({ known: [a.root.der, b.root.der], ...TIMES }, never), null);
  });

  it('serves the old anchor and offers the newer one where its CA was signed by both', async (t) => {
    const { files, upstream, mint } = setUp(t);
    const { root: old, intermediate } = await makeHierarchy();
    const next = await makeAnchor({ extensions: { san: null }, notBeforeMs: NOW_MS - HOUR_MS });
    const across = await makeIssuer(next, { subject: intermediate.subject, signer: intermediate.signer });
    files.write({
      'tls.crt': pemOf(intermediate, across, old, next),
      'tls.key': keyPem(intermediate.signer.privateKey),
    });
    const offered = await upstream.newAnchor({ known: [old.der], ...TIMES }, never);
    assert.deepEqual(offered?.certificate, next.der);
    for (const root of [old, next]) assert.equal((await mint(root.der)).chain.length, 2);
    assert.equal(await upstream.newAnchor({ known: [next.der], ...TIMES }, never), null);
  });

  it('signs no more with what has expired since it was read', async (t) => {
    const { files, clock, upstream, mint } = setUp(t);
    const { root, intermediate } = await makeHierarchy();
    files.writePair(intermediate, root);
    await mint(root.der);
    await clock.advance(12 * HOUR_MS);
    await expectRejection('disk_certificate_expired', mint(root.der));
    await expectRejection('disk_certificate_expired', upstream.newAnchor({ known: [], ...TIMES }, never));
  });

  it('wakes who watches after new good files, not after bad ones', async (t) => {
    const { files, clock, upstream } = setUp(t);
    const [a, b] = [await makeHierarchy(), await makeHierarchy()];
    files.writePair(a.intermediate, a.root);
    await upstream.newAnchor({ known: [], ...TIMES }, never);
    const stop = new AbortController();
    let woken = 0;
    const watching = (async () => {
      for await (const _ of upstream.watch(stop.signal)) woken += 1;
    })();
    // A look takes real turns of the event loop.
    const looks = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 1) {
        while (clock.sleeping === 0) await settle();
        await clock.advance(POLL_MS);
      }
      while (clock.sleeping === 0) await settle();
    };
    await looks(3);
    assert.equal(woken, 0);
    files.write({ 'tls.key': 'nothing' });
    await looks(3);
    assert.equal(woken, 0);
    assert.notEqual(upstream.problem(), null);
    files.writePair(b.intermediate, b.root);
    await looks(3);
    assert.equal(woken, 1);
    assert.equal(upstream.problem(), null);
    stop.abort();
    await watching;
  });
});

describe('an issuer in files', () => {
  it('is given with its chain, and its key is taken into the key manager', async (t) => {
    const { files, keys, upstream } = setUp(t, { mode: 'issuer' });
    const { root, intermediate } = await makeHierarchy();
    files.writePair(intermediate, root);
    const anchor = await upstream.newAnchor({ known: [], ...TIMES }, never);
    assert.deepEqual(anchor?.certificate, root.der);
    const given = await upstream.givenIssuer!({ anchor, known: [] }, never);
    const [key, again] = [await given!.takeKey(), await given!.takeKey()];
    assert.notEqual(key.id, again.id);
    const { chain } = given!;
    checkAuthority({
      trustDomain,
      chain,
      anchor: root.der,
      spki: key.spki,
      spiffeId: 'optional',
      nowMs: NOW_MS,
    });
    await tryThrowawaySvid({
      trustDomain,
      chain,
      signer: await keys.signer(key),
      anchors: [root.der],
      spki: spkiOf(newPrivateKey()),
      serialNumber: randomBytes(16),
      nowMs: NOW_MS,
    });
  });

  it('is not given again when it is known, nor under another anchor', async (t) => {
    const { files, upstream } = setUp(t, { mode: 'issuer' });
    const { root, intermediate } = await makeHierarchy();
    const other = await makeAnchor();
    files.writePair(intermediate, root);
    const ask = (certificate: Uint8Array, known: readonly Uint8Array[]) =>
      upstream.givenIssuer!({ anchor: { certificate, key: null }, known }, never);
    assert.equal(await ask(root.der, [intermediate.der]), null);
    assert.equal(await ask(other.der, []), null);
    assert.notEqual(await ask(root.der, [other.der]), null);
  });

  it('signs no issuer, and an intermediate CA gives none', async (t) => {
    const { files, upstream, mint } = setUp(t, { mode: 'issuer' });
    const { root, intermediate } = await makeHierarchy();
    files.writePair(intermediate, root);
    assert.match((await expectRejection('upstream_refused', mint(root.der))).message, /hold an issuer/);
    assert.notEqual(upstream.givenIssuer, undefined);
    assert.equal(setUp(t).upstream.givenIssuer, undefined);
  });
});
