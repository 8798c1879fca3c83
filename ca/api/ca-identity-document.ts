import type { BundleView } from '../authority/trust-view.ts';
import type { IssuedSvid } from '../issue/issuance.ts';

/** What {@link caIdentityDocument} tells of. */
export interface CaIdentity {
  /** The CA's own SVID; null = it has none yet. */
  readonly svid: Pick<IssuedSvid, 'spiffeId' | 'chain' | 'notAfterMs'> | null;
  readonly bundle: BundleView;
  /** This machine's wall clock, milliseconds since the Unix epoch. */
  readonly nowMs: number;
}

/**
 * What a CA shows agents and trusts now, as the JSON of its `/identity`: certificates only, as everybody sees them in a
 * handshake; no key. In the form of the document of an agent, with the CA's time. Pure.
 */
export function caIdentityDocument({ svid, bundle, nowMs }: CaIdentity): string {
  const document = {
    trustDomain: bundle.trustDomain,
    phase: svid === null ? 'starting' : 'serving',
    svid:
      svid === null
        ? null
        : { spiffeId: svid.spiffeId.toString(), notAfterMs: svid.notAfterMs, chain: svid.chain.map(base64) },
    bundle: { sequence: String(bundle.sequence), x509Authorities: bundle.x509Authorities.map(base64) },
    timeMs: nowMs,
  };
  return `${JSON.stringify(document)}\n`;
}

function base64(der: Uint8Array): string {
  return Buffer.from(der).toString('base64');
}
