import { Client, credentials, type ServiceError, status } from '@grpc/grpc-js';
import type { PeerCertificate } from 'node:tls';
import type { Clock } from '../../../host/clock.ts';
import { errorOfGrpc } from '../../../host/grpc-errors.ts';
import { readSmallFile } from '../../../host/small-file.ts';
import { attempt } from '../../../pki/attempt.ts';
import { parseCertificate } from '../../../pki/certificate.ts';
import { isKedgeError, KedgeError, quote } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import type { TrustDomain } from '../../../pki/spiffe-id.ts';
import type { KedgeUpstreamSettings } from './kedge-settings.ts';

/** What {@link KedgeClient} is made of. */
export interface KedgeClientOptions {
  readonly settings: KedgeUpstreamSettings;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
}

/** Path of the SPIFFE ID of every CA. */
const CA_PATH = '/kedge/ca';

/**
 * One call of the CA above, on a connection of its own: calls are rare, and each takes the SVID and the bundle that are
 * in the files then.
 *
 * Throws `kedge_upstream_identity` for files that cannot be used and a server that is not the CA of the trust domain,
 * `kedge_upstream_unreachable`, and the refusals of the CA above.
 */
export class KedgeClient {
  readonly #options: KedgeClientOptions;

  constructor(options: KedgeClientOptions) {
    this.#options = options;
  }

  async call(method: 'Sync' | 'MintIssuer', request: Uint8Array, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    const { settings, clock } = this.#options;
    const { client, refusal } = await this.#connect();
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    try {
      const call = client.makeUnaryRequest(
        `/kedge.v1.Downstream/${method}`,
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes: Buffer) => bytes,
        request,
        { deadline: clock.now() + settings.timeoutMs },
        (error: ServiceError | null, response?: Buffer) => {
          if (error === null) resolve(response ?? Buffer.alloc(0));
          else reject(this.#errorOf(error, refusal()));
        },
      );
      const cancel = (): void => call.cancel();
      signal.addEventListener('abort', cancel, { once: true });
      try {
        return await promise;
      } catch (error) {
        signal.throwIfAborted();
        throw error;
      } finally {
        signal.removeEventListener('abort', cancel);
      }
    } finally {
      client.close();
    }
  }

  async #connect(): Promise<{ readonly client: Client; readonly refusal: () => KedgeError | null }> {
    const { settings } = this.#options;
    const read = async (path: string, what: string): Promise<Buffer> =>
      Buffer.from(await readSmallFile(path, LIMITS.upstreamFileBytes, what));
    let refusal: KedgeError | null = null;
    try {
      const [roots, key, chain] = [
        await read(settings.bundleFile, 'the bundle of the CA above'),
        await read(settings.keyFile, 'the key of the SVID for the CA above'),
        await read(settings.certificateFile, 'the SVID for the CA above'),
      ];
      const checkServerIdentity = (_host: string, certificate: PeerCertificate): Error | undefined => {
        const checked = attempt(() => this.#checkServer(certificate.raw));
        if (checked.ok) return undefined;
        refusal = checked.refusal;
        return refusal;
      };
      const secure = credentials.createSsl(roots, key, chain, { checkServerIdentity });
      const client = new Client(settings.address, secure, {
        'grpc.use_local_subchannel_pool': 1,
        'grpc.max_receive_message_length': LIMITS.caMessageBytes,
      });
      return { client, refusal: () => refusal };
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : 'unknown';
      throw identity(
        isKedgeError(cause) ? why : 'the files hold no SVID, key or bundle that TLS takes',
        cause,
      );
    }
  }

  /** OpenSSL has verified the chain; who it is, is for us. */
  #checkServer(der: Uint8Array): void {
    const { trustDomain } = this.#options;
    const wanted = `${trustDomain.id}${CA_PATH}`;
    const found = parseCertificate(der).subjectAltName?.uris ?? [];
    if (found.length === 1 && found[0] === wanted) return;
    throw identity(`the server is ${quote(found.join(' '), 200)}, not ${quote(wanted)}`);
  }

  #errorOf(error: ServiceError, refusal: KedgeError | null): KedgeError {
    if (refusal !== null) return refusal;
    if (error.code === status.DEADLINE_EXCEEDED) return unreachable('did not answer in time', error);
    const peer = {
      unreachable: 'kedge_upstream_unreachable',
      invalid: 'kedge_upstream_unreachable',
    } as const;
    return errorOfGrpc(error, peer);
  }
}

function unreachable(what: string, cause: unknown): KedgeError {
  return new KedgeError('kedge_upstream_unreachable', `the CA above ${what}`, {
    hint: 'look at downstream.address of the CA above and the network to it',
    cause,
  });
}

function identity(why: string, cause?: unknown): KedgeError {
  return new KedgeError('kedge_upstream_identity', `the CA above cannot be asked: ${why}`, {
    hint: 'look at upstream.kedge: the files are written by an agent of the CA above, in the preset plain',
    cause,
  });
}
