/** A client of the Kubernetes API for tests, which shares nothing with Kedge's own. */
import { request, type RequestOptions } from 'node:https';
import { text } from 'node:stream/consumers';

/** An object of the Kubernetes API: what tests look at is typed, the rest is theirs to narrow. */
export interface KubernetesObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly [key: string]: unknown;
  };
  readonly [key: string]: unknown;
}

/** One answer of the API server. */
export interface KubernetesAnswer {
  readonly status: number;
  readonly body: KubernetesObject;
}

/** How a {@link KubernetesApi} proves who it is. */
export type ApiCredential =
  | { readonly certificate: string; readonly key: string }
  | { readonly token: string }
  | { readonly anonymous: true };

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** What {@link KubernetesApi} takes. */
export interface KubernetesApiOptions {
  readonly url: string;
  /** PEM. */
  readonly authorities: string;
  readonly credential: ApiCredential;
}

const TIMEOUT_MS = 30_000;

/** Talks to one API server as one user, a connection for each request. */
export class KubernetesApi {
  readonly #url: string;
  readonly #options: RequestOptions;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ url, authorities, credential }: KubernetesApiOptions) {
    this.#url = url;
    const client = 'certificate' in credential ? { cert: credential.certificate, key: credential.key } : {};
    this.#headers = 'token' in credential ? { authorization: `Bearer ${credential.token}` } : {};
    this.#options = { ca: authorities, ...client, agent: false, timeout: TIMEOUT_MS };
  }

  /** Any request, any answer. Rejects only where there is none. */
  async request(
    method: Method,
    path: string,
    body?: unknown,
    contentType = 'application/json',
  ): Promise<KubernetesAnswer> {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    return await new Promise((resolve, reject) => {
      const headers = {
        ...this.#headers,
        accept: 'application/json',
        // The length, because Node announces no body of a DELETE by itself.
        ...(sent === undefined
          ? {}
          : { 'content-type': contentType, 'content-length': Buffer.byteLength(sent) }),
      };
      const sending = request(`${this.#url}${path}`, { ...this.#options, method, headers }, (response) => {
        text(response)
          .then((answer) => resolve({ status: response.statusCode ?? 0, body: parsed(answer) }))
          .catch(reject);
      });
      sending.on('timeout', () => sending.destroy(new Error(`no answer to ${method} ${path}`)));
      sending.on('error', reject);
      sending.end(sent);
    });
  }

  async get(path: string): Promise<KubernetesObject> {
    return await this.#done('GET', path);
  }

  async create(path: string, object: KubernetesObject): Promise<KubernetesObject> {
    return await this.#done('POST', path, object);
  }

  async replace(path: string, object: KubernetesObject): Promise<KubernetesObject> {
    return await this.#done('PUT', path, object);
  }

  /** RFC 7396. */
  async merge(path: string, patch: unknown): Promise<KubernetesObject> {
    return await this.#done('PATCH', path, patch, 'application/merge-patch+json');
  }

  /** Without a grace period: no kubelet runs that would end it. */
  async delete(path: string): Promise<KubernetesObject> {
    return await this.#done('DELETE', path, {
      kind: 'DeleteOptions',
      apiVersion: 'v1',
      gracePeriodSeconds: 0,
    });
  }

  async #done(method: Method, path: string, body?: unknown, contentType?: string): Promise<KubernetesObject> {
    const { status, body: answer } = await this.request(method, path, body, contentType);
    if (status >= 200 && status < 300) return answer;
    throw new Error(`${method} ${path}: ${status} ${JSON.stringify(answer)}`);
  }
}

/** Some answers, as those of /readyz, are plain text. */
function parsed(answer: string): KubernetesObject {
  try {
    return JSON.parse(answer) as KubernetesObject;
  } catch {
    return { message: answer };
  }
}
