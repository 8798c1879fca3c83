import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  certificatesMember,
  dataOf,
  isMembers,
  readBody,
  secondsMember,
  textMember,
} from '../../../../../ca/upstream/vault/vault-answer.ts';
import { checkVaultPath } from '../../../../../ca/upstream/vault/vault-certificate-check.ts';
import { chainTo, rootOf } from '../../../../../ca/upstream/vault/vault-chain.ts';
import { errorsOf, refusalOf } from '../../../../../ca/upstream/vault/vault-refusal.ts';
import { parseCertificate } from '../../../../../pki/certificate.ts';
import { isKedgeError } from '../../../../../pki/kedge-error.ts';
import { TrustDomain } from '../../../../../pki/spiffe-id.ts';
import { pemOf } from '../../../../fakes/vault/vault-certificates.ts';
import { makeAnchor, makeIssuer } from '../../../../support/certificates.ts';
import { expectCode } from '../../../../support/expect-code.ts';
import { checkProperty } from '../../../../support/property.ts';

const trustDomain = TrustDomain.parse('example.org');
const CALL = {
  path: 'pki/root/sign-intermediate',
  capability: 'update',
  mountKind: 'PKI secrets engine',
} as const;
const answerOf = (body: Uint8Array, status = 200, contentType = 'application/json') => ({
  status,
  contentType,
  retryAfter: undefined,
  dateMs: null,
  body: Buffer.from(body),
});

/** Runs what may refuse; anything but a KedgeError of Vault is a mistake of ours. */
function refuses(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    assert.ok(isKedgeError(error) && error.code.startsWith('vault_'), String(error));
    assert.ok((error.hint ?? '').length > 0);
  }
}

describe('answers of Vault', () => {
  it('of any bytes, type and status are read or refused with a code and a hint', () => {
    checkProperty(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        fc.constantFrom('application/json', 'application/vault+json', 'text/html', '', 'text/plain'),
        fc.integer({ min: 100, max: 599 }),
        (bytes, type, status) => {
          refuses(() => {
            const body = readBody(answerOf(bytes, status, type), CALL.path);
            assert.ok(errorsOf(body).every((text) => typeof text === 'string'));
            const refusal = refusalOf(CALL, answerOf(bytes, status), body);
            assert.ok(refusal.code.startsWith('vault_') && (refusal.hint ?? '') !== '');
            const data = dataOf(body, 'it');
            textMember(data, 'certificate', 'it');
            certificatesMember(data, 'certificate', 'it');
            certificatesMember(data, 'ca_chain', 'it');
            secondsMember(data, 'ttl');
          });
        },
      ),
    );
  });

  it('give certificates from one PEM, from several in one text, and from a list, in their order', async () => {
    const [a, b] = [(await makeAnchor()).der, (await makeAnchor()).der];
    for (const value of [
      `${pemOf(a)}\n${pemOf(b)}`,
      [pemOf(a), `${pemOf(b)}\n`],
      [`${pemOf(a)}\n${pemOf(b)}`, ''],
    ]) {
      assert.deepEqual(certificatesMember({ value }, 'value', 'it'), [a, b]);
    }
    for (const value of [undefined, null, '', '\n', []]) {
      assert.deepEqual(certificatesMember({ value }, 'value', 'it'), []);
    }
    assert.equal(isMembers([]), false);
  });
});

/** By OpenSSL: a root with a key on the curve P-224, and an issuer under it. Base64. */
const P224_ROOT = `
    MIIBfjCCASygAwIBAgIUPowsBT2Nu2FBsVAQKBQhy6AnFmMwCgYIKoZIzj0EAwIwFTETMBEGA1UEAwwKUm9vdCBQLTIyNDAg
    Fw0yNjExMjUxOTQxMDJaGA8yMTI2MTEwMTE5NDEwMlowFTETMBEGA1UEAwwKUm9vdCBQLTIyNDBOMBAGByqGSM49AgEGBSuB
    BAAhAzoABPePVwmZ0cW2CMpDAhcPY5E91DUABb4Iu5MBdl11et6P7kvSgRJEXRi4R97lNjesH0tsL71HYb6eo2MwYTAdBgNV
    HQ4EFgQU4dMs3ecbO4SwDKWE14bzinbBu/wwHwYDVR0jBBgwFoAU4dMs3ecbO4SwDKWE14bzinbBu/wwDwYDVR0TAQH/BAUw
    AwEB/zAOBgNVHQ8BAf8EBAMCAQYwCgYIKoZIzj0EAwIDQAAwPQIcQaLLoYXmOXJvyeY/5Jd04VsdO0giS2qImXVz1QIdAIkY
    W6PK5yYKmXeNm7bY8htzwjWQtwaE0iBz05E=`;
