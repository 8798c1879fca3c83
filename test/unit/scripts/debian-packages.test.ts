import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ofSuite, withSources } from '../../../scripts/debian-packages.ts';

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

describe('ofSuite', () => {
  for (const { name, list, want } of [
    {
      name: 'takes the place of the release in deb822 format; updates and what is not Debian are left out',
      list:
        'Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n' +
        'Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n\n' +
        'Types: deb\nURIs: http://other.example/\nSuites: nodistro\n',
      want: 'Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n',
    },
    {
      name: 'takes the place of the release in one-line format',
      list:
        '# mirrors\ndeb [arch=amd64] http://mirror.example/debian bookworm main\n' +
        'deb http://mirror.example/debian-security bookworm-security main\ndeb http://other.example sdk main\n',
      want: 'deb [arch=amd64] http://mirror.example/debian trixie main\n',
    },
  ]) {
    it(name, () => assert.equal(ofSuite(list, 'trixie'), want));
  }
});
