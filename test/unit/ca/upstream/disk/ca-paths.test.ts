import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { chainOf, pathsToRoots, rootOf } from '../../../../../ca/upstream/disk/ca-paths.ts';
import { type Certificate, parseCertificate } from '../../../../../pki/certificate.ts';
import { makeAnchor, makeIssuer, signedBy, type TestCa } from '../../../../support/certificates.ts';

const read = (...cas: readonly TestCa[]): Certificate[] => cas.map(({ der }) => parseCertificate(der));

describe('the ways from a CA to its roots', () => {
  let root: TestCa;
  let high: TestCa;
  let low: TestCa;
  let stranger: TestCa;
  before(async () => {
    root = await makeAnchor();
    high = await makeIssuer(root);
    low = await makeIssuer(high);
    stranger = await makeAnchor();
  });

  it('are found in certificates of any order, with others among them', () => {
    const [start] = read(low);
    fc.assert(
      fc.property(fc.shuffledSubarray(read(low, high, root, stranger), { minLength: 4 }), (certificates) => {
        const [path, ...more] = pathsToRoots(start!, certificates);
        assert.deepEqual(more, []);
        assert.deepEqual(
          path?.map(({ der }) => der),
          [low.der, high.der, root.der],
        );
      }),
    );
  });

  it('end with the root, which is not of the chain that travels', () => {
    const [path] = pathsToRoots(read(low)[0]!, read(root, high));
    assert.deepEqual(rootOf(path!).der, root.der);
    assert.deepEqual(chainOf(path!), [low.der, high.der]);
    const [alone] = pathsToRoots(read(root)[0]!, []);
    assert.deepEqual([rootOf(alone!).der, chainOf(alone!)], [root.der, []]);
  });

  it('are several where a CA was signed by two roots', async () => {
    const other = await makeAnchor();
    const across = await makeIssuer(other, { subject: high.subject, signer: high.signer });
    const paths = pathsToRoots(read(low)[0]!, read(high, across, other, root));
    assert.deepEqual(
      paths.map((path) => rootOf(path).der),
      [root.der, other.der],
    );
  });

  it('are none where a certificate is missing, or only has the name of the signer', async () => {
    assert.deepEqual(pathsToRoots(read(low)[0]!, read(root)), []);
    const forged = { ...high, der: signedBy(high.der, stranger.signer) };
    assert.deepEqual(pathsToRoots(read(low)[0]!, read(forged, root)), []);
    const namesake = await makeAnchor({ subject: root.subject });
    assert.deepEqual(pathsToRoots(read(high)[0]!, read(namesake)), []);
  });

  it('end where certificates sign one another in a circle, or are too many', async () => {
    const twin = await makeIssuer(low, { subject: high.subject, signer: high.signer });
    assert.deepEqual(pathsToRoots(read(low)[0]!, read(twin)), []);
    let top = await makeAnchor();
    const all = [top];
    for (let i = 0; i < 7; i += 1) {
      top = await makeIssuer(top);
      all.push(top);
    }
    assert.deepEqual(pathsToRoots(read(top)[0]!, read(...all)), []);
    assert.equal(pathsToRoots(read(all[6]!)[0]!, read(...all))[0]?.length, 7);
  });
});
