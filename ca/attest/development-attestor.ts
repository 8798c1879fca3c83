import type { KeyObject } from 'node:crypto';

import type { Clock } from '../../host/clock.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import type { Attestor, Peer, WorkloadInstance } from './attestor.ts';
import { workloadInstanceOf } from './bound-token.ts';
import { JwsKey } from './jws-algorithms.ts';
import {
  checkClaims,
  type ClaimExpectations,
  MAX_LEEWAY_MS,
  usableClaims,
  verifySignedClaims,
} from './jwt.ts';
import { VerifiedTokens } from './verified-tokens.ts';

/** What a {@link DevelopmentAttestor} is made of. */
export interface DevelopmentAttestorOptions {
  /** Name of this issuer's cluster, as it goes into {@link WorkloadInstance}. */
  readonly cluster: string;
  /** `iss` of the tokens. */
  readonly issuer: string;
  /** What a token must be for. Required: a token for anyone else must not work here. */
  readonly audience: string;
  /** The development issuer's public key, RSA. */
  readonly publicKey: KeyObject;
  /** `kid` of that key. */
  readonly kid: string;
  readonly clock: Clock;
  /** Tolerance between the clocks of issuer and CA, milliseconds; at most {@link MAX_LEEWAY_MS}. Default 30 s. */
  readonly leewayMs?: number;
}

/**
 * {@link Attestor} for the tokens of the local development issuer. Answers at once; needs no private key. What it
 * verified once it verifies again only in what can change, see {@link VerifiedTokens}.
 */
export class DevelopmentAttestor implements Attestor {
  readonly #options: DevelopmentAttestorOptions;
  readonly #key: JwsKey;
  readonly #leewayMs: number;
  readonly #verified = new VerifiedTokens();

  constructor(options: DevelopmentAttestorOptions) {
    if (options.audience === '' || options.issuer === '') {
      throw new KedgeError('config_invalid', 'the development attestor needs an audience and an issuer');
    }
    this.#leewayMs = options.leewayMs ?? 30_000;
    if (!(this.#leewayMs >= 0 && this.#leewayMs <= MAX_LEEWAY_MS)) {
      throw new KedgeError(
        'config_invalid',
        `a leeway of ${this.#leewayMs} ms is not within 0 and 5 minutes`,
      );
    }
    this.#options = options;
    this.#key = JwsKey.of(options.kid, 'RS256', options.publicKey);
  }

  attest(token: string, _peer: Peer, signal: AbortSignal): WorkloadInstance {
    signal.throwIfAborted();
    const digest = VerifiedTokens.digest(token);
    const known = this.#verified.get(digest);
    if (known?.key !== this.#key) return this.#verify(token, digest);
    try {
      checkClaims(known.claims, this.#expected());
    } catch (error) {
      if (isKedgeError(error, 'token_expired')) this.#verified.forget(digest);
      throw error;
    }
    return known.instance;
  }

  #verify(token: string, digest: string): WorkloadInstance {
    const { issuer, cluster } = this.#options;
    const { claims, key } = verifySignedClaims(token, {
      issuer,
      keyOf: (kid) => (kid === this.#key.kid ? this.#key : undefined),
    });
    checkClaims(claims, this.#expected());
    const instance = workloadInstanceOf(claims, cluster);
    this.#verified.put(digest, { key, claims: usableClaims(claims), instance });
    return instance;
  }

  #expected(): ClaimExpectations {
    const { audience, clock } = this.#options;
    return { audience, nowMs: clock.now(), leewayMs: this.#leewayMs };
  }
}
