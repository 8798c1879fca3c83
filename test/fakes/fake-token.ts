import { createPublicKey, generateKeyPairSync, type KeyObject, privateEncrypt } from 'node:crypto';
import type {
  Attribute,
  Handle,
  Pkcs11Addon,
  Pkcs11Library,
  Template,
} from '../../ca/keys/pkcs11/pkcs11-addon.ts';

/** The constants have names for values here: nothing but the worker looks at them. */
const NAMES = [
  ...['CKA_CLASS', 'CKA_EC_PARAMS', 'CKA_EC_POINT', 'CKA_EXTRACTABLE', 'CKA_ID', 'CKA_LABEL', 'CKA_MODULUS'],
  ...['CKA_MODULUS_BITS', 'CKA_PRIVATE', 'CKA_PUBLIC_EXPONENT', 'CKA_SENSITIVE', 'CKA_SIGN', 'CKA_TOKEN'],
  ...[
    'CKA_VERIFY',
    'CKF_RW_SESSION',
    'CKF_SERIAL_SESSION',
    'CKM_ECDSA',
    'CKM_EC_KEY_PAIR_GEN',
    'CKM_RSA_PKCS',
  ],
  ...['CKM_RSA_PKCS_KEY_PAIR_GEN', 'CKO_PRIVATE_KEY', 'CKO_PUBLIC_KEY', 'CKU_USER'],
] as const;
type Constants = Readonly<Record<(typeof NAMES)[number], number>>;
const C = Object.fromEntries(NAMES.map((name, index) => [name, 2 ** index])) as Constants;

interface Stored {
  readonly key: KeyObject;
  readonly isPrivate: boolean;
  readonly id: string;
  readonly label: string;
  readonly attributes: Template;
}

/** The error that pkcs11js throws. */
function refusal(reason: string, method: string): Error {
  return Object.assign(new Error(reason), { method });
}

/** A token that several processes or replicas may use: what it holds, and what is wrong with it. */
export class FakeToken {
  readonly label: string;
  pin: string;
  /** Pulled out: no session lives on, and none can be opened. */
  isPresent = true;
  /** Makes keys that can be taken out, whatever is asked for. */
  makesExtractable = false;
  /** Leaves the OCTET STRING around EC points out, as some tokens do. */
  givesRawPoints = false;
  /** The library must be started anew before it sees the token again. */
  needsRestart = false;
  /** Each of the next calls of these functions fails with the reason. */
  readonly faults: { readonly method: string; readonly reason: string }[] = [];
  readonly objects = new Map<number, Stored>();
  readonly logins: string[] = [];
  /** Sessions that are open, in all libraries. */
  readonly sessions = new Set<number>();
  #next = 1;

  constructor(label = 'kedge', pin = '1234') {
    this.label = label;
    this.pin = pin;
  }

  next(): number {
    return (this.#next += 1);
  }

  /** As pkcs11js gives it to one process. */
  addon(): Pkcs11Addon {
    const library = new FakeLibrary(this);
    function PKCS11(): FakeLibrary {
      return library;
    }
    return { ...C, PKCS11: PKCS11 as unknown as Pkcs11Addon['PKCS11'] };
  }
}

const handle = (number: number): Handle => {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(number);
  return buffer;
};
const numberOf = (given: Handle): number => given.readUInt32BE();
const valueOf = (template: Template, type: number): Attribute['value'] =>
  template.find((attribute) => attribute.type === type)?.value;

class FakeLibrary implements Pkcs11Library {
  readonly #token: FakeToken;
  #isStarted = false;
  #isLoggedIn = false;
  #found: readonly Handle[] = [];
  #signing: { readonly key: KeyObject; readonly isEc: boolean } | null = null;

  constructor(token: FakeToken) {
    this.#token = token;
  }

  load(): void {}

