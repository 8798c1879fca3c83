import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { FakeObjectStore, type Stored, StatusError } from './fake-object-store.ts';

/** An answer that stands in for the real one, or how the connection ends. */
export type Fault =
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body: string | Uint8Array;
      readonly headers?: Record<string, string>;
    }
  /** The connection is cut before any answer; `done` = after the request was carried out. */
  | { readonly kind: 'cut'; readonly done: boolean }
  /** The answer begins, and is cut in the middle. */
  | { readonly kind: 'cut body' }
  /** No answer at all. */
  | { readonly kind: 'silence' };

/** One request that came. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly authorization: string | undefined;
  readonly contentType: string | undefined;
  readonly accept: string;
  readonly body: unknown;
}

/** What answers paths and subresources that are more than objects: reviews, discovery. Undefined = not its own. */
export type Extension = (request: SeenRequest, store: FakeObjectStore) => object | undefined;

interface Watcher {
  readonly matches: (object: Stored) => boolean;
  readonly response: ServerResponse;
}

/**
 * An API server in this process, over HTTP on loopback: objects with resourceVersions, list in pages, watch with
 * bookmarks, and faults on demand. It answers as kube-apiserver 1.36 was recorded to, which a test holds.
 */
export class FakeApiServer {
  readonly store = new FakeObjectStore();
  readonly seen: SeenRequest[] = [];
  /** Taken one for each request whose method and path match; the default is none. */
  faults: { readonly on: RegExp; readonly fault: Fault }[] = [];
  extensions: Extension[] = [];
  onConnection: () => void = () => {};
  readonly #server: Server;
  readonly #watchers = new Set<Watcher>();

  private constructor() {
    this.#server = createServer((request, response) => {
      void this.#answer(request, response).catch((error: unknown) => {
        response.destroy();
        throw error;
      });
    });
    this.#server.on('connection', () => this.onConnection());
    this.store.onEvent = (type, object) => {
      for (const { matches, response } of this.#watchers) {
        if (matches(object)) response.write(`${JSON.stringify({ type, object })}\n`);
      }
    };
  }

  static async start(): Promise<FakeApiServer> {
    const fake = new FakeApiServer();
    await fake.listen(0);
    return fake;
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new TypeError('the fake does not listen');
    return address.port;
  }

  /** How many watches are open. */
  get watches(): number {
    return this.#watchers.size;
  }

  /** Adds a fault for the next request that matches `METHOD /path`. */
  next(on: RegExp, fault: Fault): void {
    this.faults.push({ on, fault });
  }

  /** Tells every watch how far it has come, as kube-apiserver does about once a minute. */
  bookmark(): void {
    const metadata = { resourceVersion: this.store.resourceVersion };
    for (const { response } of this.#watchers) {
      response.write(`${JSON.stringify({ type: 'BOOKMARK', object: { metadata } })}\n`);
    }
  }

  /** Ends every watch: as its time does, or with the connection. */
  endWatches(how: 'end' | 'cut'): void {
    for (const { response } of this.#watchers) {
      if (how === 'end') response.end();
      else response.destroy();
    }
    this.#watchers.clear();
  }

  /** Writes a line to every watch as it is. */
  writeLine(line: string): void {
    for (const { response } of this.#watchers) response.write(`${line}\n`);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  async #answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = await read(message);
    this.seen.push(request);
    const line = `${request.method} ${request.path}`;
    const index = this.faults.findIndex(({ on }) => on.test(line));
    const fault = index < 0 ? undefined : this.faults.splice(index, 1)[0]?.fault;
    if (fault?.kind === 'silence') return;
    if (fault?.kind === 'answer') {
      response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers });
      response.end(fault.body);
      return;
    }
    if (fault?.kind === 'cut' && !fault.done) {
      message.socket.destroy();
      return;
    }
    if (request.query.get('watch') === '1' && fault === undefined) {
      this.#watch(request, response);
      return;
    }
    const { status, body } = this.#do(request);
    if (fault?.kind === 'cut') {
      message.socket.destroy();
      return;
    }
    const text = JSON.stringify(body);
    response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
    });
    if (fault?.kind !== 'cut body') {
      response.end(text);
      return;
    }
    response.write(text.slice(0, text.length / 2), () => message.socket.destroy());
  }

  #do(request: SeenRequest): { readonly status: number; readonly body: object } {
    try {
      for (const extension of this.extensions) {
        const body = extension(request, this.store);
        if (body !== undefined) return { status: request.method === 'POST' ? 201 : 200, body };
      }
      const { method, path, query, body, contentType } = request;
      const { at, name } = targetOf(path);
      switch (method) {
        case 'GET':
          return {
            status: 200,
            body: name === undefined ? this.store.list(at, query) : this.store.get(at, name),
          };
        case 'POST':
          return { status: 201, body: this.store.create(at, body) };
        case 'PUT':
          return { status: 200, body: this.store.replace(at, name ?? '', body) };
        case 'PATCH':
          return { status: 200, body: this.store.patch(at, name ?? '', body, contentType ?? '') };
        case 'DELETE':
          return { status: 200, body: this.store.delete(at, name ?? '', body) };
        default:
          throw new StatusError(405, 'MethodNotAllowed', 'the method is not allowed');
      }
    } catch (error) {
      if (error instanceof StatusError) return { status: error.code, body: error.status };
      throw error;
    }
  }

  #watch({ path, query }: SeenRequest, response: ServerResponse): void {
    const { at } = targetOf(path);
    const from = Number(query.get('resourceVersion') ?? '0');
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (from < this.store.oldestVersion) {
      const { status } = new StatusError(410, 'Expired', `too old resource version: ${from}`);
      response.end(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
      return;
    }
    const matches = this.store.matcher(at, query);
    for (const { version, type, object } of this.store.events) {
      if (version > from && matches(object)) response.write(`${JSON.stringify({ type, object })}\n`);
    }
    const watcher = { matches, response };
    this.#watchers.add(watcher);
    response.once('close', () => this.#watchers.delete(watcher));
  }
}

async function read(message: IncomingMessage): Promise<SeenRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
  const url = new URL(message.url ?? '/', 'http://fake');
  const text = Buffer.concat(chunks).toString('utf8');
  return {
    method: message.method ?? '',
    path: url.pathname,
    query: url.searchParams,
    authorization: message.headers.authorization,
    contentType: message.headers['content-type'],
    accept: message.headers.accept ?? '*/*',
    body: text === '' ? undefined : JSON.parse(text),
  };
}

/** `/api/v1/namespaces/n/pods/web` -> the collection, without the namespace, and what is asked of it. */
function targetOf(path: string): {
  readonly at: { readonly collection: string; readonly namespace: string | undefined };
  readonly name: string | undefined;
} {
  const match =
    /^(\/api\/v1|\/apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([a-z]+)(?:\/([^/]+))?$/.exec(path);
  if (match === null)
    throw new StatusError(404, 'NotFound', 'the server could not find the requested resource');
  const [, root = '', namespace, plural = '', name] = match;
  return { at: { collection: `${root}/${plural}`, namespace }, name };
}
