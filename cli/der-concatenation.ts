import { DerReader } from '../pki/der-reader.ts';
import { TAG } from '../pki/der-tag.ts';
import { KedgeError } from '../pki/kedge-error.ts';

/**
 * The DER SEQUENCEs that stand one after another without anything between, as the Workload API carries
 * certificates. Views of `bytes`, not copies. Empty input gives none.
 *
 * Throws `der_invalid` for anything else, and `message_too_large` for more than `limit` of them.
 * Source: SPIFFE_Workload_API.md section 5.1.
 */
export function splitDer(bytes: Uint8Array, limit: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  const reader = DerReader.of(bytes, { code: 'der_invalid', what: 'the row of certificates' });
  while (!reader.atEnd) {
    if (parts.length === limit)
      throw new KedgeError('message_too_large', `more than ${limit} certificates in a row`);
    parts.push(reader.whole(TAG.sequence));
  }
  return parts;
}
