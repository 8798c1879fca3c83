import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import {
  type BundleDocument,
  formatBundleDocument,
  parseBundleDocument,
} from '../../../pki/bundle-document.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { makeAnchor, newSigner } from '../../support/certificates.ts';
import { checkProperty } from '../../support/property.ts';

let authorities: readonly Uint8Array[];

before(async () => {
  const kinds = ['ec-p256', 'ec-p384', 'rsa-2048'] as const;
  authorities = await Promise.all(
    kinds.map(async (kind) => (await makeAnchor({ signer: newSigner(kind) })).der),
  );
});

const bytes = (value: unknown): Uint8Array =>
  new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value));
const base64 = (der: Uint8Array | undefined): string => Buffer.from(der ?? []).toString('base64');
const parse = (value: unknown): BundleDocument => parseBundleDocument(bytes(value));

function refuses(act: () => unknown, code: ErrorCode, message: RegExp): void {
  assert.throws(act, (error) => {
    assert.ok(isKedgeError(error, code), String(error));
    assert.match(error.message, message);
    return true;
  });
}

describe('writing a SPIFFE bundle', () => {
  it('gives one JWK for each authority, with its key, and no kid', () => {
    const document = { sequence: 7n, refreshHintSeconds: 300, x509Authorities: authorities };
    const parsed = JSON.parse(new TextDecoder().decode(formatBundleDocument(document))) as {
      keys: Record<string, unknown>[];
    } & Record<string, unknown>;
    assert.equal(parsed['spiffe_sequence'], 7);
    assert.equal(parsed['spiffe_refresh_hint'], 300);
    assert.deepEqual(
      parsed.keys.map((key) => Object.keys(key).toSorted().join(' ')),
      ['crv kty use x x5c y', 'crv kty use x x5c y', 'e kty n use x5c'],
    );
    for (const [index, key] of parsed.keys.entries()) {
      assert.equal(key['use'], 'x509-svid');
      assert.deepEqual(key['x5c'], [base64(authorities[index])]);
      const fromJwk = createPublicKey({ key, format: 'jwk' });
      assert.ok(new X509Certificate(authorities[index]!).publicKey.equals(fromJwk));
    }
  });

  it('gives a bundle without authorities as one that trusts nothing', () => {
    const text = new TextDecoder().decode(formatBundleDocument({ x509Authorities: [] }));
    assert.equal(text, '{"keys":[]}');
  });

  it('refuses what its reader would', () => {
    const x509Authorities = authorities;
    refuses(() => formatBundleDocument({ sequence: -1n, x509Authorities }), 'bundle_malformed', /sequence/);
    refuses(
      () => formatBundleDocument({ sequence: 2n ** 64n, x509Authorities }),
      'bundle_malformed',
      /sequence/,
    );
    for (const refreshHintSeconds of [-1, 0.5, Number.NaN, 2 ** 53])
      refuses(
        () => formatBundleDocument({ refreshHintSeconds, x509Authorities }),
        'bundle_malformed',
        /hint/,
      );
    refuses(() => formatBundleDocument({ x509Authorities: [Uint8Array.of(1)] }), 'bundle_malformed', /DER/);
  });

  it('is undone by reading, for every bundle', () => {
    checkProperty(
      fc.property(
        fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { nil: undefined }),
        fc.option(fc.maxSafeNat(), { nil: undefined }),
        fc.subarray([0, 1, 2]),
        (sequence, refreshHintSeconds, indices) => {
          const document: BundleDocument = {
            ...(sequence === undefined ? {} : { sequence }),
            ...(refreshHintSeconds === undefined ? {} : { refreshHintSeconds }),
            x509Authorities: indices.map((i) => authorities[i]!),
          };
          assert.deepEqual(parseBundleDocument(formatBundleDocument(document)), document);
        },
      ),
    );
  });
});

