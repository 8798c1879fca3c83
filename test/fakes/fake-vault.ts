import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer, type ServerOptions } from 'node:https';
import type { TLSSocket } from 'node:tls';
import { systemClock } from '../../host/clock.ts';
import {
  NO_CONTENT,
  seconds,
  textOf,
  type VaultAnswer,
  VaultFailure,
  type VaultFlavour,
  VaultRefusal,
  type VaultRequest,
} from './vault/vault-answer.ts';
import { VaultAuthMount } from './vault/vault-auth.ts';
import { VaultPkiMount } from './vault/vault-pki.ts';
import { capabilityOf, DEFAULT_POLICY, VaultPolicy } from './vault/vault-policy.ts';
import { type NewToken, VaultTokens } from './vault/vault-tokens.ts';
import { VaultTransitMount } from './vault/vault-transit.ts';

/** An answer that stands in for the real one, or how the connection ends. */
export type VaultFault =
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body: string | Uint8Array;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** The connection is cut before any answer. */
  | { readonly kind: 'cut' }
  /** The answer begins and is cut. */
  | { readonly kind: 'cut body' }
  /** No answer at all. */
  | { readonly kind: 'silence' };

type Mount = VaultPkiMount | VaultTransitMount | VaultAuthMount;

/** What a {@link FakeVault} is made of. */
export interface FakeVaultOptions {
  readonly flavour?: VaultFlavour;
  /** Milliseconds since the Unix epoch. Default: the machine's clock. */
  readonly now?: () => number;
  /** Serves HTTPS. `requestCert` lets clients log in by certificate. */
  readonly tls?: ServerOptions;
}

/** The token that may do anything. */
export const ROOT_TOKEN = 'root-token';

/**
 * A Vault in this process, over HTTP or HTTPS on loopback: PKI, transit, tokens, policies and four logins, and faults
 * on demand. It answers as Vault 1.8 or OpenBao 2.6, which a test holds against recordings of both; what was not
 * recorded follows their documentation.
 */
export class FakeVault {
  readonly flavour: VaultFlavour;
  readonly tokens: VaultTokens;
  readonly mounts = new Map<string, Mount>();
  readonly policies = new Map<string, VaultPolicy>([['default', new VaultPolicy(DEFAULT_POLICY)]]);
  /** Namespaces that OpenBao has beside the root one. Vault 1.8, as a community edition, ignores the header. */
  readonly namespaces = new Set<string>();
  readonly seen: { readonly line: string; readonly request: VaultRequest }[] = [];
  /** Taken one for each request whose `METHOD path` matches. */
  faults: { readonly on: RegExp; readonly fault: VaultFault; readonly lasting: boolean }[] = [];
  isSealed = false;
  /** Answers as one of a cluster that does not lead would, where it does not forward. */
  standby: 'none' | 'standby' | 'performance standby' | 'disaster recovery' = 'none';
  readonly #now: () => number;
  readonly #server: Server;
  readonly #scheme: 'http' | 'https';

