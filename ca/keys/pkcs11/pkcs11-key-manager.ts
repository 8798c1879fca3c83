import { createHash, randomBytes } from 'node:crypto';
import { algorithmOfKeyType, schemeOf, type SignatureAlgorithm } from '../../../pki/algorithms.ts';
import { toHex } from '../../../pki/bytes.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { verifySignature } from '../../../pki/public-key.ts';
import type { AuthorityKeyAlgorithm, KeyHandle, KeyManager, Signer } from '../key-manager.ts';
import { spkiOfToken, toBeSigned, toCertificateSignature } from './token-formats.ts';
import type { TokenCall, TokenFault, TokenKeyKind, TokenMechanism, TokenValue } from './token-protocol.ts';
import type { TokenThread } from './token-thread.ts';

/** What a {@link Pkcs11KeyManager} is made of. */
export interface Pkcs11KeyManagerOptions {
  /** Trust domain name: it stands in the label of each key, for people. */
  readonly trustDomain: string;
  /** Label of the token. */
  readonly token: string;
  /** Reads the PIN; asked at each login. */
  readonly pin: () => Promise<string>;
  /** Its owner closes it. */
  readonly thread: TokenThread;
}

interface Recipe {
  readonly mechanism: TokenMechanism;
  readonly key: TokenKeyKind;
}

/** DER of the curves' object identifiers (RFC 5480 section 2.1.1.1). */
const P256 = Buffer.from('06082a8648ce3d030107', 'hex');
const P384 = Buffer.from('06052b81040022', 'hex');

const RECIPES: Readonly<Record<AuthorityKeyAlgorithm, Recipe>> = {
  'ec-p256': { mechanism: 'ecdsa', key: { ecParameters: P256 } },
  'ec-p384': { mechanism: 'ecdsa', key: { ecParameters: P384 } },
  'rsa-3072': { mechanism: 'rsa', key: { rsaBits: 3072 } },
};

const ID_BYTES = 20;
const PROBE = Buffer.from('kedge signs this to see whether a key is the one of its handle');

/** What the library says where another PIN is needed, and asking again could lock the token. */
const PIN_REASONS = new Set(['CKR_PIN_INCORRECT', 'CKR_PIN_INVALID', 'CKR_PIN_LEN_RANGE', 'CKR_PIN_EXPIRED']);
/** What it says where it can do without a key of that kind. */
const KIND_REASONS = new Set([
  'CKR_MECHANISM_INVALID',
  'CKR_MECHANISM_PARAM_INVALID',
  'CKR_CURVE_NOT_SUPPORTED',
  'CKR_DOMAIN_PARAMS_INVALID',
  'CKR_KEY_SIZE_RANGE',
]);

/**
 * The {@link KeyManager} in a PKCS#11 token: keys are made there, sensitive and not extractable, and never leave.
 *
 * A handle's reference names the key by its CKA_ID. A session that is lost, a token that was pulled and is back, a
 * library that must be started anew: each call opens a new session when the old one fails, and is tried again; only
 * then it rejects with `hsm_unavailable` (retry later) or, when the token is there and the key is not, `key_not_found`.
 * A PIN that was refused is not tried again until the file has another: three wrong ones lock many tokens.
 *
 * Errors beyond those of the seam: the hsm_* codes.
 */
export class Pkcs11KeyManager implements KeyManager {
  readonly #options: Pkcs11KeyManagerOptions;
  /** Ids of destroyed keys: a signer that is out must not wait for a token to hear that. */
  readonly #destroyed = new Set<string>();
  /** Digest of the PIN that was refused last. */
  #refusedPin: string | null = null;
  /** The session that is being opened: those who need one meanwhile share it. */
  #opening: Promise<TokenFault | null> | null = null;

  constructor(options: Pkcs11KeyManagerOptions) {
    this.#options = options;
  }

  async generate(id: string, algorithm: AuthorityKeyAlgorithm): Promise<KeyHandle> {
    const { key } = recipeOf(algorithm);
    const { trustDomain } = this.#options;
    const keyId = Uint8Array.from(randomBytes(ID_BYTES));
    const label = `kedge ${trustDomain} ${id}`.slice(0, 250);
    const made = await this.#carryOut({ kind: 'generate', id: keyId, label, key });
    if (made.kind !== 'generated') throw new TypeError('the thread answered another call');
    const handle: KeyHandle = {
      id,
      manager: 'pkcs11',
      algorithm,
      spki: spkiOfToken(made.publicKey, algorithm),
      reference: keyId,
    };
    if (made.confined) return handle;
    await this.#carryOut({ kind: 'destroy', id: keyId });
    throw new KedgeError(
      'key_algorithm_unsupported',
      'the PKCS#11 token makes keys that can be taken out of it',
      {
        hint: 'let the token make keys with CKA_SENSITIVE true and CKA_EXTRACTABLE false',
      },
    );
  }

  async signer(handle: KeyHandle): Promise<Signer> {
    const { mechanism } = recipeOf(handle.algorithm);
    const algorithm = algorithmOfKeyType(handle.algorithm);
    if (handle.manager !== 'pkcs11') {
      throw new KedgeError('key_not_found', `the key ${quote(handle.id)} is in another key manager`, {
        hint: `configure the key manager ${quote(handle.manager)}`,
      });
    }
    const sign = (data: Uint8Array): Promise<Uint8Array> => this.#sign(handle, algorithm, mechanism, data);
    // The token knows the key by an id alone: that it is the one of the handle, only a signature shows.
    const signature = await sign(PROBE);
    if (!verifySignature(schemeOf(algorithm), handle.spki, PROBE, signature, 'key_not_found')) {
      throw new KedgeError(
        'key_not_found',
        `the key ${quote(handle.id)} in the token is not the one of its public key`,
        {
          hint: 'the trust state was altered, or the token holds another key under this id: restore it',
        },
      );
    }
    return { algorithm, spki: handle.spki, sign };
  }

