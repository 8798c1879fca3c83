import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

import { decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';

import { DevelopmentAttestor } from '../../../../ca/attest/development-attestor.ts';
import {
  DEVELOPMENT_ISSUER,
  DEVELOPMENT_KEY_FILE,
  DevelopmentIssuer,
  type DevelopmentTokenRequest,
} from '../../../../ca/attest/development-issuer.ts';
import { MAX_LEEWAY_MS } from '../../../../ca/attest/jwt.ts';
import { systemRandom } from '../../../../host/random.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { type AttestorHarness, attestorConformance } from '../../../conformance/attestor.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const POD: DevelopmentTokenRequest = {
  namespace: 'rec',
  serviceAccount: 'web',
  podName: 'web-1',
  podUid: '2382113a-b063-44cc-9144-0c3a8b115b53',
  nodeName: 'node1',
  audiences: ['kedge'],
};
const START_MS = Date.UTC(2026, 0, 1);

let folder: string;
let clock: ManualClock;
let issuer: DevelopmentIssuer;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kedge-issuer-'));
  clock = new ManualClock(START_MS);
  issuer = await DevelopmentIssuer.open({ folder, clock, random: systemRandom });
});
after(() => rmSync(folder, { recursive: true }));

function attestorAt(nowMs: number): DevelopmentAttestor {
  const { publicKey, kid } = issuer;
  return new DevelopmentAttestor({
    cluster: 'local',
    issuer: issuer.issuer,
    audience: 'kedge',
    publicKey,
    kid,
    clock: new ManualClock(nowMs),
  });
}

function harness(): AttestorHarness {
  const good = issuer.mint(POD);
  const tokens = {
    good,
    'good for several audiences': issuer.mint({ ...POD, audiences: ['vault', 'kedge'] }),
    'for another audience': issuer.mint({ ...POD, audiences: ['vault', 'kedge2', 'Kedge'] }),
    expired: issuer.mint({ ...POD, ttlSeconds: 60 }),
    'not yet valid': good,
    'bound to no pod': good,
    'from another issuer': good,
    'with a broken signature': `${good.slice(0, -10)}AAAAAAAAAA`,
    'cut short': good.slice(0, -8),
    empty: '',
    'over the size limit': `${good}${'A'.repeat(8 * 1024)}`,
    'no JWT at all': 'open sesame',
  } as const;
  return {
    attestor: attestorAt(START_MS + 1_000),
    instance: {
      cluster: 'local',
      namespace: 'rec',
      serviceAccount: 'web',
      podName: 'web-1',
      podUid: '2382113a-b063-44cc-9144-0c3a8b115b53',
      nodeName: 'node1',
      tokenExpiresAtMs: START_MS + 3_600_000,
    },
    token: (kind) => tokens[kind],
  };
}

