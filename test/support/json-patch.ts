import assert from 'node:assert/strict';

type Value = null | boolean | number | string | Value[] | { [name: string]: Value };

/** Applies a JSON Patch as RFC 6902 says, written for tests apart from the code that makes patches. */
export function applyJsonPatch(document: unknown, patch: readonly object[]): unknown {
  const root = structuredClone(document) as Value;
  for (const operation of patch) {
    const { op, path, value } = operation as { op: string; path: string; value: Value };
    assert.ok(op === 'add' || op === 'replace', `the operation ${op}`);
    const steps = path
      .split('/')
      .slice(1)
      .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = steps.pop();
    assert.ok(last !== undefined, 'the whole document');
    let target: Value = root;
    for (const step of steps) {
      assert.ok(typeof target === 'object' && target !== null, `${path}: the target does not exist`);
      const next: Value | undefined = Array.isArray(target) ? target[Number(step)] : target[step];
      assert.ok(next !== undefined, `${path}: the target does not exist`);
      target = next;
    }
    if (Array.isArray(target)) {
      const index = last === '-' ? target.length : Number(last);
      assert.ok(op === 'add' && index <= target.length, path);
      target.splice(index, 0, value);
    } else {
      assert.ok(typeof target === 'object' && target !== null, `${path}: the target does not exist`);
      if (op === 'replace') assert.ok(Object.hasOwn(target, last), `${path}: nothing to replace`);
      target[last] = value;
    }
  }
  return root;
}
