/** A CA below another: what it is given, whom the one above refuses, and a rotation that both fleets follow together. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { generateKeyPairSync } from 'node:crypto';
import { KedgeClient } from '../../ca/upstream/kedge/kedge-client.ts';
import { KedgeUpstream } from '../../ca/upstream/kedge/kedge-upstream.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { buildCsr } from '../../pki/csr-builder.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { encodePem } from '../../pki/pem.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { upstreamAuthorityConformance } from '../conformance/upstream-authority.ts';
import { makeAnchor, makeLeaf, newSigner } from '../support/certificates.ts';
import { expectRejection } from '../support/expect-code.ts';
import { type CaUnderTest, getBundle, getStatus, issue, runningCa } from '../support/running-ca.ts';
import { until } from '../support/identity-plane.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const trustDomain = TrustDomain.parse('example.org');
const EAST = 'spiffe://example.org/ns/kedge/sa/east';
const never = new AbortController().signal;
const DAY_MS = 86_400_000;
const TIMES = { notBeforeMs: Date.now() - 60_000, notAfterMs: Date.now() + DAY_MS };

/** A CA that `EAST` may stand under. */
async function above(t: TestContext): Promise<CaUnderTest> {
  const file = join(temporaryFolder(t), 'above.yaml');
  writeFileSync(file, `downstream: { address: "127.0.0.1:0", allow: ["${EAST}"] }\n`);
  return runningCa(t, { file });
}

/** The files with which a nested CA shows who it is: an SVID of the CA above, as its agent would write it. */
async function identityFiles(t: TestContext, plane: CaUnderTest, serviceAccount = 'east') {
  const folder = temporaryFolder(t);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const token = plane.token({ namespace: 'kedge', serviceAccount, podName: `${serviceAccount}-0` });
  const { x509Svid } = await issue(await plane.connect(), token, buildCsr({ privateKey }));
  const { x509Authorities } = await getBundle(plane.ca);
  const pem = (all: readonly Uint8Array[]): string =>
    all.map((der) => encodePem('CERTIFICATE', der)).join('');
  const files = {
    certificateFile: join(folder, 'tls.crt'),
    keyFile: join(folder, 'tls.key'),
    bundleFile: join(folder, 'ca.crt'),
  };
  writeFileSync(files.certificateFile, pem(x509Svid));
  writeFileSync(files.keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync(files.bundleFile, pem(x509Authorities));
  return files;
}

function upstreamOf(plane: CaUnderTest, files: Awaited<ReturnType<typeof identityFiles>>): KedgeUpstream {
  const address = plane.ca.downstreamAddress ?? assert.fail('it serves no nested CA');
  const settings = { address, ...files, timeoutMs: 5_000, pollMs: 200 };
  const client = new KedgeClient({ settings, trustDomain, clock: systemClock });
  return new KedgeUpstream({ client, report: () => null, pollMs: 200, clock: systemClock, log: silentLog });
}

upstreamAuthorityConformance('a CA above', async (t) => {
  const plane = await above(t);
  return { upstream: upstreamOf(plane, await identityFiles(t, plane)), nowMs: Date.now() };
});

describe('a CA above', () => {
  it('has nothing for one that it was not told of, or that shows no SVID of its own', async (t) => {
    const plane = await above(t);
    const ask = (files: Awaited<ReturnType<typeof identityFiles>>) =>
      upstreamOf(plane, files).newAnchor({ known: [], ...TIMES }, never);
    await expectRejection('downstream_denied', ask(await identityFiles(t, plane, 'west')));

    const good = await identityFiles(t, plane);
    const stranger = newSigner();
    const anchor = await makeAnchor({ notBeforeMs: TIMES.notBeforeMs, notAfterMs: TIMES.notAfterMs });
    const forged = await makeLeaf(anchor, { signer: stranger, ...TIMES });
    const folder = temporaryFolder(t);
    const files = { ...good, certificateFile: join(folder, 'tls.crt'), keyFile: join(folder, 'tls.key') };
    writeFileSync(files.certificateFile, encodePem('CERTIFICATE', forged));
    writeFileSync(files.keyFile, stranger.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await expectRejection('downstream_unauthenticated', ask(files));
  });

  it('is not believed by its address: it must be the CA of the trust domain', async (t) => {
    const [plane, other] = [await above(t), await above(t)];
    const files = await identityFiles(t, plane);
    const address = other.ca.downstreamAddress ?? '';
    const settings = { address, ...files, timeoutMs: 2_000, pollMs: 200 };
    const client = new KedgeClient({ settings, trustDomain, clock: systemClock });
    await expectRejection('kedge_upstream_unreachable', client.call('Sync', new Uint8Array(), never));
    writeFileSync(files.bundleFile, 'nothing');
    await assert.rejects(client.call('Sync', new Uint8Array(), never), { code: /^kedge_upstream_/ });
  });
});

describe('a nested CA', () => {
  it('issues under the anchor of the CA above, and both fleets verify each other', async (t) => {
    const plane = await above(t);
    const files = await identityFiles(t, plane);
    const file = join(temporaryFolder(t), 'east.yaml');
    const kedge = JSON.stringify({ address: plane.ca.downstreamAddress, ...files, pollInterval: '200ms' });
    writeFileSync(file, `upstream: { kind: kedge, kedge: ${kedge} }\n`);
    const east = await runningCa(t, { file });

    const { x509Svid: below } = await issue(await east.connect(), east.token());
    const { x509Svid: own } = await issue(await plane.connect(), plane.token());
    const bundles = await Promise.all([getBundle(plane.ca), getBundle(east.ca)]);
    assert.deepEqual(bundles[0].x509Authorities, bundles[1].x509Authorities);
    for (const { x509Authorities } of bundles) {
      for (const chain of [below, own]) {
        verifyX509Svid({ chain, bundles: () => x509Authorities, nowMs: Date.now() });
      }
    }
    const issuer = parseCertificate(below[1] ?? assert.fail('no issuer'));
    assert.equal(issuer.basicConstraints?.pathLength, 0);
    const { anchors } = await getStatus(east.ca);
    assert.deepEqual(
      anchors.map(({ upstream, phase }) => `${upstream} ${phase}`),
      ['kedge active'],
    );
    // It goes on with what it has while the CA above is away.
    await plane.ca.close();
    await issue(await east.connect(), east.token());
    await until('it says so', async () =>
      /CA above|upstream authority/.test((await getStatus(east.ca)).lifecycle),
    );
  });
});
