import fc from 'fast-check';

/** One way to spoil bytes. Positions are fractions of the length, so that they fit every seed. */
type Mutation =
  | { readonly kind: 'set'; readonly at: number; readonly value: number }
  | { readonly kind: 'flip'; readonly at: number; readonly bit: number }
  | { readonly kind: 'insert'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'remove'; readonly at: number; readonly length: number }
  | { readonly kind: 'repeat'; readonly at: number; readonly length: number }
  | { readonly kind: 'truncate'; readonly at: number };

/** Values that DER, protobuf, JSON and YAML give a meaning to. */
const TELLING_BYTES = [
  0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0a, 0x17, 0x18, 0x22, 0x30, 0x31, 0x7b, 0x7f, 0x80, 0x81, 0x82,
  0x84, 0xa0, 0xa3, 0xff,
];

const position = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const telling = fc.oneof(fc.constantFrom(...TELLING_BYTES), fc.integer({ min: 0, max: 255 }));

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), at: position, value: telling }),
  fc.record({ kind: fc.constant('flip' as const), at: position, bit: fc.integer({ min: 0, max: 7 }) }),
  fc.record({
    kind: fc.constant('insert' as const),
    at: position,
    bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
  }),
  fc.record({ kind: fc.constant('remove' as const), at: position, length: fc.integer({ min: 1, max: 16 }) }),
  fc.record({ kind: fc.constant('repeat' as const), at: position, length: fc.integer({ min: 1, max: 64 }) }),
  fc.record({ kind: fc.constant('truncate' as const), at: position }),
);

function apply(bytes: Uint8Array, m: Mutation): Uint8Array {
  const at = Math.floor(m.at * bytes.length);
  const cut = (from: Uint8Array, middle: Uint8Array, skip: number): Uint8Array =>
    Buffer.concat([from.subarray(0, at), middle, from.subarray(at + skip)]);
  switch (m.kind) {
    case 'set':
      return cut(bytes, Uint8Array.of(m.value), 1);
    case 'flip':
      return cut(bytes, Uint8Array.of((bytes[at] ?? 0) ^ (1 << m.bit)), 1);
    case 'insert':
      return cut(bytes, m.bytes, 0);
    case 'remove':
      return cut(bytes, new Uint8Array(0), m.length);
    case 'repeat':
      return cut(bytes, bytes.subarray(at, at + m.length), 0);
    case 'truncate':
      return bytes.subarray(0, at);
  }
}

/** Hostile bytes: mostly a good input spoilt in one to four places, sometimes noise. */
export function spoilt(seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const fromSeed = fc
    .tuple(fc.constantFrom(...seeds), fc.array(mutation, { minLength: 1, maxLength: 4 }))
    .map(([seed, mutations]) => mutations.reduce(apply, seed));
  return fc.oneof(
    { weight: 15, arbitrary: fromSeed },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }) },
  );
}

/** The same for text: bytes that are not UTF-8 become replacement characters. */
export function spoiltText(seeds: readonly string[]): fc.Arbitrary<string> {
  return spoilt(seeds.map((seed) => Buffer.from(seed))).map((bytes) => Buffer.from(bytes).toString('utf8'));
}
