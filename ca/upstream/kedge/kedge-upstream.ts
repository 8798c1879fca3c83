import type { Clock } from '../../../host/clock.ts';
import { decodeMessage } from '../../../host/grpc-service.ts';
import { errorFields, type Log } from '../../../host/log.ts';
import { equalBytes } from '../../../pki/bytes.ts';
import { isKedgeError, KedgeError } from '../../../pki/kedge-error.ts';
import {
  MintIssuerRequest as MintMessage,
  MintIssuerResponse,
  SyncRequest,
  SyncResponse,
} from '../../../proto/gen/kedge/v1/downstream.ts';
import { HOLDS_NOTHING, type NestedReport } from '../../downstream/nested-report.ts';
import type {
  MintedIssuer,
  MintIssuerRequest,
  NewAnchorRequest,
  UpstreamAnchor,
  UpstreamAuthority,
} from '../upstream-authority.ts';
import type { KedgeClient } from './kedge-client.ts';

/** What a {@link KedgeUpstream} is made of. */
export interface KedgeUpstreamOptions {
  readonly client: Pick<KedgeClient, 'call'>;
  /** What our fleet holds; null before there is a trust state. */
  readonly report: () => NestedReport | null;
  readonly pollMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * The {@link UpstreamAuthority} that is another Kedge CA, above this one in the same trust domain.
 *
 * It is told with each poll what our fleet holds, and its rotations wait for that: so the fleets of both follow
 * together. It names the anchor of a rotation as soon as that is prepared; ours then makes it known too, and signs
 * under it once the CA above does.
 */
export class KedgeUpstream implements UpstreamAuthority {
  readonly kind = 'kedge';
  readonly #options: KedgeUpstreamOptions;
  /** The anchor that the CA above named last. */
  #anchor: Uint8Array | null = null;
  #problem: string | null = null;

  constructor(options: KedgeUpstreamOptions) {
    this.#options = options;
  }

  async newAnchor({ known }: NewAnchorRequest, signal: AbortSignal): Promise<UpstreamAnchor | null> {
    const certificate = await this.#sync(signal);
    return known.some((one) => equalBytes(one, certificate)) ? null : { certificate, key: null };
  }

  async mintIssuer(request: MintIssuerRequest, signal: AbortSignal): Promise<MintedIssuer> {
    const { csr, anchor, notBeforeMs, notAfterMs } = request;
    const message = MintMessage.encode({
      csr,
      anchor: anchor.certificate,
      notBeforeMs: BigInt(Math.floor(notBeforeMs)),
      notAfterMs: BigInt(Math.floor(notAfterMs)),
    }).finish();
    const answer = await this.#options.client.call('MintIssuer', message, signal);
    const { chain } = decoded(() => decodeMessage(MintIssuerResponse, answer));
    return { chain };
  }

  /** Polls, and yields when the CA above names another anchor. */
  async *watch(signal: AbortSignal): AsyncGenerator<void, void, undefined> {
    const { clock, pollMs, log } = this.#options;
    let named = this.#anchor;
    while (!signal.aborted) {
      try {
        await clock.sleep(pollMs, signal);
        await this.#sync(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!isKedgeError(error)) throw error;
        if (this.#problem !== error.message) log.warn('upstream_ca.unreachable', errorFields(error));
        this.#problem = error.message;
        continue;
      }
      this.#problem = null;
      const now = this.#anchor;
      if (now === null || (named !== null && equalBytes(now, named))) continue;
      named = now;
      yield;
    }
  }

  problem(): string | null {
    return this.#problem;
  }

  async #sync(signal: AbortSignal): Promise<Uint8Array> {
    const { client, report } = this.#options;
    const { complete, bundleAnchors, heldAnchors, svidAnchor, issuersEndMs } = report() ?? HOLDS_NOTHING;
    const message = SyncRequest.encode({
      complete,
      bundleAnchors: [...bundleAnchors],
      heldAnchors: [...heldAnchors],
      svidAnchor: svidAnchor ?? '',
      issuersEndMs: BigInt(issuersEndMs),
    }).finish();
    const answer = await client.call('Sync', message, signal);
    const { anchor } = decoded(() => decodeMessage(SyncResponse, answer));
    this.#anchor = anchor;
    return anchor;
  }
}

/** What the CA above answers is no better than what anyone else does. */
function decoded<T>(decode: () => T): T {
  try {
    return decode();
  } catch (cause) {
    throw new KedgeError('upstream_refused', 'the CA above gave an answer that is none', {
      hint: 'look at what answers at upstream.kedge.address',
      cause,
    });
  }
}
