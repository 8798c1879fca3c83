import type { Clock } from '../../host/clock.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import type { Attestor, Peer, WorkloadInstance } from './attestor.ts';
import { type Unbound, workloadInstanceOf } from './bound-token.ts';
import type { IssuerKeys } from './issuer-keys.ts';
import type { JwsKey } from './jws-algorithms.ts';
import {
  checkClaims,
  issuerUnknown,
  keyUnknown,
  type ReadToken,
  readToken,
  type UsableClaims,
  usableClaims,
  verifyWith,
} from './jwt.ts';
import { VerifiedTokens } from './verified-tokens.ts';

/** A cluster whose tokens are accepted. */
export interface TrustedIssuer {
  /** `iss` of its tokens. Clusters may share one: by default they all have the same. */
  readonly issuer: string;
  /** Its name, as it goes into {@link WorkloadInstance}. */
  readonly cluster: string;
  /** What a token must be for. Required: a token for anyone else must not work here. */
  readonly audience: string;
  readonly unbound: Unbound;
  readonly keys: Pick<IssuerKeys, 'find' | 'has' | 'known'>;
  /** Asked as well after the token has verified: the one who knows whether the pod is still there. */
  readonly review?: Attestor;
}

/** What an {@link OidcAttestor} is made of. */
export interface OidcAttestorOptions {
  /** At least one. */
  readonly issuers: readonly TrustedIssuer[];
  /** Tolerance between the issuers' clocks and ours, milliseconds. */
  readonly leewayMs: number;
  readonly clock: Clock;
}

interface Verified {
  readonly trusted: TrustedIssuer;
  readonly key: JwsKey;
  readonly claims: UsableClaims;
  readonly instance: WorkloadInstance;
}

/** A cluster that has a key of the `kid` that was asked for. */
interface Holder {
  readonly trusted: TrustedIssuer;
  readonly key: JwsKey;
}

/**
 * {@link Attestor} that verifies tokens itself, with the keys of the clusters that signed them: no call for each token,
 * and clusters whose API server cannot be reached from here. It cannot see that a pod is gone: its token works until it
 * expires, unless {@link TrustedIssuer.review} is there.
 *
 * Which cluster a token is of: that `iss`, and among several of it the one whose key has signed it.
 */
export class OidcAttestor implements Attestor {
  readonly #options: OidcAttestorOptions;
  readonly #known = new VerifiedTokens<Verified>();

  constructor(options: OidcAttestorOptions) {
    if (options.issuers.length === 0 || options.issuers.some(({ audience }) => audience === '')) {
      throw new KedgeError('config_invalid', 'OIDC attestation needs an issuer, and each issuer an audience');
    }
    this.#options = options;
  }

  attest(token: string, peer: Peer, signal: AbortSignal): Promise<WorkloadInstance> | WorkloadInstance {
    signal.throwIfAborted();
    const digest = VerifiedTokens.digest(token);
    const known = this.#known.get(digest);
    if (known !== undefined && known.trusted.keys.has(known.key)) {
      this.#recheck(known, digest);
      return reviewed(known, token, peer, signal);
    }
    const read = readToken(token);
    const candidates = this.#options.issuers.filter(({ issuer }) => issuer === read.claims.issuer);
    if (candidates.length === 0) {
      const issuers = new Set(this.#options.issuers.map(({ issuer }) => issuer));
      throw issuerUnknown(read.claims.issuer, [...issuers]);
    }
    const holders = candidates.flatMap((trusted) => holderOf(trusted, trusted.keys.known(read.kid)));
    const verified = this.#verifyByAny(read, holders, digest);
    if (!(verified instanceof KedgeError)) return reviewed(verified, token, peer, signal);
    const others = candidates.filter(({ keys }) => keys.known(read.kid) === undefined);
    if (others.length === 0) throw verified;
    return this.#search(read, others, signal).then((found) => {
      const late = this.#verifyByAny(read, found, digest);
      // Of a key that was known all along, its refusal says more.
      if (late instanceof KedgeError) throw holders.length > 0 ? verified : late;
      return reviewed(late, token, peer, signal);
    });
  }

  /**
   * Asks these clusters for the key at once, and gives those that have it. One that cannot say counts only when no other
   * has it: throws then what it said.
   */
  async #search(
    { kid }: ReadToken,
    candidates: readonly TrustedIssuer[],
    signal: AbortSignal,
  ): Promise<readonly Holder[]> {
    const found = await Promise.all(
      candidates.map(async (trusted) => {
        try {
          return holderOf(trusted, await trusted.keys.find(kid));
        } catch (error) {
          if (!isKedgeError(error)) throw error;
          return error;
        }
      }),
    );
    signal.throwIfAborted();
    const holders = found.flatMap((one) => (one instanceof KedgeError ? [] : one));
    const failure = found.find((one) => one instanceof KedgeError);
    if (holders.length === 0 && failure !== undefined) throw failure;
    return holders;
  }

  /**
   * The token by the first of these keys that signed it, or why none did. All are tried: a `kid` is no secret, and a
   * cluster that publishes another's must not keep that one's workloads out.
   */
  #verifyByAny(read: ReadToken, holders: readonly Holder[], digest: string): Verified | KedgeError {
    let refusal: KedgeError | undefined;
    for (const { trusted, key } of holders) {
      try {
        return this.#verify(read, trusted, key, digest);
      } catch (error) {
        if (!isKedgeError(error, 'token_signature_invalid', 'token_algorithm_refused')) throw error;
        refusal ??= error;
      }
    }
    return refusal ?? keyUnknown(read.kid);
  }

  #verify(read: ReadToken, trusted: TrustedIssuer, key: JwsKey, digest: string): Verified {
    const { claims } = verifyWith(read, key);
    this.#recheck({ trusted, claims }, digest);
    const verified = {
      trusted,
      key,
      claims: usableClaims(claims),
      instance: workloadInstanceOf(claims, trusted.cluster, trusted.unbound),
    };
    this.#known.put(digest, verified);
    return verified;
  }

  #recheck({ trusted, claims }: Pick<Verified, 'trusted' | 'claims'>, digest: string): void {
    const { clock, leewayMs } = this.#options;
    try {
      checkClaims(claims, { audience: trusted.audience, leewayMs, nowMs: clock.now() });
    } catch (error) {
      if (isKedgeError(error, 'token_expired')) this.#known.forget(digest);
      throw error;
    }
  }
}

function holderOf(trusted: TrustedIssuer, key: JwsKey | undefined): readonly Holder[] {
  return key === undefined ? [] : [{ trusted, key }];
}

/** What the token proves, once whoever is to be asked as well says the same. */
function reviewed(
  { trusted, instance }: Verified,
  token: string,
  peer: Peer,
  signal: AbortSignal,
): Promise<WorkloadInstance> | WorkloadInstance {
  if (trusted.review === undefined) return instance;
  const agree = (other: WorkloadInstance): WorkloadInstance => {
    const isSame =
      other.namespace === instance.namespace &&
      other.serviceAccount === instance.serviceAccount &&
      other.podUid === instance.podUid;
    if (isSame) return instance;
    throw new KedgeError(
      'token_claims_invalid',
      'the API server takes the token for that of another workload',
    );
  };
  const answer = trusted.review.attest(token, peer, signal);
  return answer instanceof Promise ? answer.then(agree) : agree(answer);
}
