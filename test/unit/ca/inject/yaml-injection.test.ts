import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseAllDocuments, stringify } from 'yaml';
import { applyEdits } from '../../../../ca/inject/edit.ts';
import { injectPod } from '../../../../ca/inject/injection.ts';
import type { Json } from '../../../../ca/inject/json.ts';
import { injectYaml, type YamlInjectionOptions } from '../../../../ca/inject/yaml-injection.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { CONTEXT, meshablePods, SETTINGS } from '../../../support/pods.ts';
import { checkProperty } from '../../../support/property.ts';

const OPTIONS: YamlInjectionOptions = {
  settings: SETTINGS,
  capabilities: { nativeSidecars: true },
  ownNamespace: 'kedge',
  everyNamespace: true,
  file: 'stdin',
};
const LABELLED: YamlInjectionOptions = { ...OPTIONS, everyNamespace: false };

const values = (text: string): Json[] =>
  (parseAllDocuments(text, { version: '1.1' }) as { toJS(): Json }[]).map((document) => document.toJS());

/** The lines of `after` that are not in `before`, having checked that those of `before` are all there, in order. */
function insertedLines(before: string, after: string): string[] {
  const inserted: string[] = [];
  const wanted = before.split('\n');
  for (const line of after.split('\n')) {
    if (line === wanted[0]) wanted.shift();
    else inserted.push(line);
  }
  assert.deepEqual(wanted, [], 'a line of the input is lost or altered');
  return inserted;
}

const HEAD = 'apiVersion: v1\nkind: Pod\n';
const DEPLOYMENT = `# The shop's front.
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}   # flow
spec:
    replicas: 0x2
    template:
        metadata:
            labels:   # chosen by hand
                app: 'web'
        spec:
            # first the database
            initContainers:
            # migrates
            -   name: migrate
                image: "web:1"
                args: [ --up, ]
            containers:
            -   image: web:1 # pinned by CI
                name: web
                env:
                -   {name: A, value: "1"}
                command:
                - sh
                - -c
                - |
                    echo hello
                    exec web

            -   name: "proxy"
                image: proxy:1
            terminationGracePeriodSeconds: 5


status: {}
`;

describe('the agent in a manifest', () => {
  it('stands in lines of its own, in the indentation of the file; nothing else changes', () => {
    const { text, outcomes } = injectYaml(DEPLOYMENT, OPTIONS);
    assert.deepEqual(
      outcomes.map(({ name, injection }) => [name, injection.kind]),
      [['deployment/web', 'injected']],
    );
    const inserted = insertedLines(DEPLOYMENT, text);
    assert.ok(inserted.length > 50);
    const lines = text.split('\n');
    const under = lines.indexOf('            initContainers:');
    assert.equal(lines[under + 1], '            - name: kedge-agent');
    const comment = lines.indexOf('            # migrates');
    assert.equal(
      lines[comment + 1],
      '            -   name: migrate',
      'a comment stays above what it is about',
    );
    assert.ok(lines.includes('                kedge.io/injected: "true"'));
  });

  it('is what the webhook would have put into the pods', () => {
    const [want] = values(DEPLOYMENT);
    const template = (value: Json): Json => (value as { spec: { template: Json } }).spec.template;
    const injection = injectPod(template(want ?? null), CONTEXT);
    assert.ok(injection.kind === 'injected');
    const [got] = values(injectYaml(DEPLOYMENT, OPTIONS).text);
    assert.deepEqual(template(got ?? null), applyEdits(template(want ?? null), injection.edits));
  });

  it('is put in once: done again, nothing changes', () => {
    const { text } = injectYaml(DEPLOYMENT, OPTIONS);
    assert.equal(injectYaml(text, OPTIONS).text, text);
  });

  it('keeps CRLF, and a last line without its end', () => {
    const crlf = injectYaml(DEPLOYMENT.replaceAll('\n', '\r\n'), OPTIONS).text;
    assert.equal(crlf.replaceAll('\r\n', '').includes('\n'), false);
    const pod =
      'apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: a\n    image: x';
    const { text } = injectYaml(pod, OPTIONS);
    insertedLines(pod, text);
    assert.equal(text.endsWith('\n'), false);
  });

  const kinds = [
    ['v1', 'Pod', ''],
    ['apps/v1', 'Deployment', 'template'],
    ['apps/v1', 'StatefulSet', 'template'],
    ['apps/v1', 'DaemonSet', 'template'],
    ['apps/v1', 'ReplicaSet', 'template'],
    ['batch/v1', 'Job', 'template'],
    ['batch/v1beta1', 'CronJob', 'jobTemplate.spec.template'],
  ] as const;
  for (const [apiVersion, kind, path] of kinds) {
    it(`goes into a ${kind}, alone and in a List, as YAML and as JSON`, () => {
      const pod = { metadata: { labels: { app: 'a' } }, spec: { containers: [{ name: 'a' }] } };
      const spec =
        path === '' ? pod.spec : path.split('.').reduceRight<object>((v, name) => ({ [name]: v }), pod);
      const manifest = { apiVersion, kind, metadata: { name: 'a' }, spec };
      for (const value of [
        manifest,
        { apiVersion: 'v1', kind: 'List', items: [manifest, structuredClone(manifest)] },
      ]) {
        for (const text of [stringify(value), `${JSON.stringify(value, null, 4)}\n`, JSON.stringify(value)]) {
          const result = injectYaml(text, OPTIONS);
          for (const { injection } of result.outcomes) assert.equal(injection.kind, 'injected');
          assert.equal(result.text.split('kedge-agent').length - 1 >= 2, true);
          if (text.startsWith('{')) JSON.parse(result.text);
        }
      }
    });
  }

  it('is not for kinds of another group, nor for what has no pods', () => {
    const text = [
      'apiVersion: example.org/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{name: a}]}}}\n',
      'apiVersion: v1\nkind: Service\nmetadata: {name: s}\n',
      '# only a comment\n',
      'just text\n',
    ].join('---\n');
    assert.deepEqual(injectYaml(text, OPTIONS), { text, outcomes: [] });
  });
});

