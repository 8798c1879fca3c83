import { createSecureContext, type SecureContext } from 'node:tls';
import type { Clock } from '../../../host/clock.ts';
import { errorFields, type Log } from '../../../host/log.ts';
import { readSmallFile } from '../../../host/small-file.ts';
import { equalBytes } from '../../../pki/bytes.ts';
import { parseCertificate } from '../../../pki/certificate.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { decodePem } from '../../../pki/pem.ts';
import type { VaultAccessSettings } from './vault-settings.ts';

/** What {@link VaultTls} is made of. */
export interface VaultTlsOptions {
  readonly settings: Pick<VaultAccessSettings, 'authoritiesFile' | 'certificateFile' | 'keyFile'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** How old what was read from files may be, milliseconds. */
const FILES_FRESH_MS = 10_000;
const PEM_BYTES = 256 * 1024;

type Material = readonly [
  authorities: Uint8Array | null,
  certificate: Uint8Array | null,
  key: Uint8Array | null,
];

/**
 * Whom TLS to Vault trusts and what it presents. The files are read again every 10 s of use; what cannot be used
 * for a while leaves the last good one in force.
 */
export class VaultTls {
  readonly #options: VaultTlsOptions;
  #current: { readonly context: SecureContext; readonly material: Material } | null = null;
  /** Monotonic, milliseconds. */
  #readAtMs = 0;

  constructor(options: VaultTlsOptions) {
    this.#options = options;
  }

  /** The same object for as long as the files stay the same. Throws `file_unreadable`, `config_invalid` at first. */
  async context(): Promise<SecureContext> {
    const { clock, log } = this.#options;
    const known = this.#current;
    if (known !== null && clock.monotonic() - this.#readAtMs < FILES_FRESH_MS) return known.context;
    try {
      const material = await this.#read();
      const isSame = known !== null && material.every((part, i) => isEqual(part, known.material[i] ?? null));
      this.#current = isSame ? known : { context: contextOf(material), material };
      if (known !== null && !isSame) log.info('vault.tls_changed');
    } catch (error) {
      if (known === null) throw error;
      log.warn('vault.tls_unreadable', errorFields(error));
    }
    this.#readAtMs = clock.monotonic();
    // Only a first read that failed leaves none, and that has thrown.
    if (this.#current === null) throw new TypeError('unreachable');
    return this.#current.context;
  }

  async #read(): Promise<Material> {
    const { authoritiesFile, certificateFile, keyFile } = this.#options.settings;
    const read = async (path: string | null, what: string): Promise<Uint8Array | null> =>
      path === null ? null : readSmallFile(path, PEM_BYTES, what);
    return Promise.all([
      read(authoritiesFile, 'the CA file for Vault'),
      read(certificateFile, 'the client certificate for Vault'),
      read(keyFile, 'the key of the client certificate for Vault'),
    ]);
  }
}

function contextOf([ca, cert, key]: Material): SecureContext {
  try {
    // Node takes a CA file without a certificate in it for one that trusts nobody.
    if (ca !== null) {
      const text = Buffer.from(ca).toString('latin1');
      decodePem(text, 'CERTIFICATE').forEach((der) => parseCertificate(der));
    }
    return createSecureContext({
      minVersion: 'TLSv1.2',
      ...(ca === null ? {} : { ca: Buffer.from(ca) }),
      ...(cert === null ? {} : { cert: Buffer.from(cert) }),
      ...(key === null ? {} : { key: Buffer.from(key) }),
    });
  } catch (cause) {
    throw new KedgeError(
      'config_invalid',
      'CA file, client certificate and key for Vault do not make a TLS context',
      {
        hint: 'give PEM files, the key being that of the client certificate (upstream.vault.authoritiesFile, certificateFile, keyFile)',
        cause,
      },
    );
  }
}

function isEqual(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === null || b === null ? a === b : equalBytes(a, b);
}
