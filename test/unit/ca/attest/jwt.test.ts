import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { describe, it } from 'node:test';

import fc from 'fast-check';
import { jwtVerify, SignJWT } from 'jose';

import { workloadInstanceOf } from '../../../../ca/attest/bound-token.ts';
import { JWS_ALGORITHMS, type JwsAlgorithm, JwsKey } from '../../../../ca/attest/jws-algorithms.ts';
import type { JwtClaims } from '../../../../ca/attest/jwt-claims.ts';
import { verifyJwt } from '../../../../ca/attest/jwt.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { checkAsyncProperty } from '../../../support/property.ts';

const NOW_S = 1_795_468_900;
const ISSUER = 'https://kubernetes.default.svc.cluster.local';
const LEEWAY_MS = 5_000;

const CLAIMS = {
  aud: ['kedge'],
  exp: NOW_S + 600,
  iat: NOW_S - 10,
  iss: ISSUER,
  jti: 'ea0c7639-a40e-4c04-8ec3-9b3a6e4be651',
  'kubernetes.io': {
    namespace: 'rec',
    node: { name: 'node1', uid: '85fbc73c-b832-48b5-a5c6-f55198761f2d' },
    pod: { name: 'web-1', uid: '2382113a-b063-44cc-9144-0c3a8b115b53' },
    serviceaccount: { name: 'web', uid: 'df0e4861-ee99-4481-ac80-03da1a34700d' },
    warnafter: NOW_S + 500,
  },
  nbf: NOW_S - 10,
  sub: 'system:serviceaccount:rec:web',
};

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const pairs: Readonly<Record<JwsAlgorithm, { publicKey: KeyObject; privateKey: KeyObject }>> = {
  RS256: rsa,
  RS384: rsa,
  RS512: rsa,
  PS256: rsa,
  PS384: rsa,
  PS512: rsa,
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ES512: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  EdDSA: generateKeyPairSync('ed25519'),
};
const keys = new Map(JWS_ALGORITHMS.map((alg) => [alg, JwsKey.of(alg, alg, pairs[alg].publicKey)]));

function verified(token: string): JwtClaims {
  return verifyJwt(token, {
    issuer: ISSUER,
    audience: 'kedge',
    keyOf: (kid) => keys.get(kid as JwsAlgorithm),
    nowMs: NOW_S * 1000,
    leewayMs: LEEWAY_MS,
  });
}

function signed(claims: object, alg: JwsAlgorithm = 'RS256'): Promise<string> {
  return new SignJWT({ ...claims }).setProtectedHeader({ alg, kid: alg }).sign(pairs[alg].privateKey);
}

function part(value: string | object): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
}

/** Signs any header and any payload, RS256. */
function raw(header: string | object, payload: string | object): string {
  const input = `${part(header)}.${part(payload)}`;
  return `${input}.${sign('sha256', Buffer.from(input), rsa.privateKey).toString('base64url')}`;
}

const HEADER = { alg: 'RS256', kid: 'RS256' };

async function refusedBy(token: string | Promise<string>, code: ErrorCode, message?: RegExp): Promise<void> {
  const text = await token;
  assert.throws(
    () => workloadInstanceOf(verified(text), 'c'),
    (error) => {
      assert.ok(isKedgeError(error, code), `${String(error)}, expected ${code}`);
      if (message !== undefined) assert.match(error.message, message);
      return true;
    },
  );
}