describe('whether a manifest is meshed', () => {
  const pod = (namespace: string, metadata = ''): string =>
    `apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: ${namespace}\n${metadata}spec:\n  containers: [{name: a}]\n`;
  const namespace = (name: string, value: string): string =>
    `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${name}\n  labels: {kedge.io/inject: ${value}}\n`;
  const kinds = (text: string, options: YamlInjectionOptions): string[] =>
    injectYaml(text, options).outcomes.map(({ injection: i }) => (i.kind === 'skipped' ? i.reason : i.kind));

  it('is said by the label of a namespace in the same stream, wherever it stands', () => {
    const text = [
      pod('shop'),
      namespace('shop', 'enabled'),
      pod('other'),
      namespace('quiet', 'disabled'),
      pod('quiet'),
    ];
    assert.deepEqual(kinds(text.join('---\n'), LABELLED), ['injected', 'not-selected', 'disabled']);
    assert.deepEqual(kinds(text.join('---\n'), OPTIONS), ['injected', 'injected', 'disabled']);
  });

  it('is said by the pod itself; disabled wins', () => {
    const annotated = (value: string): string => `  annotations: {kedge.io/inject: ${value}}\n`;
    assert.deepEqual(kinds(pod('shop', annotated('enabled')), LABELLED), ['injected']);
    assert.deepEqual(kinds(pod('shop', annotated('disabled')), OPTIONS), ['disabled']);
    assert.deepEqual(kinds(pod('kube-system', annotated('enabled')), OPTIONS), ['system-namespace']);
  });

  it('is asked first: what is not meshed may be written in any way, even as no pod', () => {
    const text = `x: &c [{name: a}]\n${HEAD}spec:\n  containers: *c\n---\n${HEAD}spec: 7\n`;
    assert.equal(injectYaml(text, LABELLED).text, text);
  });

  it('leaves a stream without a meshed pod as it is, byte for byte, whatever is in it', () => {
    checkProperty(
      fc.property(
        fc.array(
          meshablePods.map((value) => withoutInject(value)),
          { maxLength: 4 },
        ),
        fc.constantFrom('---\n', '\n---\n# next\n', '---\r\n'),
        fc.constantFrom({ indent: 2 }, { indent: 4 }, { collectionStyle: 'flow' as const }),
        (pods, separator, style) => {
          const text = pods.map((value) => stringify(value, { ...style, version: '1.1' })).join(separator);
          assert.equal(injectYaml(text, LABELLED).text, text);
        },
      ),
    );
  });

  it('adds to a stream with meshed pods, and takes nothing away, whatever is in it', () => {
    checkProperty(
      fc.property(
        fc.array(meshablePods, { minLength: 1, maxLength: 3 }),
        fc.constantFrom(
          { indent: 2 },
          { indent: 4 },
          { indentSeq: false },
          { collectionStyle: 'flow' as const },
        ),
        (pods, style) => {
          const text = pods.map((value) => stringify(value, { ...style, version: '1.1' })).join('---\n');
          const { text: after } = injectYaml(text, OPTIONS);
          let at = 0;
          for (const character of text) {
            at = after.indexOf(character, at) + 1;
            if (at === 0) assert.fail('a character of the input is lost');
          }
          const want = values(text).map((value) => {
            const injection = injectPod(value, CONTEXT);
            return injection.kind === 'injected' ? applyEdits(value, injection.edits) : value;
          });
          assert.deepEqual(values(after), want);
        },
      ),
      40,
    );
  });
});

