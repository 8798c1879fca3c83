import { isList, isMap, type Json, type JsonMap } from './json.ts';

/** Where a value is: names of members and indexes of elements, from the root. */
export type EditPath = readonly (string | number)[];

/**
 * One change of a document. `add` puts a member that is not there or is null, or an element before the one at the index
 * (at the length: after the last); `replace` puts another text in the place of one. Nothing is ever removed.
 */
export type Edit =
  | { readonly op: 'add'; readonly path: EditPath; readonly value: Json }
  | { readonly op: 'replace'; readonly path: EditPath; readonly value: string };

/** The document after `edits`, each on what the one before left. Throws TypeError for a path that leads nowhere. */
export function applyEdits(document: Json, edits: readonly Edit[]): Json {
  return edits.reduce((value, edit) => changed(value, edit.path, edit), document);
}

function changed(value: Json, path: EditPath, edit: Edit): Json {
  const [step, ...rest] = path;
  if (typeof step === 'number' && isList(value)) {
    const isNew = rest.length === 0 && edit.op === 'add';
    if (step < 0 || step >= value.length + (isNew ? 1 : 0)) throw lost(edit);
    return isNew
      ? value.toSpliced(step, 0, edit.value)
      : value.with(step, rest.length === 0 ? edit.value : changed(value[step] ?? null, rest, edit));
  }
  if (typeof step === 'string' && isMap(value)) {
    const there = Object.hasOwn(value, step) ? (value[step] ?? null) : null;
    const isNew = rest.length === 0 && edit.op === 'add';
    if ((there === null) !== isNew) throw lost(edit);
    // `fromEntries` and the spread define properties: a member named `__proto__` is one like any other.
    const next = Object.fromEntries([[step, rest.length === 0 ? edit.value : changed(there, rest, edit)]]);
    return { ...value, ...next };
  }
  throw lost(edit);
}

function lost(edit: Edit): TypeError {
  return new TypeError(`an edit leads nowhere: ${edit.op} ${jsonPointer(edit.path)}`);
}

/**
 * The same changes with what is added to something added put into it at once: each edit that is left has its parent in
 * the document as it was. Elements that are appended keep the index that they get.
 */
export function coalesced(edits: readonly Edit[]): readonly Edit[] {
  const left: Edit[] = [];
  for (const edit of edits) {
    const within = left.findIndex(
      ({ op, path }) =>
        op === 'add' && path.length < edit.path.length && path.every((step, i) => step === edit.path[i]),
    );
    const outer = left[within];
    // An index names an element of the list as it is then: only what was added at the end is still there later.
    if (outer?.op !== 'add') left.push(edit);
    else left[within] = { ...outer, value: changed(outer.value, edit.path.slice(outer.path.length), edit) };
  }
  return left;
}

/** A path as a JSON Pointer (RFC 6901). */
export function jsonPointer(path: EditPath): string {
  return path.map((step) => `/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** The same changes as a JSON Patch (RFC 6902). */
export function jsonPatch(edits: readonly Edit[]): readonly JsonMap[] {
  return edits.map(({ op, path, value }) => ({ op, path: jsonPointer(path), value }));
}

/** Collects edits of one document, and shows it as they leave it. */
export class Draft {
  readonly #edits: Edit[] = [];
  #document: Json;

  constructor(document: Json) {
    this.#document = document;
  }

  get edits(): readonly Edit[] {
    return this.#edits;
  }

  /** What is at `path` now; undefined where there is nothing. */
  at(...path: EditPath): Json | undefined {
    let value: Json | undefined = this.#document;
    for (const step of path) {
      if (typeof step === 'number') value = isList(value) ? value[step] : undefined;
      else value = isMap(value) && Object.hasOwn(value, step) ? value[step] : undefined;
    }
    return value;
  }

  /** Puts an element into the list at `path`, which is made where it is missing. `at`: the index; default: the end. */
  insert(path: EditPath, element: Json, at?: number): void {
    const list = this.at(...path);
    if (isList(list)) this.#apply({ op: 'add', path: [...path, at ?? list.length], value: element });
    else this.#make(path, [element]);
  }

  /** Sets a text member of the object at `path`, which is made where it is missing. What is equal stays. */
  setText(path: EditPath, name: string, text: string): void {
    const there = this.at(...path, name);
    if (there === undefined || there === null) this.#make([...path, name], text);
    else if (there !== text) this.#apply({ op: 'replace', path: [...path, name], value: text });
  }

  /** Puts `value` at `path`, in objects that are made for it where there are none. */
  #make(path: EditPath, value: Json): void {
    const parent = this.at(...path.slice(0, -1));
    const name = path.at(-1);
    const isMissing = parent === undefined || parent === null;
    if (isMissing && typeof name === 'string') this.#make(path.slice(0, -1), { [name]: value });
    else this.#apply({ op: 'add', path, value });
  }

  #apply(edit: Edit): void {
    this.#document = applyEdits(this.#document, [edit]);
    this.#edits.push(edit);
  }
}
