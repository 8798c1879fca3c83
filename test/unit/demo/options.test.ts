import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDemoOptions } from '../../../demo/options.ts';

describe('parseDemoOptions', () => {
  it('needs nothing', () => {
    assert.deepEqual(parseDemoOptions([]), { rotations: undefined, help: false });
    assert.deepEqual(parseDemoOptions(['--rotations', '3']), { rotations: 3, help: false });
    assert.deepEqual(parseDemoOptions(['--help']), { rotations: undefined, help: true });
  });

  for (const argv of [
    ['--rotations'],
    ['--rotations', '0'],
    ['--rotations=-1'],
    ['--rotations', 'many'],
    ['--rotations', '9999999'],
    ['--x'],
    ['x'],
  ]) {
    it(`refuses ${argv.join(' ')}`, () => {
      assert.throws(() => parseDemoOptions(argv), { code: 'usage_invalid' });
    });
  }
});
