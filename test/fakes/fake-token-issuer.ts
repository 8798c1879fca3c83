import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import type { Clock } from '../../host/clock.ts';
import type { Extension, SeenRequest } from './fake-api-server.ts';
import { type FakeObjectStore, StatusError } from './fake-object-store.ts';

/** What a token says beside who its ServiceAccount is. */
export interface FakeTokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly audiences?: readonly string[];
  /** Default 3600. */
  readonly seconds?: number;
  /** Name of the pod that it is bound to; it must be in the store. */
  readonly pod?: string;
  /** Claims that replace what there would be. */
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** What is made of a {@link FakeTokenIssuer}. */
export interface FakeTokenIssuerOptions {
  readonly clock: Clock;
  readonly issuer?: string;
  readonly alg?: 'RS256' | 'ES256';
}

export const FAKE_ISSUER = 'https://kubernetes.default.svc.cluster.local';
const EXTRA = 'authentication.kubernetes.io/';

let tokens = 0;

/**
 * The part of a fake API server that issues and reviews ServiceAccount tokens and publishes its keys, real signatures
 * and all. Its answers are held against recorded ones; it keeps no cache of tokens.
 */
export class FakeTokenIssuer {
  readonly issuer: string;
  readonly #clock: Clock;
  readonly #alg: 'RS256' | 'ES256';
  #privateKey!: KeyObject;
  kid = '';
  /** How many TokenReviews were answered. */
  reviews = 0;

  constructor({ clock, issuer = FAKE_ISSUER, alg = 'RS256' }: FakeTokenIssuerOptions) {
    this.issuer = issuer;
    this.#clock = clock;
    this.#alg = alg;
    this.rotateKey();
  }

  /** From now on signs with a new key, and publishes that one only. */
  rotateKey(): void {
    const { privateKey } =
      this.#alg === 'RS256'
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#privateKey = privateKey;
    const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
    this.kid = createHash('sha256').update(spki).digest('base64url');
  }

