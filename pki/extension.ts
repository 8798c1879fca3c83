import { equalBytes } from './bytes.ts';
import type { DerReader } from './der-reader.ts';
import { TAG } from './der-tag.ts';
import { decodeOid } from './oid.ts';

/** An X.509 extension, taken out of its wrapping and not looked into (RFC 5280 section 4.1). */
export interface Extension {
  /** Content octets of extnID. */
  readonly oidContent: Uint8Array;
  readonly critical: boolean;
  /** The DER inside extnValue. */
  readonly value: Uint8Array;
}

/** Certificates carry about ten. The bound keeps the search for duplicates short. */
const MAX_EXTENSIONS = 32;

/**
 * Reads Extensions: at least one and at most {@link MAX_EXTENSIONS}, no two of the same kind (RFC 5280 section 4.2), `critical` absent when false
 * (X.690 section 11.5). Their order is free.
 */
export function readExtensions(reader: DerReader): Extension[] {
  const list = reader.enter(TAG.sequence);
  if (list.atEnd) list.refuse('an empty list of extensions');
  const extensions: Extension[] = [];
  while (!list.atEnd) {
    if (extensions.length === MAX_EXTENSIONS) list.refuse(`more than ${MAX_EXTENSIONS} extensions`);
    const extension = readExtension(list);
    if (extensions.some((other) => equalBytes(other.oidContent, extension.oidContent)))
      list.refuse(`the extension ${decodeOid(extension.oidContent)} comes twice`);
    extensions.push(extension);
  }
  return extensions;
}

function readExtension(list: DerReader): Extension {
  const reader = list.enter(TAG.sequence);
  const oidContent = reader.oidContent();
  const critical = reader.booleanDefaultFalse();
  const value = reader.content(TAG.octetString);
  reader.end();
  return { oidContent, critical, value };
}
