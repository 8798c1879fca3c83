import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { KEDGE_VERSION } from '../../../host/version.ts';

it('the version is the one in package.json', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../package.json'), 'utf8');
  assert.equal(KEDGE_VERSION, (JSON.parse(text) as { version: string }).version);
});
