import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Json } from '../../../../ca/inject/json.ts';
import { member } from '../../../../ca/inject/json.ts';
import { webhooks, withCaBundle } from '../../../../ca/inject/webhook-configuration.ts';

const HOOKS = webhooks({
  target: { kind: 'service', namespace: 'kedge', name: 'kedge-ca', port: 443 },
  failurePolicy: 'Fail',
  timeoutSeconds: 5,
  ownNamespace: 'kedge',
});

type Labels = Readonly<Record<string, string>>;

/** A label selector as Kubernetes evaluates one: NotIn holds where there is no such label. */
function selects(selector: Json | undefined, labels: Labels): boolean {
  const expressions = member(selector, 'matchExpressions') as unknown as {
    readonly key: string;
    readonly operator: string;
    readonly values: readonly string[];
  }[];
  return expressions.every(({ key, operator, values }) => {
    const value = labels[key];
    const isIn = value !== undefined && values.includes(value);
    assert.ok(operator === 'In' || operator === 'NotIn');
    return operator === 'In' ? isIn : !isIn;
  });
}

/** The webhooks that the API server asks about a pod. */
function asked(namespace: string, namespaceLabels: Labels, podLabels: Labels): Json[] {
  const named = { 'kubernetes.io/metadata.name': namespace, ...namespaceLabels };
  return HOOKS.filter(
    (hook) => selects(hook['namespaceSelector'], named) && selects(hook['objectSelector'], podLabels),
  ).map((hook) => hook['name'] ?? null);
}

describe('whom the webhook is asked about', () => {
  const enabled = { 'kedge.io/inject': 'enabled' };
  const disabled = { 'kedge.io/inject': 'disabled' };
  const cases: [
    what: string,
    namespace: string,
    namespaceLabels: Labels,
    podLabels: Labels,
    asked: number,
  ][] = [
    ['a pod where nobody said anything', 'shop', {}, {}, 0],
    ['a pod of a labelled namespace', 'shop', enabled, {}, 1],
    ['a labelled pod', 'shop', {}, enabled, 1],
    ['a labelled pod of a labelled namespace: once', 'shop', enabled, enabled, 1],
    ['a pod that is out of a labelled namespace', 'shop', enabled, disabled, 0],
    ['a labelled pod of a namespace that is out', 'shop', disabled, enabled, 0],
    ['a pod with nonsense in its label, which is refused', 'shop', enabled, { 'kedge.io/inject': 'yes' }, 1],
    ['a pod of kube-system, labelled or not', 'kube-system', enabled, enabled, 0],
    ['a pod of Kedge in its own namespace, whoever labelled it', 'kedge', enabled, disabled, 0],
    ['any pod in the namespace of Kedge', 'kedge', enabled, enabled, 0],
  ];
  for (const [what, namespace, namespaceLabels, podLabels, count] of cases) {
    it(`follows from the labels: ${what}`, () => {
      assert.equal(asked(namespace, namespaceLabels, podLabels).length, count);
    });
  }

  it('leaves out pods of Kedge even on 1.20, where a namespace has no label with its name', () => {
    const [hook] = HOOKS;
    assert.ok(selects(hook?.['namespaceSelector'], enabled));
    assert.equal(selects(hook?.['objectSelector'], disabled), false);
  });

  it('is pods as they are created, and nothing that has side effects', () => {
    for (const hook of HOOKS) {
      assert.deepEqual(hook['rules'], [
        {
          operations: ['CREATE'],
          apiGroups: [''],
          apiVersions: ['v1'],
          resources: ['pods'],
          scope: 'Namespaced',
        },
      ]);
      assert.equal(hook['sideEffects'], 'None');
      assert.equal(hook['reinvocationPolicy'], 'IfNeeded');
    }
  });
});

describe('what the API server trusts there', () => {
  it('is put into every webhook, beside the service', () => {
    for (const hook of withCaBundle(HOOKS, 'PEM\n')) {
      assert.deepEqual(hook['clientConfig'], {
        service: { namespace: 'kedge', name: 'kedge-ca', path: '/mutate', port: 443 },
        caBundle: 'UEVNCg==',
      });
    }
  });
});
