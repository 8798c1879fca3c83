import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EVENT, EventRecorder } from '../../../../ca/kubernetes/event-recorder.ts';
import type { KubernetesObject } from '../../../../ca/kubernetes/objects.ts';
import { systemRandom } from '../../../../host/random.ts';
import { MemoryKubernetes, refusal } from '../../../fakes/memory-kubernetes.ts';
import { RecordingLog } from '../../../support/authority-replica.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const never = new AbortController().signal;
const event = { type: 'Warning', reason: 'KedgeTest', message: 'something is wrong' } as const;

function setUp() {
  const api = new MemoryKubernetes();
  const clock = new ManualClock();
  const log = new RecordingLog();
  const recorder = new EventRecorder({ api, instance: 'kedge-ca-0', clock, random: systemRandom, log });
  const events = async (): Promise<readonly KubernetesObject[]> =>
    (await api.list(EVENT, { signal: never })).items;
  return { api, clock, log, recorder, events };
}

const object = (name: string, namespace?: string): KubernetesObject => ({
  apiVersion: 'v1',
  kind: namespace === undefined ? 'Namespace' : 'ConfigMap',
  metadata: { name, uid: 'u', resourceVersion: '7', ...(namespace === undefined ? {} : { namespace }) },
});

describe('events on objects', () => {
  it('name the object, the reason, and which replica says it', async () => {
    const { recorder, events } = setUp();
    recorder.record(object('bundle', 'shop'), event, never);
    await settle();
    const [made] = await events();
    assert.equal(made?.metadata.namespace, 'shop');
    assert.match(made?.metadata.name ?? '', /^bundle\.[0-9a-f]{12}$/);
    assert.deepEqual(made?.['involvedObject'], {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      name: 'bundle',
      namespace: 'shop',
      uid: 'u',
      resourceVersion: '7',
    });
    assert.deepEqual([made?.['type'], made?.['reason'], made?.['message']], Object.values(event));
    assert.deepEqual(made?.['source'], { component: 'kedge-ca', host: 'kedge-ca-0' });
    assert.equal(made?.['firstTimestamp'], '2026-01-01T00:00:00Z');
  });

  it('on an object without a namespace are in default', async () => {
    const { recorder, events } = setUp();
    recorder.record(object('shop'), event, never);
    await settle();
    assert.equal((await events())[0]?.metadata.namespace, 'default');
  });

  it('say the same of an object once in an hour', async () => {
    const { clock, recorder, events } = setUp();
    for (let i = 0; i < 5; i += 1) recorder.record(object('bundle', 'shop'), event, never);
    recorder.record(object('bundle', 'shop'), { ...event, reason: 'KedgeOther' }, never);
    recorder.record(object('bundle', 'other'), event, never);
    await settle();
    assert.equal((await events()).length, 3);
    await clock.advance(3_600_000);
    recorder.record(object('bundle', 'shop'), event, never);
    await settle();
    assert.equal((await events()).length, 4);
  });

  it('are bounded over all objects, and come again later', async () => {
    const { clock, recorder, events } = setUp();
    for (let i = 0; i < 1_000; i += 1) recorder.record(object(`b${i}`, 'shop'), event, never);
    await settle();
    assert.equal((await events()).length, 30);
    await clock.advance(60_000);
    recorder.record(object('b999', 'shop'), event, never);
    await settle();
    assert.equal((await events()).length, 31);
  });

  it('that cannot be made are logged and forgotten', async () => {
    const { api, log, recorder } = setUp();
    api.fault = () => ({ before: refusal('kubernetes_forbidden') });
    recorder.record(object('bundle', 'shop'), event, never);
    await settle();
    assert.deepEqual(log.events, ['kubernetes.event_failed']);
  });
});
