import {
  type Document,
  isAlias,
  isCollection,
  isMap as isYamlMap,
  isNode,
  isScalar,
  isSeq,
  type Pair,
  stringify,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { type Edit, jsonPointer } from './edit.ts';
import type { Json } from './json.ts';

/** A text to be put at an offset, in the place of `length` characters. */
export interface Splice {
  readonly offset: number;
  readonly length: number;
  readonly text: string;
  /** What stands between it and another one at the same place; default: nothing. */
  readonly joiner?: string;
  /** How deep in the document it goes: of those at one place, the deepest comes first. */
  readonly depth: number;
}

/** The text with every splice made, whatever their order. */
export function spliced(text: string, splices: readonly Splice[]): string {
  const sorted = [...splices].sort((a, b) => a.offset - b.offset || b.depth - a.depth);
  let result = '';
  let at = 0;
  sorted.forEach(({ offset, length, text: inserted, joiner = '' }, i) => {
    const isJoined = sorted[i - 1]?.offset === offset;
    result += `${text.slice(at, offset)}${isJoined ? joiner : ''}${inserted}`;
    at = offset + length;
  });
  return result + text.slice(at);
}

/**
 * How an edit is made in the text of a YAML document, such that everything else of it stays as it was written. The
 * document must have been read from the whole of `text`. Throws `manifest_unsupported` where the text cannot be added
 * to: behind an alias, within what another part refers to, or in a form that nobody writes manifests in.
 */
export function spliceOf(text: string, document: Document, edit: Edit): Splice {
  const place = new Place(text, document, edit);
  const splice = edit.op === 'replace' ? place.replaced(edit.value) : place.added(edit.value);
  return { ...splice, depth: edit.path.length };
}

type PlacedText = Omit<Splice, 'depth'>;

class Place {
  readonly #text: string;
  readonly #edit: Edit;
  readonly #last: string | number;
  readonly #parent: unknown;
  /** The pair that the parent is the value of; null for an element of a list and for the root. */
  readonly #pair: Pair | null = null;

  constructor(text: string, document: Document, edit: Edit) {
    this.#text = text;
    this.#edit = edit;
    const last = edit.path.at(-1);
    if (last === undefined) throw this.#unsupported('is the document itself');
    this.#last = last;
    let node: unknown = document.contents;
    for (const step of edit.path.slice(0, -1)) {
      if (isYamlMap(node)) {
        const pair = pairOf(node, step);
        this.#pair = pair ?? null;
        node = pair?.value;
      } else {
        this.#pair = null;
        node = isSeq(node) && typeof step === 'number' ? node.items[step] : undefined;
      }
      this.#refuseShared(node);
    }
    this.#refuseShared(node);
    this.#parent = node;
  }

  replaced(value: string): PlacedText {
    const node = isYamlMap(this.#parent) ? pairOf(this.#parent, this.#last)?.value : undefined;
    if (!isScalar(node) || node.type?.startsWith('BLOCK') === true)
      throw this.#unsupported('is no short text');
    this.#refuseShared(node);
    const [start, end] = rangeOf(node);
    return { offset: start, length: end - start, text: JSON.stringify(value) };
  }

  added(value: Json): PlacedText {
    const parent = this.#parent;
    if (isYamlMap(parent)) {
      const pair = pairOf(parent, this.#last);
      if (pair !== undefined) return this.#overNull(pair, value);
      return parent.flow === true ? this.#intoFlowMap(parent, value) : this.#intoBlockMap(parent, value);
    }
    if (isSeq(parent)) {
      return parent.flow === true ? this.#intoFlowList(parent, value) : this.#intoBlockList(parent, value);
    }
    throw this.#unsupported('is not in a mapping or a list');
  }

  /** In the place of `null`, `~` or nothing at all. */
  #overNull(pair: Pair, value: Json): PlacedText {
    const { value: node } = pair;
    if (!isScalar(node) || node.value !== null) throw this.#unsupported('is there already');
    this.#refuseShared(node);
    const [start, end] = rangeOf(node);
    const json = JSON.stringify(value);
    const before = this.#text[start - 1] === ':' ? ' ' : '';
    const after = this.#text[end] === '#' ? ' ' : '';
    return { offset: start, length: end - start, text: `${before}${json}${after}` };
  }

  #intoFlowMap(map: YAMLMap, value: Json): PlacedText {
    const [start] = rangeOf(map);
    if (this.#text[start] !== '{') throw this.#unsupported('is in a mapping without a brace');
    const member = `${JSON.stringify(this.#last)}: ${JSON.stringify(value)}`;
    if (map.items.length === 0) return { offset: start + 1, length: 0, text: member, joiner: ', ' };
    return { offset: start + 1, length: 0, text: `${member}, ` };
  }

  #intoFlowList(list: YAMLSeq, value: Json): PlacedText {
    const [start] = rangeOf(list);
    const json = JSON.stringify(value);
    if (this.#text[start] !== '[') throw this.#unsupported('is in a list without a bracket');
    if (list.items.length === 0) return { offset: start + 1, length: 0, text: json, joiner: ', ' };
    if (this.#last === 0) return { offset: start + 1, length: 0, text: `${json}, ` };
    return { offset: rangeOf(list.items.at(-1))[1], length: 0, text: `, ${json}` };
  }

  #intoBlockMap(map: YAMLMap, value: Json): PlacedText {
    const [first] = map.items;
    const indent = this.#indentAt(rangeOf(first?.key)[0]);
    return this.#linesAfter(this.#endOf(map), indent, { [String(this.#last)]: value });
  }

  #intoBlockList(list: YAMLSeq, value: Json): PlacedText {
    const { srcToken } = list;
    const dash =
      srcToken?.type === 'block-seq'
        ? srcToken.items[0]?.start.find(({ type }) => type === 'seq-item-ind')
        : undefined;
    if (dash === undefined) throw this.#unsupported('is in a list without dashes');
    const indent = this.#indentAt(dash.offset);
    if (Number(this.#last) >= list.items.length) return this.#linesAfter(this.#endOf(list), indent, [value]);
    // At once below the key, so that a comment stays above the element that it is about.
    const keyEnd = rangeOf(this.#pair?.key)[1];
    const keyLine = this.#text.indexOf('\n', keyEnd);
    if (this.#last !== 0 || keyLine < 0 || keyLine > dash.offset) {
      throw this.#unsupported('is within a list that begins beside its key');
    }
    return { offset: keyLine + 1, length: 0, text: this.#lines(indent, [value]) };
  }

  /** Whole lines below the one in which what ends at `end` does. */
  #linesAfter(end: number, indent: string, value: Json): PlacedText {
    const lines = this.#lines(indent, value);
    // A block scalar ends with its last line break.
    if (end > 0 && this.#text[end - 1] === '\n') return { offset: end, length: 0, text: lines };
    const lineEnd = this.#text.indexOf('\n', end);
    if (lineEnd >= 0) return { offset: lineEnd + 1, length: 0, text: lines };
    return {
      offset: this.#text.length,
      length: 0,
      text: `${this.#newline}${lines.slice(0, -this.#newline.length)}`,
    };
  }

  /** A value in block style, as lines with `indent` before each. */
  #lines(indent: string, value: Json): string {
    // Version 1.1, as Kubernetes reads it: there the text `no` needs quotes.
    const yaml = stringify(value, { version: '1.1', indent: 2, indentSeq: false, lineWidth: 0 });
    return yaml
      .trimEnd()
      .split('\n')
      .map((line) => `${indent}${line}${this.#newline}`)
      .join('');
  }

  get #newline(): string {
    return this.#text.includes('\r\n') ? '\r\n' : '\n';
  }

  /** As many spaces as the column of `offset`. */
  #indentAt(offset: number): string {
    const before = this.#text.slice(this.#text.lastIndexOf('\n', offset - 1) + 1, offset);
    if (!/^ *(?:- +)*$/.test(before)) throw this.#unsupported('is not indented by spaces');
    return ' '.repeat(before.length);
  }

  /** Where the last thing in a collection ends. */
  #endOf(collection: YAMLMap | YAMLSeq): number {
    const last: unknown = collection.items.at(-1);
    if (isNode(last)) return isCollection(last) && last.flow !== true ? this.#endOf(last) : rangeOf(last)[1];
    const { key, value } = last as Pair;
    if (isCollection(value) && value.flow !== true) return this.#endOf(value);
    return Math.max(rangeOf(key)[1], isNode(value) ? rangeOf(value)[1] : 0);
  }

  /** What is shared by an anchor would change in other places too. */
  #refuseShared(node: unknown): void {
    if (isAlias(node)) throw this.#unsupported('is behind a YAML alias');
    if (isNode(node) && 'anchor' in node && node.anchor !== undefined) {
      throw this.#unsupported('is within something that has a YAML anchor');
    }
  }

  #unsupported(what: string): KedgeError {
    return new KedgeError('manifest_unsupported', `${quote(jsonPointer(this.#edit.path), 200)} ${what}`, {
      hint: 'write this part out, in the usual form of a manifest',
    });
  }
}

function pairOf(map: YAMLMap, key: string | number): Pair | undefined {
  return map.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === String(key));
}

function rangeOf(node: unknown): readonly [start: number, end: number] {
  const range = isNode(node) ? node.range : undefined;
  if (range === undefined || range === null) throw new TypeError('a YAML node without a place');
  return [range[0], range[1]];
}
