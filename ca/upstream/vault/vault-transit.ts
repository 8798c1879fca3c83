import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { answerInvalid, dataOf, textMember } from './vault-answer.ts';
import type { VaultSession } from './vault-session.ts';

/** A key of Vault's transit engine. */
export interface VaultTransitOptions {
  readonly session: Pick<VaultSession, 'call'>;
  /** Path of the transit mount, without slashes at its ends. */
  readonly mount: string;
  readonly key: string;
}

/** What Vault seals is a key: nothing longer is given to it. */
const PLAINTEXT_BYTES = 4 * 1024;
const CIPHERTEXT_CHARS = 8 * 1024;

/**
 * Seals and unseals a few bytes, such as a sealing key, by a key that never leaves Vault. Needs
 * `update` on `<mount>/encrypt/<key>` and `<mount>/decrypt/<key>`, no more: without `create`, a key that is missing
 * is not made by accident.
 *
 * Throws what {@link VaultSession.call} does; `key_sealed` for what this key has not sealed.
 */
export class VaultTransit {
  readonly #options: VaultTransitOptions;

  constructor(options: VaultTransitOptions) {
    this.#options = options;
  }

  /** `vault:v1:...`, for at most 4 KiB. */
  async encrypt(plaintext: Uint8Array, signal: AbortSignal): Promise<string> {
    if (plaintext.length > PLAINTEXT_BYTES)
      throw new RangeError(`more than ${PLAINTEXT_BYTES} bytes to seal`);
    const { path, data } = await this.#call(
      'encrypt',
      { plaintext: Buffer.from(plaintext).toString('base64') },
      signal,
    );
    return ciphertextOf(data, path);
  }

  /** What {@link encrypt} was given. The caller owns the bytes. */
  async decrypt(ciphertext: string, signal: AbortSignal): Promise<Uint8Array> {
    refuseForeign(ciphertext);
    const { path, data } = await this.#call('decrypt', { ciphertext }, signal);
    const text = textMember(data, 'plaintext', path);
    const bytes = Buffer.from(text, 'base64');
    if (bytes.length === 0 || bytes.toString('base64') !== text)
      throw answerInvalid(path, 'has no plaintext');
    const plaintext = new Uint8Array(bytes);
    bytes.fill(0);
    return plaintext;
  }

  /** The same sealed by the newest version of the key, without being seen. Needs `update` on `<mount>/rewrap/<key>`. */
  async rewrap(ciphertext: string, signal: AbortSignal): Promise<string> {
    refuseForeign(ciphertext);
    const { path, data } = await this.#call('rewrap', { ciphertext }, signal);
    return ciphertextOf(data, path);
  }

  async #call(verb: string, body: object, signal: AbortSignal) {
    const { session, mount, key } = this.#options;
    const path = `${mount}/${verb}/${key}`;
    const what = `the answer to ${quote(path, 200)}`;
    try {
      const call = { operation: 'write', path, body, mountKind: 'transit engine' } as const;
      return { path: what, data: dataOf(await session.call(call, signal), what) };
    } catch (error) {
      throw sealedBy(error, path);
    }
  }
}

/** Vault says 400 of a ciphertext that is not this key's, and of a key that is not there. */
function sealedBy(error: unknown, path: string): unknown {
  if (!(error instanceof KedgeError) || error.code !== 'vault_refused') return error;
  const isMissing = /key not found/.test(error.message);
  return new KedgeError('key_sealed', error.message, {
    hint: isMissing
      ? `make the key: vault write -f ${path.replace(/\/[a-z]+\//, '/keys/')}`
      : 'it was sealed by another transit key, or an old version of it that min_decryption_version shuts out',
    cause: error,
  });
}

function ciphertextOf(data: Parameters<typeof textMember>[0], what: string): string {
  const ciphertext = textMember(data, 'ciphertext', what);
  if (!isCiphertext(ciphertext)) throw answerInvalid(what, 'has no ciphertext');
  return ciphertext;
}

function refuseForeign(ciphertext: string): void {
  if (isCiphertext(ciphertext)) return;
  throw new KedgeError(
    'key_sealed',
    'what is to be unsealed by Vault is no ciphertext of its transit engine',
    {
      hint: 'it begins with vault:v1: or a later version',
    },
  );
}

function isCiphertext(text: string): boolean {
  return text.length <= CIPHERTEXT_CHARS && /^vault:v\d{1,6}:[A-Za-z0-9+/]+={0,2}$/.test(text);
}
