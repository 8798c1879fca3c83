import { generateKeyPairSync } from 'node:crypto';
import type { Random } from '../../host/random.ts';
import { checkAuthority, tryThrowawaySvid } from '../../pki/authority-check.ts';
import { equalBytes, toHex } from '../../pki/bytes.ts';
import type { Certificate } from '../../pki/certificate.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { TrustDomain } from '../../pki/spiffe-id.ts';
import type { AuthorityKeyAlgorithm, KeyHandle, KeyManager } from '../keys/key-manager.ts';
import type { UpstreamAuthority } from '../upstream/upstream-authority.ts';
import type { Intent } from './lifecycle.ts';
import type { NewAnchor, NewIssuer } from './transitions.ts';
import type { Authority, TrustState } from './trust-state.ts';

/** What minting needs. */
export interface MintingOptions {
  readonly trustDomain: TrustDomain;
  /** Makes and holds the issuers' keys. */
  readonly keys: KeyManager;
  readonly upstream: UpstreamAuthority;
  /** Source of key ids and of the throwaway SVIDs' serial numbers. */
  readonly random: Random;
  /** Of the issuers' keys. */
  readonly issuerKeyAlgorithm: AuthorityKeyAlgorithm;
}

/** An upstream that counts the lifetime by its own clock may end that much later than asked, milliseconds. */
const CLOCK_TOLERANCE_MS = 300_000;

type IntentOf<K extends Intent['kind']> = Extract<Intent, { readonly kind: K }>;

/**
 * Gets an anchor from the upstream, checked. Throws `upstream_refused`, `authority_unusable`, the key manager's
 * errors; then no key of it is left.
 */
export async function obtainAnchor(
  intent: IntentOf<'mint-anchor'>,
  state: TrustState,
  nowMs: number,
  options: MintingOptions,
  signal: AbortSignal,
): Promise<NewAnchor> {
  const { trustDomain, keys, upstream } = options;
  const known = state.anchors.map(({ certificate }) => certificate);
  const { notBeforeMs, notAfterMs } = intent;
  const offered = await upstream.newAnchor({ known, notBeforeMs, notAfterMs }, signal);
  if (offered === null) {
    throw new KedgeError(
      'upstream_refused',
      `the upstream authority (${upstream.kind}) offers no trust anchor`,
      {
        hint: 'give the upstream authority a root for this trust domain',
      },
    );
  }
  const { certificate, key } = offered;
  return orDestroy(key, keys, async () => {
    const spki = key === null ? null : key.spki;
    // A root of others seldom has a SPIFFE ID.
    const spiffeId = key === null ? 'optional' : 'required';
    const checked = checkAuthority({
      trustDomain,
      chain: [certificate],
      anchor: null,
      spki,
      spiffeId,
      nowMs,
    });
    signal.throwIfAborted();
    return { ...identityOf(checked), upstream: upstream.kind, key };
  });
}

/**
 * Makes a key, has an issuer minted for it, and checks it as peers will see it: a throwaway SVID under it must
 * verify against the bundle. Throws `upstream_refused`, `authority_unusable`, the key manager's errors; then no
 * key of it is left.
 */
export async function obtainIssuer(
  intent: IntentOf<'mint-issuer'>,
  state: TrustState,
  nowMs: number,
  options: MintingOptions,
  signal: AbortSignal,
): Promise<NewIssuer> {
  const { trustDomain, keys, upstream, random, issuerKeyAlgorithm } = options;
  const { anchor, notBeforeMs, notAfterMs } = intent;
  const key = await keys.generate(`issuer-${toHex(random.bytes(8))}`, issuerKeyAlgorithm);
  return orDestroy(key, keys, async () => {
    const signer = await keys.signer(key);
    // A quarter of a second and 25 MB, needed a few times a year: never at a start.
    const { issuerCsr } = await import('../../pki/authority-profile.ts');
    const csr = await issuerCsr({ trustDomain, signer });
    const { chain } = await upstream.mintIssuer({ csr, anchor, notBeforeMs, notAfterMs }, signal);
    if (chain.some((certificate) => equalBytes(certificate, anchor.certificate))) {
      throw unusable('the upstream authority gave a chain that has the trust anchor in it');
    }
    const checked = checkAuthority({
      trustDomain,
      chain,
      anchor: anchor.certificate,
      spki: key.spki,
      nowMs,
    });
    if (checked.notAfterMs > notAfterMs + CLOCK_TOLERANCE_MS) {
      throw unusable('the upstream authority gave an issuer that lives longer than asked');
    }
    await tryThrowawaySvid({
      trustDomain,
      chain,
      signer,
      anchors: state.anchors.map(({ certificate }) => certificate),
      spki: throwawaySpki(),
      serialNumber: random.bytes(16),
      nowMs,
    });
    // Whoever waited has given up: nobody will look at the key.
    signal.throwIfAborted();
    return { ...identityOf(checked), anchorId: anchor.id, intermediates: chain.slice(1), key };
  });
}

function identityOf(
  certificate: Certificate,
): Pick<Authority, 'id' | 'certificate' | 'notBeforeMs' | 'notAfterMs'> {
  const { der, notBeforeMs, notAfterMs, subjectKeyId } = certificate;
  if (subjectKeyId === undefined) throw unusable('the new authority has no subject key identifier');
  return { id: toHex(subjectKeyId), certificate: der, notBeforeMs, notAfterMs };
}

function unusable(what: string): KedgeError {
  return new KedgeError('authority_unusable', what, {
    hint: 'look at the upstream authority and its settings',
  });
}

function throwawaySpki(): Uint8Array {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return publicKey.export({ type: 'spki', format: 'der' });
}

async function orDestroy<T>(key: KeyHandle | null, keys: KeyManager, use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    if (key !== null) await keys.destroy(key);
    throw error;
  }
}
