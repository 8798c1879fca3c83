import { generateKeyPairSync } from 'node:crypto';
import type { TestContext } from 'node:test';
import { Client, type ClientDuplexStream, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { type DevelopmentTokenRequest, DevelopmentIssuer } from '../../ca/attest/development-issuer.ts';
import { loadCaConfig } from '../../ca/config.ts';
import { type RunningCa, startCa } from '../../ca/main.ts';
import { systemClock } from '../../host/clock.ts';
import { errorOfGrpc } from '../../host/grpc-errors.ts';
import { type Log, silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import { buildCsr } from '../../pki/csr-builder.ts';
import type { KedgeError } from '../../pki/kedge-error.ts';
import { encodePem } from '../../pki/pem.ts';
import { GetBundleRequest, GetStatusRequest, GetStatusResponse } from '../../proto/gen/kedge/v1/admin.ts';
import {
  IssueX509SvidRequest,
  IssueX509SvidResponse,
  TrustBundle,
  WatchRequest,
  WatchResponse,
} from '../../proto/gen/kedge/v1/identity.ts';
import { temporaryFolder } from './temporary-folder.ts';

/** A CA in this process, on ports of its own, and what a test does with it. */
export interface CaUnderTest {
  readonly ca: RunningCa;
  readonly folder: string;
  /** A token of its development issuer. */
  readonly token: (request?: Partial<DevelopmentTokenRequest>) => string;
  /** A connection whose TLS is checked against the bundle of the admin socket. */
  readonly connect: () => Promise<Client>;
}

/** Starts a CA, and ends it with the test. `flags` are keys of the configuration, `file` is one. */
export async function runningCa(
  t: Pick<TestContext, 'after'>,
  options: {
    readonly flags?: Readonly<Record<string, string>>;
    readonly folder?: string;
    readonly file?: string;
    readonly log?: Log;
  } = {},
): Promise<CaUnderTest> {
  const folder = options.folder ?? temporaryFolder(t);
  const flags = new Map(
    Object.entries({
      dataFolder: folder,
      'listen.grpc': '127.0.0.1:0',
      'listen.http': '127.0.0.1:0',
      'drain.timeout': '2s',
      ...options.flags,
    }),
  );
  const config = await loadCaConfig({ file: options.file, flags });
  const ca = await startCa({
    config,
    clock: systemClock,
    random: systemRandom,
    log: options.log ?? silentLog,
  });
  t.after(() => ca.close());
  const issuer = await DevelopmentIssuer.open({ folder, clock: systemClock, random: systemRandom });
  const connect = async (): Promise<Client> => {
    const bundle = await getBundle(ca);
    const roots = bundle.x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join('');
    const client = new Client(
      ca.grpcAddress,
      // The test checks the SPIFFE ID where it matters; Node would look for a DNS name.
      credentials.createSsl(Buffer.from(roots), null, null, { checkServerIdentity: () => undefined }),
      { 'grpc.use_local_subchannel_pool': 1, 'grpc.ssl_target_name_override': 'ca.kedge.test' },
    );
    t.after(() => client.close());
    return client;
  };
  return { ca, folder, token: (request) => issuer.mint({ ...TOKEN, ...request }), connect };
}

const TOKEN: DevelopmentTokenRequest = {
  namespace: 'shop',
  serviceAccount: 'cart',
  podName: 'cart-0',
  audiences: ['kedge'],
};

/** A CSR with a new P-256 key. */
export function freshCsr(): Uint8Array {
  return buildCsr({ privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey });
}

/** Metadata with a bearer token. */
export function bearer(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

const same = (bytes: Buffer): Buffer => bytes;

/** One unary call with raw bytes. Rejects with the ServiceError of grpc-js. */
export function rawCall(
  client: Client,
  path: string,
  request: Uint8Array,
  metadata: Metadata = new Metadata(),
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      path,
      same,
      same,
      Buffer.from(request),
      metadata,
      { deadline: Date.now() + 10_000 },
      (error, response) => (error === null ? resolve(response ?? Buffer.alloc(0)) : reject(error)),
    );
  });
}

export const ISSUE = '/kedge.v1.Identity/IssueX509Svid';
const WATCH = '/kedge.v1.Identity/Watch';

/** An SVID for a token. */
export async function issue(client: Client, token: string, csr = freshCsr()): Promise<IssueX509SvidResponse> {
  const request = IssueX509SvidRequest.encode({ csr, ttlSeconds: 0, dnsNames: [] }).finish();
  return IssueX509SvidResponse.decode(await rawCall(client, ISSUE, request, bearer(token)));
}

/** A Watch stream whose requests are raw bytes. */
export function openWatch(client: Client, metadata: Metadata): ClientDuplexStream<Uint8Array, WatchResponse> {
  const call = client.makeBidiStreamRequest(
    WATCH,
    (bytes: Uint8Array) => Buffer.from(bytes),
    (bytes: Buffer) => WatchResponse.decode(bytes),
    metadata,
  );
  // Each test looks at the failures that it expects.
  call.on('error', () => {});
  return call;
}

/** A report as it goes on the wire. */
export function reportBytes(report: Partial<NonNullable<WatchRequest['report']>> = {}): Uint8Array {
  return WatchRequest.encode({
    report: {
      agentVersion: '0.1.0',
      bundleSequence: 0n,
      svid: undefined,
      clockSkewMs: undefined,
      feeds: [],
      ...report,
    },
  }).finish();
}

/** The error that ends a call, in Kedge's terms, with the status of the wire. */
export function failureOf(error: unknown): KedgeError & { readonly status: number } {
  const failure = error as ServiceError;
  return Object.assign(
    errorOfGrpc(failure, { unreachable: 'ca_unreachable', invalid: 'ca_answer_invalid' }),
    {
      status: failure.code,
    },
  );
}

/** The error that a promise of a call rejects with. */
export async function refusalFrom(promise: Promise<unknown>): Promise<ReturnType<typeof failureOf>> {
  const outcome = await promise.then(
    () => null,
    (error: unknown) => failureOf(error),
  );
  if (outcome === null) throw new TypeError('the call was not refused');
  return outcome;
}

/** The next message of a stream; rejects with the ServiceError that ends it. */
export function nextMessage(call: ClientDuplexStream<Uint8Array, WatchResponse>): Promise<WatchResponse> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void): void => {
      call.off('data', onData);
      call.off('error', onError);
      call.off('end', onEnd);
      call.pause();
      act();
    };
    const onData = (message: WatchResponse): void => settle(() => resolve(message));
    const onError = (error: Error): void => settle(() => reject(error));
    const onEnd = (): void => settle(() => reject(new TypeError('the stream ended')));
    call.on('data', onData);
    call.on('error', onError);
    call.on('end', onEnd);
    call.resume();
  });
}

async function adminCall(ca: RunningCa, method: string, request: Uint8Array): Promise<Buffer> {
  const client = new Client(`unix://${ca.adminSocket}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  try {
    return await rawCall(client, `/kedge.v1.Admin/${method}`, request);
  } finally {
    client.close();
  }
}

export async function getBundle(ca: RunningCa): Promise<TrustBundle> {
  return TrustBundle.decode(await adminCall(ca, 'GetBundle', GetBundleRequest.encode({}).finish()));
}

export async function getStatus(ca: RunningCa): Promise<GetStatusResponse> {
  return GetStatusResponse.decode(await adminCall(ca, 'GetStatus', GetStatusRequest.encode({}).finish()));
}
