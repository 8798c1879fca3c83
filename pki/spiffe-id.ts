import type { ErrorCode } from './error-table.ts';
import { KedgeError, quote } from './kedge-error.ts';
import { LIMITS } from './limits.ts';

const SCHEME_AND_SLASHES = 'spiffe://';

/** Characters of a trust domain name: SPIFFE-ID section 2.1. */
const TRUST_DOMAIN_CHARACTERS = characterTable('abcdefghijklmnopqrstuvwxyz0123456789.-_');
/** Characters of a path segment: SPIFFE-ID section 2.2. */
const SEGMENT_CHARACTERS = characterTable(
  'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_',
);

function characterTable(characters: string): Uint8Array {
  const table = new Uint8Array(128);
  for (const character of characters) table[character.charCodeAt(0)] = 1;
  return table;
}

const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * The name of a trust domain, such as `example.org`: lower-case letters, digits, dots, dashes and underscores, at
 * most 255 bytes. Names that look like DNS names or IPv4 addresses are names like any other.
 *
 * Source: SPIFFE-ID sections 2.1 and 2.3. Errors: `trust_domain_invalid`.
 */
export class TrustDomain {
  readonly #name: string;

  private constructor(name: string) {
    this.#name = name;
  }

  /** Reads a bare name, without scheme. */
  static parse(name: string): TrustDomain {
    checkTrustDomainName(name, 'trust_domain_invalid', 'trust domain', name);
    return new TrustDomain(name);
  }

  get name(): string {
    return this.#name;
  }

  /** The SPIFFE ID of the trust domain itself: `spiffe://example.org`. */
  get id(): string {
    return SCHEME_AND_SLASHES + this.#name;
  }

  equals(other: TrustDomain): boolean {
    return this.#name === other.#name;
  }

  toString(): string {
    return this.#name;
  }

  toJSON(): string {
    return this.#name;
  }
}

/**
 * A SPIFFE ID: `spiffe://` trust domain, then nothing or a path of one or more segments. At most 2048 bytes.
 *
 * The scheme is read in any case and kept in lower case; an upper-case letter in the trust domain is refused
 * (section 2.1), so two IDs are equal exactly when their texts are (section 2.4).
 *
 * Source: SPIFFE-ID section 2. Errors: `spiffe_id_invalid`; each message names the rule with its section.
 */
export class SpiffeId {
  readonly #trustDomain: TrustDomain;
  readonly #path: string;
  readonly #text: string;

  private constructor(trustDomain: TrustDomain, path: string, text: string) {
    this.#trustDomain = trustDomain;
    this.#path = path;
    this.#text = text;
  }

  /** Reads a SPIFFE ID, with or without a path. */
  static parse(uri: string): SpiffeId {
    // An ASCII text has as many bytes as characters, and any other is refused by its characters.
    if (uri.length > LIMITS.spiffeIdBytes) throw tooLong(uri);
    if (uri === '') throw invalid(uri, 'it is empty', '2', 'give spiffe://<trust domain>/<path>');
    if (uri.slice(0, SCHEME_AND_SLASHES.length).toLowerCase() !== SCHEME_AND_SLASHES)
      throw invalid(uri, `it does not begin with ${SCHEME_AND_SLASHES}`, '2');
    refuseQueryAndFragment(uri);
    const slash = uri.indexOf('/', SCHEME_AND_SLASHES.length);
    const nameEnd = slash < 0 ? uri.length : slash;
    const name = uri.slice(SCHEME_AND_SLASHES.length, nameEnd);
    const path = uri.slice(nameEnd);
    checkTrustDomainName(name, 'spiffe_id_invalid', 'SPIFFE ID', uri);
    checkPath(path, uri);
    return SpiffeId.of(TrustDomain.parse(name), path);
  }

  /** The ID of `path` in `trustDomain`; the path is empty or begins with a slash. */
  static of(trustDomain: TrustDomain, path: string): SpiffeId {
    const text = trustDomain.id + path;
    if (text.length > LIMITS.spiffeIdBytes) throw tooLong(text);
    refuseQueryAndFragment(text);
    checkPath(path, text);
    return new SpiffeId(trustDomain, path, text);
  }

  get trustDomain(): TrustDomain {
    return this.#trustDomain;
  }

