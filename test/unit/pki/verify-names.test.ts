import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { derContext, derOid, derSequence, derSetOf, derUtf8String } from '../../../pki/der-writer.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { OID } from '../../../pki/oid.ts';
import { verifyX509Svid } from '../../../pki/x509-svid-verify.ts';
import { x509 } from '../../../pki/x509-library.ts';
import {
  NOW_MS,
  SVID_ID,
  type TestCa,
  ext,
  makeAnchor,
  makeIssuer,
  makeLeaf,
} from '../../support/certificates.ts';

type Subtrees = Parameters<typeof ext.nameConstraints>[0];
const [EMAIL, DNS, URI, IP] = [1, 2, 6, 7];
const OWN: Subtrees = [[URI, 'example.org']];

let anchor: TestCa;
before(async () => {
  anchor = await makeAnchor();
});

/** A leaf with these SANs below an issuer with these constraints: the verdict. */
async function verdict(given: {
  constraints: x509.Extension;
  sans?: x509.JsonGeneralNames;
  subject?: string;
}): Promise<string> {
  const ca = await makeIssuer(anchor, { extensions: { constraints: given.constraints } });
  const leaf = await makeLeaf(ca, {
    ...(given.subject === undefined ? {} : { subject: given.subject }),
    extensions: { san: ext.san([{ type: 'url', value: SVID_ID }, ...(given.sans ?? [])]) },
  });
  try {
    verifyX509Svid({ chain: [leaf, ca.der], bundles: () => [anchor.der], nowMs: NOW_MS });
    return 'accepted';
  } catch (error) {
    assert.ok(isKedgeError(error, 'svid_name_constraint_violated'), String(error));
    assert.match(error.message, /^the leaf has .* by the name constraints of issuer 1 of the chain$/);
    return error.message.slice('the leaf has '.length).replace(/ by the name.*/, '');
  }
}

