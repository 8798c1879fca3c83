import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { withSources } from '../../../scripts/debian-packages.ts';

describe('withSources', () => {
  for (const { name, list, want } of [
    {
      name: 'adds the type to a list in deb822 format',
      list: 'Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n',
      want: 'Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n',
    },
    {
      name: 'adds a line to a list in one-line format',
      list: '# mirrors\ndeb [arch=amd64] http://mirror.example/debian bookworm main\n',
      want:
        '# mirrors\ndeb [arch=amd64] http://mirror.example/debian bookworm main\n' +
        'deb-src [arch=amd64] http://mirror.example/debian bookworm main\n',
    },
    {
      name: 'leaves a list alone that has the sources already',
      list: 'Types: deb deb-src\nURIs: http://mirror.example/debian\n',
      want: 'Types: deb deb-src\nURIs: http://mirror.example/debian\n',
    },
  ]) {
    it(name, () => assert.equal(withSources(list), want));
  }
});
