import type { Metadata } from '@grpc/grpc-js';
import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';

const SCHEME = 'Bearer ';

/** RFC 6750 section 2.1: the characters of a bearer token. */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;

const HINT = "send the workload's token once, as metadata 'authorization: Bearer <token>'";

/**
 * The bearer token of a call. Throws `token_missing`, and `token_malformed` for more than one, another scheme, a
 * token over `LIMITS.tokenBytes`, or characters that no token has. No message holds any part of the token.
 *
 * Node keeps only the first of repeated `authorization` fields, so that of two tokens on the wire one counts
 * (RFC 9110 section 11.6.2 has the field once).
 */
export function bearerTokenOf(metadata: Metadata): string {
  const [value, ...more] = metadata.get('authorization');
  if (typeof value !== 'string')
    throw new KedgeError('token_missing', 'the call has no bearer token', { hint: HINT });
  if (more.length > 0) throw malformed(`the call has ${more.length + 1} authorization entries`);
  // RFC 9110 section 11.1: the name of a scheme is compared without case.
  if (!value.startsWith(SCHEME) && value.slice(0, SCHEME.length).toLowerCase() !== SCHEME.toLowerCase()) {
    throw malformed('the authorization entry is not of the Bearer scheme');
  }
  const token = value.slice(SCHEME.length);
  if (token === '') throw malformed('the bearer token is empty');
  if (token.length > LIMITS.tokenBytes) {
    throw malformed(`the bearer token is ${token.length} bytes, over the limit of ${LIMITS.tokenBytes}`);
  }
  if (!TOKEN.test(token)) throw malformed('the bearer token has characters that no token has');
  return token;
}

function malformed(message: string): KedgeError {
  return new KedgeError('token_malformed', message, { hint: HINT });
}
