import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { POD } from '../../../../ca/kubernetes/objects.ts';
import { listInPages, type PageQuery } from '../../../../ca/kubernetes/paged-list.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { expectRejection } from '../../../support/expect-code.ts';

const tooLarge = new KedgeError('kubernetes_answer_invalid', 'the answer is too large', {
  cause: new KedgeError('message_too_large', 'it is'),
});

/** An API server with pods of these sizes, whose pages may have `pageBytes`. */
function served(sizes: readonly number[], pageBytes: number) {
  const asked: number[] = [];
  const ask = ({ limit, continue: from = '0' }: PageQuery): Promise<unknown> => {
    asked.push(limit);
    const first = Number(from);
    const page = sizes.slice(first, first + limit);
    if (page.reduce((sum, size) => sum + size, 0) > pageBytes) return Promise.reject(tooLarge);
    const next = first + page.length;
    return Promise.resolve({
      kind: 'PodList',
      metadata: { resourceVersion: '7', ...(next < sizes.length ? { continue: String(next) } : {}) },
      items: page.map((_, i) => ({ metadata: { name: `p${first + i}`, resourceVersion: '1' } })),
    });
  };
  return { ask, asked };
}

const named = (count: number): string[] => Array.from({ length: count }, (_, i) => `p${i}`);
const list = (
  ask: Parameters<typeof listInPages>[0]['ask'],
  take?: Parameters<typeof listInPages>[0]['take'],
) => listInPages({ type: POD, what: 'the answer to list pods', ask, take });

describe('a list in pages', () => {
  it('goes on past large objects in smaller pages, and in larger ones after them', async () => {
    const sizes = [
      ...Array<number>(600).fill(10),
      ...Array<number>(60).fill(1_000),
      ...Array<number>(900).fill(10),
    ];
    const { ask, asked } = served(sizes, 10_000);
    const { items, resourceVersion } = await list(ask);
    assert.deepEqual(
      items.map(({ metadata }) => metadata.name),
      named(sizes.length),
    );
    assert.equal(resourceVersion, '7');
    assert.ok(Math.min(...asked) < 20 && asked.at(-1) === LIMITS.kubernetesPageItems, asked.join());
  });

  it('ends where even the smallest page is too large', async () => {
    const { ask, asked } = served(Array<number>(600).fill(1_000), 900);
    await expectRejection('kubernetes_answer_invalid', list(ask));
    assert.equal(asked.at(-1), 1);
  });

  it('asks for a small page where a large one takes too long, and once only where that does too', async () => {
    const { ask, asked } = served(Array<number>(40).fill(1), 10_000);
    const late = new KedgeError('deadline_exceeded', 'late');
    const slow = (limit: number) => (query: PageQuery) =>
      query.limit > limit ? Promise.reject(late) : ask(query);
    assert.equal((await list(slow(100))).items.length, 40);
    assert.equal(asked[0], 1);
    let calls = 0;
    const never = (): Promise<unknown> => {
      calls += 1;
      return Promise.reject(late);
    };
    await expectRejection('deadline_exceeded', list(never));
    assert.equal(calls, 2);
  });

  it('passes on what else goes wrong', async () => {
    const away = new KedgeError('kubernetes_unreachable', 'away');
    await expectRejection(
      'kubernetes_unreachable',
      list(() => Promise.reject(away)),
    );
  });

  it('keeps nothing of what it gives away', async () => {
    const { ask } = served(Array<number>(1_200).fill(1), 10_000);
    const taken: string[] = [];
    const { items } = await list(ask, ({ metadata }) => void taken.push(metadata.name));
    assert.deepEqual(taken, named(1_200));
    assert.deepEqual(items, []);
  });
});
