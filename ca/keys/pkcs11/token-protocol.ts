/**
 * What goes between the key manager and the thread that talks to the token. Plain data: it is cloned on its way.
 */

/** What the thread is started with. */
export interface TokenWorkerData {
  /** The main file of the package pkcs11js. */
  readonly addon: string;
  /** The PKCS#11 library of the token's maker. */
  readonly module: string;
}

/** How a signature is made: over a digest (ECDSA), or over a DigestInfo (RSA, PKCS#1 v1.5). */
export type TokenMechanism = 'ecdsa' | 'rsa';

/** What a key pair is made of. */
export type TokenKeyKind = { readonly ecParameters: Uint8Array } | { readonly rsaBits: number };

export type TokenCall =
  /** Opens a session and logs in. `again` starts the library anew first: some see a token that came back only then. */
  | { readonly kind: 'open'; readonly label: string; readonly pin: string; readonly again: boolean }
  | { readonly kind: 'generate'; readonly id: Uint8Array; readonly label: string; readonly key: TokenKeyKind }
  | {
      readonly kind: 'sign';
      readonly id: Uint8Array;
      readonly mechanism: TokenMechanism;
      readonly data: Uint8Array;
    }
  | { readonly kind: 'destroy'; readonly id: Uint8Array };

/** A public key as a token gives it. */
export type TokenPublicKey =
  /** The point as an OCTET STRING, or, of some tokens, without that. */
  { readonly ecPoint: Uint8Array } | { readonly modulus: Uint8Array; readonly exponent: Uint8Array };

export type TokenValue =
  | { readonly kind: 'opened' }
  | { readonly kind: 'generated'; readonly publicKey: TokenPublicKey; readonly confined: boolean }
  | { readonly kind: 'signed'; readonly signature: Uint8Array }
  | { readonly kind: 'destroyed' };

/** Why the token did not do it. */
export type TokenFault =
  /** No session: `open` first. */
  | { readonly kind: 'closed' }
  /** No token of that label. */
  | { readonly kind: 'no-token' }
  /** No such key in the token, as far as this session sees. */
  | { readonly kind: 'no-key' }
  /** What the library said: `CKR_...` and where. */
  | { readonly kind: 'refused'; readonly reason: string; readonly call: string };

export type TokenAnswer =
  | { readonly sequence: number; readonly value: TokenValue }
  | { readonly sequence: number; readonly fault: TokenFault };
