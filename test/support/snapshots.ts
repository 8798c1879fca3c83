import { createPrivateKey, type KeyObject } from 'node:crypto';
import type { BundleSnapshot, IdentitySnapshot, SvidSnapshot } from '../../agent/snapshot.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { createCrl } from '../../pki/crl-builder.ts';
import { Secret } from '../../pki/secret.ts';
import { SpiffeId, TrustDomain } from '../../pki/spiffe-id.ts';
import {
  ext,
  HOUR_MS,
  makeAnchor,
  makeIssuer,
  makeLeaf,
  newSigner,
  SVID_ID,
  type TestCa,
} from './certificates.ts';

export const EXAMPLE_ORG = TrustDomain.parse('example.org');

/** Makes snapshots that hang together: real chains, real keys, bundles that verify them. */
export class SnapshotFactory {
  readonly #issuer: TestCa;
  readonly anchor: TestCa;
  readonly nowMs: number;

  static async make(nowMs: number): Promise<SnapshotFactory> {
    const validity = { notBeforeMs: nowMs - 24 * HOUR_MS, notAfterMs: nowMs + 240 * HOUR_MS };
    const anchor = await makeAnchor(validity);
    return new SnapshotFactory(anchor, await makeIssuer(anchor, validity), nowMs);
  }

  private constructor(anchor: TestCa, issuer: TestCa, nowMs: number) {
    this.anchor = anchor;
    this.#issuer = issuer;
    this.nowMs = nowMs;
  }

  async svid({
    id = SVID_ID,
    lifetimeMs = HOUR_MS,
    nowMs = this.nowMs,
  }: {
    id?: string;
    lifetimeMs?: number;
    nowMs?: number;
  } = {}): Promise<SvidSnapshot> {
    const signer = newSigner();
    const [notBeforeMs, notAfterMs] = [nowMs - 120_000, nowMs + lifetimeMs];
    const extensions = { san: ext.uris(id) };
    const leafDer = await makeLeaf(this.#issuer, { signer, notBeforeMs, notAfterMs, extensions });
    const leaf = parseCertificate(leafDer);
    return {
      spiffeId: SpiffeId.parse(id),
      chain: [leafDer, this.#issuer.der],
      privateKey: new Secret(Uint8Array.from(signer.privateKey.export({ type: 'pkcs8', format: 'der' }))),
      serialNumber: Uint8Array.from(leaf.serialNumber),
      authorityKeyId: Uint8Array.from(leaf.authorityKeyId ?? []),
      notBeforeMs: leaf.notBeforeMs,
      notAfterMs: leaf.notAfterMs,
    };
  }

  bundle(sequence = 1n, ...others: readonly TestCa[]): BundleSnapshot {
    return {
      trustDomain: EXAMPLE_ORG,
      sequence,
      refreshHintSeconds: 300,
      x509Authorities: [this.anchor, ...others].map(({ der }) => der),
      crls: [],
    };
  }

  /** An empty CRL of the anchor or of the issuer, DER. */
  crl(of: 'anchor' | 'issuer'): Promise<Uint8Array> {
    const { der, signer } = of === 'anchor' ? this.anchor : this.#issuer;
    return createCrl({
      issuer: parseCertificate(der),
      signer,
      number: 1,
      thisUpdateMs: this.nowMs - HOUR_MS,
      nextUpdateMs: this.nowMs + 24 * HOUR_MS,
      entries: [],
    });
  }

  async snapshot(generation = 1, lifetimeMs = HOUR_MS): Promise<IdentitySnapshot> {
    return { generation, svid: await this.svid({ lifetimeMs }), bundle: this.bundle(BigInt(generation)) };
  }
}

/** The private key of an SVID. */
export function keyOf({ privateKey }: SvidSnapshot): KeyObject {
  return createPrivateKey({ key: Buffer.from(privateKey.expose()), format: 'der', type: 'pkcs8' });
}
