import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { describe, it } from 'node:test';
import { ServingIdentity } from '../../../../ca/api/serving-identity.ts';
import type { ServingCertificate } from '../../../../ca/api/tls-listener.ts';
import type { IssuedSvid } from '../../../../ca/issue/issuance.ts';
import { silentLog } from '../../../../host/log.ts';
import { parseCsr, verifyProofOfPossession } from '../../../../pki/csr.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { SpiffeId } from '../../../../pki/spiffe-id.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const TTL_MS = 3_600_000;

function setup() {
  const clock = new ManualClock();
  const world = { issuer: 'aa' as string | null, refuse: false };
  const csrs: Uint8Array[] = [];
  const certificates: ServingCertificate[] = [];
  const identity = new ServingIdentity({
    issue: (csr): Promise<IssuedSvid> => {
      csrs.push(csr);
      if (world.refuse) return Promise.reject(new KedgeError('audit_unavailable', 'the disk is full'));
      return Promise.resolve({
        chain: [Buffer.from(`leaf ${csrs.length}`), Buffer.from('issuer')],
        spiffeId: SpiffeId.parse('spiffe://example.org/kedge/ca'),
        serialNumber: new Uint8Array([csrs.length]),
        notBeforeMs: clock.now() - 120_000,
        notAfterMs: clock.now() + TTL_MS,
        authorityKeyId: world.issuer ?? 'none',
      });
    },
    issuerId: () => world.issuer,
    onCertificate: (certificate) => certificates.push(certificate),
    clock,
    random: fixedRandom(0.5),
    log: silentLog,
  });
  const stop = new AbortController();
  const run = async (): Promise<Promise<void>> => {
    await identity.renew();
    const running = identity.run(stop.signal);
    await settle();
    return running;
  };
  return { clock, world, csrs, certificates, identity, run, stop };
}

describe("the CA's own identity", () => {
  it('is a chain and the key that the CSR was made with', async () => {
    const { identity, csrs, certificates } = setup();
    const { chainPem, keyPem } = await identity.renew();
    assert.deepEqual(certificates, [{ chainPem, keyPem }]);
    assert.equal(chainPem.match(/BEGIN CERTIFICATE/g)?.length, 2);
    const csr = parseCsr(csrs[0]!);
    verifyProofOfPossession(csr);
    const spki = createPublicKey(createPrivateKey(keyPem)).export({ type: 'spki', format: 'der' });
    assert.deepEqual(Buffer.from(csr.spki), spki);
  });

  it('is replaced at half of its life, each time with another key', async () => {
    const { clock, certificates, run, stop } = setup();
    const running = run();
    await settle();
    await clock.advance(TTL_MS / 2 - 1_000);
    assert.equal(certificates.length, 1);
    await clock.advance(1_000);
    assert.equal(certificates.length, 2);
    await clock.advance(TTL_MS / 2);
    assert.equal(certificates.length, 3);
    assert.equal(new Set(certificates.map(({ keyPem }) => keyPem)).size, 3);
    stop.abort();
    await running;
  });

  it('is replaced at once when another issuer signs, and not when the same one does', async () => {
    const { certificates, identity, world, run, stop } = setup();
    const running = run();
    await settle();
    identity.issuerChanged();
    await settle();
    assert.equal(certificates.length, 1);
    world.issuer = 'bb';
    identity.issuerChanged();
    await settle();
    assert.equal(certificates.length, 2);
    stop.abort();
    await running;
  });

  it('stays while no issuer may sign', async () => {
    const { certificates, identity, world, run, stop } = setup();
    const running = run();
    await settle();
    world.issuer = null;
    identity.issuerChanged();
    await settle();
    assert.equal(certificates.length, 1);
    stop.abort();
    await running;
  });

  it('goes on serving when its renewal fails, and is tried again with back-off until it succeeds', async () => {
    const { clock, certificates, csrs, world, run, stop } = setup();
    const running = run();
    await settle();
    world.refuse = true;
    await clock.advance(TTL_MS / 2 + 60_000);
    assert.equal(certificates.length, 1);
    const tries = csrs.length;
    // 250 ms, 500, 1 s, 2 s, 4 s, 8 s, then 15 s each: half of the ceilings.
    assert.ok(tries >= 6 && tries <= 14, `${tries} tries in a minute`);
    world.refuse = false;
    await clock.advance(15_000);
    assert.equal(certificates.length, 2);
    stop.abort();
    await running;
  });

  it('is renewed after the wall clock jumped past its end', async () => {
    const { clock, certificates, run, stop } = setup();
    const running = run();
    await settle();
    clock.jumpWall(10 * TTL_MS);
    await clock.advance(11_000);
    assert.equal(certificates.length, 2);
    stop.abort();
    await running;
  });
});
