import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { WorkloadInstance } from '../../../../ca/attest/attestor.ts';
import { IssuerKeys, UNKNOWN_KID_INTERVAL_MS } from '../../../../ca/attest/issuer-keys.ts';
import { type KeyLocation, type KeySource, keySourceOf } from '../../../../ca/attest/key-source.ts';
import { OidcAttestor, type TrustedIssuer } from '../../../../ca/attest/oidc-attestor.ts';
import { silentLog } from '../../../../host/log.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { FAKE_ISSUER } from '../../../fakes/fake-token-issuer.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { attestorConformance } from '../../../conformance/attestor.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { conformanceTokens, type FakeCluster, fakeCluster } from '../../../support/fake-cluster.ts';
import { settle } from '../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';
import { selfSignedTlsCertificate } from '../../../support/tls-certificate.ts';

const PEER = { address: '192.0.2.1:4711' };
const never = new AbortController().signal;

/** Keys of a fake cluster, by its API server. */
function keysOf(
  { api, clock, tokens }: FakeCluster,
  location: KeyLocation = { kind: 'kubernetes' },
): IssuerKeys {
  return new IssuerKeys({
    source: keySourceOf({ location, api, clock, log: silentLog, timeoutMs: 5_000 }),
    issuer: tokens.issuer,
    refreshMs: 300_000,
    clock,
    random: fixedRandom(0.5),
    log: silentLog,
  });
}

function trusted(cluster: FakeCluster, more: Partial<TrustedIssuer> = {}): TrustedIssuer {
  return {
    issuer: cluster.tokens.issuer,
    cluster: 'east',
    audience: 'kedge',
    unbound: 'refuse',
    keys: keysOf(cluster),
    ...more,
  };
}

function attestorOf(cluster: FakeCluster, ...issuers: TrustedIssuer[]) {
  const attestor = new OidcAttestor({ issuers, leewayMs: 30_000, clock: cluster.clock });
  const attest = async (token: string, signal = never): Promise<WorkloadInstance> =>
    attestor.attest(token, PEER, signal);
  return { attestor, attest };
}

const kidOf = (token: string): string =>
  (JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()) as { kid: string }).kid;

const keyFetches = ({ fake }: FakeCluster): number =>
  fake.seen.filter(({ path }) => path === '/openid/v1/jwks').length;

