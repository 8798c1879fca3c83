import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  sign,
} from 'node:crypto';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { Clock } from '../../host/clock.ts';
import { createFileDurably } from '../../host/durable-file.ts';
import type { Random } from '../../host/random.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { KUBERNETES_CLAIM, serviceAccountSubject } from './bound-token.ts';
import { isLabelName, isObjectUid, isSubdomainName } from './kubernetes-names.ts';

/** `iss` of development tokens unless configured. */
export const DEVELOPMENT_ISSUER = 'https://development-issuer.kedge.invalid';

/** Name of the key file in the data folder. */
export const DEVELOPMENT_KEY_FILE = 'development-issuer-key.pem';

/** As `TokenRequest` has it when none is asked for, in seconds. */
export const DEFAULT_TOKEN_TTL_SECONDS = 3600;

const MODULUS_BITS = 2048;
const KEY_FILE_BYTES = 16 * 1024;
const MAX_TOKEN_TTL_SECONDS = 366 * 86_400;

/** What {@link DevelopmentIssuer.open} needs. */
export interface DevelopmentIssuerOptions {
  /** The data folder; made (0700) when it is missing. */
  readonly folder: string;
  /** `iss` of the tokens. Default {@link DEVELOPMENT_ISSUER}. */
  readonly issuer?: string;
  readonly clock: Clock;
  readonly random: Random;
}

/** What a development token says. */
export interface DevelopmentTokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly podName: string;
  /** Default: a UID that follows from namespace and pod name, so that the same pod is the same instance. */
  readonly podUid?: string;
  readonly nodeName?: string;
  /** At least one. */
  readonly audiences: readonly string[];
  /** Default {@link DEFAULT_TOKEN_TTL_SECONDS}. */
  readonly ttlSeconds?: number;
}

/**
 * The local development issuer: mints tokens with the claims of Kubernetes' bound ServiceAccount tokens, signed
 * RS256 with an RSA-2048 key as kube-apiserver does by default. For development only: whoever reads its key file
 * can be any workload.
 */
export class DevelopmentIssuer {
  readonly issuer: string;
  /** Key id: base64url SHA-256 of the SubjectPublicKeyInfo, as kube-apiserver names its keys. */
  readonly kid: string;
  readonly publicKey: KeyObject;
  readonly #privateKey: KeyObject;
  readonly #options: DevelopmentIssuerOptions;

  private constructor(privateKey: KeyObject, options: DevelopmentIssuerOptions) {
    this.#privateKey = privateKey;
    this.#options = options;
    this.publicKey = createPublicKey(privateKey);
    this.issuer = options.issuer ?? DEVELOPMENT_ISSUER;
    const spki = this.publicKey.export({ type: 'spki', format: 'der' });
    this.kid = createHash('sha256').update(spki).digest('base64url');
  }

  /**
   * Loads the key of the data folder, or makes it (file 0600). Two processes that open the same new folder at
   * once end up with the same key. Throws `token_key_invalid`, `file_unreadable`, `file_unwritable`.
   */
  static async open(options: DevelopmentIssuerOptions): Promise<DevelopmentIssuer> {
    const path = join(options.folder, DEVELOPMENT_KEY_FILE);
    const key = (await readKey(path)) ?? (await createKey(path, options.folder));
    return new DevelopmentIssuer(key, options);
  }

