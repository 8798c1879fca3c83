/** The octet at `offset`, 0 behind the end: for readers that have checked their bounds. */
export function octetAt(bytes: Uint8Array, offset: number): number {
  return bytes[offset] ?? 0;
}

/** True when both hold the same bytes. Not in constant time: for public values only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  const length = a.length;
  if (length !== b.length) return false;
  for (let i = 0; i < length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

/** True when `bytes` begins with `prefix`. */
export function startsWithBytes(bytes: Uint8Array, prefix: Uint8Array): boolean {
  const length = prefix.length;
  if (bytes.length < length) return false;
  for (let i = 0; i < length; i += 1) if (bytes[i] !== prefix[i]) return false;
  return true;
}

/**
 * A new array for a caller that writes every octet of it before anyone else sees it: it holds whatever was there, from
 * Node's pool, which costs a fifth of zeroed memory of its own.
 */
export function unwrittenBytes(length: number): Uint8Array {
  const { buffer, byteOffset } = Buffer.allocUnsafe(length);
  return new Uint8Array(buffer, byteOffset, length);
}

/** A new array with all parts, one after the other. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const all = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/** Lower-case hex, without separators. */
export function toHex(bytes: Uint8Array): string {
  return viewOf(bytes).toString('hex');
}

/** One character for each byte: ASCII where the bytes are, which the caller has checked or refuses later. */
export function toLatin1(bytes: Uint8Array): string {
  return viewOf(bytes).toString('latin1');
}

/** V8 keeps arrays up to so many bytes in its heap, and moves them out for good when their ArrayBuffer is asked for. */
const HEAP_ARRAY_BYTES = 64;

function viewOf(bytes: Uint8Array): Buffer {
  // The copy of a small one costs less than that move.
  if (bytes.length <= HEAP_ARRAY_BYTES) return Buffer.from(bytes);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
