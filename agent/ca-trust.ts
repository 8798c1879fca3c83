import { createHash } from 'node:crypto';
import type { DetailedPeerCertificate, PeerCertificate } from 'node:tls';
import { parseCrl } from '../pki/crl.ts';
import { KedgeError } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { SpiffeId, type TrustDomain } from '../pki/spiffe-id.ts';
import { verifyX509Svid } from '../pki/x509-svid-verify.ts';
import type { BundleSnapshot } from './snapshot.ts';

/** Path of the SPIFFE ID of the CA itself; no workload can get one below `/kedge/`. */
export const CA_PATH = '/kedge/ca';
/** Anchors that the agent remembers as removed. */
const REMOVED_ANCHORS = 256;

/** What a {@link CaTrust} is made of. */
export interface CaTrustOptions {
  /** Reads the anchors of the bootstrap bundle file. */
  readonly readBootstrap: () => Promise<readonly Uint8Array[]>;
}

/**
 * Which trust anchors a connection to the CA is checked with.
 *
 * The newest bundle, and nothing else, once there is one. When the CA's certificate does not verify with it (the
 * agent was cut off while the anchors changed), the next connection is checked with the bootstrap bundle, read anew,
 * the one after that with the newest bundle again, and so on. An anchor that the agent has seen leave the bundle is
 * never trusted again, even where the bootstrap bundle still holds it: it may have left because it was compromised.
 */
export class CaTrust {
  readonly #options: CaTrustOptions;
  readonly #removed = new Set<string>();
  #newest: BundleSnapshot | null = null;
  #useBootstrap = false;

  constructor(options: CaTrustOptions) {
    this.#options = options;
  }

  /** The newest bundle that came over a connection that was checked. */
  accept(bundle: BundleSnapshot): void {
    for (const anchor of this.#newest?.x509Authorities ?? []) this.#removed.add(fingerprint(anchor));
    for (const anchor of bundle.x509Authorities) this.#removed.delete(fingerprint(anchor));
    for (const oldest of this.#removed) {
      if (this.#removed.size <= REMOVED_ANCHORS) break;
      this.#removed.delete(oldest);
    }
    this.#newest = bundle;
    this.#useBootstrap = false;
  }

  /** The CA's certificate did not verify with what {@link CaTrust.current} gave. */
  reject(): void {
    this.#useBootstrap = !this.#useBootstrap;
  }

  /** What the next connection is checked with. Throws what reading the bootstrap bundle throws, and `bundle_empty`. */
  async current(): Promise<readonly Uint8Array[]> {
    if (this.#newest !== null && !this.#useBootstrap) return this.#newest.x509Authorities;
    const bootstrap = await this.#options.readBootstrap();
    const authorities = bootstrap.filter((anchor) => !this.#removed.has(fingerprint(anchor)));
    if (authorities.length === 0) {
      throw new KedgeError(
        'bundle_empty',
        'the bootstrap bundle holds only anchors that the CA has removed',
        {
          hint: 'bring the bootstrap bundle file up to date: kedge bundle show prints it',
        },
      );
    }
    return authorities;
  }
}

/** What {@link caIdentityCheck} decides on. */
export interface CaIdentityCheckOptions {
  readonly trustDomain: TrustDomain;
  /** Trust anchors, DER. */
  readonly authorities: readonly Uint8Array[];
  /** CRLs, DER, as of now. */
  readonly crls: () => readonly Uint8Array[];
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly now: () => number;
  /** Told of each refusal. */
  readonly onRefusal: (error: KedgeError) => void;
}

/**
 * A `checkServerIdentity` for `node:tls`: the server's certificate must be a valid X509-SVID of the CA itself,
 * `spiffe://<trust domain>/kedge/ca`, whatever name or address it was reached by. TLS has verified the chain before;
 * this verifies it once more by the rules of X509-SVID section 5, which TLS does not know.
 */
export function caIdentityCheck(
  options: CaIdentityCheckOptions,
): (host: string, certificate: PeerCertificate) => Error | undefined {
  const { trustDomain, authorities, crls, now, onRefusal } = options;
  const anchors = new Set(authorities.map(fingerprint));
  const expectedId = SpiffeId.of(trustDomain, CA_PATH);
  return (_host, certificate) => {
    try {
      verifyX509Svid({
        chain: chainOf(certificate, anchors),
        bundles: (domain) => (domain.equals(trustDomain) ? authorities : undefined),
        nowMs: now(),
        crls: crls().map(parseCrl),
        expectedId,
      });
      return undefined;
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const error = new KedgeError(
        'ca_identity_mismatch',
        `the server is not ${expectedId.toString()}: ${why}`,
        {
          cause,
          hint: 'check caAddress and trustDomain, and that the bootstrap bundle is the one of this CA',
        },
      );
      onRefusal(error);
      return error;
    }
  };
}

/** The chain that the peer sent, DER, leaf first, without the anchor that TLS found for it. */
function chainOf(certificate: PeerCertificate, anchors: ReadonlySet<string>): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let next: DetailedPeerCertificate | undefined = certificate as DetailedPeerCertificate;
  while (next?.raw !== undefined && chain.length < LIMITS.chainCertificates) {
    if (chain.length > 0 && anchors.has(fingerprint(next.raw))) break;
    chain.push(next.raw);
    const issuer: DetailedPeerCertificate | undefined = next.issuerCertificate;
    if (issuer === next) break;
    next = issuer;
  }
  return chain;
}

function fingerprint(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('base64');
}