  C_Initialize(): void {
    this.#enter('C_Initialize');
    if (this.#isStarted) throw refusal('CKR_CRYPTOKI_ALREADY_INITIALIZED', 'C_Initialize');
    this.#isStarted = true;
    this.#token.needsRestart = false;
  }

  C_Finalize(): void {
    this.#isStarted = false;
    this.#isLoggedIn = false;
    this.#token.sessions.clear();
  }

  C_GetSlotList(): Handle[] {
    this.#enter('C_GetSlotList');
    return this.#token.isPresent && !this.#token.needsRestart ? [handle(7), handle(1)] : [handle(7)];
  }

  C_GetTokenInfo(slot: Handle): { label: string } {
    return { label: numberOf(slot) === 1 ? this.#token.label.padEnd(32) : 'another'.padEnd(32, '\0') };
  }

  C_OpenSession(): Handle {
    this.#enter('C_OpenSession');
    const session = this.#token.next();
    if (this.#token.sessions.size === 0) this.#isLoggedIn = false;
    this.#token.sessions.add(session);
    return handle(session);
  }

  C_CloseSession(session: Handle): void {
    this.#inSession(session, 'C_CloseSession');
    this.#token.sessions.delete(numberOf(session));
  }

  C_Login(session: Handle, _type: number, pin: string): void {
    this.#inSession(session, 'C_Login');
    this.#token.logins.push(pin);
    if (this.#isLoggedIn) throw refusal('CKR_USER_ALREADY_LOGGED_IN', 'C_Login');
    if (pin !== this.#token.pin) throw refusal('CKR_PIN_INCORRECT', 'C_Login');
    this.#isLoggedIn = true;
  }

  C_GenerateKeyPair(
    session: Handle,
    { mechanism }: { mechanism: number },
    publicTemplate: Template,
    privateTemplate: Template,
  ): { publicKey: Handle; privateKey: Handle } {
    this.#inSession(session, 'C_GenerateKeyPair');
    const curve = valueOf(publicTemplate, C.CKA_EC_PARAMS);
    const { privateKey } =
      mechanism === C.CKM_EC_KEY_PAIR_GEN
        ? generateKeyPairSync('ec', { namedCurve: (curve as Buffer).length === 7 ? 'P-384' : 'P-256' })
        : generateKeyPairSync('rsa', {
            modulusLength: valueOf(publicTemplate, C.CKA_MODULUS_BITS) as number,
          });
    return {
      publicKey: this.#store(createPublicKey(privateKey), publicTemplate),
      privateKey: this.#store(privateKey, privateTemplate),
    };
  }

  C_GetAttributeValue(session: Handle, object: Handle, query: Template): Attribute[] {
    this.#inSession(session, 'C_GetAttributeValue');
    const stored = this.#object(object, 'C_GetAttributeValue');
    return query.map(({ type }) => ({ type, value: this.#attribute(stored, type) }));
  }

  C_FindObjectsInit(session: Handle, template: Template): void {
    this.#inSession(session, 'C_FindObjectsInit');
    const isPrivate = valueOf(template, C.CKA_CLASS) === C.CKO_PRIVATE_KEY;
    const id = (valueOf(template, C.CKA_ID) as Buffer).toString('hex');
    this.#found = [...this.#token.objects]
      .filter(([, stored]) => stored.id === id && stored.isPrivate === isPrivate)
      .map(([number]) => handle(number));
  }

  C_FindObjects(): Handle[] {
    return [...this.#found];
  }

  C_FindObjectsFinal(): void {
    this.#found = [];
  }

  C_SignInit(session: Handle, { mechanism }: { mechanism: number }, key: Handle): void {
    this.#inSession(session, 'C_SignInit');
    const stored = this.#object(key, 'C_SignInit');
    this.#signing = { key: stored.key, isEc: mechanism === C.CKM_ECDSA };
  }

  C_Sign(session: Handle, data: Buffer): Buffer {
    this.#inSession(session, 'C_Sign');
    const signing = this.#signing;
    this.#signing = null;
    if (signing === null) throw refusal('CKR_OPERATION_NOT_INITIALIZED', 'C_Sign');
    return signing.isEc ? signDigest(signing.key, data) : signDigestInfo(signing.key, data);
  }

  C_DestroyObject(session: Handle, object: Handle): void {
    this.#inSession(session, 'C_DestroyObject');
    this.#object(object, 'C_DestroyObject');
    this.#token.objects.delete(numberOf(object));
  }

  #store(key: KeyObject, attributes: Template): Handle {
    const number = this.#token.next();
    this.#token.objects.set(number, {
      key,
      isPrivate: key.type === 'private',
      id: (valueOf(attributes, C.CKA_ID) as Buffer).toString('hex'),
      label: valueOf(attributes, C.CKA_LABEL) as string,
      attributes,
    });
    return handle(number);
  }

  #attribute({ key, attributes }: Stored, type: number): Buffer {
    if (type === C.CKA_EXTRACTABLE && this.#token.makesExtractable) return Buffer.of(1);
    const value = valueOf(attributes, type);
    if (typeof value === 'boolean') return Buffer.of(value ? 1 : 0);
    const jwk = key.export({ format: 'jwk' });
    const part = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
    if (type === C.CKA_MODULUS) return part(jwk.n);
    if (type === C.CKA_PUBLIC_EXPONENT) return part(jwk.e);
    const point = Buffer.concat([Buffer.of(4), part(jwk.x), part(jwk.y)]);
    return this.#token.givesRawPoints ? point : Buffer.concat([Buffer.of(4, point.length), point]);
  }

  #object(object: Handle, method: string): Stored {
    const stored = this.#token.objects.get(numberOf(object));
    if (stored === undefined) throw refusal('CKR_OBJECT_HANDLE_INVALID', method);
    return stored;
  }

  #inSession(session: Handle, method: string): void {
    this.#enter(method);
    if (!this.#isStarted) throw refusal('CKR_CRYPTOKI_NOT_INITIALIZED', method);
    if (!this.#token.isPresent) throw refusal('CKR_DEVICE_REMOVED', method);
    if (!this.#token.sessions.has(numberOf(session))) throw refusal('CKR_SESSION_HANDLE_INVALID', method);
  }

  #enter(method: string): void {
    const at = this.#token.faults.findIndex((fault) => fault.method === method);
    const [fault] = at < 0 ? [] : this.#token.faults.splice(at, 1);
    if (fault !== undefined) throw refusal(fault.reason, method);
  }
}

/** node:crypto signs no digest as it is; OpenSSL's own way to do that is not in reach: so the token does the sum itself. */
function signDigest(key: KeyObject, digest: Buffer): Buffer {
  const jwk = key.export({ format: 'jwk' });
  const { n, multiply } = CURVES[jwk.crv as 'P-256' | 'P-384'];
  const size = jwk.crv === 'P-256' ? 32 : 48;
  const d = BigInt(`0x${Buffer.from(jwk.d ?? '', 'base64url').toString('hex')}`);
  const e = BigInt(`0x${digest.toString('hex')}`);
  const { k, x } = multiply();
  const r = x % n;
  const s = (inverse(k, n) * ((e + r * d) % n)) % n;
  const bytes = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(size * 2, '0'), 'hex');
  return Buffer.concat([bytes(r), bytes(s)]);
}

const CURVES = {
  'P-256': {
    n: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
    multiply: () => ephemeral('P-256'),
  },
  'P-384': {
    n: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
    multiply: () => ephemeral('P-384'),
  },
} as const;

/** A random k and the x of k times the base point: a key pair is just that. */
function ephemeral(namedCurve: 'P-256' | 'P-384'): { k: bigint; x: bigint } {
  const jwk = generateKeyPairSync('ec', { namedCurve }).privateKey.export({ format: 'jwk' });
  const number = (text: string | undefined): bigint =>
    BigInt(`0x${Buffer.from(text ?? '', 'base64url').toString('hex')}`);
  return { k: number(jwk.d), x: number(jwk.x) };
}

function inverse(value: bigint, modulus: bigint): bigint {
  let [a, b, x, y] = [value % modulus, modulus, 1n, 0n];
  while (b !== 0n) {
    const quotient = a / b;
    [a, b] = [b, a % b];
    [x, y] = [y, x - quotient * y];
  }
  return ((x % modulus) + modulus) % modulus;
}

/** RSA with PKCS#1 padding over what is given (RFC 8017 section 9.2, steps 3 to 5). */
function signDigestInfo(key: KeyObject, digestInfo: Buffer): Buffer {
  return privateEncrypt(key, digestInfo);
}