  get jwks(): { readonly keys: readonly object[] } {
    const jwk = createPublicKey(this.#privateKey).export({ format: 'jwk' });
    return { keys: [{ use: 'sig', kid: this.kid, alg: this.#alg, ...jwk }] };
  }

  mint(store: FakeObjectStore, request: FakeTokenRequest): string {
    const { namespace, serviceAccount, audiences = ['kedge'], seconds = 3600, pod, claims = {} } = request;
    const nowSeconds = Math.floor(this.#clock.now() / 1000);
    const at = (plural: string) => ({ collection: `/api/v1/${plural}`, namespace });
    const account = store.get(at('serviceaccounts'), serviceAccount);
    const podObject = pod === undefined ? undefined : store.get(at('pods'), pod);
    const nodeName = (podObject?.['spec'] as { nodeName?: string } | undefined)?.nodeName;
    tokens += 1;
    return this.#sign({
      aud: audiences,
      exp: nowSeconds + seconds,
      iat: nowSeconds,
      iss: this.issuer,
      jti: `00000000-0000-4000-9000-${String(tokens).padStart(12, '0')}`,
      'kubernetes.io': {
        namespace,
        ...(nodeName === undefined ? {} : { node: { name: nodeName, uid: NODE_UID } }),
        ...(podObject === undefined ? {} : { pod: { name: pod, uid: podObject.metadata.uid } }),
        serviceaccount: { name: serviceAccount, uid: account.metadata.uid },
      },
      nbf: nowSeconds,
      sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
      ...claims,
    });
  }

  readonly extension: Extension = (request, store) => {
    const { method, path } = request;
    if (path === '/.well-known/openid-configuration') {
      return {
        issuer: this.issuer,
        jwks_uri: 'https://127.0.0.1:16443/openid/v1/jwks',
        response_types_supported: ['id_token'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: [this.#alg],
      };
    }
    if (path === '/openid/v1/jwks') {
      if (/\*\/\*|jwk-set\+json/.test(request.accept)) return this.jwks;
      throw new StatusError(406, 'NotAcceptable', '406: Not Acceptable');
    }
    if (method === 'POST' && path === '/apis/authentication.k8s.io/v1/tokenreviews') {
      return this.#review(request, store);
    }
    const match = /^\/api\/v1\/namespaces\/([^/]+)\/serviceaccounts\/([^/]+)\/token$/.exec(path);
    if (method !== 'POST' || match === null) return undefined;
    const { spec, ...draft } = request.body as {
      spec: { audiences: string[]; expirationSeconds: number; boundObjectRef?: { name: string } };
    };
    if (spec.expirationSeconds < 600) {
      throw new StatusError(422, 'Invalid', 'may not specify a duration less than 10 minutes');
    }
    const [, namespace = '', serviceAccount = ''] = match;
    const pod = spec.boundObjectRef?.name;
    const token = this.mint(store, {
      namespace,
      serviceAccount,
      audiences: spec.audiences,
      seconds: spec.expirationSeconds,
      ...(pod === undefined ? {} : { pod }),
    });
    return { ...draft, metadata: { name: serviceAccount, namespace }, spec, status: { token } };
  };

  #sign(claims: object): string {
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const input = `${part({ alg: this.#alg, kid: this.kid })}.${part(claims)}`;
    const key =
      this.#alg === 'RS256'
        ? this.#privateKey
        : ({ key: this.#privateKey, dsaEncoding: 'ieee-p1363' } as const);
    return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`;
  }

  #review({ body }: SeenRequest, store: FakeObjectStore): object {
    this.reviews += 1;
    const { spec, ...review } = body as { spec: { token: string; audiences?: string[] } };
    if (spec.token === '') {
      throw new StatusError(400, 'BadRequest', 'token is required for TokenReview in authentication');
    }
    return {
      ...review,
      metadata: {},
      spec,
      status: this.#statusOf(spec.token, spec.audiences ?? [this.issuer], store),
    };
  }

  #statusOf(token: string, wanted: readonly string[], store: FakeObjectStore): object {
    const refused = (error: string): object => ({ user: {}, error });
    const [header = '', payload = '', signature = ''] = token.split('.');
    let claims: Claims;
    try {
      claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Claims;
    } catch {
      return refused('invalid bearer token');
    }
    if (claims.iss !== this.issuer) return refused('invalid bearer token');
    const key = {
      key: createPublicKey(this.#privateKey),
      ...(this.#alg === 'ES256' ? { dsaEncoding: 'ieee-p1363' as const } : {}),
    };
    if (!verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'))) {
      return refused('[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]');
    }
    const nowSeconds = this.#clock.now() / 1000;
    if (claims.exp <= nowSeconds) return refused('[invalid bearer token, service account token has expired]');
    if (claims.nbf > nowSeconds)
      return refused('[invalid bearer token, service account token is not valid yet]');
    const audiences = claims.aud.filter((one) => wanted.includes(one));
    if (audiences.length === 0) {
      const list = (names: readonly string[]): string => `[${names.map((n) => `"${n}"`).join(' ')}]`;
      return refused(
        `[invalid bearer token, token audiences ${list(claims.aud)} is invalid for the target audiences ${list(wanted)}]`,
      );
    }
    const bound = claims['kubernetes.io'];
    const at = (plural: string) => ({ collection: `/api/v1/${plural}`, namespace: bound.namespace });
    try {
      store.get(at('serviceaccounts'), bound.serviceaccount.name);
      if (bound.pod !== undefined && store.get(at('pods'), bound.pod.name).metadata.uid !== bound.pod.uid) {
        throw new StatusError(404, 'NotFound', 'another pod');
      }
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      return refused('[invalid bearer token, service account token has been invalidated]');
    }
    return {
      authenticated: true,
      user: {
        username: claims.sub,
        uid: bound.serviceaccount.uid,
        groups: [
          'system:serviceaccounts',
          `system:serviceaccounts:${bound.namespace}`,
          'system:authenticated',
        ],
        extra: {
          [`${EXTRA}credential-id`]: [`JTI=${claims.jti}`],
          ...(bound.node === undefined
            ? {}
            : { [`${EXTRA}node-name`]: [bound.node.name], [`${EXTRA}node-uid`]: [bound.node.uid] }),
          ...(bound.pod === undefined
            ? {}
            : { [`${EXTRA}pod-name`]: [bound.pod.name], [`${EXTRA}pod-uid`]: [bound.pod.uid] }),
        },
      },
      audiences,
    };
  }
}

const NODE_UID = '85fbc73c-b832-48b5-a5c6-f55198761f2d';

interface Claims {
  readonly iss: string;
  readonly aud: readonly string[];
  readonly exp: number;
  readonly nbf: number;
  readonly jti: string;
  readonly sub: string;
  readonly 'kubernetes.io': {
    readonly namespace: string;
    readonly serviceaccount: { readonly name: string; readonly uid: string };
    readonly pod?: { readonly name: string; readonly uid: string };
    readonly node?: { readonly name: string; readonly uid: string };
  };
}