describe('the development attestor', () => {
  // The tokens that the issuer does not mint come from another of the same key: see jwt.test.ts for the claims.
  attestorConformance(async () => {
    const base = harness();
    const key = createPrivateKey(readFileSync(join(folder, DEVELOPMENT_KEY_FILE)));
    const { SignJWT } = await import('jose');
    const sign = (claims: Record<string, unknown>): Promise<string> =>
      new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: issuer.kid }).sign(key);
    const claims = decodeJwt(base.token('good')) as Record<string, unknown>;
    const bound = claims['kubernetes.io'] as Record<string, unknown>;
    const seconds = START_MS / 1000;
    const special = new Map([
      ['expired', await sign({ ...claims, exp: seconds - 30 })],
      ['not yet valid', await sign({ ...claims, nbf: seconds + 60 })],
      ['bound to no pod', await sign({ ...claims, 'kubernetes.io': { ...bound, pod: undefined } })],
      ['from another issuer', await sign({ ...claims, iss: 'https://elsewhere.example.org' })],
    ]);
    return { ...base, token: (kind) => special.get(kind) ?? base.token(kind) };
  });

  it('takes a token until its expiry and the leeway after, and not at that instant', () => {
    const token = issuer.mint(POD);
    const never = new AbortController().signal;
    const endMs = START_MS + 3_600_000 + 30_000;
    assert.equal(attestorAt(endMs - 1).attest(token, { address: '' }, never).podName, 'web-1');
    assert.throws(
      () => attestorAt(endMs).attest(token, { address: '' }, never),
      (error) => isKedgeError(error, 'token_expired'),
    );
    assert.equal(attestorAt(START_MS - 30_000).attest(token, { address: '' }, never).podName, 'web-1');
    assert.throws(
      () => attestorAt(START_MS - 30_001).attest(token, { address: '' }, never),
      (error) => isKedgeError(error, 'token_not_yet_valid') && error.retryAfterMs === 1,
    );
  });

  it('looks at the times of a token again at each use, though it verified the token before', () => {
    const own = new ManualClock(START_MS);
    const { publicKey, kid } = issuer;
    const options = {
      cluster: 'local',
      issuer: issuer.issuer,
      audience: 'kedge',
      publicKey,
      kid,
      clock: own,
    };
    const attestor = new DevelopmentAttestor(options);
    const never = new AbortController().signal;
    const token = issuer.mint(POD);
    const attest = (): string => attestor.attest(token, { address: '' }, never).podName;
    assert.equal(attest(), 'web-1');
    own.jumpWall(-3_600_000);
    assert.throws(attest, (error) => isKedgeError(error, 'token_not_yet_valid'));
    own.jumpWall(3_600_000);
    assert.equal(attest(), 'web-1');
    own.jumpWall(3_630_000);
    assert.throws(attest, (error) => isKedgeError(error, 'token_expired'));
    assert.throws(attest, (error) => isKedgeError(error, 'token_expired'));
  });

  it('takes a token that differs in one character for another token', () => {
    const attestor = attestorAt(START_MS);
    const never = new AbortController().signal;
    const token = issuer.mint(POD);
    attestor.attest(token, { address: '' }, never);
    for (const index of [0, 40, token.length - 20]) {
      const other = token.charAt(index) === 'A' ? 'B' : 'A';
      const changed = `${token.slice(0, index)}${other}${token.slice(index + 1)}`;
      assert.throws(() => attestor.attest(changed, { address: '' }, never), isKedgeError);
    }
    assert.equal(attestor.attest(token, { address: '' }, never).podName, 'web-1');
  });

  it('is not made without an audience, with an endless leeway, or with a key that is not RSA', () => {
    const { publicKey, kid } = issuer;
    const good = { cluster: 'c', issuer: 'i', audience: 'a', publicKey, kid, clock };
    for (const options of [
      { ...good, audience: '' },
      { ...good, issuer: '' },
      { ...good, leewayMs: MAX_LEEWAY_MS + 1 },
      { ...good, leewayMs: -1 },
      { ...good, leewayMs: Number.NaN },
      { ...good, publicKey: generateKeyPairSync('ed25519').publicKey },
    ]) {
      assert.throws(
        () => new DevelopmentAttestor(options),
        (error) => isKedgeError(error, 'config_invalid'),
      );
    }
  });
});

