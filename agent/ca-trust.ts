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
/** Anchors that the agent remembers as removed; beyond it those that were removed first are forgotten. */
export const REMOVED_ANCHORS = 256;

/** What an agent knows of the trust anchors and must not forget when it restarts. Holds no secret. */
export interface TrustMemory {
  /** The newest bundle of the CA. */
  readonly bundle: BundleSnapshot;
  /** Anchors that left the bundle, by {@link anchorFingerprint}; the one that was removed first comes first. */
  readonly removedAnchors: readonly string[];
}

/** Whoever checks connections to the CA, as the rest of the agent sees it. */
export interface TrustKeeper {
  /** The newest bundle of the CA: what connections from now on are checked with. */
  trust(bundle: BundleSnapshot): void;
  /** Takes up what was known before a restart. Before the first {@link TrustKeeper.trust}. */
  restoreTrust(memory: TrustMemory): void;
  /** What is to be kept over a restart; null while there was no bundle. */
  readonly trustMemory: TrustMemory | null;
}

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
 * the one after that with the newest bundle again, and so on.
 *
 * A removed anchor is never trusted again, even where the bootstrap bundle still holds it: it may have left because
 * it was compromised. Removed is
 *  - an anchor of an earlier bundle of the CA that a later one lacks;
 *  - an anchor that was read from the bootstrap bundle before the CA gave a bundle that lacks it.
 *
 * So the bootstrap bundle can bring only anchors that it did not have when the CA last spoke: that is how an agent
 * which was cut off heals, by an operator's new file. The same rule holds for an anchor that reaches the bootstrap
 * bundle before the CA has it in its own; the CA's next bundle that holds an anchor makes it trusted again. The marks
 * are part of {@link TrustMemory}, or a restart would be the way around them.
 */
export class CaTrust {
  readonly #options: CaTrustOptions;
  /** Fingerprints, the oldest mark first. */
  readonly #removed = new Set<string>();
  /** Fingerprints of what was read from the bootstrap bundle since the CA last gave a bundle. */
  readonly #bootstrap = new Set<string>();
  #newest: BundleSnapshot | null = null;
  #useBootstrap = false;

  constructor(options: CaTrustOptions) {
    this.#options = options;
  }

  /** What must be known after a restart; null while there was no bundle. */
  get memory(): TrustMemory | null {
    return this.#newest === null ? null : { bundle: this.#newest, removedAnchors: [...this.#removed] };
  }

  /**
   * Takes up the memory of an earlier process. The bootstrap bundle is not compared with it: what the file holds and
   * this bundle lacks may be the very anchor that the agent is to heal by.
   */
  restore({ bundle, removedAnchors }: TrustMemory): void {
    remember(this.#removed, removedAnchors);
    this.#newest = bundle;
  }

  /** The newest bundle that came over a connection that was checked. One that is in force already changes nothing. */
  accept(bundle: BundleSnapshot): void {
    if (bundle === this.#newest) return;
    const before = (this.#newest?.x509Authorities ?? []).map(anchorFingerprint);
    remember(this.#removed, [...this.#bootstrap, ...before]);
    for (const anchor of bundle.x509Authorities) this.#removed.delete(anchorFingerprint(anchor));
    this.#bootstrap.clear();
    this.#newest = bundle;
    this.#useBootstrap = false;
  }

  /** The CA's certificate did not verify with what {@link CaTrust.withAnchors} gave. */
  reject(): void {
    this.#useBootstrap = !this.#useBootstrap;
  }

  /**
   * Gives `connect` what the next connection is checked with, in the same turn in which that was decided: no bundle
   * can come in between. Throws what reading the bootstrap bundle throws, and `bundle_empty`; the attempt after that
   * is checked with the newest bundle again.
   */
  async withAnchors<T>(connect: (anchors: readonly Uint8Array[]) => T): Promise<T> {
    if (this.#newest !== null && !this.#useBootstrap) return connect(this.#newest.x509Authorities);
    try {
      const read = await this.#options.readBootstrap();
      // A bundle came while the file was read.
      if (this.#newest !== null && !this.#useBootstrap) return connect(this.#newest.x509Authorities);
      remember(this.#bootstrap, read.map(anchorFingerprint));
      const anchors = read.filter((anchor) => !this.#removed.has(anchorFingerprint(anchor)));
      if (anchors.length === 0) throw onlyRemoved();
      return connect(anchors);
    } catch (error) {
      // Or a file that is of no use would keep the agent from the CA that its newest bundle verifies.
      this.#useBootstrap = false;
      throw error;
    }
  }
}

/** Adds to a bounded set: what is in it already keeps its place, beyond the bound the oldest goes. */
function remember(set: Set<string>, fingerprints: readonly string[]): void {
  for (const fingerprint of fingerprints) set.add(fingerprint);
  for (const oldest of set) {
    if (set.size <= REMOVED_ANCHORS) break;
    set.delete(oldest);
  }
}

function onlyRemoved(): KedgeError {
  return new KedgeError('bundle_empty', 'the bootstrap bundle holds only anchors that the CA has removed', {
    hint: 'bring the bootstrap bundle file up to date: kedge bundle show prints it',
  });
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
  const anchors = new Set(authorities.map(anchorFingerprint));
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
    if (chain.length > 0 && anchors.has(anchorFingerprint(next.raw))) break;
    chain.push(next.raw);
    const issuer: DetailedPeerCertificate | undefined = next.issuerCertificate;
    if (issuer === next) break;
    next = issuer;
  }
  return chain;
}

/** Which anchor a certificate (DER) is: the SHA-256 of it, base64. */
export function anchorFingerprint(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('base64');
}
