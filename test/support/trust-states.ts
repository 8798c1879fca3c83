import type { KeyHandle } from '../../ca/keys/key-manager.ts';
import { type Anchor, type Issuer, NO_ROTATION, type TrustState } from '../../ca/authority/trust-state.ts';
import { toHex } from '../../pki/bytes.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { makeAnchor, makeIssuer, NOW_MS, type TestCa } from './certificates.ts';

/** Real authorities that trust states can be put together from. Their keys sign nothing: the handles are empty. */
export interface AuthorityPool {
  readonly anchors: readonly Anchor[];
  /** `issuers[i]` are those below `anchors[i]`. All are prepared. */
  readonly issuers: readonly (readonly Issuer[])[];
}

/** A handle whose reference opens nothing. */
export function emptyHandle(id: string, spki: Uint8Array = Uint8Array.of(0x30, 0x00)): KeyHandle {
  return {
    id,
    manager: 'store',
    algorithm: 'ec-p256',
    spki: Uint8Array.from(spki),
    reference: Uint8Array.of(1, 2, 3),
  };
}

/** `anchors` anchors with `issuersPerAnchor` issuers below each, all of them prepared. */
export async function makeAuthorityPool(anchors: number, issuersPerAnchor: number): Promise<AuthorityPool> {
  const pool: { anchors: Anchor[]; issuers: Issuer[][] } = { anchors: [], issuers: [] };
  for (let i = 0; i < anchors; i += 1) {
    const ca = await makeAnchor();
    const anchor: Anchor = {
      ...authorityOf(ca),
      upstream: 'self',
      sinceSequence: 1,
      key: handleOf(ca, `anchor-${i}`),
    };
    const issuers: Issuer[] = [];
    for (let k = 0; k < issuersPerAnchor; k += 1) {
      const issuer = await makeIssuer(ca);
      const key = handleOf(issuer, `issuer-${i}-${k}`);
      issuers.push({ ...authorityOf(issuer), anchorId: anchor.id, intermediates: [], key });
    }
    pool.anchors.push(anchor);
    pool.issuers.push(issuers);
  }
  return pool;
}

/** One active anchor with one active issuer. */
export function activeState(pool: AuthorityPool): TrustState {
  const [anchor] = pool.anchors;
  const [issuer] = pool.issuers[0]!;
  return {
    trustDomain: 'example.org',
    sequence: 1,
    anchors: [{ ...anchor!, phase: 'active' }],
    issuers: [{ ...issuer!, phase: 'active' }],
    discardedKeys: [],
    ...NO_ROTATION,
  };
}

function authorityOf({ der }: TestCa) {
  const { subjectKeyId, notBeforeMs, notAfterMs } = parseCertificate(der);
  return {
    id: toHex(subjectKeyId!),
    phase: 'prepared',
    phaseSinceMs: NOW_MS,
    taintedAtMs: null,
    certificate: der,
    notBeforeMs,
    notAfterMs,
  } as const;
}

function handleOf(ca: TestCa, id: string): KeyHandle {
  return emptyHandle(id, ca.signer.spki);
}