describe('reading a SPIFFE bundle', () => {
  const entry = (override: Record<string, unknown> = {}): Record<string, unknown> => ({
    kty: 'EC',
    use: 'x509-svid',
    x5c: [base64(authorities[0])],
    ...override,
  });

  it('gives the authorities once each, in their order', () => {
    const other = base64(authorities[1]);
    const { x509Authorities } = parse({ keys: [entry(), entry({ x5c: [other] }), entry()] });
    assert.deepEqual(x509Authorities, [authorities[0], authorities[1]]);
    assert.deepEqual(
      parseBundleDocument(formatBundleDocument({ x509Authorities: [authorities[0]!, authorities[0]!] })),
      { x509Authorities: [authorities[0]] },
    );
  });

  it('does not need parameters beyond those of the standard, nor minds others', () => {
    assert.deepEqual(parse({ keys: [], other: { a: [1] }, spiffe_sequence: 0 }), {
      sequence: 0n,
      x509Authorities: [],
    });
  });

  it('reads a sequence of 64 bits exactly', () =>
    assert.equal(parse('{"keys":[],"spiffe_sequence":18446744073709551615}').sequence, 2n ** 64n - 1n));

  const IGNORED: readonly { name: string; override: Record<string, unknown> }[] = [
    { name: 'an unknown use', override: { use: 'wit-svid' } },
    { name: 'the use of JWT-SVIDs', override: { use: 'jwt-svid', kid: 'a' } },
    { name: 'a use in other letters', override: { use: 'X509-SVID' } },
    { name: 'no use', override: { use: undefined } },
    { name: 'an unknown key type', override: { kty: 'AKP' } },
    { name: 'no key type', override: { kty: undefined } },
    { name: 'no x5c', override: { x5c: undefined } },
    { name: 'an empty x5c', override: { x5c: [] } },
  ];
  for (const { name, override } of IGNORED) {
    it(`passes over a key with ${name}, and takes the others`, () => {
      const { x509Authorities } = parse({ keys: [entry(override), entry()] });
      assert.deepEqual(x509Authorities, [authorities[0]]);
    });
    it(`trusts nothing when every key has ${name}`, () =>
      assert.deepEqual(parse({ keys: [entry(override)] }), { x509Authorities: [] }));
  }

  it('takes only the first value of x5c', () => {
    const { x509Authorities } = parse({ keys: [entry({ x5c: [base64(authorities[2]), 'not base64', 5] })] });
    assert.deepEqual(x509Authorities, [authorities[2]]);
  });

  const BAD: readonly { name: string; value: () => unknown; message: RegExp }[] = [
    { name: 'no object', value: () => [], message: /not a JSON object/ },
    { name: 'no keys', value: () => ({}), message: /"keys" is missing/ },
    {
      name: 'keys that only a prototype has',
      value: () => '{"__proto__":{"keys":[]}}',
      message: /"keys" is missing/,
    },
    {
      name: 'keys that are no array',
      value: () => ({ keys: {} }),
      message: /"keys" is missing or not an array/,
    },
    {
      name: 'a key that is no object',
      value: () => ({ keys: ['x'] }),
      message: /key 0 is not a JSON object/,
    },
    {
      name: 'an x5c that is no array',
      value: () => ({ keys: [entry({ x5c: 'x' })] }),
      message: /"x5c" of key 0 is not an array/,
    },
    {
      name: 'an x5c of numbers',
      value: () => ({ keys: [entry({ x5c: [1] })] }),
      message: /does not hold strings/,
    },
    {
      name: 'an x5c in base64url',
      value: () => ({ keys: [entry({ x5c: ['_-_-'] })] }),
      message: /is not base64/,
    },
    {
      name: 'an x5c without its padding',
      value: () => ({ keys: [entry({ x5c: ['AA'] })] }),
      message: /is not base64/,
    },
    {
      name: 'an x5c that is no certificate',
      value: () => ({ keys: [entry({ x5c: ['AAAA'] })] }),
      message: /the certificate/,
    },
    { name: 'duplicate names', value: () => '{"keys":[],"keys":[]}', message: /twice/ },
    {
      name: 'a sequence in a string',
      value: () => ({ keys: [], spiffe_sequence: '1' }),
      message: /"spiffe_sequence" is not an integer/,
    },
    {
      name: 'a sequence of null',
      value: () => ({ keys: [], spiffe_sequence: null }),
      message: /"spiffe_sequence"/,
    },
    {
      name: 'a sequence with a fraction',
      value: () => '{"keys":[],"spiffe_sequence":1.0}',
      message: /"spiffe_sequence"/,
    },
    {
      name: 'a sequence with an exponent',
      value: () => '{"keys":[],"spiffe_sequence":1e3}',
      message: /"spiffe_sequence"/,
    },
    {
      name: 'a negative sequence',
      value: () => ({ keys: [], spiffe_sequence: -1 }),
      message: /"spiffe_sequence"/,
    },
    {
      name: 'a sequence beyond 64 bits',
      value: () => '{"keys":[],"spiffe_sequence":18446744073709551616}',
      message: /"spiffe_sequence"/,
    },
    {
      name: 'a huge sequence',
      value: () => `{"keys":[],"spiffe_sequence":${'9'.repeat(100_000)}}`,
      message: /"spiffe_sequence"/,
    },
    {
      name: 'a refresh hint beyond any number',
      value: () => '{"keys":[],"spiffe_refresh_hint":9007199254740993}',
      message: /"spiffe_refresh_hint"/,
    },
    {
      name: 'a refresh hint of an object',
      value: () => ({ keys: [], spiffe_refresh_hint: { source: '5' } }),
      message: /"spiffe_refresh_hint"/,
    },
  ];
  for (const { name, value, message } of BAD)
    it(`refuses ${name}`, () => refuses(() => parse(value()), 'bundle_malformed', message));

  it('refuses a document over 1 MiB before it reads it', () =>
    refuses(() => parseBundleDocument(new Uint8Array(1024 * 1024 + 1)), 'message_too_large', /1048577/));

  it('refuses more than 64 authorities', async () => {
    const signer = newSigner();
    const many = await Promise.all(
      Array.from({ length: 65 }, async () => (await makeAnchor({ signer })).der),
    );
    refuses(() => formatBundleDocument({ x509Authorities: many }), 'message_too_large', /65 authorities/);
    assert.equal(
      parse({ keys: many.slice(1).map((der) => entry({ x5c: [base64(der)] })) }).x509Authorities.length,
      64,
    );
    refuses(
      () => parse({ keys: many.map((der) => entry({ x5c: [base64(der)] })) }),
      'message_too_large',
      /65 authorities/,
    );
  });
});
