import { generateKeyPairSync } from 'node:crypto';
import type { Random } from '../../host/random.ts';
import { checkAuthority, tryThrowawaySvid } from '../../pki/authority-check.ts';
import { equalBytes, toHex } from '../../pki/bytes.ts';
import type { Certificate } from '../../pki/certificate.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { TrustDomain } from '../../pki/spiffe-id.ts';
import type { AuthorityKeyAlgorithm, KeyHandle, KeyManager } from '../keys/key-manager.ts';
import type {
  MintedIssuer,
  UpstreamAnchor,
  UpstreamAuthority,
  MintIssuerRequest,
} from '../upstream/upstream-authority.ts';
import type { Intent } from './lifecycle.ts';
import type { NewAnchor, NewIssuer } from './transitions.ts';
import type { Anchor, Authority, TrustState } from './trust-state.ts';

/** What minting needs. */
export interface MintingOptions {
  readonly trustDomain: TrustDomain;
  /** Makes and holds the issuers' keys. */
  readonly keys: KeyManager;
  /** The one that is configured: who is to hold the anchor's key. */
  readonly upstream: UpstreamAuthority;
  /**
   * Others that may still hold the anchor of the trust state, or one that a rotation goes back to: asked to mint where
   * the configured one is of another kind, or refuses. Default none.
   */
  readonly formerUpstreams?: readonly UpstreamAuthority[];
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
  const { keys, upstream } = options;
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
  return orDestroy(offered.key, keys, async () => {
    const anchor = checkedAnchor(offered, nowMs, options);
    signal.throwIfAborted();
    return anchor;
  });
}

/** An anchor that an upstream offers, checked. Throws `authority_unusable`. */
export function checkedAnchor(
  { certificate, key }: UpstreamAnchor,
  nowMs: number,
  { trustDomain, upstream }: Pick<MintingOptions, 'trustDomain' | 'upstream'>,
): NewAnchor {
  const spki = key === null ? null : key.spki;
  // A root of others seldom has a SPIFFE ID.
  const spiffeId = key === null ? 'optional' : 'required';
  const chain = [certificate];
  const checked = checkAuthority({ trustDomain, chain, anchor: null, spki, spiffeId, nowMs });
  return { ...identityOf(checked), upstream: upstream.kind, key };
}

/** The upstream authorities that may hold an anchor of that kind, the configured one first. */
export function upstreamsOf(
  anchor: Pick<Anchor, 'upstream'>,
  { upstream, formerUpstreams = [] }: Pick<MintingOptions, 'upstream' | 'formerUpstreams'>,
): readonly UpstreamAuthority[] {
  return [upstream, ...formerUpstreams].filter(({ kind }) => kind === anchor.upstream);
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
  const { trustDomain, keys, random, issuerKeyAlgorithm } = options;
  const { anchor, notBeforeMs, notAfterMs } = intent;
  const key = await keys.generate(`issuer-${toHex(random.bytes(8))}`, issuerKeyAlgorithm);
  return orDestroy(key, keys, async () => {
    const signer = await keys.signer(key);
    // A quarter of a second and 25 MB, needed a few times a year: never at a start.
    const { issuerCsr } = await import('../../pki/authority-profile.ts');
    const csr = await issuerCsr({ trustDomain, signer });
    const { chain } = await minted(upstreamsOf(anchor, options), (upstream) =>
      upstream.mintIssuer({ csr, anchor, notBeforeMs, notAfterMs }, signal),
    );
    const issuer = await checkedIssuer({ anchor, chain, key, spiffeId: 'required', state, nowMs }, options);
    if (issuer.notAfterMs > notAfterMs + CLOCK_TOLERANCE_MS) {
      throw unusable('the upstream authority gave an issuer that lives longer than asked');
    }
    // Whoever waited has given up: nobody will look at the key.
    signal.throwIfAborted();
    return issuer;
  });
}

/**
 * Takes the issuer that the upstream gives with its key, and checks it like one that it minted. Throws
 * `upstream_refused` where it gives none, `authority_unusable`, the key manager's errors; then no key of it is left.
 */
export async function takeIssuer(
  { anchor }: IntentOf<'take-issuer'>,
  state: TrustState,
  nowMs: number,
  options: MintingOptions,
  signal: AbortSignal,
): Promise<NewIssuer> {
  const { keys, upstream } = options;
  const known = state.issuers.map(({ certificate }) => certificate);
  const given = (await upstream.givenIssuer?.({ anchor, known }, signal)) ?? null;
  if (given === null) {
    throw new KedgeError(
      'upstream_refused',
      `the upstream authority (${upstream.kind}) gives no new issuer under the trust anchor ${anchor.id.slice(0, 8)}`,
      { hint: 'give it an issuer under that trust anchor; one that has retired cannot come back' },
    );
  }
  const key = await given.takeKey();
  return orDestroy(key, keys, async () => {
    const { chain } = given;
    // Nor has an issuer that others made.
    const issuer = await checkedIssuer({ anchor, chain, key, spiffeId: 'optional', state, nowMs }, options);
    signal.throwIfAborted();
    return issuer;
  });
}

/**
 * Mints under an anchor, at whoever holds its key. What it gives is not checked. Throws `authority_unusable` where no
 * upstream authority of the anchor's kind is configured, and what they throw.
 */
export function mintUnder(
  anchor: Anchor,
  request: MintIssuerRequest,
  options: Pick<MintingOptions, 'upstream' | 'formerUpstreams'>,
  signal: AbortSignal,
): Promise<MintedIssuer> {
  return minted(upstreamsOf(anchor, options), (upstream) => upstream.mintIssuer(request, signal));
}

/** The first answer; where all refuse, the first refusal: it is that of the configured one. */
async function minted(
  upstreams: readonly UpstreamAuthority[],
  mint: (upstream: UpstreamAuthority) => Promise<MintedIssuer>,
): Promise<MintedIssuer> {
  const refusals: unknown[] = [];
  for (const upstream of upstreams) {
    try {
      return await mint(upstream);
    } catch (error) {
      refusals.push(error);
    }
  }
  throw refusals[0] ?? unusable('no upstream authority of the kind of the trust anchor is configured');
}

/** An issuer that is about to be adopted. */
interface IssuerCandidate {
  readonly anchor: Anchor;
  readonly chain: readonly Uint8Array[];
  readonly key: KeyHandle;
  readonly spiffeId: 'required' | 'optional';
  readonly state: TrustState;
  readonly nowMs: number;
}

/** Checks an issuer as peers will see it: a throwaway SVID under it must verify against the bundle. */
async function checkedIssuer(
  { anchor, chain, key, spiffeId, state, nowMs }: IssuerCandidate,
  { trustDomain, keys, random }: MintingOptions,
): Promise<NewIssuer> {
  if (chain.some((certificate) => equalBytes(certificate, anchor.certificate))) {
    throw unusable('the upstream authority gave a chain that has the trust anchor in it');
  }
  const { spki } = key;
  const checked = checkAuthority({ trustDomain, chain, anchor: anchor.certificate, spki, spiffeId, nowMs });
  await tryThrowawaySvid({
    trustDomain,
    chain,
    signer: await keys.signer(key),
    anchors: state.anchors.map(({ certificate }) => certificate),
    spki: throwawaySpki(),
    serialNumber: random.bytes(16),
    nowMs,
  });
  return { ...identityOf(checked), anchorId: anchor.id, intermediates: chain.slice(1), key };
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
