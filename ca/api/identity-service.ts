import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { decodeMessage } from '../../host/grpc-service.ts';
import type { Clock } from '../../host/clock.ts';
import { IssueX509SvidRequest } from '../../proto/gen/kedge/v1/identity.ts';
import type { Attestor, Peer, WorkloadInstance } from '../attest/attestor.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { IssuedSvid } from '../issue/issuance.ts';
import type { IssuingService } from '../issue/issuing-service.ts';
import { checkedWish, type SvidWish } from '../issue/svid-wish.ts';
import { bearerTokenOf } from './bearer-token.ts';
import type { CurrentBundle } from './bundle-message.ts';
import { encodeIssueAnswer } from './issue-answer.ts';
import type { Admission, Admit } from './unary-call.ts';
import type { CallContext } from './unary-method.ts';

const API = 'kedge.v1';

/** Between which shares of an SVID's time its renewal is wanted: the agent draws one instant in between. */
const RENEWAL_SHARES = { from: 0.5, to: 0.65 } as const;

/** What {@link issueX509Svid} works with. */
export interface IssueOptions {
  readonly attestor: Attestor;
  readonly issuing: Pick<IssuingService, 'submit' | 'refuse'>;
  readonly fleet: Fleet;
  readonly bundle: CurrentBundle;
  readonly clock: Clock;
}

/**
 * `kedge.v1.Identity/IssueX509Svid`: the token proves the instance before anything of the message is read; then CSR
 * to SVID.
 */
export function issueX509Svid(options: IssueOptions): Admit {
  const { attestor, issuing } = options;
  return (call) => {
    const refuse = (error: unknown): never => {
      if (!isKedgeError(error, 'cancelled')) issuing.refuse({ api: API, error, peer: peerOf(call) });
      throw error;
    };
    const admitted = (instance: WorkloadInstance): Admission => ({
      holder: `${instance.cluster}/${instance.podUid}`,
      handle: (request) => issue(options, call, instance, request),
    });
    try {
      const instance = attestor.attest(bearerTokenOf(call.metadata), peerOf(call), call.signal);
      // With no turn of the event loop where the attestor answers at once.
      return instance instanceof Promise ? instance.then(admitted, refuse) : admitted(instance);
    } catch (error) {
      return refuse(error);
    }
  };
}

async function issue(
  { issuing, fleet, bundle, clock }: IssueOptions,
  call: CallContext,
  instance: WorkloadInstance,
  request: Buffer,
): Promise<Uint8Array> {
  const peer = peerOf(call);
  let asked: { readonly csr: Uint8Array; readonly wish?: SvidWish };
  try {
    asked = requestOf(request);
  } catch (error) {
    issuing.refuse({ api: API, error, instance, peer });
    throw error;
  }
  const svid = await issuing.submit({ api: API, instance, peer, ...asked, signal: call.signal });
  const nowMs = clock.now();
  fleet.issued(instance, svid, nowMs);
  return encodeAnswer(svid, bundle.get().issueField, nowMs);
}

/** Throws `message_malformed`, `csr_malformed`, `dns_name_denied`. */
function requestOf(request: Buffer): { readonly csr: Uint8Array; readonly wish?: SvidWish } {
  const { csr, ttlSeconds, dnsNames } = decodeMessage(IssueX509SvidRequest, request);
  if (csr.length > 0) {
    const wish = checkedWish(ttlSeconds, dnsNames);
    return wish === undefined ? { csr } : { csr, wish };
  }
  throw new KedgeError('csr_malformed', 'the request holds no CSR', { hint: 'send a PKCS#10 request, DER' });
}

function peerOf(call: CallContext): Peer {
  return { address: call.peerAddress };
}

function encodeAnswer(svid: IssuedSvid, bundleField: Uint8Array, nowMs: number): Uint8Array {
  const leftMs = svid.notAfterMs - nowMs;
  return encodeIssueAnswer({
    chain: svid.chain,
    bundleField,
    renewal: {
      notBeforeMs: Math.floor(nowMs + leftMs * RENEWAL_SHARES.from),
      notAfterMs: Math.floor(nowMs + leftMs * RENEWAL_SHARES.to),
    },
    serverTimeMs: nowMs,
  });
}
