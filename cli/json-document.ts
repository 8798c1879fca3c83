/**
 * A value as the one line of JSON that a command prints: bytes as lower-case hex, integers of any size as numbers
 * where they are safe and as strings where not.
 */
export function jsonDocument(value: unknown): string {
  return `${JSON.stringify(value, (_key, item: unknown) => plain(item))}\n`;
}

function plain(item: unknown): unknown {
  if (typeof item === 'bigint') {
    const number = Number(item);
    return Number.isSafeInteger(number) ? number : item.toString();
  }
  if (isBufferJson(item)) return Buffer.from(item.data).toString('hex');
  if (item instanceof Uint8Array) return Buffer.from(item).toString('hex');
  return item;
}

/** A Buffer turns itself into this before a replacer sees it. */
function isBufferJson(item: unknown): item is { readonly data: readonly number[] } {
  return (
    typeof item === 'object' &&
    item !== null &&
    'type' in item &&
    item.type === 'Buffer' &&
    'data' in item &&
    Array.isArray(item.data)
  );
}
