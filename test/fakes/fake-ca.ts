/**
 * A CA for the agent's tests: a real gRPC server over real TLS that signs with @peculiar/x509, and that can be told
 * to answer anything at all. It shares no code with ca/.
 */
import { X509Certificate, createPublicKey } from 'node:crypto';
import {
  type handleBidiStreamingCall,
  type handleUnaryCall,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type StatusObject,
} from '@grpc/grpc-js';
import { methodDefinition } from '../../host/grpc-service.ts';
import { decoded } from '../../host/grpc-service.ts';
import { encodePem } from '../../pki/pem.ts';
import {
  IssueX509SvidRequest,
  IssueX509SvidResponse,
  type Report,
  type TrustBundle,
  WatchRequest,
  WatchResponse,
} from '../../proto/gen/kedge/v1/identity.ts';
import { parseCsr } from '../../pki/csr.ts';
import {
  ext,
  HOUR_MS,
  makeAnchor,
  makeIssuer,
  makeLeaf,
  newSigner,
  SVID_ID,
  type TestCa,
  type TestSigner,
} from '../support/certificates.ts';

type WatchCall = ServerDuplexStream<unknown, WatchResponse>;

/** What a call for an SVID looked like. */
export interface IssueCall {
  readonly csr: Uint8Array;
  readonly authorization: readonly string[];
}

/** An anchor and an issuer below it, in force now by the real clock, since TLS knows no other. */
export interface TestAuthority {
  readonly anchor: TestCa;
  readonly issuer: TestCa;
}

export async function newAuthority(nowMs = Date.now()): Promise<TestAuthority> {
  const validity = { notBeforeMs: nowMs - 24 * HOUR_MS, notAfterMs: nowMs + 240 * HOUR_MS };
  const anchor = await makeAnchor(validity);
  return { anchor, issuer: await makeIssuer(anchor, validity) };
}

export interface FakeCaOptions {
  readonly authority: TestAuthority;
  /** SPIFFE ID of the serving certificate. */
  readonly servingId?: string;
  /** Of the SVIDs that it gives. */
  readonly lifetimeMs?: number;
  readonly nowMs?: () => number;
  readonly port?: number;
}

/** Whatever a test wants of an answer. */
export type AnswerOverride = (
  answer: IssueX509SvidResponse,
  call: IssueCall,
) => IssueX509SvidResponse | Partial<StatusObject> | Promise<IssueX509SvidResponse | Partial<StatusObject>>;

export class FakeCa {
  readonly #server: Server;
  readonly #options: FakeCaOptions;
  readonly calls: IssueCall[] = [];
  readonly watches = new Set<WatchCall>();
  readonly reports: Report[] = [];
  /** What signs from now on. */
  authority: TestAuthority;
  bundle: TrustBundle;
  /** Changes the next answers. */
  override: AnswerOverride = (answer) => answer;
  #onEvent: (() => void)[] = [];
  port = 0;

  static async start(options: FakeCaOptions): Promise<FakeCa> {
    const ca = new FakeCa(options);
    await ca.#listen();
    return ca;
  }

