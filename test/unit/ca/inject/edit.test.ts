import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { applyEdits, Draft, jsonPatch, jsonPointer } from '../../../../ca/inject/edit.ts';

describe('edits', () => {
  it('add members and elements, and replace texts, each on what the one before left', () => {
    const draft = new Draft({ a: { b: [1] } });
    draft.insert(['a', 'b'], 0, 0);
    draft.insert(['a', 'b'], 2);
    draft.insert(['a', 'new'], 'x');
    draft.setText(['m'], 'k/1', 'v');
    draft.setText(['m'], 'k/1', 'w');
    draft.setText(['m'], 'k/1', 'w');
    const want = { a: { b: [0, 1, 2], new: ['x'] }, m: { 'k/1': 'w' } };
    assert.deepEqual(applyEdits({ a: { b: [1] } }, draft.edits), want);
    assert.deepEqual(
      jsonPatch(draft.edits).map(({ op, path }) => [op, path]),
      [
        ['add', '/a/b/0'],
        ['add', '/a/b/2'],
        ['add', '/a/new'],
        ['add', '/m'],
        ['replace', '/m/k~11'],
      ],
    );
  });

  it('make what is missing or null above them in one', () => {
    const draft = new Draft({ spec: null });
    draft.setText(['metadata', 'labels'], 'a', 'b');
    draft.insert(['spec', 'volumes'], 1);
    assert.deepEqual(draft.edits, [
      { op: 'add', path: ['metadata'], value: { labels: { a: 'b' } } },
      { op: 'add', path: ['spec'], value: { volumes: [1] } },
    ]);
    assert.deepEqual(applyEdits({ spec: null }, draft.edits), {
      spec: { volumes: [1] },
      metadata: { labels: { a: 'b' } },
    });
  });

  it('know a member named __proto__ as one like any other', () => {
    const edited = applyEdits(JSON.parse('{"__proto__":{"a":1}}'), [
      { op: 'add', path: ['__proto__', 'b'], value: 2 },
    ]);
    assert.equal(JSON.stringify(edited), '{"__proto__":{"a":1,"b":2}}');
    assert.equal(({} as Record<string, unknown>)['b'], undefined);
  });

  const lost = [
    { op: 'add', path: ['a', 'b'], value: 1 },
    { op: 'replace', path: ['x', 'y'], value: '1' },
    { op: 'add', path: ['x', 'y'], value: 1 },
    { op: 'add', path: ['a', 'b', 2], value: 1 },
    { op: 'add', path: ['a', 'b', 'c'], value: 1 },
    { op: 'replace', path: ['a', 'c'], value: '1' },
    { op: 'add', path: [], value: 1 },
  ] as const;
  for (const edit of lost) {
    it(`do not lead nowhere: ${edit.op} ${jsonPointer(edit.path)}`, () => {
      assert.throws(() => applyEdits({ a: { b: [1] } }, [edit]), TypeError);
    });
  }

  it('write pointers as RFC 6901 escapes them', () => {
    assert.equal(jsonPointer(['a/b', 'm~n', 0, '']), '/a~1b/m~0n/0/');
  });
});