  async destroy(handle: KeyHandle): Promise<void> {
    if (handle.manager !== 'pkcs11') return;
    await this.#carryOut({ kind: 'destroy', id: Uint8Array.from(handle.reference) });
    this.#destroyed.add(toHex(handle.reference));
  }

  async #sign(
    { id, reference }: KeyHandle,
    algorithm: SignatureAlgorithm,
    mechanism: TokenMechanism,
    data: Uint8Array,
  ): Promise<Uint8Array> {
    if (this.#destroyed.has(toHex(reference))) {
      throw new KedgeError('key_not_found', `the CA key ${quote(id)} was destroyed`);
    }
    const signed = await this.#carryOut(
      { kind: 'sign', id: Uint8Array.from(reference), mechanism, data: toBeSigned(algorithm, data) },
      id,
    );
    if (signed.kind !== 'signed') throw new TypeError('the thread answered another call');
    return toCertificateSignature(mechanism, signed.signature);
  }

  /** Carries out a call, and again in a new session, and again with the library started anew, before it gives up. */
  async #carryOut(call: TokenCall, keyId = ''): Promise<TokenValue> {
    const { thread } = this.#options;
    let fault: TokenFault = { kind: 'closed' };
    for (const attempt of ['as it is', 'new session', 'new start'] as const) {
      if (attempt !== 'as it is') {
        const failed = await this.#open(attempt === 'new start');
        if (failed !== null) {
          fault = failed;
          continue;
        }
      }
      const outcome = await thread.call(call);
      if (outcome.ok) return outcome.value;
      ({ fault } = outcome);
      // A new session does not change what the token can do.
      if (fault.kind === 'refused' && KIND_REASONS.has(fault.reason)) break;
    }
    throw this.#errorOf(fault, keyId);
  }

  /** Opens a session for all who need one now; gives why there is none. Throws what no further try can mend. */
  async #open(again: boolean): Promise<TokenFault | null> {
    this.#opening ??= this.#login(again).finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #login(again: boolean): Promise<TokenFault | null> {
    const { thread, token, pin: readPin } = this.#options;
    const pin = await readPin();
    const digest = createHash('sha256').update(pin).digest('hex');
    if (digest === this.#refusedPin) throw pinRefused(token);
    const outcome = await thread.call({ kind: 'open', label: token, pin, again });
    if (outcome.ok) return null;
    const { fault } = outcome;
    if (fault.kind !== 'refused' || !PIN_REASONS.has(fault.reason)) return fault;
    this.#refusedPin = digest;
    throw pinRefused(token);
  }

  #errorOf(fault: TokenFault, keyId: string): KedgeError {
    const { token } = this.#options;
    switch (fault.kind) {
      case 'no-key':
        return new KedgeError(
          'key_not_found',
          `the CA key ${quote(keyId)} is not in the token ${quote(token)}`,
          {
            hint: 'it was destroyed, or this is another token of the same label: restore the token',
          },
        );
      case 'no-token':
        return new KedgeError(
          'hsm_token_missing',
          `there is no PKCS#11 token with the label ${quote(token)}`,
          {
            hint: 'put the token back, or correct keys.pkcs11.token; for SoftHSM look at SOFTHSM2_CONF',
            retryAfterMs: RETRY_MS,
          },
        );
      case 'closed':
        return unavailable(token, 'has no session');
      case 'refused':
        if (fault.reason === 'CKR_PIN_LOCKED') {
          return new KedgeError('hsm_pin_locked', `the PIN of the token ${quote(token)} is locked`, {
            hint: 'the security officer of the token has to set a new PIN',
          });
        }
        if (KIND_REASONS.has(fault.reason)) {
          return new KedgeError(
            'key_algorithm_unsupported',
            `the token ${quote(token)} does not take this key: ${quote(fault.reason)} by ${quote(fault.call)}`,
            { hint: 'choose another algorithm for keys that are in the token' },
          );
        }
        return unavailable(token, `answered ${quote(fault.reason)} to ${quote(fault.call)}`);
      default:
        return fault satisfies never;
    }
  }
}

/** After which an HSM may be back, milliseconds. */
const RETRY_MS = 5_000;

function unavailable(token: string, what: string): KedgeError {
  return new KedgeError('hsm_unavailable', `the PKCS#11 token ${quote(token)} ${what}`, {
    hint: 'look at the HSM and the network to it; it is tried again',
    retryAfterMs: RETRY_MS,
  });
}

function pinRefused(token: string): KedgeError {
  return new KedgeError('hsm_pin_wrong', `the token ${quote(token)} refuses the PIN`, {
    hint: 'put the PIN of the token user into keys.pkcs11.pinFile: it is read again, but a refused one is not tried twice',
    retryAfterMs: RETRY_MS,
  });
}

function recipeOf(algorithm: AuthorityKeyAlgorithm): Recipe {
  // The algorithm may come from a document; the table must not answer for `constructor`.
  if (Object.hasOwn(RECIPES, algorithm)) return RECIPES[algorithm];
  throw new KedgeError(
    'key_algorithm_unsupported',
    `the key algorithm ${quote(algorithm)} is not supported`,
    {
      hint: `choose one of ${Object.keys(RECIPES).join(', ')}`,
    },
  );
}
