import { attempt } from '../../pki/attempt.ts';
import { toHex } from '../../pki/bytes.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import type { TrustState } from '../authority/trust-state.ts';
import type { NestedCas } from './nested-cas.ts';

/** Who asks, as this CA knows it. */
export interface NestedCallerContext {
  readonly nested: Pick<NestedCas, 'mayAsk'>;
  readonly state: TrustState;
  readonly nowMs: number;
}

/**
 * The SPIFFE ID of a nested CA, proven by the client certificate of its connection (DER; null = it showed none). It must
 * be an SVID that an issuer of ours has signed and that is not tainted, and be one that the configuration lets ask.
 *
 * Throws `downstream_unauthenticated`, `downstream_denied`.
 */
export function nestedCaller(certificate: Uint8Array | null, context: NestedCallerContext): string {
  const { nested, state, nowMs } = context;
  if (certificate === null) throw unauthenticated('the caller showed no client certificate');
  const verified = attempt(() => {
    const leaf = parseCertificate(certificate);
    const keyId = toHex(leaf.authorityKeyId ?? new Uint8Array());
    const issuer = state.issuers.find(({ id, taintedAtMs }) => id === keyId && taintedAtMs === null);
    const above = issuer === undefined ? [] : [issuer.certificate, ...issuer.intermediates];
    const anchors = state.anchors.filter(({ taintedAtMs }) => taintedAtMs === null);
    return verifyX509Svid({
      chain: [certificate, ...above],
      bundles: ({ name }) =>
        name === state.trustDomain ? anchors.map((anchor) => anchor.certificate) : undefined,
      nowMs,
    });
  });
  if (!verified.ok) throw unauthenticated(verified.refusal.message, verified.refusal);
  const { spiffeId } = verified.value;
  if (nested.mayAsk(spiffeId.toString())) return spiffeId.toString();
  throw new KedgeError(
    'downstream_denied',
    `${quote(spiffeId.toString())} may not have issuers signed by this CA`,
    { hint: 'add its SPIFFE ID to downstream.allow of the CA above' },
  );
}

function unauthenticated(why: string, cause?: unknown): KedgeError {
  return new KedgeError('downstream_unauthenticated', `the nested CA did not prove who it is: ${why}`, {
    hint: 'give it an X.509-SVID of the CA above, by an agent beside it',
    cause,
  });
}