describe('OidcAttestor', () => {
  for (const alg of ['RS256', 'ES256'] as const) {
    describe(`with keys for ${alg}`, () => {
      attestorConformance(async () => {
        const ends: (() => void | Promise<void>)[] = [];
        const cluster = await fakeCluster(
          { after: (end) => void ends.push(end as () => Promise<void>) },
          { alg },
        );
        const tokens = conformanceTokens(cluster);
        return {
          attestor: attestorOf(cluster, trusted(cluster)).attestor,
          instance: {
            cluster: 'east',
            namespace: 'rec',
            serviceAccount: 'web',
            podName: 'web-1',
            podUid: cluster.podUid,
            nodeName: 'node1',
            tokenExpiresAtMs: cluster.clock.now() + 3_600_000,
          },
          token: (kind) => tokens.get(kind) ?? assert.fail(kind),
          close: async () => {
            for (const end of ends) await end();
          },
        };
      });
    });
  }

  it('tells clusters apart that share an issuer, by their keys, and asks each for its own audience', async (t) => {
    const [east, west] = [await fakeCluster(t), await fakeCluster(t, { alg: 'ES256' })];
    assert.equal(east.tokens.issuer, west.tokens.issuer);
    const { attest } = attestorOf(
      east,
      trusted(east),
      trusted(west, { cluster: 'west', audience: 'kedge-west' }),
    );
    assert.equal((await attest(east.token())).cluster, 'east');
    assert.equal((await attest(west.token({ audiences: ['kedge-west'] }))).cluster, 'west');
    await expectRejection('token_audience_mismatch', attest(west.token()));
    await expectRejection('token_audience_mismatch', attest(east.token({ audiences: ['kedge-west'] })));
  });

  it('lets no cluster keep another out by publishing a key under its kid', async (t) => {
    const [east, west] = [await fakeCluster(t), await fakeCluster(t)];
    const kid = kidOf(east.token());
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
    const forged = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' }] };
    west.fake.extensions.unshift(({ path }) => (path === '/openid/v1/jwks' ? forged : undefined));
    for (const isEastKnown of [true, false]) {
      const [hostile, keys] = [keysOf(west), keysOf(east)];
      await hostile.refresh();
      if (isEastKnown) await keys.refresh();
      const { attest } = attestorOf(
        east,
        trusted(west, { cluster: 'west', keys: hostile }),
        trusted(east, { keys }),
      );
      assert.equal((await attest(east.token())).cluster, 'east');
      const broken = `${east.token().slice(0, -10)}AAAAAAAAAA`;
      await expectRejection('token_signature_invalid', attest(broken));
    }
  });

  it('looks at the audience before the pod: a token for somebody else is no token without a pod', async (t) => {
    const cluster = await fakeCluster(t);
    const { attest } = attestorOf(cluster, trusted(cluster));
    const request = { namespace: 'rec', serviceAccount: 'web', audiences: ['vault'] };
    await expectRejection(
      'token_audience_mismatch',
      attest(cluster.tokens.mint(cluster.fake.store, request)),
    );
  });

  it('takes the tokens of one cluster while the keys of another cannot be had', async (t) => {
    const [east, west] = [await fakeCluster(t), await fakeCluster(t)];
    await west.fake.close();
    const { attest } = attestorOf(east, trusted(west, { cluster: 'west' }), trusted(east));
    assert.equal((await attest(east.token())).cluster, 'east');
    await expectRejection('attestation_unavailable', attest(west.token()));
  });

  it('keeps its keys through an outage of the API server, and recovers by itself', async (t) => {
    const cluster = await fakeCluster(t);
    const keys = keysOf(cluster);
    const { attest } = attestorOf(cluster, trusted(cluster, { keys }));
    await attest(cluster.token());
    const { port } = cluster.fake;
    await cluster.fake.close();
    for (let i = 0; i < 5; i += 1) {
      await cluster.clock.advance(600_000);
      await keys.refresh();
      await attest(cluster.token());
    }
    assert.ok(keys.failure instanceof KedgeError);
    await cluster.fake.listen(port);
    await keys.refresh();
    assert.equal(keys.failure, undefined);
  });

  it('fetches keys once for many that miss one, and seldom for a key that nobody has', async (t) => {
    const cluster = await fakeCluster(t);
    const { attest } = attestorOf(cluster, trusted(cluster));
    await Promise.all(Array.from({ length: 20 }, () => attest(cluster.token())));
    assert.equal(keyFetches(cluster), 1);
    const foreign = await fakeCluster(t);
    for (let i = 0; i < 20; i += 1) await expectRejection('token_signature_invalid', attest(foreign.token()));
    assert.equal(keyFetches(cluster), 1);
    await cluster.clock.advance(UNKNOWN_KID_INTERVAL_MS);
    for (let i = 0; i < 20; i += 1) await expectRejection('token_signature_invalid', attest(foreign.token()));
    assert.equal(keyFetches(cluster), 2);
  });

  it('follows a new key, and refuses what the old one signed once it is no longer published', async (t) => {
    const cluster = await fakeCluster(t);
    const keys = keysOf(cluster);
    const { attest } = attestorOf(cluster, trusted(cluster, { keys }));
    const old = cluster.token();
    await attest(old);
    cluster.tokens.rotateKey();
    await cluster.clock.advance(UNKNOWN_KID_INTERVAL_MS);
    await attest(cluster.token());
    await expectRejection('token_signature_invalid', attest(old));
  });

  it('does not verify a token again whose key is still the same after a fetch', async (t) => {
    const cluster = await fakeCluster(t);
    const keys = keysOf(cluster);
    const { attestor, attest } = attestorOf(cluster, trusted(cluster, { keys }));
    const token = cluster.token();
    await attest(token);
    await keys.refresh();
    assert.ok(!(attestor.attest(token, PEER, never) instanceof Promise));
  });

  it('keeps what it has when what it fetches makes no sense', async (t) => {
    const cluster = await fakeCluster(t);
    const keys = keysOf(cluster);
    await keys.refresh();
    for (const body of ['<html>', '{}', '{"keys":[]}', '{"keys":[{"kty":"RSA"}]}']) {
      cluster.fake.next(/jwks/, { kind: 'answer', status: 200, body });
      await keys.refresh();
      assert.ok(keys.failure instanceof KedgeError, body);
      assert.equal(keys.size, 1);
    }
    await attestorOf(cluster, trusted(cluster, { keys })).attest(cluster.token());
  });

  it('asks for the pod as well where that is wanted', async (t) => {
    const cluster = await fakeCluster(t);
    const { TokenReviewAttestor } = await import('../../../../ca/attest/token-review-attestor.ts');
    const review = new TokenReviewAttestor({
      api: cluster.api,
      cluster: 'main',
      audience: 'kedge',
      unbound: 'refuse',
      leewayMs: 30_000,
      reuseMs: 0,
      concurrent: 4,
      clock: cluster.clock,
      random: fixedRandom(0.5),
      log: silentLog,
    });
    const { attest } = attestorOf(cluster, trusted(cluster, { review }));
    const token = cluster.token();
    assert.equal((await attest(token)).cluster, 'east');
    cluster.deletePod();
    await expectRejection('token_invalidated', attest(token));
    const other = {
      attest: (): WorkloadInstance => ({ ...instance, podUid: 'another' }),
    };
    const instance = await attestorOf(cluster, trusted(cluster)).attest(token);
    await expectRejection(
      'token_claims_invalid',
      attestorOf(cluster, trusted(cluster, { review: other })).attest(token),
    );
  });
});

