import { once } from 'node:events';
import type { Random } from '../../host/random.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { TrustDomain } from '../../pki/spiffe-id.ts';
import type { AuthorityKeyAlgorithm, KeyHandle, KeyManager } from '../keys/key-manager.ts';
import type {
  MintedIssuer,
  MintIssuerRequest,
  NewAnchorRequest,
  UpstreamAnchor,
  UpstreamAuthority,
} from './upstream-authority.ts';

/** What a {@link SelfSignedUpstream} is made of. */
export interface SelfSignedUpstreamOptions {
  readonly trustDomain: TrustDomain;
  /** Holds the anchors' keys. */
  readonly keys: KeyManager;
  /** Of the anchors' keys. */
  readonly keyAlgorithm: AuthorityKeyAlgorithm;
  /** Source of serial numbers and key ids. */
  readonly random: Random;
  /** Whether anchors confine themselves to their trust domain by a name constraint: see `mintAnchor`. */
  readonly uriNameConstraints: boolean;
}

const SERIAL_NUMBER_BYTES = 16;

/** The embedded {@link UpstreamAuthority}: the anchor signs itself, with a key in our own key manager. */
export class SelfSignedUpstream implements UpstreamAuthority {
  readonly kind = 'self';
  readonly #options: SelfSignedUpstreamOptions;

  constructor(options: SelfSignedUpstreamOptions) {
    this.#options = options;
  }

  async newAnchor(request: NewAnchorRequest, signal: AbortSignal): Promise<UpstreamAnchor> {
    signal.throwIfAborted();
    const { keys, keyAlgorithm, random } = this.#options;
    const key = await keys.generate(`anchor-${Buffer.from(random.bytes(8)).toString('hex')}`, keyAlgorithm);
    try {
      return { certificate: await this.#selfSign(key, request), key };
    } catch (error) {
      await keys.destroy(key);
      throw error;
    }
  }

  async mintIssuer(request: MintIssuerRequest, signal: AbortSignal): Promise<MintedIssuer> {
    signal.throwIfAborted();
    const { trustDomain, keys, random } = this.#options;
    const { csr, anchor, notBeforeMs, notAfterMs } = request;
    if (anchor.key === null) {
      throw new KedgeError('key_not_found', 'the key of the trust anchor is not in the key manager', {
        hint: 'configure the upstream authority that holds it, or rotate to an anchor of this one',
      });
    }
    // A quarter of a second and 25 MB, needed a few times a year: never at a start.
    const { mintIssuer } = await import('../../pki/authority-profile.ts');
    const certificate = await mintIssuer({
      csr,
      trustDomain,
      anchor: anchor.certificate,
      signer: await keys.signer(anchor.key),
      notBeforeMs,
      notAfterMs,
      serialNumber: random.bytes(SERIAL_NUMBER_BYTES),
    });
    return { chain: [certificate] };
  }

  /** Yields nothing: it makes an anchor whenever it is asked. */
  watch(signal: AbortSignal): AsyncIterable<void> {
    const next = async (): Promise<IteratorResult<void>> => {
      if (!signal.aborted) await once(signal, 'abort');
      return { done: true, value: undefined };
    };
    return { [Symbol.asyncIterator]: () => ({ next }) };
  }

  async #selfSign(key: KeyHandle, { notBeforeMs, notAfterMs }: NewAnchorRequest): Promise<Uint8Array> {
    const { trustDomain, keys, random, uriNameConstraints } = this.#options;
    const { mintAnchor } = await import('../../pki/authority-profile.ts');
    return mintAnchor({
      trustDomain,
      signer: await keys.signer(key),
      notBeforeMs,
      notAfterMs,
      serialNumber: random.bytes(SERIAL_NUMBER_BYTES),
      uriNameConstraints,
    });
  }
}
