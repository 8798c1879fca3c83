import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { Secret } from '../../pki/secret.ts';
import type { ExecPlugin } from './exec-plugin.ts';

/** Something that stands in a configuration, or in a file that may change while Kedge runs. */
export type Source =
  | { readonly kind: 'inline'; readonly bytes: Secret }
  | { readonly kind: 'file'; readonly path: string };

/** How Kedge proves who it is to the API server. */
export type Authentication =
  | { readonly kind: 'none' }
  | { readonly kind: 'token'; readonly token: Source }
  | { readonly kind: 'clientCertificate'; readonly certificate: Source; readonly key: Source }
  /** A program hands out a token or a client certificate. */
  | { readonly kind: 'exec'; readonly plugin: ExecPlugin };

/** How to reach a cluster, and as whom. */
export interface ClusterAccess {
  readonly server: URL;
  /** The name in the API server's certificate; undefined = the host of `server`. */
  readonly tlsServerName: string | undefined;
  /** PEM certificates that the API server's must chain to; undefined = those that Node trusts. */
  readonly certificateAuthority: Source | undefined;
  readonly authentication: Authentication;
  /** The namespace of the credentials. */
  readonly namespace: string;
}

/**
 * The address of an API server: `https:`, or `http:` on loopback, where `kubectl proxy` listens. Throws
 * `config_invalid`; `key` is the key it stands at.
 */
export function parseServer(text: string, key: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  const refuse = (problem: string): KedgeError =>
    new KedgeError('config_invalid', `${key}: ${quote(text, 200)} ${problem}`, {
      hint: 'give the URL of an API server, as in https://10.96.0.1:443',
    });
  if (url === null) throw refuse('is not a URL');
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw refuse('has more than scheme, host, port and path');
  }
  const isLoopback = /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/.test(url.hostname);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopback)) {
    throw refuse('is not https: credentials and tokens would be readable under way');
  }
  return url;
}