  private constructor(options: FakeCaOptions) {
    this.#options = options;
    this.authority = options.authority;
    this.bundle = bundleOf(1n, options.authority.anchor);
    this.#server = new Server({ 'grpc.enable_channelz': 0 });
    const issue: handleUnaryCall<unknown, IssueX509SvidResponse> = (call, callback) => {
      void this.#issue(decoded(call.request as IssueX509SvidRequest), call.metadata).then(
        (answer) => ('x509Svid' in answer ? callback(null, answer) : callback(answer)),
        (error: unknown) => callback(error as Error),
      );
    };
    const watch: handleBidiStreamingCall<unknown, WatchResponse> = (call) => this.#watch(call);
    this.#server.addService(
      {
        IssueX509Svid: methodDefinition({
          path: '/kedge.v1.Identity/IssueX509Svid',
          request: IssueX509SvidRequest,
          response: IssueX509SvidResponse,
          requestStream: false,
          responseStream: false,
        }),
        Watch: methodDefinition({
          path: '/kedge.v1.Identity/Watch',
          request: WatchRequest,
          response: WatchResponse,
          requestStream: true,
          responseStream: true,
        }),
      },
      { IssueX509Svid: issue, Watch: watch },
    );
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  nowMs(): number {
    return this.#options.nowMs?.() ?? Date.now();
  }

  /** Signs from now on with another authority, which is in the bundle beside the old one, or alone. */
  rotate(authority: TestAuthority, keepOld: boolean): void {
    const kept = keepOld ? this.bundle.x509Authorities : [];
    this.authority = authority;
    this.bundle = {
      ...this.bundle,
      sequence: this.bundle.sequence + 1n,
      x509Authorities: [...kept, authority.anchor.der],
    };
  }

  /** Sends a message on every Watch stream. */
  push(message: WatchResponse['message']): void {
    for (const watch of this.watches) watch.write({ message, serverTimeMs: BigInt(this.nowMs()) });
  }

  pushBundle(): void {
    this.push({ $case: 'bundle', value: this.bundle });
  }

  /** Resolves when `condition` holds; looked at after each call and report. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#onEvent.push(resolve));
  }

  endWatches(status?: Partial<StatusObject>): void {
    for (const watch of this.watches) {
      if (status === undefined) watch.end();
      else watch.emit('error', Object.assign(new Error(status.details ?? ''), status));
    }
  }

  close(): void {
    this.#server.forceShutdown();
  }

  async #listen(): Promise<void> {
    const { servingId = 'spiffe://example.org/kedge/ca', port = 0 } = this.#options;
    const { signer, chain } = await servingIdentity(this.authority, servingId);
    const credentials = ServerCredentials.createSsl(
      null,
      [
        {
          private_key: Buffer.from(signer.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string),
          cert_chain: Buffer.from(chain.map((der) => encodePem('CERTIFICATE', der)).join('')),
        },
      ],
      false,
    );
    this.port = await new Promise<number>((resolve, reject) =>
      this.#server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
  }

  async #issue(
    request: IssueX509SvidRequest,
    metadata: Metadata,
  ): Promise<IssueX509SvidResponse | Partial<StatusObject>> {
    const call = { csr: request.csr, authorization: metadata.get('authorization').map(String) };
    this.calls.push(call);
    const answer = await this.override(await this.answer(request.csr), call);
    this.#happened();
    return answer;
  }

  /** A good answer to a CSR. */
  async answer(csr: Uint8Array, id = SVID_ID): Promise<IssueX509SvidResponse> {
    const nowMs = this.nowMs();
    return {
      x509Svid: await issueChain(this.authority, parseCsr(csr).spki, {
        id,
        notBeforeMs: nowMs - 120_000,
        notAfterMs: nowMs + (this.#options.lifetimeMs ?? HOUR_MS),
      }),
      bundle: this.bundle,
      renewal: undefined,
      serverTimeMs: BigInt(nowMs),
    };
  }

  #watch(call: WatchCall): void {
    this.watches.add(call);
    call.on('data', (message: WatchRequest) => {
      if (message.report !== undefined) this.reports.push(message.report);
      this.#happened();
    });
    call.on('cancelled', () => this.watches.delete(call));
    call.on('end', () => {
      this.watches.delete(call);
      call.end();
      this.#happened();
    });
    call.on('error', () => this.watches.delete(call));
    call.write({
      message: { $case: 'bundle', value: this.bundle },
      serverTimeMs: BigInt(this.nowMs()),
    });
    this.#happened();
  }

  #happened(): void {
    const waiting = this.#onEvent;
    this.#onEvent = [];
    for (const wake of waiting) wake();
  }
}

export function bundleOf(sequence: bigint, ...anchors: readonly TestCa[]): TrustBundle {
  return {
    trustDomain: 'example.org',
    sequence,
    refreshHintSeconds: 300,
    x509Authorities: anchors.map(({ der }) => der),
    crls: [],
  };
}

/** A chain for a public key. */
export async function issueChain(
  { issuer }: TestAuthority,
  spki: Uint8Array,
  { id = SVID_ID, notBeforeMs, notAfterMs }: { id?: string; notBeforeMs: number; notAfterMs: number },
): Promise<Uint8Array[]> {
  const signer = { ...newSigner(), spki };
  const extensions = { san: ext.uris(id) };
  return [await makeLeaf(issuer, { signer, notBeforeMs, notAfterMs, extensions }), issuer.der];
}

async function servingIdentity(
  authority: TestAuthority,
  id: string,
): Promise<{ signer: TestSigner; chain: Uint8Array[] }> {
  const signer = newSigner();
  const nowMs = Date.now();
  const validity = { notBeforeMs: nowMs - HOUR_MS, notAfterMs: nowMs + 24 * HOUR_MS };
  return { signer, chain: await issueChain(authority, signer.spki, { id, ...validity }) };
}

/** The public key of a certificate, SubjectPublicKeyInfo. */
export function spkiOfCertificate(der: Uint8Array): Uint8Array {
  return createPublicKey(new X509Certificate(der).publicKey).export({ type: 'spki', format: 'der' });
}