describe('IssuerKeys', () => {
  it('fetches at its times, sooner after a failure, until it is told to end', async (t) => {
    const cluster = await fakeCluster(t);
    const outcomes: (string | Error)[] = [];
    const good = JSON.stringify(cluster.tokens.jwks);
    let fetches = 0;
    const source: KeySource = {
      fetch: () => {
        fetches += 1;
        const next = outcomes.shift() ?? good;
        return next instanceof Error ? Promise.reject(next) : Promise.resolve(Buffer.from(next));
      },
    };
    const away = new KedgeError('kubernetes_unreachable', 'away');
    const { clock } = cluster;
    outcomes.push(away, good, good);
    const keys = new IssuerKeys({
      source,
      issuer: FAKE_ISSUER,
      refreshMs: 300_000,
      clock,
      random: fixedRandom(0.5),
      log: silentLog,
    });
    const end = new AbortController();
    const running = keys.run(end.signal);
    await settle();
    assert.deepEqual([fetches, keys.size], [1, 0]);
    await expectRejection('attestation_unavailable', keys.find('x'));
    assert.equal(fetches, 1, 'it was asked just now');
    await clock.advance(500);
    assert.deepEqual([fetches, keys.size], [2, 1]);
    await clock.advance(299_999);
    assert.equal(fetches, 2);
    await clock.advance(1);
    assert.equal(fetches, 3);
    end.abort();
    await running;
  });
});

describe('keySourceOf', () => {
  async function httpsServer(t: TestContext, answers: Record<string, string>, name = 'localhost') {
    const { certificate, key } = await selfSignedTlsCertificate(name);
    const seen: { readonly path: string; readonly authorization: string | undefined }[] = [];
    const server = createServer({ cert: certificate, key }, (request, response) => {
      const path = request.url ?? '';
      seen.push({ path, authorization: request.headers.authorization });
      const body = answers[path];
      response.writeHead(body === undefined ? 404 : 200).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as { port: number };
    const folder = temporaryFolder(t);
    const authoritiesFile = join(folder, 'ca.crt');
    writeFileSync(authoritiesFile, certificate);
    const tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, 'secret');
    return { url: `https://127.0.0.1:${port}`, answers, seen, authoritiesFile, tokenFile };
  }
  const fetchOf = async (t: TestContext, location: KeyLocation): Promise<string> => {
    const { clock } = await fakeCluster(t);
    const source = keySourceOf({ location, clock, log: silentLog, timeoutMs: 5_000 });
    return Buffer.from(await source.fetch(never)).toString();
  };

  it('reads a file', async (t) => {
    const path = join(temporaryFolder(t), 'jwks.json');
    writeFileSync(path, '{"keys":[]}');
    assert.equal(await fetchOf(t, { kind: 'file', path }), '{"keys":[]}');
    await expectRejection('file_unreadable', fetchOf(t, { kind: 'file', path: `${path}.gone` }));
  });

  it('reads a URL with the CA and the token that are given', async (t) => {
    const server = await httpsServer(t, { '/keys?v=1': 'KEYS' });
    const { authoritiesFile, tokenFile } = server;
    const location = { kind: 'url', url: `${server.url}/keys?v=1`, authoritiesFile, tokenFile } as const;
    assert.equal(await fetchOf(t, location), 'KEYS');
    assert.equal(server.seen[0]?.authorization, 'Bearer secret');
    await expectRejection('kubernetes_unreachable', fetchOf(t, { ...location, authoritiesFile: null }));
    await expectRejection('issuer_keys_invalid', fetchOf(t, { ...location, url: `${server.url}/other` }));
    await expectRejection('config_invalid', fetchOf(t, { ...location, url: 'http://10.0.0.1/keys' }));
  });

  it('finds keys by discovery, and gives its token to no other host', async (t) => {
    const server = await httpsServer(t, {});
    const other = await httpsServer(t, { '/jwks': 'KEYS' }, 'other');
    const { authoritiesFile, tokenFile } = server;
    writeFileSync(authoritiesFile, [server, other].map((one) => readCa(one.authoritiesFile)).join('\n'));
    const issuer = `${server.url}/id/main`;
    const path = '/id/main/.well-known/openid-configuration';
    const location = { kind: 'discovery', issuer, authoritiesFile, tokenFile } as const;
    server.answers[path] = JSON.stringify({ issuer, jwks_uri: `${other.url}/jwks` });
    assert.equal(await fetchOf(t, location), 'KEYS');
    assert.deepEqual(
      [server, other].map(({ seen }) => seen[0]?.authorization),
      ['Bearer secret', undefined],
    );
    for (const document of [
      { issuer: `${issuer}/`, jwks_uri: `${other.url}/jwks` },
      { issuer },
      { issuer, jwks_uri: 7 },
      { issuer, jwks_uri: 'http://127.0.0.1:9443/metrics' },
    ]) {
      server.answers[path] = JSON.stringify(document);
      await expectRejection('issuer_keys_invalid', fetchOf(t, location));
    }
    server.answers[path] = JSON.stringify({ issuer, jwks_uri: 'http://10.0.0.1/jwks' });
    await expectRejection('config_invalid', fetchOf(t, location));
  });
});

function readCa(path: string): string {
  return readFileSync(path, 'utf8');
}
