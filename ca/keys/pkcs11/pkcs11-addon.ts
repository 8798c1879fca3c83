/**
 * The part of the package pkcs11js that Kedge uses, in Kedge's own types: the package is optional, so that a machine
 * without a compiler can install and check Kedge. Names are those of PKCS #11 version 2.40.
 */

/** A session, a slot or an object of the library. */
export type Handle = Buffer;

export interface Attribute {
  readonly type: number;
  readonly value?: boolean | number | string | Buffer;
}

export type Template = readonly Attribute[];

export interface Pkcs11Library {
  load(path: string): void;
  C_Initialize(): void;
  C_Finalize(): void;
  C_GetSlotList(tokenPresent: boolean): Handle[];
  C_GetTokenInfo(slot: Handle): { readonly label: string };
  C_OpenSession(slot: Handle, flags: number): Handle;
  C_CloseSession(session: Handle): void;
  C_Login(session: Handle, userType: number, pin: string): void;
  C_GenerateKeyPair(
    session: Handle,
    mechanism: { readonly mechanism: number },
    publicTemplate: Template,
    privateTemplate: Template,
  ): { readonly publicKey: Handle; readonly privateKey: Handle };
  C_GetAttributeValue(session: Handle, object: Handle, query: Template): Attribute[];
  C_FindObjectsInit(session: Handle, template: Template): void;
  C_FindObjects(session: Handle, max: number): Handle[];
  C_FindObjectsFinal(session: Handle): void;
  C_SignInit(session: Handle, mechanism: { readonly mechanism: number }, key: Handle): void;
  C_Sign(session: Handle, data: Buffer, into: Buffer): Buffer;
  C_DestroyObject(session: Handle, object: Handle): void;
}

/** What `require('pkcs11js')` gives. Its errors have `CKR_...` as message, and the function as `method`. */
export interface Pkcs11Addon {
  readonly PKCS11: new () => Pkcs11Library;
  readonly CKA_CLASS: number;
  readonly CKA_EC_PARAMS: number;
  readonly CKA_EC_POINT: number;
  readonly CKA_EXTRACTABLE: number;
  readonly CKA_ID: number;
  readonly CKA_LABEL: number;
  readonly CKA_MODULUS: number;
  readonly CKA_MODULUS_BITS: number;
  readonly CKA_PRIVATE: number;
  readonly CKA_PUBLIC_EXPONENT: number;
  readonly CKA_SENSITIVE: number;
  readonly CKA_SIGN: number;
  readonly CKA_TOKEN: number;
  readonly CKA_VERIFY: number;
  readonly CKF_RW_SESSION: number;
  readonly CKF_SERIAL_SESSION: number;
  readonly CKM_ECDSA: number;
  readonly CKM_EC_KEY_PAIR_GEN: number;
  readonly CKM_RSA_PKCS: number;
  readonly CKM_RSA_PKCS_KEY_PAIR_GEN: number;
  readonly CKO_PRIVATE_KEY: number;
  readonly CKO_PUBLIC_KEY: number;
  readonly CKU_USER: number;
}