const P224_ISSUER = `
    MIIBrDCCAVmgAwIBAgIUODYGfQG7M2Mc9JdIv1cx/c4I8WgwCgYIKoZIzj0EAwIwFTETMBEGA1UEAwwKUm9vdCBQLTIyNDAg
    Fw0yNjExMjUxOTQxMDNaGA8yMTI2MTEwMTE5NDEwM1owETEPMA0GA1UEAwwGSXNzdWVyMFkwEwYHKoZIzj0CAQYIKoZIzj0D
    AQcDQgAEhoYcKEySKC0sc0YcaS6D0AQ5mMJn/EvAzOIk2DmA0w/SzTWmNMhuhBREvrJzSaODj8fW3TVOgFbXxqcwk7CskaOB
    iDCBhTASBgNVHRMBAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIBBjAfBgNVHREEGDAWhhRzcGlmZmU6Ly9leGFtcGxlLm9y
    ZzAdBgNVHQ4EFgQUM4Afh6SpxwsvP6bpL/ADTuY50KgwHwYDVR0jBBgwFoAU4dMs3ecbO4SwDKWE14bzinbBu/wwCgYIKoZI
    zj0EAwIDQQAwPgIdAMWbPB14umcwPsvXN1Z0Mrao74kFpAakm1wBNQoCHQCbMOXDcblN1cBAQCxJmmdwZqblN6kjuN5zsxTk`;

describe('the chain of an issuer', async () => {
  const root = await makeAnchor();
  const other = await makeAnchor();
  const upper = await makeIssuer(root);
  const lower = await makeIssuer(upper);
  const issuer = await makeIssuer(lower);
  const all = [root.der, other.der, upper.der, lower.der, issuer.der];

  it('is found whatever the order, and whatever else is there', () => {
    checkProperty(
      fc.property(fc.shuffledSubarray([...all, ...all], { minLength: 10 }), (pool) => {
        assert.deepEqual(chainTo(root.der, issuer.der, pool), [issuer.der, lower.der, upper.der]);
        assert.equal(chainTo(other.der, issuer.der, pool), null);
        assert.deepEqual(rootOf(issuer.der, pool), root.der);
      }),
    );
  });

  it('is not found when a link of it is missing', () => {
    checkProperty(
      fc.property(fc.subarray([root.der, upper.der, lower.der], { maxLength: 2 }), (some) => {
        const isWhole = some.includes(upper.der) && some.includes(lower.der);
        assert.equal(chainTo(root.der, issuer.der, some) !== null, isWhole);
        assert.equal(rootOf(issuer.der, some), null);
      }),
    );
  });

  it('says that a CA has a key on a curve that Kedge does not verify', () => {
    const [p224, below] = [P224_ROOT, P224_ISSUER].map((text) => new Uint8Array(Buffer.from(text, 'base64')));
    const spki = parseCertificate(below!).spki;
    const nowMs = Date.UTC(2027, 0, 1);
    for (const look of [
      () => chainTo(p224!, below!, []),
      () => rootOf(below!, [p224!]),
      () => checkVaultPath({ trustDomain, path: [p224!], spki: null, nowMs }),
      () => checkVaultPath({ trustDomain, path: [below!, p224!], spki, nowMs }),
    ]) {
      const error = expectCode('vault_certificate_key_unsupported', look);
      assert.match(error.hint ?? '', /key_bits=256/);
    }
  });

  it('of a root is nothing, and of what is no certificate is refused', () => {
    assert.deepEqual(chainTo(root.der, root.der, all), []);
    assert.deepEqual(rootOf(root.der, []), root.der);
    refuses(() => chainTo(root.der, new Uint8Array([1]), all));
    refuses(() => rootOf(issuer.der, [new Uint8Array([1])]));
  });
});