  private constructor({ flavour = 'openbao-2.6', now = () => systemClock.now(), tls }: FakeVaultOptions) {
    this.flavour = flavour;
    this.#now = now;
    this.tokens = new VaultTokens(flavour, now);
    const onRequest = (message: IncomingMessage, response: ServerResponse): void => {
      void this.#serve(message, response).catch((error: unknown) => {
        response.destroy();
        throw error;
      });
    };
    this.#scheme = tls === undefined ? 'http' : 'https';
    this.#server = tls === undefined ? createHttpServer(onRequest) : createHttpsServer(tls, onRequest);
  }

  static async start(options: FakeVaultOptions = {}): Promise<FakeVault> {
    const fake = new FakeVault(options);
    await fake.listen(0);
    return fake;
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new TypeError('the fake does not listen');
    return address.port;
  }

  get url(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}`;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  /** Mounts a PKI. `maxTtlSeconds`: as `max_lease_ttl`. */
  mountPki(path: string, maxTtlSeconds = 87_600 * 3_600): VaultPkiMount {
    const mount = new VaultPkiMount(this.flavour, this.#now, maxTtlSeconds);
    this.mounts.set(`${path}/`, mount);
    return mount;
  }

  mountTransit(path: string): VaultTransitMount {
    const mount = new VaultTransitMount(this.flavour, this.#now);
    this.mounts.set(`${path}/`, mount);
    return mount;
  }

  /** Mounts an auth method at `auth/<path>`. */
  mountAuth(path: string, kind: string): VaultAuthMount {
    const mount = new VaultAuthMount(kind, this.flavour, this.tokens);
    this.mounts.set(`auth/${path}/`, mount);
    return mount;
  }

  policy(name: string, hcl: string): void {
    this.policies.set(name, new VaultPolicy(hcl));
  }

  /** A token of these policies. */
  token(spec: NewToken): string {
    return this.tokens.create(spec).id;
  }

  /** Adds a fault for the next request that matches `METHOD path`, or for all from now on. */
  next(on: RegExp, fault: VaultFault, lasting = false): void {
    this.faults.push({ on, fault, lasting });
  }

  /** Requests so far whose `METHOD path` matches. */
  count(on: RegExp): number {
    return this.seen.filter(({ line }) => on.test(line)).length;
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
    const url = new URL(message.url ?? '/', 'http://localhost');
    const method = ['1', 'true'].includes(url.searchParams.get('list') ?? '')
      ? 'LIST'
      : (message.method ?? '');
    const path = url.pathname.replace(/^\/v1\//, '');
    const header = (name: string): string | undefined => {
      const value = message.headers[name];
      return typeof value === 'string' && value !== '' ? value : undefined;
    };
    const socket = message.socket as Partial<TLSSocket>;
    const certificate = socket.getPeerCertificate?.();
    const head = {
      method,
      path,
      token: header('x-vault-token'),
      namespace: header('x-vault-namespace'),
      clientCommonName: socket.authorized === true ? String(certificate?.subject?.CN ?? '') : undefined,
    };
    const line = `${method} ${path}`;
    const text = Buffer.concat(chunks).toString('utf8');
    const body = parseBody(text);
    this.seen.push({ line, request: { ...head, body: body ?? {} } });
    const index = this.faults.findIndex(({ on }) => on.test(line));
    const fault = this.faults[index];
    if (fault !== undefined && !fault.lasting) this.faults.splice(index, 1);
    response.sendDate = false;
    response.setHeader('date', new Date(this.#now()).toUTCString());
    response.setHeader('cache-control', 'no-store');
    if (fault !== undefined) {
      misbehave(fault.fault, message, response);
      return;
    }
    const answer = await this.#answer(head, body);
    const isText = answer.text !== undefined;
    response.writeHead(answer.status, { 'content-type': answer.contentType ?? 'application/json' });
    response.end(isText ? answer.text : `${JSON.stringify(answer.json)}\n`);
  }

  async #answer(head: Omit<VaultRequest, 'body'>, body: VaultRequest['body'] | null): Promise<VaultAnswer> {
    try {
      return await this.#route(head, body);
    } catch (error) {
      if (error instanceof VaultRefusal) return { status: error.status, json: { errors: error.errors } };
      if (!(error instanceof VaultFailure)) throw error;
      const isWrapped = !this.#isPublic(head);
      const { errors } = new VaultRefusal(error.status, [error.message], isWrapped);
      return { status: error.status, json: { errors } };
    }
  }

  async #route(head: Omit<VaultRequest, 'body'>, body: VaultRequest['body'] | null): Promise<VaultAnswer> {
    const isOld = this.flavour === 'vault-1.8';
    const { path, method, token: tokenId } = head;
    if (path === 'sys/health') return this.#health();
    if (path === 'sys/seal-status') return this.#sealStatus();
    if (this.isSealed) {
      const checked = isOld && tokenId !== undefined ? 'error performing token check: ' : '';
      throw new VaultRefusal(503, [`${checked}Vault is sealed`]);
    }
    if (this.standby !== 'none') {
      throw new VaultRefusal(500, ['local node not active but active cluster node not found']);
    }
    if (body === null) {
      const reason = isOld ? 'error parsing JSON' : "failed to decode JSON input: invalid character 'n'";
      throw new VaultRefusal(400, [reason]);
    }
    if (
      !isOld &&
      head.namespace !== undefined &&
      !this.namespaces.has(head.namespace.replaceAll(/^\/|\/$/g, ''))
    )
      throw new VaultRefusal(404, ['namespace not found']);
    const request: VaultRequest = { ...head, body };
    const [mountPath, mount] = this.#mountOf(path) ?? ['', undefined];
    const rest = path.slice(mountPath.length);
    if (mount?.isPublic(method, rest) === true) return mount.answer(request, mountPath, rest);
    if (tokenId === undefined)
      throw isOld
        ? new VaultRefusal(400, ['missing client token'])
        : new VaultRefusal(403, ['permission denied']);
    if (tokenId !== ROOT_TOKEN) {
      const token = this.tokens.get(tokenId);
      if (token === undefined) throw new VaultRefusal(403, ['permission denied']);
      const capability = this.#capability(request, mount, rest);
      const isAllowed = token.policies.some((name) => this.policies.get(name)?.allows(path, capability));
      if (!isAllowed) throw new VaultRefusal(403, ['permission denied'], true);
      if (path.startsWith('auth/token/')) return this.tokens.answer(request, token);
    }
    if (path.startsWith('sys/')) return this.#system(request);
    if (mount === undefined) {
      const reason = isOld
        ? `no handler for route '${path}'`
        : `no handler for route "${path}". route entry not found.`;
      throw new VaultRefusal(404, [reason]);
    }
    return mount.answer(request, mountPath, rest);
  }

  #isPublic({ method, path }: Pick<VaultRequest, 'method' | 'path'>): boolean {
    const [mountPath, mount] = this.#mountOf(path) ?? ['', undefined];
    return mount?.isPublic(method, path.slice(mountPath.length)) === true;
  }

  #mountOf(path: string): readonly [string, Mount] | undefined {
    return [...this.mounts].find(([mount]) => path.startsWith(mount));
  }

  /** Encrypting under a key that is not there would make it. */
  #capability({ method }: VaultRequest, mount: Mount | undefined, rest: string): string {
    const name = /^encrypt\/(.+)$/.exec(rest)?.[1];
    const wouldCreate = mount instanceof VaultTransitMount && name !== undefined && !mount.keys.has(name);
    return wouldCreate ? 'create' : capabilityOf(method);
  }

  #system({ method, path, body }: VaultRequest): VaultAnswer {
    const [, area, ...rest] = path.split('/');
    const name = rest.join('/');
    if (area === 'seal' && method === 'PUT') this.isSealed = true;
    else if (method === 'DELETE') this.mounts.delete(`${area === 'auth' ? 'auth/' : ''}${name}/`);
    else if (area === 'policies' && method === 'PUT')
      this.policy(name.replace(/^acl\//, ''), textOf(body, 'policy'));
    else if (area === 'auth' && method === 'POST') this.mountAuth(name, textOf(body, 'type'));
    else if (area === 'mounts' && method === 'POST') this.#mount(name, body);
    else throw new VaultRefusal(404, ['unsupported path'], true);
    return NO_CONTENT;
  }

  #mount(path: string, body: VaultRequest['body']): void {
    if (textOf(body, 'type') === 'transit') {
      this.mountTransit(path);
      return;
    }
    const config = body['config'] as Readonly<Record<string, unknown>> | undefined;
    this.mountPki(path, seconds(config?.['max_lease_ttl']) ?? 2_764_800);
  }

  #health(): VaultAnswer {
    const isOld = this.flavour === 'vault-1.8';
    const mode = this.isSealed ? 'unknown' : 'disabled';
    const status = this.isSealed
      ? 503
      : { none: 200, standby: 429, 'performance standby': 473, 'disaster recovery': 472 }[this.standby];
    return {
      status,
      json: {
        initialized: true,
        sealed: this.isSealed,
        standby: this.isSealed || this.standby !== 'none',
        ...(isOld ? { performance_standby: this.standby === 'performance standby' } : {}),
        replication_performance_mode: mode,
        replication_dr_mode: mode,
        server_time_utc: Math.floor(this.#now() / 1_000),
        version: isOld ? '1.8.0-dev' : '2.6.2',
        ...(this.isSealed ? {} : { cluster_name: 'vault-cluster-4db7e75f', cluster_id: CLUSTER_ID }),
      },
    };
  }

  #sealStatus(): VaultAnswer {
    const isOld = this.flavour === 'vault-1.8';
    return {
      status: 200,
      json: {
        type: 'shamir',
        initialized: true,
        sealed: this.isSealed,
        t: 1,
        n: 1,
        progress: 0,
        nonce: '',
        ...(isOld ? {} : { commit_date: '' }),
        version: isOld ? '1.8.0-dev' : '2.6.2',
        migration: false,
        cluster_name: 'vault-cluster-4db7e75f',
        cluster_id: CLUSTER_ID,
        recovery_seal: false,
        storage_type: 'inmem',
      },
    };
  }
}

const CLUSTER_ID = '8d56017a-710d-8638-0b81-addfe7320f11';

/** Null for what is no JSON object; an empty body is an empty object. */
function parseBody(text: string): VaultRequest['body'] | null {
  if (text === '') return {};
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as VaultRequest['body']) : null;
  } catch {
    return null;
  }
}

function misbehave(fault: VaultFault, message: IncomingMessage, response: ServerResponse): void {
  switch (fault.kind) {
    case 'answer':
      response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers });
      response.end(fault.body);
      return;
    case 'cut':
      message.socket.destroy();
      return;
    case 'cut body':
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
      response.write('{"request_id":');
      setImmediate(() => message.socket.destroy());
      return;
    case 'silence':
      return;
    default:
      fault satisfies never;
  }
}
