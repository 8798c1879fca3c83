import { isList, isMap, type Json, type JsonMap } from './json.ts';

/** Where a value is: names of members and indexes of elements, from the root. */
export type EditPath = readonly (string | number)[];

/**
 * One change of a document. `add` puts a member that is not there, or an element before the one at the index (at the
 * length: after the last); `replace` puts another text in the place of one. Nothing is ever removed.
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
    const exists = Object.hasOwn(value, step);
    const isNew = rest.length === 0 && edit.op === 'add';
    if (exists === isNew) throw lost(edit);
    const next = rest.length === 0 ? edit.value : changed(value[step] ?? null, rest, edit);
    return Object.fromEntries([
      ...Object.entries({ ...value })
        .filter(([name]) => name !== step || exists)
        .map(([name, item]): [string, Json] => [name, name === step ? next : item]),
      ...(exists ? [] : [[step, next] as [string, Json]]),
    ]);
  }
  throw lost(edit);
}

function lost(edit: Edit): TypeError {
  return new TypeError(`an edit leads nowhere: ${edit.op} ${jsonPointer(edit.path)}`);
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
    else this.#apply({ op: 'add', path, value: [element] });
  }

  /** Sets a text member of the object at `path`, which is made where it is missing. What is equal stays. */
  setText(path: EditPath, name: string, text: string): void {
    const map = this.at(...path);
    if (!isMap(map)) this.#apply({ op: 'add', path, value: { [name]: text } });
    else if (!Object.hasOwn(map, name)) this.#apply({ op: 'add', path: [...path, name], value: text });
    else if (map[name] !== text) this.#apply({ op: 'replace', path: [...path, name], value: text });
  }

  #apply(edit: Edit): void {
    this.#document = applyEdits(this.#document, [edit]);
    this.#edits.push(edit);
  }
}
