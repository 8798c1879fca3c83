import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { dataAnswer, NO_CONTENT, textOf, VaultRefusal } from './vault-answer.ts';
import type { VaultAnswer, VaultFlavour, VaultRequest } from './vault-answer.ts';

interface TransitKey {
  readonly versions: Buffer[];
  readonly createdSeconds: number[];
}

/** A transit mount: AES-256-GCM keys with versions. */
export class VaultTransitMount {
  readonly keys = new Map<string, TransitKey>();
  readonly #flavour: VaultFlavour;
  readonly #now: () => number;

  constructor(flavour: VaultFlavour, now: () => number) {
    this.#flavour = flavour;
    this.#now = now;
  }

  isPublic(): boolean {
    return false;
  }

  answer({ method, body }: VaultRequest, _mount: string, rest: string): VaultAnswer {
    const [verb, name = '', part] = rest.split('/');
    if (method !== 'POST' && method !== 'PUT') throw new VaultRefusal(405, ['unsupported operation'], true);
    if (verb === 'keys') return this.#manage(name, part);
    const key = this.keys.get(name);
    if (verb === 'encrypt') {
      // Encrypting with a key that is not there makes it, where the policy lets one create.
      const used = key ?? this.#add(name);
      return dataAnswer(seal(used, decode(textOf(body, 'plaintext'))));
    }
    if (key === undefined) throw new VaultRefusal(400, ['encryption key not found']);
    const plain = open(key, textOf(body, 'ciphertext'));
    if (verb === 'decrypt') return dataAnswer({ plaintext: plain.toString('base64') });
    if (verb === 'rewrap') return dataAnswer(seal(key, plain));
    throw new VaultRefusal(404, ['unsupported path'], true);
  }

  #manage(name: string, part: string | undefined): VaultAnswer {
    const known = this.keys.get(name);
    if (part === 'rotate') {
      if (known === undefined) throw new VaultRefusal(400, ['key not found']);
      this.#grow(known);
    } else if (known === undefined) {
      this.#add(name);
    }
    const key = this.keys.get(name);
    return this.#flavour === 'vault-1.8' || key === undefined ? NO_CONTENT : dataAnswer(described(name, key));
  }

  #add(name: string): TransitKey {
    const key: TransitKey = { versions: [], createdSeconds: [] };
    this.#grow(key);
    this.keys.set(name, key);
    return key;
  }

  #grow(key: TransitKey): void {
    key.versions.push(randomBytes(32));
    key.createdSeconds.push(Math.floor(this.#now() / 1_000));
  }
}

function described(name: string, { versions, createdSeconds }: TransitKey): object {
  return {
    allow_plaintext_backup: false,
    auto_rotate_period: 0,
    deletion_allowed: false,
    derived: false,
    exportable: false,
    imported_key: false,
    keys: Object.fromEntries(createdSeconds.map((created, i) => [String(i + 1), created])),
    latest_version: versions.length,
    min_available_version: 0,
    min_decryption_version: 1,
    min_encryption_version: 0,
    name,
    soft_deleted: false,
    supports_decryption: true,
    supports_derivation: true,
    supports_encryption: true,
    supports_signing: false,
    type: 'aes256-gcm96',
  };
}

function seal({ versions }: TransitKey, plain: Buffer): object {
  const version = versions.length;
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', versions[version - 1]!, nonce);
  const sealed = Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  return { ciphertext: `vault:v${version}:${sealed.toString('base64')}`, key_version: version };
}

function open({ versions }: TransitKey, text: string): Buffer {
  const match = /^vault:v(\d+):(.*)$/.exec(text);
  if (match === null) throw new VaultRefusal(400, ['invalid ciphertext: no prefix']);
  const sealed = decode(match[2] ?? '');
  const key = versions[Number(match[1]) - 1];
  if (key === undefined) throw new VaultRefusal(400, ['invalid ciphertext: version is too new']);
  if (sealed.length < 12 + 16) throw new VaultRefusal(400, ['invalid ciphertext length']);
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12));
  decipher.setAuthTag(sealed.subarray(-16));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]);
  } catch {
    throw new VaultRefusal(400, ['invalid ciphertext: unable to decrypt']);
  }
}

function decode(text: string): Buffer {
  return Buffer.from(text, 'base64');
}
