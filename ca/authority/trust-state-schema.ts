import * as z from 'zod';
import { LIMITS } from '../../pki/limits.ts';
import { ROTATION_KINDS, ROTATION_OUTCOMES } from './rotation.ts';
import { PHASES } from './trust-state.ts';

/**
 * Version of the document. A newer Kedge that adds a field counts it up, so that this one does not drop it.
 *
 * 1: anchors and issuers. 2: the rotation under way, those that ended, declined anchors. Version 1 is read as one in
 * which there was no rotation yet, and written anew as 2 with the next change.
 */
export const SCHEMA_VERSION = 2;

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

const upstreamKind = z.enum(['self', 'disk', 'vault', 'kedge']);

const anchor = z.strictObject({
  ...authority,
  upstream: upstreamKind,
  sinceSequence: sequence,
  key: keyHandle.nullable(),
});

const issuer = z.strictObject({
  ...authority,
  anchorId: authorityId,
  intermediates: z.array(bytes(LIMITS.certificateBytes)).max(LIMITS.chainCertificates - 2),
  key: keyHandle,
});

/** What an operator wrote, or the name of a pod: printable, on one line. */
const text = z
  .string()
  .max(LIMITS.operatorTextChars * 4)
  .regex(/^[^\p{Cc}\p{Cs}]*$/u, 'has control characters');
const rotationNumber = z.int().min(1);
const cutOff = {
  cutOff: z.array(text).max(LIMITS.cutOffInstances),
  cutOffCount: z.int().min(0),
};

const rotation = z.strictObject({
  number: rotationNumber,
  kind: z.enum(ROTATION_KINDS),
  upstream: upstreamKind,
  fromAnchorId: authorityId,
  goalAnchorId: authorityId.nullable(),
  startedAtMs: time,
  deadlineMs: time.nullable(),
  pausedAtMs: time.nullable(),
  abortedAtMs: time.nullable(),
  removedSequence: sequence.nullable(),
  excused: z
    .array(z.strictObject({ instance: text, name: text, atMs: time, by: text, reason: text }))
    .max(LIMITS.excusedInstances),
  ...cutOff,
  by: text,
  reason: text,
});

const pastRotation = z.strictObject({
  number: rotationNumber,
  kind: z.enum(ROTATION_KINDS),
  upstream: upstreamKind,
  fromAnchorId: authorityId,
  goalAnchorId: authorityId.nullable(),
  startedAtMs: time,
  endedAtMs: time,
  outcome: z.enum(ROTATION_OUTCOMES),
  excused: z.array(text).max(LIMITS.excusedInstances),
  ...cutOff,
  by: text,
  reason: text,
});

const authorities = {
  trustDomain: z.string().min(1).max(LIMITS.trustDomainBytes),
  sequence,
  anchors: z.array(anchor).min(1).max(LIMITS.bundleAuthorities),
  issuers: z.array(issuer).max(LIMITS.trustStateIssuers),
  discardedKeys: z.array(keyHandle).max(LIMITS.trustStateIssuers + LIMITS.bundleAuthorities),
};

/** The document as version 1 had it. */
export const trustStateDocumentV1 = z.strictObject({ schema: z.literal(1), ...authorities });

/** The document as it is stored: the shape alone; what must hold between its parts is in `trust-state-rules.ts`. */
export const trustStateDocument = z.strictObject({
  schema: z.literal(SCHEMA_VERSION),
  ...authorities,
  rotation: rotation.nullable(),
  pastRotations: z.array(pastRotation).max(LIMITS.pastRotations),
  declinedAnchors: z.array(authorityId).max(LIMITS.declinedAnchors),
});

/** The document's shape, with bytes as bytes. */
export type TrustStateDocument = z.output<typeof trustStateDocument>;

/** Just enough to tell a newer document from a broken one. */
export const versionedDocument = z.looseObject({ schema: z.int() });
