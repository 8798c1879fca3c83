import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it, type TestContext } from 'node:test';
import type { UpstreamAnchor, UpstreamAuthority } from '../../ca/upstream/upstream-authority.ts';
import { checkAuthority, tryThrowawaySvid } from '../../pki/authority-check.ts';
import { issuerCsr } from '../../pki/authority-profile.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { makeAnchor, newPrivateKey, newSigner, spkiOf } from '../support/certificates.ts';
import { settle } from '../support/manual-clock.ts';

/** One upstream authority of the trust domain example.org, as a backend's test gives it. */
export interface UpstreamAuthorityHarness {
  readonly upstream: UpstreamAuthority;
  readonly nowMs: number;
}

const DAY_MS = 86_400_000;
const never = new AbortController().signal;
const trustDomain = TrustDomain.parse('example.org');

/** What every {@link UpstreamAuthority} must do, whoever holds the key: see the contract in its file. */
export function upstreamAuthorityConformance(
  name: string,
  makeHarness: (t: TestContext) => Promise<UpstreamAuthorityHarness>,
): void {
  const setUp = async (t: TestContext) => {
    const harness = await makeHarness(t);
    const { upstream, nowMs } = harness;
    const times = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 30 * DAY_MS };
    const newAnchor = (known: readonly Uint8Array[] = []) =>
      upstream.newAnchor({ known, notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 365 * DAY_MS }, never);
    const anchor = await newAnchor();
    assert.ok(anchor !== null, 'the upstream offers no anchor');
    const signer = newSigner();
    const csr = await issuerCsr({ trustDomain, signer });
    return { ...harness, newAnchor, anchor, signer, csr, times };
  };

  describe(`${name} as an upstream authority`, () => {
    it('offers an anchor that passes the checks, and whose key is its own', async (t) => {
      const { anchor, nowMs } = await setUp(t);
      const spki = anchor.key?.spki ?? null;
      // A root of others need not have a SPIFFE ID.
      const spiffeId = anchor.key === null ? 'optional' : 'required';
      checkAuthority({ trustDomain, chain: [anchor.certificate], anchor: null, spki, spiffeId, nowMs });
    });

    it('mints an issuer that passes the checks, and under which SVIDs verify', async (t) => {
      const { upstream, anchor, signer, csr, times, nowMs } = await setUp(t);
      const { chain } = await upstream.mintIssuer({ csr, anchor, ...times }, never);
      const issuer = checkAuthority({
        trustDomain,
        chain,
        anchor: anchor.certificate,
        spki: signer.spki,
        nowMs,
      });
      assert.ok(issuer.notAfterMs <= times.notAfterMs);
      await tryThrowawaySvid({
        trustDomain,
        chain,
        signer,
        anchors: [anchor.certificate],
        spki: spkiOf(newPrivateKey()),
        serialNumber: randomBytes(16),
        nowMs,
      });
    });

    it('never lets an issuer outlive its anchor', async (t) => {
      const { upstream, anchor, csr, times } = await setUp(t);
      const anchorEndsMs = parseCertificate(anchor.certificate).notAfterMs;
      const tooLong = { ...times, notAfterMs: anchorEndsMs + 30 * DAY_MS };
      const { chain } = await upstream.mintIssuer({ csr, anchor, ...tooLong }, never);
      assert.ok(parseCertificate(chain[0]!).notAfterMs <= anchorEndsMs);
    });

    it('mints again for the same CSR, another certificate', async (t) => {
      const { upstream, anchor, csr, times } = await setUp(t);
      const minted = await Promise.all(
        [1, 2].map(() => upstream.mintIssuer({ csr, anchor, ...times }, never)),
      );
      const [a, b] = minted.map(({ chain }) => parseCertificate(chain[0]!));
      assert.notDeepEqual(a!.serialNumber, b!.serialNumber);
      assert.deepEqual(a!.spki, b!.spki);
    });

    it('offers no anchor that is known already', async (t) => {
      const { newAnchor, anchor } = await setUp(t);
      const other: UpstreamAnchor | null = await newAnchor([anchor.certificate]);
      if (other !== null) assert.notDeepEqual(other.certificate, anchor.certificate);
    });

    it('refuses a CSR that was altered, or names another trust domain', async (t) => {
      const { upstream, anchor, signer, csr, times } = await setUp(t);
      const altered = Uint8Array.from(csr);
      altered[altered.length - 1] = altered.at(-1)! ^ 1;
      const foreign = await issuerCsr({ trustDomain: TrustDomain.parse('example.com'), signer });
      for (const bad of [altered, foreign, new Uint8Array()]) {
        await assert.rejects(upstream.mintIssuer({ csr: bad, anchor, ...times }, never), {
          code: /^(csr_|upstream_refused|authority_unusable)/,
        });
      }
    });

    it('mints nothing under an anchor that it does not hold', async (t) => {
      const { upstream, anchor, csr, times } = await setUp(t);
      const foreign = await makeForeignAnchor(anchor);
      await assert.rejects(upstream.mintIssuer({ csr, anchor: foreign, ...times }, never), {
        code: /^(upstream_refused|authority_unusable|key_not_found|key_sealed|vault_root_changed)$/,
      });
    });

    it('rejects with the reason of a signal that has aborted', async (t) => {
      const { upstream, anchor, csr, times } = await setUp(t);
      const reason = new Error('stop');
      const aborted = AbortSignal.abort(reason);
      await assert.rejects(upstream.newAnchor({ known: [], ...times }, aborted), reason);
      await assert.rejects(upstream.mintIssuer({ csr, anchor, ...times }, aborted), reason);
    });

    it('ends its watch when the signal aborts, before and during it', async (t) => {
      const { upstream } = await setUp(t);
      const stop = new AbortController();
      const ended = (async () => {
        for await (const _ of upstream.watch(stop.signal));
      })();
      await settle();
      stop.abort();
      await ended;
      for await (const _ of upstream.watch(AbortSignal.abort())) assert.fail('it yielded');
    });
  });
}

/** An anchor of somebody else, with the name but not the key of one of ours. */
async function makeForeignAnchor(anchor: UpstreamAnchor): Promise<UpstreamAnchor> {
  const foreign = await makeAnchor();
  return { certificate: foreign.der, key: anchor.key };
}