  /** Empty, or `/` and the segments: `/ns/default/sa/web`. */
  get path(): string {
    return this.#path;
  }

  equals(other: SpiffeId): boolean {
    return this.#text === other.#text;
  }

  toString(): string {
    return this.#text;
  }

  toJSON(): string {
    return this.#text;
  }
}

function invalid(uri: string, fault: string, section: string, hint?: string): KedgeError {
  return new KedgeError(
    'spiffe_id_invalid',
    `SPIFFE ID ${quote(uri)} is not valid: ${fault} (SPIFFE-ID section ${section})`,
    hint === undefined ? {} : { hint },
  );
}

function tooLong(uri: string): KedgeError {
  return invalid(uri, `it is longer than ${LIMITS.spiffeIdBytes} bytes`, '2.3');
}

function refuseQueryAndFragment(uri: string): void {
  if (uri.includes('?')) throw invalid(uri, 'it has a query', '2');
  if (uri.includes('#')) throw invalid(uri, 'it has a fragment', '2');
}

/** Section 2.1, for a name by itself and for the one in the SPIFFE ID `value`. */
function checkTrustDomainName(name: string, code: ErrorCode, what: string, value: string): void {
  const refuse = (fault: string, section: string, hint?: string): KedgeError =>
    new KedgeError(
      code,
      `${what} ${quote(value)} is not valid: ${fault} (SPIFFE-ID section ${section})`,
      hint === undefined ? {} : { hint },
    );
  if (name === '')
    throw refuse('the trust domain is empty', '2.1', 'name a trust domain such as example.org');
  if (name.length > LIMITS.trustDomainBytes)
    throw refuse(`the trust domain is longer than ${LIMITS.trustDomainBytes} bytes`, '2.3');
  for (let i = 0; i < name.length; i += 1) {
    const character = name.charCodeAt(i);
    if (TRUST_DOMAIN_CHARACTERS[character] === 1) continue;
    throw refuse(trustDomainFault(name, i), '2.1', trustDomainHint(name, character));
  }
}

/** The rule that the character at `index` breaks; the components of a URI authority have rules of their own. */
function trustDomainFault(name: string, index: number): string {
  if (name.includes('@')) return 'the trust domain has a userinfo part';
  const character = name.charAt(index);
  if (character === ':') return 'the trust domain has a port, or a colon';
  if (character === '%') return 'the trust domain has percent-encoding';
  if (character >= 'A' && character <= 'Z')
    return `the trust domain has the upper-case letter ${quote(character)}`;
  return `the trust domain has the character ${quote(character)}, and may have only a-z, 0-9, dot, dash and underscore`;
}

function trustDomainHint(name: string, character: number): string | undefined {
  if (name.toLowerCase().startsWith(SCHEME_AND_SLASHES)) return 'give the bare name, without spiffe://';
  return character >= 0x41 && character <= 0x5a ? 'write the trust domain in lower case' : undefined;
}

/** Section 2.2. */
function checkPath(path: string, uri: string): void {
  if (path === '') return;
  if (path.charCodeAt(0) !== SLASH) throw invalid(uri, 'the path does not begin with a slash', '2.2');
  if (path.charCodeAt(path.length - 1) === SLASH) throw invalid(uri, 'the path ends in a slash', '2.2');
  let segmentStart = 1;
  for (let i = 1; i <= path.length; i += 1) {
    const character = i < path.length ? path.charCodeAt(i) : SLASH;
    if (SEGMENT_CHARACTERS[character] === 1) continue;
    if (character !== SLASH) throw invalid(uri, pathFault(path.charAt(i)), '2.2');
    checkSegment(path, segmentStart, i, uri);
    segmentStart = i + 1;
  }
}

function pathFault(character: string): string {
  return character === '%'
    ? 'the path has percent-encoding'
    : `the path has the character ${quote(character)}, and may have only letters, digits, dot, dash and underscore`;
}

function checkSegment(path: string, start: number, end: number, uri: string): void {
  const length = end - start;
  if (length === 0) throw invalid(uri, 'the path has an empty segment', '2.2');
  if (length > 2 || path.charCodeAt(start) !== DOT) return;
  if (length === 1) throw invalid(uri, 'the path has the segment "."', '2.2');
  if (path.charCodeAt(start + 1) === DOT) throw invalid(uri, 'the path has the segment ".."', '2.2');
}
