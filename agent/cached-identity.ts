import { createPrivateKey } from 'node:crypto';
import { isKedgeError, KedgeError } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import type { SpiffeId, TrustDomain } from '../pki/spiffe-id.ts';
import { type JsonObject, type JsonValue, parseStrictJson } from '../pki/strict-json.ts';
import { checkBundle, checkSvid } from './ca-answer.ts';
import { REMOVED_ANCHORS, type TrustMemory } from './ca-trust.ts';
import type { IssuedIdentity } from './identity-source.ts';
import { drawRenewal, expiryOf } from './renewal.ts';
import type { BundleSnapshot, SvidSnapshot } from './snapshot.ts';
import { after, type Instant, msUntil } from './deadline.ts';

/** Raised with each change of the form; another version is not read. */
const VERSION = 2;
/** Bytes of a cached identity: a bundle with its CRLs in base64, and some. */
export const CACHED_IDENTITY_BYTES = LIMITS.caMessageBytes * 2;
/** A SHA-256 in base64. */
const FINGERPRINT = /^[A-Za-z0-9+/]{43}=$/;

/** The SVID of a cache, and the instant that was drawn for its renewal. */
export interface CachedSvid {
  readonly svid: SvidSnapshot;
  /** Milliseconds since the Unix epoch. */
  readonly renewAtMs: number;
}

/**
 * The JSON form of what an agent keeps over a restart: whom it trusts, and its SVID with the private key where it has
 * one. For a file that nobody else may read.
 */
export function formatCachedIdentity(
  { bundle, removedAnchors }: TrustMemory,
  held: CachedSvid | null,
): Uint8Array {
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
  return Buffer.from(
    JSON.stringify({
      version: VERSION,
      trustDomain: bundle.trustDomain.name,
      sequence: bundle.sequence.toString(),
      refreshHintSeconds: bundle.refreshHintSeconds,
      x509Authorities: bundle.x509Authorities.map(base64),
      crls: bundle.crls.map(base64),
      removedAnchors,
      svid:
        held === null
          ? null
          : {
              chain: held.svid.chain.map(base64),
              privateKey: base64(held.svid.privateKey.expose()),
              renewAtMs: Math.round(held.renewAtMs),
            },
    }),
  );
}

/** What {@link parseCachedIdentity} checks against. */
export interface CachedIdentityContext {
  readonly trustDomain: TrustDomain;
  readonly expectedId: SpiffeId | undefined;
  readonly now: Instant;
  /** Uniform in [0, 1): for the renewal, where the one kept makes no sense any more. */
  readonly fraction: number;
}

/** What a cache holds. */
export interface CachedIdentity {
  readonly trust: TrustMemory;
  /**
   * The SVID with all that belongs to it; null when none was kept, or the refusal of the one that was. An SVID that
   * is of no use any more takes nothing from `trust`: which anchors were removed outlives it.
   */
  readonly identity: IssuedIdentity | KedgeError | null;
}

/**
 * Reads what {@link formatCachedIdentity} wrote, and checks it as strictly as an answer of the CA: the key is the
 * leaf's, the chain verifies with the bundle now, and all of it is of our trust domain. Throws `cache_invalid` where
 * not even the trust can be used.
 */
export function parseCachedIdentity(bytes: Uint8Array, context: CachedIdentityContext): CachedIdentity {
  const fields = refusing(() => readDocument(bytes));
  const trust = refusing(() => readTrust(fields, context.trustDomain));
  const svid = fields.get('svid');
  if (svid === null) return { trust, identity: null };
  try {
    return { trust, identity: refusing(() => readSvid(objectOf(svid), trust.bundle, context)) };
  } catch (error) {
    if (isKedgeError(error, 'cache_invalid')) return { trust, identity: error };
    throw error;
  }
}

/** What `read` gives; whatever it throws as `cache_invalid`. */
function refusing<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (isKedgeError(cause, 'cache_invalid')) throw cause;
    throw invalid(cause instanceof Error ? cause.message : 'unknown error', cause);
  }
}

