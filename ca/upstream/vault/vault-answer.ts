import { isUtf8 } from 'node:buffer';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { decodePem } from '../../../pki/pem.ts';
import type { VaultHttpAnswer } from './vault-transport.ts';

/** A JSON object with its own members. */
export type JsonMembers = Readonly<Record<string, unknown>>;

/** Whether a JSON value is an object. */
export function isMembers(value: unknown): value is JsonMembers {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const PROXY_HINT = 'check that upstream.vault.address is that of Vault, and what proxies stand before it';

/**
 * The body of an answer as a JSON object; an empty one of status 204 as an empty object. Whatever stands before Vault
 * may answer in its place, so each way of not being an answer of Vault has its code: `vault_answer_empty`,
 * `vault_answer_html`, `vault_answer_not_json`, `vault_answer_invalid`. Nothing of the body is repeated.
 */
export function readBody({ status, contentType, body }: VaultHttpAnswer, path: string): JsonMembers {
  const what = `the answer ${status} to ${quote(path, 200)}`;
  if (body.length === 0) {
    if (status === 204) return {};
    throw new KedgeError('vault_answer_empty', `${what} is empty`, { hint: PROXY_HINT });
  }
  const start = body.subarray(0, 64).toString('latin1').trimStart().slice(0, 1);
  if (/\bhtml\b/i.test(contentType) || start === '<') {
    throw new KedgeError('vault_answer_html', `${what} is HTML`, { hint: PROXY_HINT });
  }
  const isJson = /^application\/(?:[\w.-]+\+)?json\b/i.test(contentType);
  if (!isJson || !isUtf8(body)) {
    throw new KedgeError('vault_answer_not_json', `${what} is ${quote(contentType, 60)}, not JSON`, {
      hint: PROXY_HINT,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    // The parser's message quotes the text, which may hold a token.
    throw new KedgeError('vault_answer_not_json', `${what} is cut off, or not JSON`, { hint: PROXY_HINT });
  }
  if (!isMembers(value)) throw answerInvalid(what, 'is no JSON object');
  return value;
}

/** The refusal of an answer that is JSON, but not what Vault documents. `problem` holds no secret. */
export function answerInvalid(what: string, problem: string, cause?: unknown): KedgeError {
  return new KedgeError('vault_answer_invalid', `${what} ${problem}`, { hint: PROXY_HINT, cause });
}

/** The member `data` of an answer. Throws `vault_answer_invalid`. */
export function dataOf(body: JsonMembers, what: string): JsonMembers {
  const data = body['data'];
  if (!isMembers(data)) throw answerInvalid(what, 'has no data');
  return data;
}

/** A member that is text; empty where it is absent or null. Throws `vault_answer_invalid`. */
export function textMember(members: JsonMembers, name: string, what: string): string {
  const value = members[name] ?? '';
  if (typeof value !== 'string') throw answerInvalid(what, `has a ${name} that is no text`);
  return value;
}

/**
 * The certificates of a member that is PEM or a list of PEMs, DER, in order; none where it is absent, null or empty.
 * Throws `vault_answer_invalid`.
 */
export function certificatesMember(members: JsonMembers, name: string, what: string): readonly Uint8Array[] {
  const value = members[name] ?? '';
  const parts: readonly unknown[] = Array.isArray(value) ? value : [value];
  const found: Uint8Array[] = [];
  for (const part of parts) {
    if (typeof part !== 'string') throw answerInvalid(what, `has a ${name} that is no PEM`);
    if (part.trim() === '') continue;
    try {
      found.push(...decodePem(part, 'CERTIFICATE'));
    } catch (cause) {
      throw answerInvalid(what, `has a ${name} that is no PEM`, cause);
    }
  }
  if (found.length > LIMITS.vaultCertificates) {
    throw answerInvalid(what, `has a ${name} of more than ${LIMITS.vaultCertificates} certificates`);
  }
  return found;
}

/** Whole seconds of a member; 0 where it is absent or no number. */
export function secondsMember(members: JsonMembers, name: string): number {
  const value = members[name];
  return typeof value === 'number' && Number.isFinite(value) && value > 0 ? Math.floor(value) : 0;
}
