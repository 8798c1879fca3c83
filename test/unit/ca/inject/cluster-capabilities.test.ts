import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { capabilitiesOfServer, capabilitiesOfVersion } from '../../../../ca/inject/cluster-capabilities.ts';
import { expectCode } from '../../../support/expect-code.ts';

describe('what a cluster can do', () => {
  const cases = [
    ['1.20', false],
    ['v1.28.15', false],
    ['1.28+', false],
    ['1.29', true],
    ['v1.29.0-alpha.1', true],
    ['v1.36.2', true],
    ['v1.31.4+k3s1', true],
    ['v1.30.5-gke.1014001', true],
    ['2.0', true],
  ] as const;
  for (const [version, nativeSidecars] of cases) {
    it(`follows from its version: ${version}`, () => {
      assert.deepEqual(capabilitiesOfVersion(version), { nativeSidecars });
    });
  }
  for (const version of ['', '1', 'latest', '1.x', '1.29 ', `1.29-${'a'.repeat(200)}`]) {
    it(`does not follow from ${JSON.stringify(version).slice(0, 20)}`, () => {
      expectCode('config_invalid', () => capabilitiesOfVersion(version));
    });
  }

  it('follows from what an API server tells at /version, with a minor like 29+', () => {
    assert.deepEqual(capabilitiesOfServer({ major: '1', minor: '29+' }), { nativeSidecars: true });
    assert.deepEqual(capabilitiesOfServer({ major: '1', minor: '20' }), { nativeSidecars: false });
  });

  it('does not follow from an answer without a version', () => {
    for (const answer of [null, {}, { major: 1, minor: 29 }, { major: '1', minor: '' }, []]) {
      expectCode('config_invalid', () => capabilitiesOfServer(answer));
    }
  });
});
