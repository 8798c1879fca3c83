import { createPrivateKey } from 'node:crypto';
import type { DetailedPeerCertificate, PeerCertificate, SecureContextOptions } from 'node:tls';
import type { X509Context, X509Identity } from '../cli/x509-context.ts';
import { parseCertificate } from '../pki/certificate.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import { encodePem } from '../pki/pem.ts';
import type { SpiffeId } from '../pki/spiffe-id.ts';
import { checkLeaf } from '../pki/verify-leaf.ts';
import { verifyX509Svid } from '../pki/x509-svid-verify.ts';

/** The first SVID of a context is the default identity. Source: SPIFFE_Workload_API.md section 5.2.1. */
export function defaultIdentity(context: X509Context): X509Identity {
  const [identity] = context.identities;
  if (identity === undefined) throw new TypeError('a context without an identity');
  return identity;
}

/** What Node's TLS needs to show this identity, and to trust the authorities of its bundle and no others. */
export function secureContextOptions(identity: X509Identity): SecureContextOptions {
  const key = createPrivateKey({
    key: Buffer.from(identity.privateKey.expose()),
    format: 'der',
    type: 'pkcs8',
  });
  return {
    cert: identity.chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
    key: key.export({ format: 'pem', type: 'pkcs8' }),
    ca: identity.bundle.map((der) => encodePem('CERTIFICATE', der)),
    minVersion: 'TLSv1.3',
  };
}

/**
 * Whether a server is the workload `expectedId`: its chain against our bundle by every rule of the X509-SVID
 * standard. Throws the `svid_*` code of the rule that is broken.
 */
export function verifyServer(
  server: DetailedPeerCertificate,
  own: X509Identity,
  expectedId: SpiffeId,
  nowMs: number,
): void {
  verifyX509Svid({
    chain: peerChain(server, own.bundle),
    bundles: (trustDomain) => (trustDomain.equals(own.spiffeId.trustDomain) ? own.bundle : undefined),
    nowMs,
    expectedId,
  });
}

/**
 * Whether a client, whose path OpenSSL has verified against the authorities of our bundle and no others, is the
 * workload `expectedId`: the rules of the leaf, and its SPIFFE ID.
 *
 * The path is not walked again here, because some versions of Node hand a server the leaf alone, without the
 * intermediates that the client sent (nodejs/node#65579; 24.21 is one of them).
 */
export function verifyClient(client: PeerCertificate, expectedId: SpiffeId): void {
  const spiffeId = checkLeaf(parseCertificate(client.raw));
  if (spiffeId.equals(expectedId)) return;
  throw new KedgeError('svid_unexpected_id', `the client is ${quote(spiffeId.toString())}`, {
    hint: `only ${expectedId.toString()} may ask`,
  });
}

/** The certificates that the peer sent, as DER; Node has added the anchor at the end, which is ours. */
function peerChain(peer: DetailedPeerCertificate, anchors: readonly Uint8Array[]): Uint8Array[] {
  const chain: Uint8Array[] = [];
  for (
    let next: DetailedPeerCertificate | undefined = peer;
    next?.raw !== undefined;
    next = next.issuerCertificate
  ) {
    const { raw } = next;
    if (chain.some((der) => raw.equals(der)) || anchors.some((der) => raw.equals(der))) break;
    chain.push(raw);
  }
  return chain;
}
