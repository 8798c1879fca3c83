/** Bytes from hex; spaces and line feeds are for the reader. */
export function hex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, '');
  const bytes = Buffer.from(digits, 'hex');
  if (bytes.length * 2 !== digits.length) throw new TypeError(`not hex: ${digits}`);
  return new Uint8Array(bytes);
}