function withoutInject(value: Json): Json {
  const { metadata, ...rest } = value as { metadata: { annotations?: Record<string, string> } };
  const { 'kedge.io/inject': _, ...annotations } = metadata.annotations ?? {};
  return { ...rest, metadata: { ...metadata, annotations } };
}

describe('odd ways to write a manifest', () => {
  const head = HEAD;
  const good: Record<string, string> = {
    'empty members': `${head}metadata:\nspec:\n  volumes:\n  containers:\n  - name: a\n    env: ~\n    volumeMounts: []\n`,
    'a null with a comment': `${head}metadata:\n  labels: # none yet\n  annotations: null # none\nspec:\n  containers: [{name: a, env: null}]\n`,
    'a document start and end': `%YAML 1.1\n---\n${head}metadata: {}\nspec:\n  containers:\n  - name: a\n...\n---\n`,
    'quoted keys': `"apiVersion": "v1"\n'kind': Pod\n"spec":\n  "containers":\n    - "name": a\n`,
    'a name that YAML 1.1 takes for a boolean': `${head}spec:\n  containers:\n  - name: "no"\n`,
    'a scalar over several lines at the end': `${head}spec:\n  containers:\n  - name: a\n    image: >-\n      x\n\n    args:\n    - "one\n      two"\n`,
    'a kept block scalar': `${head}spec:\n  containers:\n  - name: a\n    args:\n    - |+\n      x\n\n\n`,
    'an anchor that is not in the way': `${head}metadata:\n  labels:\n    a: &v x\nspec:\n  nodeSelector: {b: *v}\n  containers:\n  - name: a\n`,
    'merged members': `x: &x {image: y}\n${head}spec:\n  containers:\n  - name: a\n    <<: *x\n`,
    'an old label': `${head}metadata:\n  labels:\n    kedge.io/injected: "false" # by hand\nspec:\n  containers:\n  - name: a\n`,
    'a dash with many spaces': `${head}spec:\n  containers:\n    -     name: a\n          image: b\n`,
  };
  for (const [name, text] of Object.entries(good)) {
    it(`are kept: ${name}`, () => {
      const { text: after, outcomes } = injectYaml(text, OPTIONS);
      assert.equal(outcomes[0]?.injection.kind, 'injected');
      const [value] = values(text);
      const injection = injectPod(value ?? null, CONTEXT);
      assert.ok(injection.kind === 'injected');
      assert.deepEqual(values(after)[0], applyEdits(value ?? null, injection.edits));
      assert.equal(injectYaml(after, OPTIONS).text, after);
    });
  }

  const bad: { name: string; text: string; code: ErrorCode; says: RegExp }[] = [
    {
      name: 'labels that a selector shares by an anchor',
      text: `${head}metadata:\n  labels: &l {app: a}\nspec:\n  nodeSelector: *l\n  containers:\n  - name: a\n`,
      code: 'manifest_unsupported',
      says: /anchor/,
    },
    {
      name: 'containers behind an alias',
      text: `x: &c [{name: a}]\n${head}spec:\n  containers: *c\n`,
      code: 'manifest_unsupported',
      says: /alias/,
    },
    {
      name: 'no YAML',
      text: `${head}spec: {containers: [`,
      code: 'manifest_malformed',
      says: /^stdin:3:\d+: /,
    },
    {
      name: 'a key that comes twice',
      text: `${head}kind: Pod\n`,
      code: 'manifest_malformed',
      says: /unique/,
    },
    {
      name: 'a bomb of aliases',
      text: `a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b]\nd: [*c, *c, *c, *c, *c, *c, *c]\n`,
      code: 'manifest_malformed',
      says: /aliases/,
    },
    {
      name: 'more than Kedge reads',
      text: 'x'.repeat(17 * 1024 * 1024),
      code: 'message_too_large',
      says: /over/,
    },
    {
      name: 'more documents than Kedge reads',
      text: '---\n'.repeat(5_000),
      code: 'message_too_large',
      says: /documents/,
    },
    {
      name: 'a pod that cannot have an agent',
      text: `${head}metadata: {name: b, namespace: shop}\nspec:\n  hostNetwork: true\n  containers:\n  - name: a\n`,
      code: 'injection_refused',
      says: /^"pod\/b" in "shop": /,
    },
    {
      name: 'a template without containers',
      text: 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n',
      code: 'pod_malformed',
      says: /^"deployment\/d": /,
    },
  ];
  for (const { name, text, code, says } of bad) {
    it(`are refused: ${name}`, () => {
      assert.match(expectCode(code, () => injectYaml(text, OPTIONS)).message, says);
    });
  }
});
