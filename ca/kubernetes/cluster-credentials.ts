import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import { readSmallFile } from '../../host/small-file.ts';
import { equalBytes } from '../../pki/bytes.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { decodePem } from '../../pki/pem.ts';
import type { ApiCredentials, PresentedCredentials } from './api-connection.ts';
import type { Authentication, ClusterAccess, Source } from './cluster-access.ts';
import { execCredential, type RunProgram } from './exec-plugin.ts';

/** What {@link ClusterCredentials} are made of. */
export interface ClusterCredentialsOptions {
  readonly access: Pick<ClusterAccess, 'authentication' | 'certificateAuthority'>;
  readonly clock: Clock;
  readonly log: Log;
  /** Runs credential plugins. Default: as processes. */
  readonly runProgram?: RunProgram;
}

/** How old what was read from files may be, milliseconds. The kubelet renews a token when a fifth of its life is left. */
const FILES_FRESH_MS = 10_000;

/** A credential that a plugin handed out is replaced so long before it expires: requests are under way for a while. */
const EXPIRY_MARGIN_MS = 5_000;

const PEM_BYTES = 256 * 1024;

interface Material {
  /** Of `token` only: not in the secure context. */
  readonly token: Uint8Array | undefined;
  /** What the secure context is made of: CA, certificate, key. */
  readonly tls: readonly (Uint8Array | undefined)[];
  /** Until when it is good, milliseconds since the Unix epoch; null = it does not say. */
  readonly expiresAtMs: number | null;
}

/**
 * The credentials of a {@link ClusterAccess}. Files are read again when what was read is 10 s old, and after the API
 * server did not accept it; the connections change over only when a CA, certificate or key did. Files that are
 * missing or make no sense for a while leave the last good ones in use. A credential plugin is asked again when what it
 * handed out is about to expire, and after a refusal.
 */
export class ClusterCredentials implements ApiCredentials {
  readonly #options: ClusterCredentialsOptions;
  readonly #hasFiles: boolean;
  #current: { readonly presented: PresentedCredentials; readonly material: Material } | null = null;
  /** Monotonic, milliseconds. */
  #readAtMs = 0;
  #reading: Promise<PresentedCredentials> | null = null;

  constructor(options: ClusterCredentialsOptions) {
    this.#options = options;
    this.#hasFiles = sourcesOf(options.access).some((source) => source?.kind === 'file');
  }

  present(): Promise<PresentedCredentials> | PresentedCredentials {
    if (this.#current !== null && this.#isFresh(this.#current.material)) return this.#current.presented;
    return (this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    }));
  }

  refused(): void {
    this.#readAtMs = Number.NEGATIVE_INFINITY;
  }

  #isFresh({ expiresAtMs }: Material): boolean {
    const { clock, access } = this.#options;
    const isRecent = clock.monotonic() - this.#readAtMs < FILES_FRESH_MS;
    if (access.authentication.kind !== 'exec') return !this.#hasFiles || isRecent;
    if (expiresAtMs !== null && clock.now() + EXPIRY_MARGIN_MS >= expiresAtMs) return isRecent;
    return this.#readAtMs !== Number.NEGATIVE_INFINITY;
  }

  async #read(): Promise<PresentedCredentials> {
    const { access, clock, log, runProgram } = this.#options;
    try {
      const material = await readMaterial(access, runProgram);
      const known = this.#current;
      const isSameTls =
        known !== null && known.material.tls.every((part, i) => isSame(part, material.tls[i]));
      const presented = {
        authorization: material.token === undefined ? undefined : bearer(material.token),
        secureContext: isSameTls ? known.presented.secureContext : secureContextOf(material, access),
      };
      if (known !== null && !isSameTls) log.info('kubernetes.credentials_changed');
      this.#current = { presented, material };
    } catch (error) {
      if (this.#current === null) throw error;
      log.warn('kubernetes.credentials_unreadable', { error: errorFields(error) });
    }
    this.#readAtMs = clock.monotonic();
    return this.#current.presented;
  }
}

type Access = ClusterCredentialsOptions['access'];

function sourcesOf({ authentication, certificateAuthority }: Access): readonly (Source | undefined)[] {
  const { token, certificate, key } = partsOf(authentication);
  return [certificateAuthority, certificate, key, token];
}

interface Parts {
  readonly token?: Source;
  readonly certificate?: Source;
  readonly key?: Source;
}

function partsOf(authentication: Authentication): Parts {
  switch (authentication.kind) {
    case 'none':
    case 'exec':
      return {};
    case 'token':
      return { token: authentication.token };
    case 'clientCertificate':
      return { certificate: authentication.certificate, key: authentication.key };
    default:
      authentication satisfies never;
      throw new TypeError('unreachable');
  }
}

async function readMaterial(access: Access, run: RunProgram | undefined): Promise<Material> {
  if (access.authentication.kind === 'exec') {
    const [authority, handedOut] = await Promise.all([
      read(access.certificateAuthority, PEM_BYTES, 'the CA of the API server'),
      execCredential(access.authentication.plugin, run),
    ]);
    const { token, certificate, key, expiresAtMs } = handedOut;
    return { tls: [authority, certificate, key], token, expiresAtMs };
  }
  const [authority, certificate, key, token] = sourcesOf(access);
  const [tls, tokenBytes] = await Promise.all([
    Promise.all([
      read(authority, PEM_BYTES, 'the CA of the API server'),
      read(certificate, PEM_BYTES, 'the client certificate'),
      read(key, PEM_BYTES, "the client certificate's key"),
    ]),
    read(token, LIMITS.tokenBytes, 'the token for the API server'),
  ]);
  return { tls, token: tokenBytes, expiresAtMs: null };
}

async function read(
  source: Source | undefined,
  maxBytes: number,
  what: string,
): Promise<Uint8Array | undefined> {
  if (source === undefined) return undefined;
  return source.kind === 'inline' ? source.bytes.expose() : readSmallFile(source.path, maxBytes, what);
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : equalBytes(a, b);
}

/** RFC 6750 section 2.1: what may stand in the header. The message holds nothing of the token. */
function bearer(token: Uint8Array): string {
  const text = Buffer.from(token).toString('latin1').trim();
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(text)) {
    throw new KedgeError('config_invalid', 'the token for the API server is empty, or no bearer token', {
      hint: 'give the token as it was issued, on one line',
    });
  }
  return `Bearer ${text}`;
}

function secureContextOf({ tls }: Material, access: Access): SecureContext {
  const [authority, certificate, key] = tls.map((bytes) =>
    bytes === undefined ? undefined : Buffer.from(bytes).toString('latin1'),
  );
  try {
    // OpenSSL passes over what is no certificate, and an empty CA would mean the public ones.
    if (authority !== undefined)
      for (const der of decodePem(authority, 'CERTIFICATE')) void new X509Certificate(der);
    return createSecureContext({
      minVersion: 'TLSv1.2',
      ...(authority === undefined ? {} : { ca: authority }),
      ...(certificate === undefined ? {} : { cert: certificate }),
      ...(key === undefined ? {} : { key }),
    });
  } catch (cause) {
    const files = sourcesOf(access).flatMap((source) =>
      source?.kind === 'file' ? [quote(source.path, 200)] : [],
    );
    throw new KedgeError(
      'config_invalid',
      `CA, client certificate or key for the API server cannot be used${files.length === 0 ? '' : `: ${files.join(', ')}`}`,
      { hint: 'give PEM; the key must be the one of the certificate', cause },
    );
  }
}
