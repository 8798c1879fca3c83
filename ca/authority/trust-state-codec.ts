import type * as z from 'zod';
import { equalBytes } from '../../pki/bytes.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { KeyHandle } from '../keys/key-manager.ts';
import type { PastRotation, Rotation } from './rotation.ts';
import type { Anchor, Authority, Issuer, TrustState } from './trust-state.ts';
import { certificateOf, checkTrustState, invalid } from './trust-state-rules.ts';
import {
  SCHEMA_VERSION,
  type TrustStateDocument,
  trustStateDocument,
  trustStateDocumentV1,
  versionedDocument,
} from './trust-state-schema.ts';

/**
 * A trust state as the bytes that a trust store keeps: JSON in UTF-8, bytes as base64, `schema: 2`, no spaces, the
 * names in one order. Equal states give equal bytes.
 *
 * Throws `message_too_large` over `LIMITS.trustStateBytes`, and `trust_state_invalid` for a state that could not be
 * read back: what is stored can always be read.
 */
export function encodeTrustState(state: TrustState): Uint8Array {
  checkTrustState(state);
  const bytes = format(state, SCHEMA_VERSION);
  if (bytes.length > LIMITS.trustStateBytes) {
    throw new KedgeError(
      'message_too_large',
      `the trust state would have ${bytes.length} bytes, the limit is ${LIMITS.trustStateBytes}`,
      { hint: 'let retired authorities be removed before new ones come' },
    );
  }
  parseTrustState(bytes);
  return bytes;
}

/**
 * Reads what {@link encodeTrustState} wrote, also that of an older Kedge, and nothing else: bytes that another writer would have written
 * otherwise (spaces, another order, a name twice) are refused like those that break a rule.
 *
 * Throws `trust_state_invalid`, or `store_newer_version` for a document of a newer Kedge.
 */
export function parseTrustState(bytes: Uint8Array): TrustState {
  if (bytes.length > LIMITS.trustStateBytes) throw invalid(`its ${bytes.length} bytes are over the limit`);
  const json = parseJson(bytes);
  const version = versionedDocument.safeParse(json);
  if (version.success && version.data.schema > SCHEMA_VERSION) {
    throw new KedgeError(
      'store_newer_version',
      `the trust state has schema ${version.data.schema}, this Kedge knows up to ${SCHEMA_VERSION}`,
      { hint: 'run the newer Kedge that wrote it, or restore a backup from before the upgrade' },
    );
  }
  const schema = version.success && version.data.schema === 1 ? 1 : SCHEMA_VERSION;
  const state = stateOf(schema === 1 ? versionOne(json) : checkedShape(trustStateDocument.safeParse(json)));
  checkTrustState(state);
  if (!equalBytes(format(state, schema), bytes)) throw invalid('it is not in the one form that Kedge writes');
  return state;
}

/** A document of version 1 as one of now: there were no rotations. */
function versionOne(json: unknown): TrustStateDocument {
  const document = checkedShape(trustStateDocumentV1.safeParse(json));
  return { ...document, schema: SCHEMA_VERSION, rotation: null, pastRotations: [], declinedAnchors: [] };
}

function checkedShape<T>(document: z.ZodSafeParseResult<T>): T {
  if (!document.success) throw invalid(firstIssue(document.error));
  return document.data;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    // The parser's message quotes the document.
    throw invalid('it is not JSON in UTF-8', cause instanceof SyntaxError ? undefined : cause);
  }
}

function firstIssue(error: z.ZodError): string {
  const [issue] = error.issues;
  const path = issue?.path.map(String).join('.') ?? '';
  return `${quote(path)}: ${quote(issue?.message ?? '', 200)}`;
}

function stateOf(document: TrustStateDocument): TrustState {
  const { trustDomain, sequence, anchors, issuers, discardedKeys } = document;
  const { rotation, pastRotations, declinedAnchors } = document;
  return {
    trustDomain,
    sequence,
    anchors: anchors.map((anchor) => ({ ...anchor, ...validityOf(anchor.certificate) })),
    issuers: issuers.map((issuer) => ({ ...issuer, ...validityOf(issuer.certificate) })),
    discardedKeys,
    rotation,
    pastRotations,
    declinedAnchors,
  };
}

/** Not stored: the certificate says it. */
function validityOf(certificate: Uint8Array): Pick<Authority, 'notBeforeMs' | 'notAfterMs'> {
  const { notBeforeMs, notAfterMs } = certificateOf(certificate);
  return { notBeforeMs, notAfterMs };
}

/** Field by field, so that the order is the one below and nothing else comes along. */
function format(state: TrustState, schema: 1 | typeof SCHEMA_VERSION): Uint8Array {
  const authorities = {
    trustDomain: state.trustDomain,
    sequence: state.sequence,
    anchors: state.anchors.map(anchorDocument),
    issuers: state.issuers.map(issuerDocument),
    discardedKeys: state.discardedKeys.map(keyDocument),
  };
  if (schema === 1) {
    const document: z.input<typeof trustStateDocumentV1> = { schema, ...authorities };
    return Buffer.from(JSON.stringify(document));
  }
  const document: z.input<typeof trustStateDocument> = {
    schema,
    ...authorities,
    rotation: state.rotation === null ? null : rotationDocument(state.rotation),
    pastRotations: state.pastRotations.map(pastRotationDocument),
    declinedAnchors: [...state.declinedAnchors],
  };
  return Buffer.from(JSON.stringify(document));
}

function rotationDocument(rotation: Rotation) {
  const { number, kind, upstream, fromAnchorId, goalAnchorId, startedAtMs, deadlineMs } = rotation;
  const { pausedAtMs, abortedAtMs, removedSequence, excused, cutOff, cutOffCount, by, reason } = rotation;
  return {
    number,
    kind,
    upstream,
    fromAnchorId,
    goalAnchorId,
    startedAtMs,
    deadlineMs,
    pausedAtMs,
    abortedAtMs,
    removedSequence,
    excused: excused.map(({ instance, name, atMs, by, reason }) => ({ instance, name, atMs, by, reason })),
    cutOff: [...cutOff],
    cutOffCount,
    by,
    reason,
  };
}

function pastRotationDocument(rotation: PastRotation) {
  const { number, kind, upstream, fromAnchorId, goalAnchorId, startedAtMs, endedAtMs } = rotation;
  const { outcome, excused, cutOff, cutOffCount, by, reason } = rotation;
  return {
    number,
    kind,
    upstream,
    fromAnchorId,
    goalAnchorId,
    startedAtMs,
    endedAtMs,
    outcome,
    excused: [...excused],
    cutOff: [...cutOff],
    cutOffCount,
    by,
    reason,
  };
}

function anchorDocument(anchor: Anchor) {
  const { upstream, sinceSequence, key } = anchor;
  return {
    ...authorityDocument(anchor),
    upstream,
    sinceSequence,
    key: key === null ? null : keyDocument(key),
  };
}

function issuerDocument(issuer: Issuer) {
  const { anchorId, intermediates, key } = issuer;
  return {
    ...authorityDocument(issuer),
    anchorId,
    intermediates: intermediates.map(base64),
    key: keyDocument(key),
  };
}

function authorityDocument({ id, phase, phaseSinceMs, taintedAtMs, certificate }: Authority) {
  return { id, phase, phaseSinceMs, taintedAtMs, certificate: base64(certificate) };
}

function keyDocument({ id, manager, algorithm, spki, reference }: KeyHandle) {
  return { id, manager, algorithm, spki: base64(spki), reference: base64(reference) };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