describe('a bound ServiceAccount token', () => {
  for (const alg of JWS_ALGORITHMS) {
    it(`verifies when it is signed with ${alg}`, async () => {
      const claims = verified(await signed(CLAIMS, alg));
      assert.deepEqual(
        { ...claims, all: undefined },
        {
          issuer: ISSUER,
          subject: 'system:serviceaccount:rec:web',
          audiences: ['kedge'],
          expiresAtMs: (NOW_S + 600) * 1000,
          notBeforeMs: (NOW_S - 10) * 1000,
          issuedAtMs: (NOW_S - 10) * 1000,
          all: undefined,
        },
      );
      assert.equal(claims.all.get('jti'), CLAIMS.jti);
    });

    it(`is refused when another key than its issuer's signed it with ${alg}`, async () => {
      const other = await signed({ ...CLAIMS, jti: 'x' }, alg);
      const good = await signed(CLAIMS, alg);
      const swapped = `${good.slice(0, good.lastIndexOf('.'))}${other.slice(other.lastIndexOf('.'))}`;
      await refusedBy(swapped, 'token_signature_invalid');
    });
  }

  it('says who holds it', async () => {
    assert.deepEqual(workloadInstanceOf(verified(await signed(CLAIMS)), 'west'), {
      cluster: 'west',
      namespace: 'rec',
      serviceAccount: 'web',
      podName: 'web-1',
      podUid: '2382113a-b063-44cc-9144-0c3a8b115b53',
      nodeName: 'node1',
      tokenExpiresAtMs: (NOW_S + 600) * 1000,
    });
    const { node: _, ...bound } = CLAIMS['kubernetes.io'];
    const unscheduled = await signed({ ...CLAIMS, 'kubernetes.io': bound, aud: 'kedge' });
    assert.equal(workloadInstanceOf(verified(unscheduled), 'c').nodeName, undefined);
  });

  const bound = CLAIMS['kubernetes.io'];
  const claimCases: readonly { name: string; claims: object; wantCode: ErrorCode; message?: RegExp }[] = [
    {
      name: 'from another issuer',
      claims: { ...CLAIMS, iss: 'https://evil' },
      wantCode: 'token_issuer_unknown',
      message: /"https:\/\/evil"/,
    },
    {
      name: 'whose issuer is a prefix of ours',
      claims: { ...CLAIMS, iss: ISSUER.slice(0, -1) },
      wantCode: 'token_issuer_unknown',
    },
    {
      name: 'for another audience',
      claims: { ...CLAIMS, aud: ['vault'] },
      wantCode: 'token_audience_mismatch',
      message: /"vault"/,
    },
    {
      name: 'for an audience that only looks like ours',
      claims: { ...CLAIMS, aud: ['KEDGE', 'kedge ', 'kedg'] },
      wantCode: 'token_audience_mismatch',
    },
    {
      name: 'without an audience',
      claims: { ...CLAIMS, aud: undefined },
      wantCode: 'token_claims_invalid',
      message: /aud is missing/,
    },
    {
      name: 'with an empty list of audiences',
      claims: { ...CLAIMS, aud: [] },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'with an audience that is no string',
      claims: { ...CLAIMS, aud: ['kedge', 5] },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'with an object for an audience',
      claims: { ...CLAIMS, aud: { 0: 'kedge' } },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'with too many audiences',
      claims: { ...CLAIMS, aud: Array.from({ length: 33 }, () => 'kedge') },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'that expired',
      claims: { ...CLAIMS, exp: NOW_S - 5 },
      wantCode: 'token_expired',
      message: /expired at 2026-/,
    },
    {
      name: 'without expiry',
      claims: { ...CLAIMS, exp: undefined },
      wantCode: 'token_claims_invalid',
      message: /exp is missing/,
    },
    {
      name: 'whose expiry is a string',
      claims: { ...CLAIMS, exp: '9999999999' },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'whose expiry is a fraction',
      claims: { ...CLAIMS, exp: NOW_S + 0.5 },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'whose expiry is out of this world',
      claims: { ...CLAIMS, exp: 1e300 },
      wantCode: 'token_claims_invalid',
    },
    { name: 'whose expiry is negative', claims: { ...CLAIMS, exp: -1 }, wantCode: 'token_claims_invalid' },
    {
      name: 'not valid yet',
      claims: { ...CLAIMS, nbf: NOW_S + 6 },
      wantCode: 'token_not_yet_valid',
      message: /nbf/,
    },
    {
      name: 'issued in the future',
      claims: { ...CLAIMS, iat: NOW_S + 6 },
      wantCode: 'token_not_yet_valid',
      message: /iat/,
    },
    { name: 'without a subject', claims: { ...CLAIMS, sub: undefined }, wantCode: 'token_claims_invalid' },
    {
      name: 'with an endless subject',
      claims: { ...CLAIMS, sub: 'x'.repeat(1025) },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'of somebody who is no ServiceAccount',
      claims: { ...CLAIMS, 'kubernetes.io': undefined },
      wantCode: 'token_claims_invalid',
      message: /kubernetes\.io is missing/,
    },
    {
      name: 'whose kubernetes.io claim is a list',
      claims: { ...CLAIMS, 'kubernetes.io': [] },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'bound to no pod',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, pod: undefined } },
      wantCode: 'token_not_bound_to_pod',
    },
    {
      name: 'bound to a Secret instead of a pod',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, pod: undefined, secret: { name: 's', uid: 'u' } } },
      wantCode: 'token_not_bound_to_pod',
    },
    {
      name: 'whose pod is null',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, pod: null } },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'whose pod has no UID',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, pod: { name: 'web-1' } } },
      wantCode: 'token_claims_invalid',
      message: /pod\.uid is missing/,
    },
    {
      name: 'whose pod UID is too long',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, pod: { name: 'web-1', uid: 'u'.repeat(65) } } },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'whose pod UID holds a slash',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, pod: { name: 'web-1', uid: 'a/b' } } },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'whose pod name is none',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, pod: { name: 'Web', uid: 'u' } } },
      wantCode: 'token_claims_invalid',
      message: /"Web", which is not a Kubernetes name/,
    },
    {
      name: 'whose subject is another ServiceAccount',
      claims: { ...CLAIMS, sub: 'system:serviceaccount:rec:admin' },
      wantCode: 'token_claims_invalid',
      message: /sub is not the ServiceAccount/,
    },
    {
      name: 'whose subject is in another namespace',
      claims: { ...CLAIMS, sub: 'system:serviceaccount:kube-system:web' },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'whose namespace holds a colon, so that the subject could be read in two ways',
      claims: {
        ...CLAIMS,
        sub: 'system:serviceaccount:a:b:c',
        'kubernetes.io': { ...bound, namespace: 'a:b', serviceaccount: { name: 'c' } },
      },
      wantCode: 'token_claims_invalid',
      message: /namespace/,
    },
    {
      name: 'whose namespace is a path',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, namespace: '../kedge' } },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'without a ServiceAccount',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, serviceaccount: undefined } },
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'whose node is no name',
      claims: { ...CLAIMS, 'kubernetes.io': { ...bound, node: { name: 'a b' } } },
      wantCode: 'token_claims_invalid',
    },
  ];
  for (const { name, claims, wantCode, message } of claimCases) {
    it(`is refused ${name}`, () => refusedBy(signed(claims), wantCode, message));
  }

  const none = `${part({ alg: 'none', kid: 'RS256' })}.${part(CLAIMS)}`;
  const macInput = `${part({ alg: 'HS256', kid: 'RS256' })}.${part(CLAIMS)}`;
  const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
  const mac = `${macInput}.${createHmac('sha256', pem).update(macInput).digest('base64url')}`;
  const good = raw(HEADER, CLAIMS);
  const [head = '', body = '', tail = ''] = good.split('.');
  const formCases: readonly { name: string; token: string; wantCode: ErrorCode; message?: RegExp }[] = [
    {
      name: 'alg none and no signature',
      token: `${none}.`,
      wantCode: 'token_algorithm_refused',
      message: /"none"/,
    },
    { name: 'alg none and a signature', token: `${none}.AAAA`, wantCode: 'token_algorithm_refused' },
    {
      name: 'alg None',
      token: `${part({ alg: 'None', kid: 'RS256' })}.${body}.AAAA`,
      wantCode: 'token_algorithm_refused',
    },
    {
      name: 'a MAC made with the public key',
      token: mac,
      wantCode: 'token_algorithm_refused',
      message: /"HS256"/,
    },
    {
      name: 'an algorithm that the key is not for',
      token: raw({ alg: 'ES256', kid: 'RS256' }, CLAIMS),
      wantCode: 'token_algorithm_refused',
    },
    {
      name: 'another hash than the key is for',
      token: raw({ alg: 'RS512', kid: 'RS256' }, CLAIMS),
      wantCode: 'token_algorithm_refused',
    },
    {
      name: 'an algorithm from Object.prototype',
      token: raw({ alg: 'constructor', kid: 'RS256' }, CLAIMS),
      wantCode: 'token_algorithm_refused',
    },
    { name: 'no alg', token: raw({ kid: 'RS256' }, CLAIMS), wantCode: 'token_malformed' },
    {
      name: 'an alg that is a list',
      token: raw({ alg: ['RS256'], kid: 'RS256' }, CLAIMS),
      wantCode: 'token_malformed',
    },
    { name: 'no kid', token: raw({ alg: 'RS256' }, CLAIMS), wantCode: 'token_malformed' },
    {
      name: 'a kid of no key',
      token: raw({ alg: 'RS256', kid: 'x' }, CLAIMS),
      wantCode: 'token_signature_invalid',
      message: /no key with id "x"/,
    },
    {
      name: 'a key of its own',
      token: raw({ ...HEADER, jwk: rsa.publicKey.export({ format: 'jwk' }) }, CLAIMS),
      wantCode: 'token_malformed',
      message: /"jwk"/,
    },
    {
      name: 'a link to a key',
      token: raw({ ...HEADER, jku: 'https://evil' }, CLAIMS),
      wantCode: 'token_malformed',
    },
    {
      name: 'a critical extension',
      token: raw({ ...HEADER, crit: ['b64'], b64: false }, CLAIMS),
      wantCode: 'token_malformed',
    },
    { name: 'another typ', token: raw({ ...HEADER, typ: 'at+jwt' }, CLAIMS), wantCode: 'token_malformed' },
    { name: 'a header that is no object', token: raw('[]', CLAIMS), wantCode: 'token_malformed' },
    { name: 'a header that is no JSON', token: raw('{"alg":', CLAIMS), wantCode: 'token_malformed' },
    {
      name: 'a name that stands twice in its header',
      token: raw('{"alg":"RS256","kid":"x","kid":"RS256"}', CLAIMS),
      wantCode: 'token_malformed',
      message: /duplicate/,
    },
    {
      name: 'a claim that stands twice',
      token: raw(HEADER, JSON.stringify(CLAIMS).replace('{', '{"sub":"system:serviceaccount:rec:x",')),
      wantCode: 'token_malformed',
      message: /duplicate/,
    },
    {
      name: 'a payload that is not UTF-8',
      token: `${head}.${Buffer.of(0x22, 0xff, 0x22).toString('base64url')}.${tail}`,
      wantCode: 'token_malformed',
      message: /UTF-8/,
    },
    {
      name: 'a byte order mark',
      token: raw(HEADER, `\ufeff${JSON.stringify(CLAIMS)}`),
      wantCode: 'token_malformed',
    },
    { name: 'a payload of null', token: raw(HEADER, 'null'), wantCode: 'token_malformed' },
    {
      name: 'a payload nested without end',
      token: raw(HEADER, `${'['.repeat(2000)}${']'.repeat(2000)}`),
      wantCode: 'token_malformed',
    },
    {
      name: 'padding',
      token: `${head}=.${body}.${tail}`,
      wantCode: 'token_malformed',
      message: /header is not base64url/,
    },
    { name: 'standard base64', token: `${head}.${body}.${tail.slice(0, -1)}+`, wantCode: 'token_malformed' },
    { name: 'a space', token: `${head} .${body}.${tail}`, wantCode: 'token_malformed' },
    { name: 'a newline at its end', token: `${good}\n`, wantCode: 'token_malformed' },
    {
      name: 'bits beyond the last byte',
      token: `${head}.${body}.${tail.slice(0, -1)}${nextLetter(tail.at(-1) ?? '')}`,
      wantCode: 'token_malformed',
      message: /signature is not base64url/,
    },
    { name: 'two parts', token: `${head}.${body}`, wantCode: 'token_malformed', message: /three parts/ },
    { name: 'four parts', token: `${good}.AAAA`, wantCode: 'token_malformed', message: /three parts/ },
    { name: 'nothing', token: '', wantCode: 'token_malformed' },
    { name: 'only dots', token: '..', wantCode: 'token_malformed' },
    {
      name: 'a million dots',
      token: '.'.repeat(1_000_000),
      wantCode: 'token_malformed',
      message: /limit is 8192/,
    },
    { name: 'JSON serialization', token: '{"payload":"e30","signatures":[]}', wantCode: 'token_malformed' },
    { name: 'an empty signature', token: `${head}.${body}.`, wantCode: 'token_malformed' },
  ];
  for (const { name, token, wantCode, message } of formCases) {
    it(`is refused with ${name}`, () => refusedBy(token, wantCode, message));
  }

  it('may be written with spaces, escapes and typ JWT, as long as nothing stands twice', () => {
    const spaced = raw(
      { ...HEADER, typ: 'JWT' },
      JSON.stringify(CLAIMS, null, 2).replace('rec', '\\u0072ec'),
    );
    assert.equal(workloadInstanceOf(verified(spaced), 'c').namespace, 'rec');
  });

  it('is not affected by names from Object.prototype', () => {
    const payload = `{"__proto__":{"aud":["kedge"],"exp":${NOW_S + 60}},${JSON.stringify({ ...CLAIMS, aud: undefined }).slice(1)}`;
    assert.throws(() => verified(raw(HEADER, payload)), /aud is missing/);
  });

  it('needs an ES256 signature of 64 bytes, not one in DER', () => {
    const input = `${part({ alg: 'ES256', kid: 'ES256' })}.${part(CLAIMS)}`;
    const der = sign('sha256', Buffer.from(input), pairs.ES256.privateKey).toString('base64url');
    assert.throws(
      () => verified(`${input}.${der}`),
      (error) => isKedgeError(error, 'token_signature_invalid'),
    );
  });
});