describe('the development issuer', () => {
  it('mints what kube-apiserver mints, claim by claim', async () => {
    const token = issuer.mint(POD);
    assert.deepEqual(decodeProtectedHeader(token), { alg: 'RS256', kid: issuer.kid });
    const claims = decodeJwt(token);
    const recorded = JSON.parse(
      '{"aud":["kedge"],"exp":1795472413,"iat":1795468813,"iss":"x","jti":"ea0c7639-a40e-4c04-8ec3-9b3a6e4be651","kubernetes.io":{"namespace":"rec","node":{"name":"node1","uid":"85fbc73c-b832-48b5-a5c6-f55198761f2d"},"pod":{"name":"web-1","uid":"2382113a-b063-44cc-9144-0c3a8b115b53"},"serviceaccount":{"name":"web","uid":"df0e4861-ee99-4481-ac80-03da1a34700d"}},"nbf":1795468813,"sub":"system:serviceaccount:rec:web"}',
    ) as Record<string, unknown>;
    assert.deepEqual(shapeOf(claims), shapeOf(recorded));
    assert.equal(claims.sub, 'system:serviceaccount:rec:web');
    assert.equal(claims.iss, DEVELOPMENT_ISSUER);
    assert.equal((claims.exp ?? 0) - (claims.iat ?? 0), 3600);
    await jwtVerify(token, issuer.publicKey, { audience: 'kedge', currentDate: new Date(START_MS) });
  });

  it('keeps its key in a file for its owner alone, and finds it again', async () => {
    const path = join(folder, DEVELOPMENT_KEY_FILE);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const again = await DevelopmentIssuer.open({ folder, clock, random: systemRandom });
    assert.equal(again.kid, issuer.kid);
  });

  it('ends up with one key when several open a new folder at once', async () => {
    const fresh = join(folder, 'fresh', 'deep');
    const options = { folder: fresh, clock, random: systemRandom };
    const all = await Promise.all([1, 2, 3].map(() => DevelopmentIssuer.open(options)));
    assert.equal(new Set(all.map(({ kid }) => kid)).size, 1);
    assert.equal((await DevelopmentIssuer.open(options)).kid, all[0]?.kid);
  });

  it('refuses a key file that others may read, or that holds something else', async () => {
    const other = mkdtempSync(join(tmpdir(), 'kedge-issuer-'));
    const path = join(other, DEVELOPMENT_KEY_FILE);
    const open = (): Promise<DevelopmentIssuer> =>
      DevelopmentIssuer.open({ folder: other, clock, random: systemRandom });
    try {
      const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
      const short = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
      const contents = [
        '',
        'hello',
        ec.export({ type: 'pkcs8', format: 'pem' }),
        short.export({ type: 'pkcs8', format: 'pem' }),
        'x'.repeat(20_000),
      ];
      for (const content of contents) {
        writeFileSync(path, content, { mode: 0o600 });
        await assert.rejects(open(), (error) => isKedgeError(error, 'token_key_invalid'));
      }
      writeFileSync(path, readFileSync(join(folder, DEVELOPMENT_KEY_FILE)));
      chmodSync(path, 0o640);
      await assert.rejects(
        open(),
        (error) => isKedgeError(error, 'token_key_invalid') && /chmod 600/.test(error.hint ?? ''),
      );
      chmodSync(path, 0o600);
      assert.equal((await open()).kid, issuer.kid);
    } finally {
      rmSync(other, { recursive: true });
    }
  });

  it('says when it can neither read nor write its key', async () => {
    const open = (path: string): Promise<DevelopmentIssuer> =>
      DevelopmentIssuer.open({ folder: path, clock, random: systemRandom });
    await assert.rejects(open('/dev/null/kedge'), (error) =>
      isKedgeError(error, 'file_unreadable', 'file_unwritable'),
    );
  });

  it('gives each token another jti, and the same pod the same UID', () => {
    const { podUid: _, ...rest } = POD;
    const [one, two] = [1, 2].map(() => decodeJwt(issuer.mint(rest)));
    assert.notEqual(one?.jti, two?.jti);
    assert.match(one?.jti ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.deepEqual(one?.['kubernetes.io'], two?.['kubernetes.io']);
    const other = decodeJwt(issuer.mint({ ...rest, podName: 'web-2' }));
    assert.notDeepEqual(other['kubernetes.io'], one?.['kubernetes.io']);
  });

  it('refuses to mint what Kubernetes would not', () => {
    const wrong: readonly Partial<DevelopmentTokenRequest>[] = [
      { namespace: 'Rec' },
      { namespace: 'a.b' },
      { namespace: '' },
      { namespace: 'a'.repeat(64) },
      { serviceAccount: 'we b' },
      { serviceAccount: 'a:b' },
      { serviceAccount: 'a'.repeat(254) },
      { podName: '-a' },
      { podUid: 'a/b' },
      { podUid: 'a'.repeat(65) },
      { nodeName: '' },
      { audiences: [] },
      { audiences: [''] },
      { ttlSeconds: 0 },
      { ttlSeconds: 1.5 },
      { ttlSeconds: Number.POSITIVE_INFINITY },
    ];
    for (const change of wrong) {
      assert.throws(
        () => issuer.mint({ ...POD, ...change }),
        (error) => isKedgeError(error, 'usage_invalid'),
      );
    }
  });
});

/** The names and types of everything within. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf);
  if (typeof value !== 'object' || value === null) return typeof value;
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => [name, shapeOf(inner)]),
  );
}
