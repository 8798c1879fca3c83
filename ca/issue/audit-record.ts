import { hash } from 'node:crypto';

import type { SvidKeyType } from '../../pki/algorithms.ts';
import { toHex } from '../../pki/bytes.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import type { WorkloadInstance } from '../attest/attestor.ts';

/** Names of what is recorded. Fixed, never built from input. */
export type AuditEvent =
  | 'svid.issued'
  | RefusedEvent
  | 'refusals.suppressed'
  | 'audit.opened'
  | 'audit.recovered'
  | `authority.${string}`
  | `policy.${string}`
  | `keys.${string}`
  | `downstream.${string}`
  | `rotation.${string}`;

/** What was refused: an SVID, or a Watch stream, when it was opened or later. */
export type RefusedEvent = 'svid.refused' | 'watch.refused';

/** Which interface of the CA was asked. `internal`: the CA itself, for its serving SVID. */
export type AuditApi = 'kedge.v1' | 'istio.v1' | 'linkerd' | 'internal';

/** What may stand in a record of {@link auditEntry}. Never a token, a key or a CSR. */
export type AuditFields = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

/**
 * What happened, before it has a place in the log. Immutable; one entry becomes at most one line.
 *
 * `json` is the rest of the line after its envelope (`seq`, `time`, `prev`, `event`): members, each with a leading
 * comma, ASCII only.
 */
export interface AuditEntry {
  readonly event: AuditEvent;
  /** Milliseconds since the Unix epoch. */
  readonly timeMs: number;
  readonly json: string;
}

/** What the record of an issued SVID says. */
export interface IssuedFields {
  readonly timeMs: number;
  readonly api: AuditApi;
  readonly spiffeId: string;
  /** Big endian, as in the certificate. */
  readonly serialNumber: Uint8Array;
  /** Subject key identifier of the issuer, lower-case hex. */
  readonly issuerId: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly keyType: SvidKeyType;
  readonly spki: Uint8Array;
  readonly dnsNames: readonly string[];
  /** Null for the CA's own SVID. */
  readonly instance: WorkloadInstance | null;
  /** Where the caller's connection comes from; null for the CA itself. */
  readonly peerAddress: string | null;
}

/** What the record of a refusal says: all that is known at that point. */
export interface RefusedFields {
  readonly event: RefusedEvent;
  readonly timeMs: number;
  readonly api: AuditApi;
  readonly code: ErrorCode;
  /** A sentence without token, key or CSR: the message of a `KedgeError`. */
  readonly message: string;
  readonly spiffeId: string | null;
  readonly instance: WorkloadInstance | null;
  readonly peerAddress: string | null;
}

/** Longest text of one field, characters; what is longer is cut. A SPIFFE ID fits whole. */
const MAX_TEXT = 2048;

/** The entry of an SVID that was signed and is about to be released. */
export function issuedEntry(fields: IssuedFields): AuditEntry {
  const { timeMs, instance } = fields;
  const dnsNames = fields.dnsNames.length === 0 ? '' : `,"dns_names":${listJson(fields.dnsNames)}`;
  const json =
    `,"api":"${fields.api}","spiffe_id":${jsonText(fields.spiffeId)},"serial":"${toHex(fields.serialNumber)}"` +
    `,"issuer_id":${jsonText(fields.issuerId)},"not_before":"${isoTime(fields.notBeforeMs)}"` +
    `,"not_after":"${isoTime(fields.notAfterMs)}","key_type":"${fields.keyType}"` +
    `,"spki_sha256":"${hash('sha256', fields.spki)}"${dnsNames}${instanceJson(instance)}${peerJson(fields.peerAddress)}`;
  return { event: 'svid.issued', timeMs, json };
}

/** The entry of a refused request. */
export function refusedEntry(fields: RefusedFields): AuditEntry {
  const { event, timeMs, spiffeId } = fields;
  const id = spiffeId === null ? '' : `,"spiffe_id":${jsonText(spiffeId)}`;
  const json =
    `,"api":"${fields.api}","code":"${fields.code}","message":${jsonText(fields.message)}${id}` +
    `${instanceJson(fields.instance)}${peerJson(fields.peerAddress)}`;
  return { event, timeMs, json };
}

/** An entry with fields of the caller's choice, for `authority.*`, `policy.*`, `keys.*` and `downstream.*` events. */
export function auditEntry(event: AuditEvent, timeMs: number, fields: AuditFields = {}): AuditEntry {
  let json = '';
  for (const [name, value] of Object.entries(fields)) {
    if (!/^[a-z][a-z0-9_]*$/.test(name) || ENVELOPE.has(name)) {
      throw new TypeError(`an audit field cannot be named ${name}`);
    }
    json += `,"${name}":${valueJson(value)}`;
  }
  return { event, timeMs, json };
}

/** The members that every line begins with, in this order. */
const ENVELOPE: ReadonlySet<string> = new Set(['seq', 'time', 'prev', 'event']);

const DAY_MS = 86_400_000;

/**
 * RFC 3339 in UTC with milliseconds, for years 1970 to 9999: what `Date.prototype.toISOString` gives, at a fifth of
 * its cost, for three of them stand in each record. Days to a date as in the proleptic Gregorian calendar, with
 * years that begin in March so that the leap day is the last.
 */
export function isoTime(timeMs: number): string {
  const days = Math.floor(timeMs / DAY_MS);
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const marchMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * marchMonth + 2) / 5) + 1;
  const month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  const ms = timeMs - days * DAY_MS;
  const date = `${year}-${two(month)}-${two(day)}`;
  const time = `${two(Math.floor(ms / 3_600_000))}:${two(Math.floor(ms / 60_000) % 60)}:${two(Math.floor(ms / 1000) % 60)}`;
  return `${date}T${time}.${three(ms % 1000)}Z`;
}

const TWO_DIGITS: readonly string[] = Array.from({ length: 100 }, (_, i) => `${i}`.padStart(2, '0'));

function two(value: number): string {
  return TWO_DIGITS[value] ?? `${value}`;
}

function three(value: number): string {
  return value < 100 ? `0${two(value)}` : `${value}`;
}

function instanceJson(instance: WorkloadInstance | null): string {
  if (instance === null) return '';
  const node = instance.nodeName === undefined ? '' : `,"node":${jsonText(instance.nodeName)}`;
  return (
    `,"cluster":${jsonText(instance.cluster)},"namespace":${jsonText(instance.namespace)}` +
    `,"service_account":${jsonText(instance.serviceAccount)},"pod_name":${jsonText(instance.podName)}` +
    `,"pod_uid":${jsonText(instance.podUid)}${node}`
  );
}

function peerJson(address: string | null): string {
  return address === null ? '' : `,"peer":${jsonText(address)}`;
}

function valueJson(value: AuditFields[string]): string {
  if (typeof value === 'string') return jsonText(value);
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new TypeError('an audit field cannot hold a number that is not finite');
  }
  return typeof value === 'object' && value !== null ? listJson(value) : String(value);
}

function listJson(values: readonly string[]): string {
  return `[${values.map(jsonText).join(',')}]`;
}

/** Nearly every text here is a checked name, which needs no escape. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** A text as it stands in a record: cut, quoted, ASCII only. */
export function jsonText(text: string): string {
  const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}...` : text;
  if (PLAIN.test(cut)) return `"${cut}"`;
  return JSON.stringify(cut).replace(
    /[\u007f-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
