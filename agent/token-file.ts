import { KedgeError, quote } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { readSmallFile } from '../host/small-file.ts';

/** What a bearer token may hold (RFC 6750 section 2.1, b64token). */
const BEARER_TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

/**
 * The token in a file that the kubelet rewrites: read anew each time, white space around it dropped.
 *
 * Throws `file_unreadable`, `token_missing` for an empty file, `token_malformed` for one that is over 8 KiB or holds
 * something that is no bearer token. The token itself is in no message.
 */
export async function readToken(path: string): Promise<string> {
  const bytes = await readSmallFile(path, LIMITS.tokenBytes, 'token file').catch((error: unknown) => {
    if (error instanceof KedgeError && error.code === 'message_too_large') {
      throw new KedgeError('token_malformed', error.message, { hint: HINT });
    }
    throw error;
  });
  const token = Buffer.from(bytes).toString('latin1').trim();
  if (token === '') {
    throw new KedgeError('token_missing', `the token file ${quote(path, 200)} is empty`, { hint: HINT });
  }
  if (!BEARER_TOKEN.test(token)) {
    throw new KedgeError(
      'token_malformed',
      `the token file ${quote(path, 200)} does not hold a bearer token`,
      {
        hint: HINT,
      },
    );
  }
  return token;
}

const HINT = 'point tokenFile at the file that the kubelet, or kedge token, writes';
