import type { Clock } from '../../host/clock.ts';
import { withDeadline } from '../../host/deadline.ts';
import type { Log } from '../../host/log.ts';
import { readSmallFile } from '../../host/small-file.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { ApiConnection } from '../kubernetes/api-connection.ts';
import { parseServer } from '../kubernetes/cluster-access.ts';
import { ClusterCredentials } from '../kubernetes/cluster-credentials.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { readJson } from './jwk-set.ts';

/** Where a token issuer's keys are, as configured. */
export type KeyLocation =
  | { readonly kind: 'file'; readonly path: string }
  /** What our own API server says that its keys are: `/openid/v1/jwks`. */
  | { readonly kind: 'kubernetes' }
  | ({ readonly kind: 'url'; readonly url: string } & HttpAccess)
  /** OpenID Connect Discovery: the issuer's own URL says where its keys are. */
  | ({ readonly kind: 'discovery'; readonly issuer: string } & HttpAccess);

/** How a server is trusted, and what it may want. */
export interface HttpAccess {
  /** File of PEM certificates that the server's must chain to; null = those that Node trusts. */
  readonly authoritiesFile: string | null;
  /** File of a bearer token to present; null = none. */
  readonly tokenFile: string | null;
}

/** Gives a JWK Set as it is now. Throws what {@link ApiConnection} does, `file_unreadable`, `issuer_keys_invalid`. */
export interface KeySource {
  fetch(signal: AbortSignal): Promise<Uint8Array>;
}

/** What {@link keySourceOf} needs. */
export interface KeySourceOptions {
  readonly location: KeyLocation;
  /** Our own cluster; needed for `kubernetes` alone. */
  readonly api?: Pick<KubernetesApi, 'getPath'> | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Deadline of one answer, milliseconds. */
  readonly timeoutMs: number;
}

const DISCOVERY_PATH = '/.well-known/openid-configuration';

/** The {@link KeySource} of a location. Throws `config_invalid` for a URL that is not https. */
export function keySourceOf(options: KeySourceOptions): KeySource {
  const { location, api } = options;
  switch (location.kind) {
    case 'file':
      return { fetch: () => readSmallFile(location.path, LIMITS.issuerKeysBytes, 'the key file') };
    case 'kubernetes': {
      if (api === undefined) throw new TypeError('keys from our own API server without a client for it');
      return {
        fetch: async (signal) =>
          Buffer.from(JSON.stringify(await api.getPath('/openid/v1/jwks', { signal }))),
      };
    }
    case 'url': {
      const fetchDocument = documentReader(location, options);
      const url = parseUrl(location.url);
      return { fetch: (signal) => fetchDocument(url, signal) };
    }
    case 'discovery':
      return discovery(location.issuer, documentReader(location, options));
    default:
      location satisfies never;
      throw new TypeError('unreachable');
  }
}

type DocumentReader = (url: URL, signal: AbortSignal) => Promise<Uint8Array>;

/**
 * OpenID Connect Discovery 1.0 section 4: the document below the issuer's URL must be of that very issuer, else one
 * issuer could answer for another.
 */
function discovery(issuer: string, fetchDocument: DocumentReader): KeySource {
  const url = parseUrl(`${issuer.replace(/\/$/, '')}${DISCOVERY_PATH}`);
  return {
    async fetch(signal) {
      const what = `the discovery document of ${quote(issuer, 200)}`;
      const document = readJson(await fetchDocument(url, signal), what);
      if (document.get('issuer') !== issuer) {
        throw new KedgeError('issuer_keys_invalid', `${what} is that of another issuer`, {
          hint: 'give the issuer exactly as it stands in the tokens',
        });
      }
      const keysUrl = document.get('jwks_uri');
      if (typeof keysUrl !== 'string') throw new KedgeError('issuer_keys_invalid', `${what} has no jwks_uri`);
      const keys = parseUrl(keysUrl);
      // Loopback is for what an operator names: an answer must not have the CA ask its own ports.
      if (keys.protocol !== 'https:') {
        throw new KedgeError('issuer_keys_invalid', `${what} has a jwks_uri that is not https`);
      }
      return fetchDocument(keys, signal);
    },
  };
}

/** Reads documents by HTTPS. The token goes to the first host only: the other one is named by an answer. */
function documentReader(access: HttpAccess, { clock, log, timeoutMs }: KeySourceOptions): DocumentReader {
  const certificateAuthority =
    access.authoritiesFile === null ? undefined : ({ kind: 'file', path: access.authoritiesFile } as const);
  const authentication =
    access.tokenFile === null
      ? ({ kind: 'none' } as const)
      : ({ kind: 'token', token: { kind: 'file', path: access.tokenFile } } as const);
  const connections = new Map<string, ApiConnection>();
  let trusted: string | undefined;
  const connectionTo = ({ origin }: URL): ApiConnection => {
    trusted ??= origin;
    const known = connections.get(origin);
    if (known !== undefined) return known;
    const credentials = new ClusterCredentials({
      access: {
        certificateAuthority,
        authentication: origin === trusted ? authentication : { kind: 'none' },
      },
      clock,
      log,
    });
    const made = new ApiConnection({ server: new URL(origin), credentials, connections: 1 });
    // The first one is ours; of those that answers name, one is enough to keep.
    for (const [name, old] of connections) {
      if (name === trusted) continue;
      old.close();
      connections.delete(name);
    }
    connections.set(origin, made);
    return made;
  };
  return async (url, signal) => {
    const what = `get ${quote(url.href, 200)}`;
    const request = {
      method: 'GET',
      path: `${url.pathname}${url.search}`,
      maxBytes: LIMITS.issuerKeysBytes,
      isRead: true,
      what,
    } as const;
    const answer = await withDeadline({ clock, timeoutMs, what: quote(url.origin, 200) }, signal, (end) =>
      connectionTo(url).exchange(request, end),
    );
    if (answer.status === 200) return answer.body;
    throw new KedgeError('issuer_keys_invalid', `${what}: the server answered ${answer.status}`, {
      hint: 'API servers give their keys to those who authenticate: name a token file',
    });
  };
}

function parseUrl(text: string): URL {
  const { origin } = parseServer(text.replace(/[?#].*$/s, ''), 'the URL of keys');
  const url = new URL(text);
  if (url.origin !== origin || url.hash !== '') {
    throw new KedgeError('config_invalid', `${quote(text, 200)} is not the URL of keys`);
  }
  return url;
}
