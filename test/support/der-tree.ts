import fc from 'fast-check';

/** A DER element as a tree. OCTET STRINGs and BIT STRINGs whose content is DER again are opened too. */
interface Node {
  tag: number;
  /** Octets before the nested DER: the unused-bits octet of a BIT STRING. */
  prefix: Uint8Array;
  content: Uint8Array | Node[];
}

const OPENED = new Set([0x03, 0x04]);

function readAll(bytes: Uint8Array): Node[] | null {
  const nodes: Node[] = [];
  let at = 0;
  while (at < bytes.length) {
    const [tag = 0, first = 0] = bytes.subarray(at, at + 2);
    const lengthOctets = first < 0x80 ? 0 : first & 0x7f;
    if (lengthOctets > 3 || at + 2 + lengthOctets > bytes.length) return null;
    const length =
      lengthOctets === 0
        ? first
        : bytes.subarray(at + 2, at + 2 + lengthOctets).reduce((sum, b) => sum * 256 + b, 0);
    const start = at + 2 + lengthOctets;
    if (start + length > bytes.length) return null;
    nodes.push(readOne(tag, bytes.subarray(start, start + length)));
    at = start + length;
  }
  return nodes;
}

function readOne(tag: number, content: Uint8Array): Node {
  const none = new Uint8Array(0);
  if ((tag & 0x20) !== 0) return { tag, prefix: none, content: readAll(content) ?? content };
  if (!OPENED.has(tag) || content.length < 4) return { tag, prefix: none, content };
  const prefix = tag === 0x03 ? content.subarray(0, 1) : none;
  const nested = readAll(content.subarray(prefix.length));
  return nested?.[0]?.tag === 0x30 ? { tag, prefix, content: nested } : { tag, prefix: none, content };
}

function write(node: Node): Buffer {
  const body =
    Buffer.isBuffer(node.content) || node.content instanceof Uint8Array
      ? node.content
      : Buffer.concat(node.content.map(write));
  const content = Buffer.concat([node.prefix, body]);
  const length =
    content.length < 0x80
      ? [content.length]
      : content.length < 0x100
        ? [0x81, content.length]
        : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Uint8Array.of(node.tag, ...length), content]);
}

function flatten(nodes: Node[], parent: Node[] = nodes): { node: Node; siblings: Node[] }[] {
  return nodes.flatMap((node) => [
    { node, siblings: parent },
    ...(Array.isArray(node.content) ? flatten(node.content, node.content) : []),
  ]);
}

/** How one element is spoilt; the lengths around it stay right. */
type Surgery = {
  readonly pick: number;
  readonly how: 'drop' | 'double' | 'swap' | 'tag' | 'content' | 'grow';
  readonly value: number;
};

const surgery: fc.Arbitrary<Surgery> = fc.record({
  pick: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  how: fc.constantFrom('drop', 'double', 'swap', 'tag', 'content', 'content', 'content', 'grow'),
  value: fc.integer({ min: 0, max: 65_535 }),
});

function operate(seed: Uint8Array, surgeries: readonly Surgery[]): Uint8Array {
  const roots = readAll(seed) ?? [];
  for (const { pick, how, value } of surgeries) {
    const all = flatten(roots);
    const chosen = all[Math.floor(pick * all.length)];
    if (chosen === undefined) break;
    const { node, siblings } = chosen;
    const index = siblings.indexOf(node);
    if (how === 'drop') siblings.splice(index, 1);
    else if (how === 'double') siblings.splice(index, 0, node);
    else if (how === 'swap') siblings.splice(value % siblings.length, 0, ...siblings.splice(index, 1));
    else if (how === 'tag') node.tag = value & 0xff;
    else if (!Array.isArray(node.content)) {
      const bytes = Uint8Array.from(node.content);
      if (how === 'grow') node.content = Buffer.concat([bytes, Uint8Array.of(value & 0xff)]);
      else if (bytes.length > 0) {
        bytes[(value >> 8) % bytes.length] = value & 0xff;
        node.content = bytes;
      }
    }
  }
  return Buffer.concat(roots.map(write));
}

/** DER spoilt element by element: well-formed TLV all the way, wrong in what it says. */
export function spoiltDer(seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  return fc
    .tuple(fc.constantFrom(...seeds), fc.array(surgery, { minLength: 1, maxLength: 3 }))
    .map(([seed, surgeries]) => operate(seed, surgeries));
}
