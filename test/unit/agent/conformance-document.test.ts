import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';

const ROOT = join(import.meta.dirname, '../../..');
const page = readFileSync(join(ROOT, 'docs/conformance.md'), 'utf8');
const tests = globSync('test/**/*.test.ts', { cwd: ROOT });
const references = [...page.matchAll(/`([a-z0-9/-]+\.test\.ts)`: ([^|]+?) \|/g)].map(
  ([, file = '', text = '']) => ({
    file,
    text,
  }),
);

describe('docs/conformance.md', () => {
  it('has a row for each item of the checklist that the Workload API has to meet', () => {
    const numbers = new Set([...page.matchAll(/^\| (\d+) \|/gm)].map(([, number]) => Number(number)));
    for (let item = 61; item <= 84; item += 1) assert.ok(numbers.has(item), `item ${item} is missing`);
  });

  it('names a test in each row', () => {
    const rows = page
      .split('\n')
      .filter((line) => line.startsWith('| ') && !/^\| (#|What|Rule|---)/.test(line));
    assert.ok(rows.length > 30);
    assert.equal(references.length, rows.length);
  });

  for (const { file, text } of references) {
    it(`names what is in ${file}: ${text}`, () => {
      const path = tests.find((test) => test.endsWith(`/${file}`));
      assert.ok(path !== undefined, `there is no ${file}`);
      assert.ok(readFileSync(join(ROOT, path), 'utf8').includes(text), `${path} does not say ${text}`);
    });
  }
});