describe('name constraints', () => {
  const web: x509.JsonGeneralNames = [{ type: 'dns', value: 'web.example.org' }];
  const address: x509.JsonGeneralNames = [{ type: 'ip', value: '10.1.2.3' }];
  const mail: x509.JsonGeneralNames = [{ type: 'email', value: 'a@example.org' }];
  const TEN = Uint8Array.of(10, 0, 0, 0, 255, 0, 0, 0);
  const CASES: readonly {
    name: string;
    constraints: x509.Extension;
    sans?: x509.JsonGeneralNames;
    subject?: string;
    want: string;
  }[] = [
    { name: 'permit the trust domain', constraints: ext.nameConstraints(OWN), want: 'accepted' },
    {
      name: 'permit another one beside it',
      constraints: ext.nameConstraints([[URI, 'other.example'], ...OWN]),
      want: 'accepted',
    },
    {
      name: 'permit only others',
      constraints: ext.nameConstraints([[URI, 'other.example']]),
      want: 'a name of the form uri that is not permitted',
    },
    {
      name: 'permit only what is below the trust domain',
      constraints: ext.nameConstraints([[URI, '.example.org']]),
      want: 'a name of the form uri that is not permitted',
    },
    {
      name: 'exclude the trust domain',
      constraints: ext.nameConstraints([], OWN),
      want: 'a name of the form uri that is excluded',
    },
    {
      name: 'exclude what they permit',
      constraints: ext.nameConstraints(OWN, OWN),
      want: 'a name of the form uri that is excluded',
    },
    {
      name: 'have a URI that is no host',
      constraints: ext.nameConstraints([...OWN, [URI, 'spiffe://example.org']]),
      want: 'a name of the form uri that cannot be judged',
    },
    {
      name: 'exclude a URI that is no host',
      constraints: ext.nameConstraints([], [[URI, '*']]),
      want: 'a name of the form uri that cannot be judged',
    },
    {
      name: 'say nothing about a form that the leaf has',
      constraints: ext.nameConstraints(OWN),
      sans: [...web, ...address, ...mail],
      want: 'accepted',
    },
    {
      name: 'permit a DNS name',
      constraints: ext.nameConstraints([[DNS, 'example.org']]),
      sans: web,
      want: 'accepted',
    },
    {
      name: 'do not permit a DNS name',
      constraints: ext.nameConstraints([[DNS, 'api.example.org']]),
      sans: web,
      want: 'a name of the form dns that is not permitted',
    },
    {
      name: 'exclude what a wildcard may stand for',
      constraints: ext.nameConstraints([], [[DNS, 'api.example.org']]),
      sans: [{ type: 'dns', value: '*.example.org' }],
      want: 'a name of the form dns that is excluded',
    },
    {
      name: 'permit an address',
      constraints: ext.nameConstraints([[IP, TEN]]),
      sans: address,
      want: 'accepted',
    },
    {
      name: 'exclude an address',
      constraints: ext.nameConstraints([], [[IP, TEN]]),
      sans: address,
      want: 'a name of the form ip that is excluded',
    },
    {
      name: 'have an email, which Kedge does not judge, and the leaf has one',
      constraints: ext.nameConstraints([[EMAIL, 'example.org']]),
      sans: mail,
      want: 'a name of the form email that cannot be judged',
    },
    {
      name: 'have an email, and the leaf a subject that may hold one',
      constraints: ext.nameConstraints([], [[EMAIL, 'example.org']]),
      subject: 'CN=web',
      want: 'a name of the form directory that cannot be judged',
    },
    {
      name: 'have an email, and the leaf none',
      constraints: ext.nameConstraints([[EMAIL, 'example.org']]),
      want: 'accepted',
    },
    { name: 'have a directory name, and the leaf none', constraints: directory(), want: 'accepted' },
    {
      name: 'have a directory name, and the leaf a subject',
      constraints: directory(),
      subject: 'O=example.org',
      want: 'a name of the form directory that cannot be judged',
    },
  ];
  for (const { name, want, ...given } of CASES)
    it(`that ${name}: ${want}`, async () => assert.equal(await verdict(given), want));

  it('bind the CAs below, but not those that issued themselves', async () => {
    const top = await makeAnchor({
      extensions: { constraints: ext.nameConstraints([[DNS, 'example.org']]) },
    });
    const extensions = { san: ext.san([{ type: 'dns', value: 'ca.test' }]) };
    const named = await makeIssuer(top, { extensions });
    const selfIssued = await makeIssuer(top, { subject: top.subject, extensions });
    const verify = async (ca: TestCa): Promise<unknown> =>
      verifyX509Svid({ chain: [await makeLeaf(ca), ca.der], bundles: () => [top.der], nowMs: NOW_MS });
    await assert.rejects(
      verify(named),
      /^KedgeError: issuer 1 of the chain has a name of the form dns .* of the trust anchor$/,
    );
    assert.ok(await verify(selfIssued));
  });

  it('bind the leaf from the anchor down, whatever stands between', async () => {
    const constraints = ext.nameConstraints([[URI, 'other.example']]);
    const top = await makeAnchor({ extensions: { constraints } });
    const nameless = await makeIssuer(top, { extensions: { san: null } });
    const selfIssued = await makeIssuer(top, { subject: top.subject });
    const open = await makeAnchor({ extensions: { constraints: ext.nameConstraints(OWN) } });
    const below = await makeIssuer(open, { extensions: { san: null } });
    const good = { chain: [await makeLeaf(below), below.der], bundles: () => [open.der], nowMs: NOW_MS };
    assert.ok(verifyX509Svid(good));
    for (const ca of [nameless, selfIssued]) {
      const chain = [await makeLeaf(ca), ca.der];
      assert.throws(
        () => verifyX509Svid({ chain, bundles: () => [top.der], nowMs: NOW_MS }),
        /^KedgeError: the leaf has a name of the form uri .* of the trust anchor$/,
      );
    }
  });
});

/** A permitted directory name. */
function directory(): x509.Extension {
  const name = derSequence(derSetOf(derSequence(derOid(OID.organizationName), derUtf8String('example.org'))));
  return new x509.Extension(
    OID.nameConstraints,
    true,
    derSequence(derContext(0, derSequence(derContext(4, name)))),
  );
}