describe('a key of a token issuer', () => {
  it('is refused when it is not of its algorithm', () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
    const wrong: readonly [JwsAlgorithm, KeyObject][] = [
      ['RS256', weak],
      ['PS256', weak],
      ['RS256', pairs.ES256.publicKey],
      ['ES256', rsa.publicKey],
      ['ES256', pairs.ES384.publicKey],
      ['ES384', pairs.ES256.publicKey],
      ['EdDSA', pairs.ES256.publicKey],
      ['EdDSA', generateKeyPairSync('ed448').publicKey],
    ];
    for (const [alg, key] of wrong) {
      assert.throws(
        () => JwsKey.of('k', alg, key),
        (error) => isKedgeError(error, 'config_invalid'),
        alg,
      );
    }
  });

  it('keeps only its public half', async () => {
    const key = JwsKey.of('ES256', 'ES256', pairs.ES256.privateKey);
    const [header = '', body = '', signature = ''] = (await signed(CLAIMS, 'ES256')).split('.');
    assert.equal(key.verifies(Buffer.from(`${header}.${body}`), Buffer.from(signature, 'base64url')), true);
  });
});

describe('verification of tokens, held against jose', () => {
  const algs: readonly JwsAlgorithm[] = ['RS256', 'ES256', 'EdDSA', 'PS256'];

  async function joseTakes(token: string, alg: JwsAlgorithm): Promise<boolean> {
    try {
      await jwtVerify(token, pairs[alg].publicKey, {
        algorithms: [alg],
        issuer: ISSUER,
        audience: 'kedge',
        currentDate: new Date(NOW_S * 1000),
        clockTolerance: LEEWAY_MS / 1000,
        requiredClaims: ['exp', 'sub'],
      });
      return true;
    } catch {
      return false;
    }
  }

  function weTake(token: string): boolean {
    try {
      verified(token);
      return true;
    } catch (error) {
      assert.ok(isKedgeError(error), String(error));
      assert.match(error.code, /^token_/);
      return false;
    }
  }

  it('takes no token that jose refuses, whatever its claims (property)', async () => {
    const timeAround = (good: number): fc.Arbitrary<unknown> =>
      fc.oneof(
        { weight: 3, arbitrary: fc.constant(good) },
        { weight: 1, arbitrary: fc.integer({ min: NOW_S - 20, max: NOW_S + 20 }) },
        { weight: 1, arbitrary: fc.constantFrom(undefined, null, '1', 1.5, -1) },
      );
    const audience = fc.oneof(
      fc.constantFrom<unknown>('kedge', 'vault', undefined, 5),
      fc.array(fc.constantFrom('kedge', 'vault', 'Kedge'), { maxLength: 3 }),
    );
    const claims = fc.record({
      exp: timeAround(NOW_S + 60),
      nbf: timeAround(NOW_S - 60),
      iat: timeAround(NOW_S - 60),
      aud: audience,
      iss: fc.constantFrom(ISSUER, ISSUER, ISSUER, 'x'),
    });
    let taken = 0;
    await checkAsyncProperty(
      fc.asyncProperty(fc.constantFrom(...algs), claims, async (alg, changed) => {
        const token = await signed({ ...CLAIMS, ...changed }, alg);
        if (!weTake(token)) return;
        taken += 1;
        assert.equal(await joseTakes(token, alg), true, 'we took what jose refuses');
      }),
      400,
    );
    assert.ok(taken > 10, 'the property met hardly a good token');
  });

  it('takes no mutation of a good token that jose refuses, and none at all that changes what is signed (property)', async () => {
    const good = new Map(
      await Promise.all(algs.map(async (alg) => [alg, await signed(CLAIMS, alg)] as const)),
    );
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \n';
    await checkAsyncProperty(
      fc.asyncProperty(
        fc.constantFrom(...algs),
        fc.constantFrom('replace', 'insert', 'remove', 'truncate', 'duplicate'),
        fc.nat(),
        fc.nat({ max: alphabet.length - 1 }),
        async (alg, kind, where, letter) => {
          const token = good.get(alg) ?? '';
          const at = where % token.length;
          const character = alphabet[letter] ?? '';
          const mutated = {
            replace: token.slice(0, at) + character + token.slice(at + 1),
            insert: token.slice(0, at) + character + token.slice(at),
            remove: token.slice(0, at) + token.slice(at + 1),
            truncate: token.slice(0, at),
            duplicate: token.slice(0, at) + token.slice(0, at) + token.slice(at),
          }[kind];
          fc.pre(mutated !== token && mutated !== undefined);
          if (!weTake(mutated ?? '')) return;
          assert.fail(`a mutation was taken (jose: ${await joseTakes(mutated ?? '', alg)})`);
        },
      ),
      1500,
    );
  });
});

function nextLetter(letter: string): string {
  return String.fromCharCode(letter.charCodeAt(0) + 1);
}
