import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readOrCreateKubernetesSealingKey } from '../../../../ca/keys/kubernetes-sealing-key.ts';
import { SECRET } from '../../../../ca/kubernetes/objects.ts';
import { systemRandom } from '../../../../host/random.ts';
import { MemoryKubernetes, refusal } from '../../../fakes/memory-kubernetes.ts';
import { expectRejection } from '../../../support/expect-code.ts';

const never = new AbortController().signal;
const where = { namespace: 'kedge', name: 'kedge-sealing-key' };
const random = systemRandom;

describe('the sealing key in a Secret', () => {
  it('is made once by whoever of several replicas is first, and read by all', async () => {
    const api = new MemoryKubernetes();
    const options = { api, where, random, mayCreate: true };
    const keys = await Promise.all(
      Array.from({ length: 5 }, () => readOrCreateKubernetesSealingKey(options, never)),
    );
    const hex = new Set(keys.map((key) => Buffer.from(key.expose()).toString('hex')));
    assert.equal(hex.size, 1);
    assert.match([...hex][0]!, /^[0-9a-f]{64}$/);
    const { type, immutable } = api.stored(SECRET, where)!;
    assert.deepEqual([type, immutable], ['kedge.io/sealing-key', true]);
    const again = await readOrCreateKubernetesSealingKey({ ...options, mayCreate: false }, never);
    assert.ok(hex.has(Buffer.from(again.expose()).toString('hex')));
  });

  it('is never made where keys are sealed with one already', async () => {
    const api = new MemoryKubernetes();
    const error = await expectRejection(
      'sealing_key_invalid',
      readOrCreateKubernetesSealingKey({ api, where, random, mayCreate: false }, never),
    );
    assert.match(`${error.message}; ${error.hint}`, /does not exist, .*restore it from its backup/);
    assert.equal(api.stored(SECRET, where), undefined);
  });

  const TYPE = 'kedge.io/sealing-key';
  const rows = [
    { name: 'of another type', type: 'Opaque', data: { key: Buffer.alloc(32, 1).toString('base64') } },
    { name: 'without data', type: TYPE, data: {} },
    { name: 'with a short key', type: TYPE, data: { key: Buffer.alloc(31, 1).toString('base64') } },
    { name: 'with a long key', type: TYPE, data: { key: Buffer.alloc(33, 1).toString('base64') } },
    {
      name: 'with the key as hex',
      type: TYPE,
      data: { key: Buffer.from('ab'.repeat(32)).toString('base64') },
    },
  ];
  for (const { name, type, data } of rows) {
    it(`is refused when it stands in a Secret ${name}, whose content stays out of the message`, async () => {
      const api = new MemoryKubernetes();
      await api.create(SECRET, { metadata: where, type, data }, { signal: never });
      for (const mayCreate of [true, false]) {
        const error = await expectRejection(
          'sealing_key_invalid',
          readOrCreateKubernetesSealingKey({ api, where, random, mayCreate }, never),
        );
        assert.doesNotMatch(error.message, /AQEB/);
      }
    });
  }

  it('is not there while the API server is not', async () => {
    const api = new MemoryKubernetes();
    api.fault = () => ({ before: refusal('kubernetes_unreachable') });
    await expectRejection(
      'kubernetes_unreachable',
      readOrCreateKubernetesSealingKey({ api, where, random, mayCreate: true }, never),
    );
  });

  it('is the one that was stored when the answer was lost', async () => {
    const api = new MemoryKubernetes();
    api.fault = ({ verb }) => (verb === 'create' ? { after: refusal('kubernetes_unreachable') } : null);
    const options = { api, where, random, mayCreate: true };
    await expectRejection('kubernetes_unreachable', readOrCreateKubernetesSealingKey(options, never));
    api.fault = () => null;
    const stored = (api.stored(SECRET, where)!['data'] as { key: string }).key;
    const key = await readOrCreateKubernetesSealingKey(options, never);
    assert.equal(Buffer.from(key.expose()).toString('base64'), stored);
  });
});