function readDocument(bytes: Uint8Array): JsonObject {
  const fields = objectOf(parseStrictJson(bytes, { maxDepth: 4, code: 'cache_invalid' }));
  if (integerOf(fields, 'version') !== VERSION) throw invalid('it is of another version');
  return fields;
}

function readTrust(fields: JsonObject, trustDomain: TrustDomain): TrustMemory {
  const bundle = checkBundle(
    {
      trustDomain: textOf(fields, 'trustDomain'),
      sequence: sequenceOf(fields),
      refreshHintSeconds: integerOf(fields, 'refreshHintSeconds'),
      x509Authorities: bytesListOf(fields, 'x509Authorities'),
      crls: bytesListOf(fields, 'crls'),
    },
    trustDomain,
    null,
  );
  const removedAnchors = listOf(fields, 'removedAnchors').map((item) => {
    if (typeof item !== 'string' || !FINGERPRINT.test(item)) {
      throw invalid('"removedAnchors" does not hold fingerprints');
    }
    return item;
  });
  if (removedAnchors.length > REMOVED_ANCHORS) throw invalid('"removedAnchors" is too long');
  return { bundle, removedAnchors };
}

function readSvid(
  fields: JsonObject,
  bundle: BundleSnapshot,
  { trustDomain, expectedId, now, fraction }: CachedIdentityContext,
): IssuedIdentity {
  const privateKey = createPrivateKey({
    key: Buffer.from(bytesOf(fields.get('privateKey'), 'privateKey')),
    format: 'der',
    type: 'pkcs8',
  });
  const chain = bytesListOf(fields, 'chain');
  const svid = checkSvid({ chain, bundle, privateKey, trustDomain, expectedId, nowMs: now.wallMs });
  const expiry = expiryOf(svid.notAfterMs, now);
  const leftMs = msUntil(expiry, now);
  // The instant that was drawn when the SVID arrived stands, unless a clock or a hand has moved it.
  const waitMs = integerOf(fields, 'renewAtMs') - now.wallMs;
  const renewal =
    waitMs < leftMs
      ? { at: after(now, Math.max(waitMs, 0)), reason: 'lifetime' as const, answered: null }
      : drawRenewal({ now, expiry, caNowMs: now.wallMs, hint: undefined, fraction });
  return { svid, bundle, expiry, renewal, clockSkewMs: null };
}

function objectOf(value: JsonValue | undefined): JsonObject {
  if (value instanceof Map) return value;
  throw invalid('it is no JSON object');
}

function textOf(fields: JsonObject, name: string): string {
  const value = fields.get(name);
  if (typeof value !== 'string') throw invalid(`"${name}" is not a string`);
  return value;
}

function integerOf(fields: JsonObject, name: string): number {
  const value = fields.get(name);
  const source = typeof value === 'object' && value !== null && 'source' in value ? value.source : '';
  const number = /^\d{1,16}$/.test(source) ? Number(source) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw invalid(`"${name}" is not a whole number`);
  return number;
}

function sequenceOf(fields: JsonObject): bigint {
  const text = textOf(fields, 'sequence');
  if (!/^\d{1,20}$/.test(text)) throw invalid('"sequence" is not a whole number');
  return BigInt(text);
}

function listOf(fields: JsonObject, name: string): readonly JsonValue[] {
  const value = fields.get(name);
  if (!Array.isArray(value)) throw invalid(`"${name}" is not an array`);
  return value as readonly JsonValue[];
}

function bytesListOf(fields: JsonObject, name: string): Uint8Array[] {
  return listOf(fields, name).map((item) => bytesOf(item, name));
}

function bytesOf(value: JsonValue | undefined, name: string): Uint8Array {
  if (typeof value !== 'string') throw invalid(`"${name}" does not hold base64`);
  const bytes = Buffer.from(value, 'base64');
  if (bytes.toString('base64') !== value) throw invalid(`"${name}" does not hold base64`);
  return Uint8Array.from(bytes);
}

function invalid(why: string, cause?: unknown): KedgeError {
  return new KedgeError('cache_invalid', `the cached identity is not used: ${why}`, {
    hint: 'nothing: the agent asks the CA for a new one',
    ...(cause === undefined ? {} : { cause }),
  });
}
