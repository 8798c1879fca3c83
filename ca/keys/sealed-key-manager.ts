import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject, sign } from 'node:crypto';
import { promisify } from 'node:util';
import type { Random } from '../../host/random.ts';
import type { SignatureAlgorithm } from '../../pki/algorithms.ts';
import { attempt } from '../../pki/attempt.ts';
import { equalBytes } from '../../pki/bytes.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { keyTypeOfSpki } from '../../pki/public-key.ts';
import type { Secret } from '../../pki/secret.ts';
import type { AuthorityKeyAlgorithm, KeyHandle, KeyImporter, KeyManager, Signer } from './key-manager.ts';
import { sealKey, unsealKey } from './key-sealing.ts';

/** What a {@link SealedKeyManager} is made of. */
export interface SealedKeyManagerOptions {
  /** Trust domain name, no scheme: a key sealed for one opens in no other. */
  readonly trustDomain: string;
  /** 32 bytes: new keys are sealed under it. The manager takes ownership, until the process ends. */
  readonly sealingKey: Secret;
  /** Sealing keys that older keys may be sealed under, or that other replicas seal under already. Default none. */
  readonly otherSealingKeys?: readonly Secret[];
  /** Source of nonces; the keys come from OpenSSL's own. */
  readonly random: Random;
}

interface Recipe {
  readonly signatureAlgorithm: SignatureAlgorithm;
  readonly hash: 'sha256' | 'sha384';
  readonly generate: () => Promise<{ readonly privateKey: KeyObject; readonly publicKey: KeyObject }>;
}

const generate = promisify(generateKeyPair);

const RECIPES: Readonly<Record<AuthorityKeyAlgorithm, Recipe>> = {
  'ec-p256': {
    signatureAlgorithm: 'ecdsa-p256-sha256',
    hash: 'sha256',
    generate: () => generate('ec', { namedCurve: 'P-256' }),
  },
  'ec-p384': {
    signatureAlgorithm: 'ecdsa-p384-sha384',
    hash: 'sha384',
    generate: () => generate('ec', { namedCurve: 'P-384' }),
  },
  'rsa-3072': {
    signatureAlgorithm: 'rsa-pkcs1-sha256',
    hash: 'sha256',
    generate: () => generate('rsa', { modulusLength: 3072 }),
  },
};

/** A key in memory; null once destroyed, for every signer that was given out. */
interface OpenKey {
  key: KeyObject | null;
  readonly spki: Uint8Array;
}

/**
 * The embedded {@link KeyManager}: each key travels sealed (AES-256-GCM) in its handle's reference, in the trust
 * state, and lies open only in this process's memory.
 *
 * A key in the clear exists as PKCS#8 for the moment between making or unsealing and importing, and is overwritten
 * after; then only OpenSSL holds it. `destroy` drops it; the sealed copy goes with the handle.
 */
export class SealedKeyManager implements KeyManager, KeyImporter {
  readonly #trustDomain: string;
  readonly #sealingKey: Secret;
  readonly #otherSealingKeys: readonly Secret[];
  readonly #random: Random;
  /** Open keys by id. */
  readonly #open = new Map<string, OpenKey>();
  /** Ids of destroyed keys: a handle that someone kept must not bring one back. A few per year. */
  readonly #destroyed = new Set<string>();

  constructor(options: SealedKeyManagerOptions) {
    this.#trustDomain = options.trustDomain;
    this.#sealingKey = options.sealingKey;
    this.#otherSealingKeys = options.otherSealingKeys ?? [];
    this.#random = options.random;
  }

  async generate(id: string, algorithm: AuthorityKeyAlgorithm): Promise<KeyHandle> {
    const { privateKey, publicKey } = await recipeOf(algorithm).generate();
    return this.#seal(id, algorithm, privateKey, spkiOf(publicKey));
  }

  async importKey(id: string, privateKey: KeyObject): Promise<KeyHandle> {
    const spki = spkiOf(createPublicKey(privateKey));
    const algorithm = keyTypeOfSpki(spki, 'key_algorithm_unsupported');
    if (!isAuthorityAlgorithm(algorithm)) throw unsupported(algorithm);
    return this.#seal(id, algorithm, privateKey, spki);
  }

