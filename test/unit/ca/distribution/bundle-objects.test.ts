import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import {
  bundleConfigMap,
  type BundleVerdict,
  clusterTrustBundle,
  judgeClusterTrustBundle,
  judgeConfigMap,
  type PublishedBundle,
  publishedBundle,
} from '../../../../ca/distribution/bundle-objects.ts';
import type { KubernetesObject, ObjectDraft } from '../../../../ca/kubernetes/objects.ts';
import { parseBootstrapBundle } from '../../../../agent/bootstrap-bundle.ts';
import { makeAnchor } from '../../../support/certificates.ts';

let first: PublishedBundle;
let second: PublishedBundle;
let anchors: readonly Uint8Array[];

before(async () => {
  anchors = [(await makeAnchor()).der, (await makeAnchor()).der];
  const bundle = (sequence: number, authorities: readonly Uint8Array[]): PublishedBundle =>
    publishedBundle({ trustDomain: 'example.org', sequence, x509Authorities: authorities }, 300);
  first = bundle(1, anchors.slice(0, 1));
  second = bundle(2, anchors);
});

const stored = (draft: ObjectDraft, kind = 'ConfigMap'): KubernetesObject => ({
  ...draft,
  apiVersion: 'v1',
  kind,
  metadata: { name: '', ...draft.metadata, uid: 'u', resourceVersion: '7' },
});
const configMap = (bundle: PublishedBundle): KubernetesObject =>
  stored(bundleConfigMap('shop', bundle, null));
const withData = (object: KubernetesObject, data: Record<string, unknown>): KubernetesObject => ({
  ...object,
  data: { ...(object['data'] as object), ...data },
});

describe('the ConfigMap with the trust bundle', () => {
  it('holds the anchors in both forms, and an agent can start from each', () => {
    const { data, metadata } = configMap(second);
    const { 'bundle.pem': pem, 'bundle.json': document } = data as Record<string, string>;
    for (const form of [pem!, document!]) {
      assert.deepEqual(
        parseBootstrapBundle(Buffer.from(form)).map((der) => Buffer.from(der)),
        anchors.map((der) => Buffer.from(der)),
      );
    }
    assert.deepEqual([metadata.namespace, metadata.name], ['shop', 'kedge-trust-bundle']);
    assert.equal(metadata.labels?.['app.kubernetes.io/managed-by'], 'kedge');
  });

  it('keeps the labels and annotations that others gave it, and replaces the version that was seen', () => {
    const before = configMap(first);
    const labelled = {
      ...before,
      metadata: {
        ...before.metadata,
        labels: { ...before.metadata.labels, team: 'shop' },
        annotations: { ...before.metadata.annotations, note: 'x' },
      },
    };
    const { metadata } = bundleConfigMap('shop', second, labelled);
    assert.equal((metadata!['labels'] as Record<string, string>)['team'], 'shop');
    assert.equal((metadata!['annotations'] as Record<string, string>)['note'], 'x');
    assert.equal(metadata?.resourceVersion, '7');
  });

  const rows: readonly {
    readonly name: string;
    readonly object: () => KubernetesObject | null;
    readonly want: BundleVerdict;
  }[] = [
    { name: 'is not there', object: () => null, want: 'missing' },
    { name: 'is as it should be', object: () => configMap(second), want: 'current' },
    { name: 'is of the bundle before', object: () => configMap(first), want: 'older' },
    { name: 'is emptied', object: () => ({ ...configMap(second), data: {} }), want: 'edited' },
    { name: 'has no data at all', object: () => ({ ...configMap(second), data: null }), want: 'edited' },
    {
      name: 'has its PEM emptied',
      object: () => withData(configMap(second), { 'bundle.pem': '' }),
      want: 'edited',
    },
    {
      name: 'has an anchor cut out of the PEM',
      object: () => withData(configMap(second), { 'bundle.pem': first.pem }),
      want: 'edited',
    },
    {
      name: 'has nonsense as document',
      object: () => withData(configMap(second), { 'bundle.json': '{' }),
      want: 'edited',
    },
    {
      name: 'has a key too many',
      object: () => withData(configMap(second), { extra: 'x' }),
      want: 'edited',
    },
    {
      name: 'has binary data',
      object: () => ({ ...configMap(second), binaryData: { x: 'AA==' } }),
      want: 'edited',
    },
    {
      name: 'has other anchors under the same sequence',
      object: () => {
        const forged = publishedBundle(
          { trustDomain: 'example.org', sequence: 2, x509Authorities: anchors.slice(1) },
          300,
        );
        return configMap(forged);
      },
      want: 'edited',
    },
    {
      name: 'has another refresh hint',
      object: () =>
        configMap(publishedBundle({ trustDomain: 'example.org', sequence: 2, x509Authorities: anchors }, 60)),
      want: 'older',
    },
    {
      name: 'is somebody else’s',
      object: () => ({ ...configMap(second), metadata: { name: 'kedge-trust-bundle', namespace: 'shop' } }),
      want: 'foreign',
    },
    {
      name: 'is of another trust domain',
      object: () =>
        configMap(
          publishedBundle({ trustDomain: 'example.com', sequence: 2, x509Authorities: anchors }, 300),
        ),
      want: 'foreign',
    },
  ];
  for (const { name, object, want } of rows) {
    it(`that ${name} is ${want}`, () => assert.equal(judgeConfigMap(object(), second), want));
  }

  it('of a later bundle is newer to a replica that has not read it', () => {
    assert.equal(judgeConfigMap(configMap(second), first), 'newer');
  });
});

describe('the ClusterTrustBundle', () => {
  const object = (bundle: PublishedBundle): KubernetesObject =>
    stored(clusterTrustBundle(bundle, null), 'ClusterTrustBundle');

  it('holds the anchors as PEM', () => {
    assert.deepEqual(clusterTrustBundle(second, null)['spec'], { trustBundle: second.pem });
  });

  it('is judged by its sequence and its content', () => {
    assert.equal(judgeClusterTrustBundle(null, second), 'missing');
    assert.equal(judgeClusterTrustBundle(object(second), second), 'current');
    assert.equal(judgeClusterTrustBundle(object(first), second), 'older');
    assert.equal(judgeClusterTrustBundle(object(second), first), 'newer');
    assert.equal(
      judgeClusterTrustBundle({ ...object(second), spec: { trustBundle: first.pem } }, second),
      'edited',
    );
    const { metadata } = object(second);
    const bare = { ...object(second), metadata: { ...metadata, annotations: {} } };
    assert.equal(judgeClusterTrustBundle(bare, second), 'edited');
    assert.equal(judgeClusterTrustBundle({ ...object(second), metadata: { name: 'x' } }, second), 'foreign');
  });
});
