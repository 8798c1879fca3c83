import type { TestContext } from 'node:test';
import type { KubernetesApi } from '../../ca/kubernetes/kubernetes-api.ts';
import { FakeApiServer } from '../fakes/fake-api-server.ts';
import { FakeTokenIssuer, type FakeTokenRequest } from '../fakes/fake-token-issuer.ts';
import { clientOf } from './kubernetes-client.ts';
import { ManualClock } from './manual-clock.ts';

/** A fake API server with ServiceAccount `web` and pod `web-1` on `node1` in the namespace `rec`. */
export interface FakeCluster {
  readonly clock: ManualClock;
  readonly fake: FakeApiServer;
  readonly tokens: FakeTokenIssuer;
  readonly api: KubernetesApi;
  readonly podUid: string;
  readonly accountUid: string;
  /** A token of `web`, bound to `web-1`. */
  readonly token: (request?: Partial<FakeTokenRequest>) => string;
  readonly deletePod: () => void;
}

export async function fakeCluster(
  t: Pick<TestContext, 'after'>,
  options: { readonly issuer?: string; readonly alg?: 'RS256' | 'ES256'; readonly timeoutMs?: number } = {},
): Promise<FakeCluster> {
  const clock = new ManualClock();
  const fake = await FakeApiServer.start();
  const tokens = new FakeTokenIssuer({ clock, ...options });
  fake.extensions.push(tokens.extension);
  const { timeoutMs = 60_000 } = options;
  const api = clientOf(fake.url, { clock, timeoutMs, connections: 64 });
  t.after(async () => {
    api.close();
    await fake.close();
  });
  const at = (plural: string) => ({ collection: `/api/v1/${plural}`, namespace: 'rec' });
  const account = fake.store.create(at('serviceaccounts'), {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'web' },
  });
  const pod = fake.store.create(at('pods'), {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web-1' },
    spec: { nodeName: 'node1', serviceAccountName: 'web' },
  });
  return {
    clock,
    fake,
    tokens,
    api,
    podUid: pod.metadata.uid,
    accountUid: account.metadata.uid,
    token: (request = {}) =>
      tokens.mint(fake.store, { namespace: 'rec', serviceAccount: 'web', pod: 'web-1', ...request }),
    deletePod: () => void fake.store.delete(at('pods'), 'web-1', undefined),
  };
}

/** The tokens of the conformance suite that a fake cluster can make; the others follow from the good one. */
export function conformanceTokens({ token, tokens, fake, clock }: FakeCluster): ReadonlyMap<string, string> {
  const good = token();
  const nowSeconds = Math.floor(clock.now() / 1000);
  const { pod: _, ...unbound } = { namespace: 'rec', serviceAccount: 'web', pod: '' };
  return new Map([
    ['good', good],
    ['good for several audiences', token({ audiences: ['vault', 'kedge'] })],
    ['for another audience', token({ audiences: ['vault', 'Kedge'] })],
    ['expired', token({ claims: { exp: nowSeconds - 60 } })],
    ['not yet valid', token({ claims: { nbf: nowSeconds + 600 } })],
    ['bound to no pod', tokens.mint(fake.store, unbound)],
    ['from another issuer', token({ claims: { iss: 'https://elsewhere.example.org' } })],
    ['with a broken signature', `${good.slice(0, -10)}AAAAAAAAAA`],
    ['cut short', good.slice(0, -8)],
    ['empty', ''],
    ['over the size limit', `${good}${'A'.repeat(8 * 1024)}`],
    ['no JWT at all', 'open sesame'],
  ]);
}
