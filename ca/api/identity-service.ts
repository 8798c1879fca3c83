import { KedgeError } from '../../pki/kedge-error.ts';
import { decodeMessage } from '../../host/grpc-service.ts';
import type { Clock } from '../../host/clock.ts';
import { IssueX509SvidRequest, IssueX509SvidResponse } from '../../proto/gen/kedge/v1/identity.ts';
import type { Attestor, WorkloadInstance } from '../attest/attestor.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { IssuedSvid } from '../issue/issuance.ts';
import type { IssuingService } from '../issue/issuing-service.ts';
import { bearerTokenOf } from './bearer-token.ts';
import type { CurrentBundle } from './bundle-message.ts';
import type { CallContext, UnaryMethod } from './unary-handler.ts';

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

/** `kedge.v1.Identity/IssueX509Svid`: token, instance, CSR, SVID. */
export function issueX509Svid(options: IssueOptions): UnaryMethod {
  const { issuing, fleet, bundle, clock } = options;
  return async (bytes, call) => {
    const peer = { address: call.peerAddress };
    let instance: WorkloadInstance;
    let csr: Uint8Array;
    try {
      instance = await attested(options.attestor, call);
      ({ csr } = decodeMessage(IssueX509SvidRequest, bytes));
      if (csr.length === 0) {
        throw new KedgeError('csr_malformed', 'the request holds no CSR', {
          hint: 'send a PKCS#10 request, DER',
        });
      }
    } catch (error) {
      if (!call.signal.aborted) issuing.refuse({ api: API, error, peer });
      throw error;
    }
    const svid = await issuing.submit({ api: API, instance, peer, csr, signal: call.signal });
    const nowMs = clock.now();
    fleet.issued(instance, svid, nowMs);
    return encodeAnswer(svid, bundle.get().issueField, nowMs);
  };
}

/** Asks the attestor, with no turn of the event loop where it answers at once. */
function attested(attestor: Attestor, call: CallContext): WorkloadInstance | Promise<WorkloadInstance> {
  return attestor.attest(bearerTokenOf(call.metadata), { address: call.peerAddress }, call.signal);
}

/** The answer without its bundle, and the bundle's field as it was encoded before: fields have no order. */
function encodeAnswer(svid: IssuedSvid, bundleField: Uint8Array, nowMs: number): Uint8Array {
  const leftMs = svid.notAfterMs - nowMs;
  const head = IssueX509SvidResponse.encode({
    x509Svid: svid.chain as Uint8Array[],
    bundle: undefined,
    renewal: {
      notBeforeMs: BigInt(Math.floor(nowMs + leftMs * RENEWAL_SHARES.from)),
      notAfterMs: BigInt(Math.floor(nowMs + leftMs * RENEWAL_SHARES.to)),
    },
    serverTimeMs: BigInt(nowMs),
  }).finish();
  return Buffer.concat([head, bundleField], head.length + bundleField.length);
}
