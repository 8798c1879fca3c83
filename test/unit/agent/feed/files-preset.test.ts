import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ALL_FILE_NAMES,
  BUNDLE_DOCUMENT,
  FILES_PRESET_NAMES,
  isSecret,
  presetOf,
} from '../../../../agent/feed/files-preset.ts';

describe('the presets of the files feed', () => {
  for (const name of FILES_PRESET_NAMES) {
    const { files, maxKeyMode } = presetOf(name);

    it(`${name} has plain file names, each once, and none that the layout of the folder uses`, () => {
      const names = [...files, BUNDLE_DOCUMENT].map((file) => file.name);
      assert.equal(new Set(names).size, names.length);
      for (const file of names) assert.match(file, /^[a-z][a-z-]*\.[a-z]+$/);
    });

    it(`${name} has the key and the anchors`, () => {
      assert.ok(files.some(({ content }) => isSecret(content)));
      assert.ok(files.some(({ content }) => content === 'authorities'));
    });

    it(`${name} lets the owner read the key, and never everybody where it says what the server accepts`, () => {
      assert.equal((maxKeyMode ?? 0o600) & 0o007, 0);
      assert.equal((maxKeyMode ?? 0o600) & 0o400, 0o400);
    });

    it(`${name} has no name that a change of the preset would leave behind`, () => {
      for (const file of files) assert.ok(ALL_FILE_NAMES.includes(file.name), file.name);
    });
  }

  it('give one name the same content everywhere', () => {
    const contents = new Map<string, string>();
    for (const { name, content } of FILES_PRESET_NAMES.flatMap((preset) => presetOf(preset).files)) {
      assert.equal(contents.get(name) ?? content, content, name);
      contents.set(name, content);
    }
  });
});