  /** A signed token, compact serialization. Throws `usage_invalid` for names that Kubernetes would not take. */
  mint(request: DevelopmentTokenRequest): string {
    const nowSeconds = Math.floor(this.#options.clock.now() / 1000);
    const signingInput = `${part({ alg: 'RS256', kid: this.kid })}.${part(this.#claims(request, nowSeconds))}`;
    return `${signingInput}.${sign('sha256', Buffer.from(signingInput), this.#privateKey).toString('base64url')}`;
  }

  #claims(request: DevelopmentTokenRequest, nowSeconds: number): object {
    const { namespace, serviceAccount, podName, nodeName, audiences } = request;
    const podUid = request.podUid ?? derivedUid('pod', namespace, podName);
    const ttlSeconds = request.ttlSeconds ?? DEFAULT_TOKEN_TTL_SECONDS;
    requireValid('namespace', namespace, isLabelName);
    requireValid('ServiceAccount', serviceAccount, isSubdomainName);
    requireValid('pod name', podName, isSubdomainName);
    requireValid('pod UID', podUid, isObjectUid);
    if (nodeName !== undefined) requireValid('node name', nodeName, isSubdomainName);
    if (audiences.length === 0 || audiences.includes('')) {
      throw new KedgeError('usage_invalid', 'a token needs at least one audience, and none that is empty');
    }
    if (!Number.isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > MAX_TOKEN_TTL_SECONDS) {
      throw new KedgeError('usage_invalid', `a token cannot live ${ttlSeconds} seconds`, {
        hint: `give whole seconds, 1 to ${MAX_TOKEN_TTL_SECONDS}`,
      });
    }
    return {
      aud: audiences,
      exp: nowSeconds + ttlSeconds,
      iat: nowSeconds,
      iss: this.issuer,
      jti: uuid(this.#options.random.bytes(16)),
      [KUBERNETES_CLAIM]: {
        namespace,
        ...(nodeName === undefined ? {} : { node: { name: nodeName, uid: derivedUid('node', nodeName) } }),
        pod: { name: podName, uid: podUid },
        serviceaccount: {
          name: serviceAccount,
          uid: derivedUid('serviceaccount', namespace, serviceAccount),
        },
      },
      nbf: nowSeconds,
      sub: serviceAccountSubject(namespace, serviceAccount),
    };
  }
}

function part(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** A UUID of version 8 (RFC 9562 section 5.8) that follows from the names. */
function derivedUid(...names: readonly string[]): string {
  return uuid(createHash('sha256').update(names.join('/')).digest().subarray(0, 16), 8);
}

function uuid(bytes: Uint8Array, version = 4): string {
  const hex = Buffer.from(bytes).toString('hex');
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16);
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `${version}${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}

function requireValid(what: string, name: string, isValid: (name: string) => boolean): void {
  if (isValid(name)) return;
  throw new KedgeError('usage_invalid', `${quote(name)} is not a valid ${what}`, {
    hint: 'names are lower-case letters, digits and hyphens, as Kubernetes has them',
  });
}

/** Null when there is no such file. */
async function readKey(path: string): Promise<KeyObject | null> {
  let text: string;
  try {
    await using file = await open(path, 'r');
    const { mode, size } = await file.stat();
    if ((mode & 0o077) !== 0) {
      throw keyInvalid(path, 'is open to others', 'make it readable by its owner alone: chmod 600');
    }
    if (size > KEY_FILE_BYTES) throw keyInvalid(path, `is over ${KEY_FILE_BYTES} bytes`);
    text = await file.readFile('utf8');
  } catch (error) {
    if (error instanceof KedgeError) throw error;
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new KedgeError('file_unreadable', `cannot read ${quote(path)}`, { cause: error });
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    throw keyInvalid(path, 'holds no private key');
  }
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (key.asymmetricKeyType !== 'rsa' || bits < MODULUS_BITS) {
    throw keyInvalid(path, `holds no RSA key of ${MODULUS_BITS} bits or more`);
  }
  return key;
}

async function createKey(path: string, folder: string): Promise<KeyObject> {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: MODULUS_BITS });
  const pem = Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' }));
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new KedgeError('file_unwritable', `cannot make the folder ${quote(folder)}`, { cause });
  }
  if (await createFileDurably(path, pem, { mode: 0o600 })) return privateKey;
  // Another process was first: its key is the one.
  const other = await readKey(path);
  if (other === null) throw new KedgeError('file_unwritable', `${quote(path)} came and went`);
  return other;
}

function keyInvalid(path: string, problem: string, hint?: string): KedgeError {
  return new KedgeError('token_key_invalid', `${quote(path)} ${problem}`, {
    hint: hint ?? 'remove the file: the development issuer makes a new key, and its old tokens end',
  });
}