  #seal(id: string, algorithm: AuthorityKeyAlgorithm, privateKey: KeyObject, spki: Uint8Array): KeyHandle {
    const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'der' });
    try {
      const reference = sealKey(pkcs8, this.#context(id, algorithm), this.#sealingKey, this.#random);
      return { id, manager: 'store', algorithm, spki, reference };
    } finally {
      pkcs8.fill(0);
    }
  }

  async signer(handle: KeyHandle): Promise<Signer> {
    const { signatureAlgorithm, hash } = recipeOf(handle.algorithm);
    const open = this.#openKey(handle);
    return {
      algorithm: signatureAlgorithm,
      spki: open.spki,
      sign: (data) => {
        if (open.key === null) throw destroyed(handle.id);
        return sign(hash, data, open.key);
      },
    };
  }

  async destroy(handle: KeyHandle): Promise<void> {
    const open = this.#open.get(handle.id);
    if (open !== undefined) open.key = null;
    this.#open.delete(handle.id);
    this.#destroyed.add(handle.id);
  }

  #openKey(handle: KeyHandle): OpenKey {
    if (this.#destroyed.has(handle.id)) throw destroyed(handle.id);
    if (handle.manager !== 'store') {
      throw new KedgeError('key_not_found', `the key ${quote(handle.id)} is in another key manager`, {
        hint: `configure the key manager ${quote(handle.manager)}`,
      });
    }
    const known = this.#open.get(handle.id);
    if (known !== undefined && equalBytes(known.spki, handle.spki)) return known;
    const opened: OpenKey = { key: this.#unseal(handle), spki: handle.spki };
    this.#open.set(handle.id, opened);
    return opened;
  }

  /**
   * The same key sealed under the sealing key in force; null when it is already, or is in another key manager. Throws
   * `key_sealed`: it opens with none of the sealing keys.
   */
  rewrap(handle: KeyHandle): KeyHandle | null {
    if (handle.manager !== 'store') return null;
    const context = this.#context(handle.id, handle.algorithm);
    if (attempt(() => unsealKey(handle.reference, context, this.#sealingKey).fill(0)).ok) return null;
    const key = this.#unseal(handle);
    return this.#seal(handle.id, handle.algorithm, key, handle.spki);
  }

  #unseal(handle: KeyHandle): KeyObject {
    const pkcs8 = this.#openSealed(handle);
    try {
      const key = createPrivateKey({
        key: Buffer.from(pkcs8.buffer, pkcs8.byteOffset, pkcs8.length),
        format: 'der',
        type: 'pkcs8',
      });
      if (equalBytes(spkiOf(createPublicKey(key)), handle.spki)) return key;
    } finally {
      pkcs8.fill(0);
    }
    throw new KedgeError('key_sealed', `the CA key ${quote(handle.id)} is not the one of its public key`, {
      hint: 'the trust state was altered: restore it from a backup',
    });
  }

  /** The private key in the clear, by whichever sealing key opens it. Throws why the one in force does not. */
  #openSealed({ reference, id, algorithm }: KeyHandle): Uint8Array {
    const context = this.#context(id, algorithm);
    const first = attempt(() => unsealKey(reference, context, this.#sealingKey));
    if (first.ok) return first.value;
    for (const other of this.#otherSealingKeys) {
      const opened = attempt(() => unsealKey(reference, context, other));
      if (opened.ok) return opened.value;
    }
    throw first.refusal;
  }

  #context(keyId: string, algorithm: AuthorityKeyAlgorithm) {
    return { trustDomain: this.#trustDomain, keyId, algorithm };
  }
}

function recipeOf(algorithm: AuthorityKeyAlgorithm): Recipe {
  // The algorithm may come from a document; the table must not answer for `constructor`.
  if (!isAuthorityAlgorithm(algorithm)) throw unsupported(algorithm);
  return RECIPES[algorithm];
}

function isAuthorityAlgorithm(algorithm: string): algorithm is AuthorityKeyAlgorithm {
  return Object.hasOwn(RECIPES, algorithm);
}

function unsupported(algorithm: string): KedgeError {
  return new KedgeError(
    'key_algorithm_unsupported',
    `the key algorithm ${quote(algorithm)} is not supported`,
    {
      hint: `choose one of ${Object.keys(RECIPES).join(', ')}`,
    },
  );
}

function spkiOf(publicKey: KeyObject): Uint8Array {
  return new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }));
}

function destroyed(id: string): KedgeError {
  return new KedgeError('key_not_found', `the CA key ${quote(id)} was destroyed`);
}
