import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { applyEdits } from '../../../../ca/inject/edit.ts';
import { injectPod } from '../../../../ca/inject/injection.ts';
import type { Json } from '../../../../ca/inject/json.ts';
import { admit } from '../../../../ca/webhook/admission.ts';
import { formatAdmissionReview, parseAdmissionReview } from '../../../../ca/webhook/admission-review.ts';
import { admissionReview, patchOf, type ReviewAnswer } from '../../../support/admission-reviews.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { applyJsonPatch } from '../../../support/json-patch.ts';
import { CONTEXT, meshablePods, podWith, SETTINGS } from '../../../support/pods.ts';
import { checkProperty } from '../../../support/property.ts';

const bytes = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const DECIDE = { settings: SETTINGS, capabilities: { nativeSidecars: true }, ownNamespace: 'kedge' };

function answered(review: unknown): ReviewAnswer & { readonly outcome: string } {
  const request = parseAdmissionReview(bytes(review));
  const { answer, outcome } = admit(request, DECIDE);
  return { ...(JSON.parse(formatAdmissionReview(request, answer)) as ReviewAnswer), outcome };
}

describe('the answer to an AdmissionReview', () => {
  it('patches a pod into what injection makes of it, by a JSON Patch that anyone applies', () => {
    checkProperty(
      fc.property(meshablePods, (pod) => {
        const answer = answered(admissionReview(pod));
        assert.equal(answer.response.allowed, true);
        assert.equal(answer.response.patchType, 'JSONPatch');
        const injection = injectPod(pod, CONTEXT);
        assert.ok(injection.kind === 'injected');
        assert.deepEqual(applyJsonPatch(pod, patchOf(answer)), applyEdits(pod, injection.edits));
      }),
      50,
    );
  });

  it('has no patch for what it has patched before', () => {
    const pod = podWith();
    const once = applyJsonPatch(pod, patchOf(answered(admissionReview(pod))));
    const { response, outcome } = answered(admissionReview(once));
    assert.deepEqual([outcome, response.allowed, response.patch], ['unchanged', true, undefined]);
  });

  for (const apiVersion of ['admission.k8s.io/v1', 'admission.k8s.io/v1beta1']) {
    it(`is in the version of the question: ${apiVersion}`, () => {
      const answer = answered(admissionReview(podWith(), {}, apiVersion));
      assert.equal(answer.apiVersion, apiVersion);
      assert.equal(answer.kind, 'AdmissionReview');
      assert.equal(answer.response.uid, 'aca40358-f14c-4d76-a808-5fed36d903ea');
      assert.ok(patchOf(answer).length > 0);
    });
  }

  it('refuses with a message of code, fault and remedy, which kubectl shows', () => {
    const { response, outcome } = answered(admissionReview(podWith({ 'canary-port': 'http' })));
    assert.deepEqual([outcome, response.allowed, response.patch], ['refused', false, undefined]);
    assert.deepEqual(response.status, {
      status: 'Failure',
      reason: 'BadRequest',
      code: 400,
      message: 'injection_annotation_invalid: kedge.io/canary-port does not take "http"; allowed: 1 to 65535',
    });
  });

  it('allows what is nothing of its business, and says so', () => {
    const asked: readonly Readonly<Record<string, unknown>>[] = [
      { operation: 'UPDATE' },
      { subResource: 'binding' },
      { resource: { group: 'apps', version: 'v1', resource: 'deployments' } },
    ];
    for (const request of asked) {
      const { response, outcome } = answered(admissionReview(podWith(), request));
      assert.deepEqual([outcome, response.allowed, response.patch], ['not-a-pod', true, undefined]);
      assert.match(response.warnings?.[0] ?? '', /MutatingWebhookConfiguration/);
    }
    const old = answered(admissionReview(podWith(), { operation: 'UPDATE' }, 'admission.k8s.io/v1beta1'));
    assert.equal(old.response.warnings, undefined);
  });

  it('leaves pods of Kedge and of Kubernetes alone, even if it is asked', () => {
    for (const namespace of ['kedge', 'kube-system']) {
      const { response, outcome } = answered(admissionReview(podWith(), { namespace }));
      assert.deepEqual([outcome, response.allowed, response.patch], ['skipped', true, undefined]);
    }
  });

  it('is the same for a dry run', () => {
    const real = answered(admissionReview(podWith()));
    const dry = answered(admissionReview(podWith(), { dryRun: true }));
    assert.deepEqual(dry, real);
  });
});

describe('what is no AdmissionReview', () => {
  const review = admissionReview(podWith());
  const request = review['request'] as object;
  const deep = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
  const cases: Readonly<Record<string, string>> = {
    nothing: '',
    'no JSON': '{',
    'JSON with a tail': `${JSON.stringify(review)}x`,
    'an array': '[]',
    null: 'null',
    'a deep nest': deep(100_000),
    'a pod that nests deep': JSON.stringify(review).replace('"oldObject":null', `"oldObject":${deep(70)}`),
    'a name that stands twice': '{"kind":"AdmissionReview","kind":"AdmissionReview"}',
    'bytes that are no UTF-8': '\xff',
    'another kind': JSON.stringify({ ...review, kind: 'TokenReview' }),
    'another version': JSON.stringify({ ...review, apiVersion: 'admission.k8s.io/v2' }),
    'no request': JSON.stringify({ ...review, request: null }),
    'no uid': JSON.stringify({ ...review, request: { ...request, uid: undefined } }),
    'a uid that is a number': JSON.stringify({ ...review, request: { ...request, uid: 7 } }),
    'a long uid': JSON.stringify({ ...review, request: { ...request, uid: 'x'.repeat(300) } }),
    'no operation': JSON.stringify({ ...review, request: { ...request, operation: undefined } }),
    'no resource': JSON.stringify({ ...review, request: { ...request, resource: 'pods' } }),
    'a namespace that is a list': JSON.stringify({ ...review, request: { ...request, namespace: [] } }),
  };
  for (const [name, text] of Object.entries(cases)) {
    it(`is refused: ${name}`, () => {
      expectCode('admission_review_malformed', () => parseAdmissionReview(Buffer.from(text, 'latin1')));
    });
  }

  const pods: Readonly<Record<string, Json>> = {
    'no pod': null,
    'a text': 'pod',
    'a list': [],
    'a pod without a spec': { metadata: {} },
    'annotations with nonsense': podWith({ 'no-such-thing': '\u0000' }),
    'annotations that are a list': { metadata: { annotations: [1] }, spec: { containers: [{ name: 'a' }] } },
    'a member named __proto__': JSON.parse('{"__proto__":{"spec":1},"metadata":{"__proto__":1}}') as Json,
  };
  for (const [name, pod] of Object.entries(pods)) {
    it(`or about no pod is a refusal that says why: ${name}`, () => {
      const { response, outcome } = answered(admissionReview(pod));
      assert.deepEqual([outcome, response.allowed], ['refused', false]);
      assert.match(response.status?.message ?? '', /^(pod_malformed|injection_annotation_invalid): /);
    });
  }

  it('or any JSON whatever never breaks the decision: it is answered, or refused with a code', () => {
    checkProperty(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (pod) => {
        const { response } = answered(admissionReview({ metadata: pod, spec: pod }));
        assert.equal(response.allowed, false);
      }),
    );
  });
});
