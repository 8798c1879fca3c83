import type { TrustDomain } from '../pki/spiffe-id.ts';
import type { AgentState } from './state.ts';

/**
 * What the agent serves and trusts now, as the JSON of its `/identity`: certificates only, as every peer sees them in
 * a handshake; no key. Certificates are base64 of DER, times milliseconds since the Unix epoch. Pure.
 */
export function identityDocument(state: AgentState, trustDomain: TrustDomain): string {
  const { bundle } = state;
  const svid = state.phase === 'serving' ? state.snapshot.svid : null;
  const document = {
    trustDomain: trustDomain.name,
    phase: state.phase,
    svid:
      svid === null
        ? null
        : { spiffeId: svid.spiffeId.toString(), notAfterMs: svid.notAfterMs, chain: svid.chain.map(base64) },
    bundle:
      bundle === null
        ? null
        : { sequence: bundle.sequence.toString(), x509Authorities: bundle.x509Authorities.map(base64) },
  };
  return `${JSON.stringify(document)}\n`;
}

function base64(der: Uint8Array): string {
  return Buffer.from(der).toString('base64');
}
