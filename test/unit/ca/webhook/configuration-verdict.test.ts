import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Json, type JsonMap, member } from '../../../../ca/inject/json.ts';
import { webhooks, withCaBundle } from '../../../../ca/inject/webhook-configuration.ts';
import { judgeConfiguration } from '../../../../ca/webhook/configuration-verdict.ts';
import { encodePem } from '../../../../pki/pem.ts';

const WANTED = webhooks({
  target: { kind: 'service', namespace: 'kedge', name: 'kedge-ca', port: 443 },
  failurePolicy: 'Fail',
  timeoutSeconds: 5,
  ownNamespace: 'kedge',
});
const [A, B] = [1, 2].map((n) => encodePem('CERTIFICATE', Uint8Array.of(0x30, 1, n))) as [string, string];
const GOOD = withCaBundle(WANTED, A);

const edited = (change: (hook: JsonMap) => JsonMap): JsonMap[] =>
  GOOD.map((hook, i) => (i === 0 ? change(hook) : hook));

describe('a MutatingWebhookConfiguration', () => {
  it('is current as it was written, in whatever order, beside webhooks of others', () => {
    const others = { name: 'other.example.org', clientConfig: {} };
    for (const found of [GOOD, GOOD.toReversed(), [others, ...GOOD]]) {
      assert.deepEqual(judgeConfiguration(found, WANTED, A), { kind: 'current' });
    }
  });

  const edits: Readonly<Record<string, Json>> = {
    'no webhooks at all': [],
    'webhooks that are no list': { a: 1 },
    'an element that is no object': [7, GOOD[1] ?? null],
    'one webhook gone': GOOD.slice(1),
    'one that comes twice': [...GOOD, ...GOOD],
    'no caBundle': WANTED,
    'an emptied caBundle': withCaBundle(WANTED, ''),
    'a caBundle that is no text': edited((hook) => ({ ...hook, clientConfig: { caBundle: 7 } })),
    'a caBundle that is no PEM': edited((hook) => ({ ...hook, clientConfig: { caBundle: '!!' } })),
    'another failure policy': edited((hook) => ({ ...hook, failurePolicy: 'Ignore' })),
    'a selector that takes in everything': edited((hook) => ({ ...hook, namespaceSelector: {} })),
    'a rule for everything': edited((hook) => ({ ...hook, rules: [] })),
    'another service': edited((hook) => ({ ...hook, clientConfig: { service: { name: 'evil' } } })),
  };
  for (const [name, found] of Object.entries(edits)) {
    it(`that was edited into nonsense is put right: ${name}`, () => {
      const verdict = judgeConfiguration(found, WANTED, A);
      assert.ok(verdict.kind === 'drifted');
      assert.deepEqual(verdict.webhooks, GOOD);
      assert.equal(verdict.removesAnchors, false);
    });
  }

  it('keeps what others put beside ours', () => {
    const others = { name: 'other.example.org', anything: [1] };
    const verdict = judgeConfiguration([others], WANTED, A);
    assert.ok(verdict.kind === 'drifted');
    assert.deepEqual(verdict.webhooks, [...GOOD, others]);
  });

  it('is told apart where it trusts an anchor that is not known here', () => {
    const newer = judgeConfiguration(withCaBundle(WANTED, A + B), WANTED, A);
    assert.ok(newer.kind === 'drifted' && newer.removesAnchors);
    const older = judgeConfiguration(GOOD, WANTED, A + B);
    assert.ok(older.kind === 'drifted' && !older.removesAnchors);
    const bundle = older.webhooks.map((hook) => member(hook['clientConfig'], 'caBundle'));
    assert.deepEqual(bundle, [btoa(A + B), btoa(A + B)]);
  });
});
