import * as z from 'zod';
import { LIMITS } from '../../pki/limits.ts';
import { PHASES } from './trust-state.ts';

/** Version of the document. A newer Kedge that adds a field counts it up, so that this one does not drop it. */
export const SCHEMA_VERSION = 1;

/** 9999-12-31T23:59:59Z, the last time that X.509 can say (RFC 5280 section 4.1.2.5), milliseconds. */
const MAX_TIME_MS = 253_402_300_799_000;

const time = z.int().min(0).max(MAX_TIME_MS);
const sequence = z.int().min(1);
/** A subject key identifier. */
const authorityId = z.string().regex(/^(?:[0-9a-f]{2}){1,64}$/, 'not 1 to 64 bytes of lower-case hex');
const keyId = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,128}$/, 'not 1 to 128 letters, digits, dots, hyphens, underscores');

/** Bytes as base64 (RFC 4648 section 4, padded). The codec refuses the encodings that are not canonical. */
function bytes(maxBytes: number) {
  return z
    .string()
    .min(1)
    .max(Math.ceil(maxBytes / 3) * 4)
    .regex(/^[A-Za-z0-9+/]+={0,2}$/, 'not base64')
    .transform((text) => new Uint8Array(Buffer.from(text, 'base64')));
}

const keyHandle = z.strictObject({
  id: keyId,
  manager: z.enum(['store', 'pkcs11']),
  algorithm: z.enum(['ec-p256', 'ec-p384', 'rsa-3072']),
  spki: bytes(1024),
  reference: bytes(16 * 1024),
});

const authority = {
  id: authorityId,
  phase: z.enum(PHASES),
  phaseSinceMs: time,
  taintedAtMs: time.nullable(),
  certificate: bytes(LIMITS.certificateBytes),
};

const anchor = z.strictObject({
  ...authority,
  upstream: z.enum(['self', 'disk', 'vault', 'kedge']),
  sinceSequence: sequence,
  key: keyHandle.nullable(),
});

const issuer = z.strictObject({
  ...authority,
  anchorId: authorityId,
  intermediates: z.array(bytes(LIMITS.certificateBytes)).max(LIMITS.chainCertificates - 2),
  key: keyHandle,
});

/** The document as it is stored: the shape alone; what must hold between its parts is in `trust-state-rules.ts`. */
export const trustStateDocument = z.strictObject({
  schema: z.literal(SCHEMA_VERSION),
  trustDomain: z.string().min(1).max(LIMITS.trustDomainBytes),
  sequence,
  anchors: z.array(anchor).min(1).max(LIMITS.bundleAuthorities),
  issuers: z.array(issuer).max(LIMITS.trustStateIssuers),
  discardedKeys: z.array(keyHandle).max(LIMITS.trustStateIssuers),
});

/** The document's shape, with bytes as bytes. */
export type TrustStateDocument = z.output<typeof trustStateDocument>;

/** Just enough to tell a newer document from a broken one. */
export const versionedDocument = z.looseObject({ schema: z.int() });
