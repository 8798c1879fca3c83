import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { applyEdits } from '../../../../ca/inject/edit.ts';
import { type InjectionContext, injectPod } from '../../../../ca/inject/injection.ts';
import { AGENT_PROGRAM } from '../../../../ca/inject/injection-settings.ts';
import { type Json, type JsonMap, member } from '../../../../ca/inject/json.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { CONTEXT, meshablePods, OLD_CLUSTER, podWith, SETTINGS } from '../../../support/pods.ts';
import { checkProperty } from '../../../support/property.ts';

function patched(pod: Json, context = CONTEXT): Json {
  const injection = injectPod(pod, context);
  assert.ok(injection.kind === 'injected');
  return applyEdits(pod, injection.edits);
}

const at = (value: Json | undefined, ...path: (string | number)[]): Json | undefined =>
  path.reduce<Json | undefined>(
    (v, step) => (typeof step === 'number' ? (v as readonly Json[] | undefined)?.[step] : member(v, step)),
    value,
  );
const list = (value: Json | undefined): JsonMap[] => (value ?? []) as unknown as JsonMap[];

describe('a pod that gets its agent', () => {
  const pod = patched(podWith());
  const agent = at(pod, 'spec', 'initContainers', 0);

  it('has it as the first init container, which stays, with every right taken away', () => {
    assert.equal(member(agent, 'name'), 'kedge-agent');
    assert.equal(member(agent, 'restartPolicy'), 'Always');
    assert.deepEqual(member(agent, 'securityContext'), {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsGroup: 65_532,
      runAsNonRoot: true,
      runAsUser: 65_532,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    assert.deepEqual(member(agent, 'resources'), {
      requests: { cpu: '10m', memory: '64Mi' },
      limits: { memory: '128Mi' },
    });
  });

  it('has a token for the audience of the CA and the trust bundle in one volume, which the agent alone mounts', () => {
    const [identity, ...others] = list(at(pod, 'spec', 'volumes'));
    assert.deepEqual(identity, {
      name: 'kedge-identity',
      projected: {
        sources: [
          { serviceAccountToken: { audience: 'kedge', expirationSeconds: 3_600, path: 'token' } },
          { configMap: { name: 'kedge-trust-bundle', items: [{ key: 'bundle.pem', path: 'trust-bundle' }] } },
        ],
      },
    });
    for (const volume of others) assert.equal(at(volume, 'emptyDir', 'medium'), 'Memory');
    const mounts = list(at(pod, 'spec', 'containers', 0, 'volumeMounts'));
    assert.deepEqual(
      mounts.map(({ name }) => name),
      ['kedge-workload'],
    );
    assert.equal(mounts[0]?.['readOnly'], true);
  });

  it('tells its containers where the Workload API is, unless they know already', () => {
    assert.deepEqual(at(pod, 'spec', 'containers', 0, 'env'), [
      { name: 'SPIFFE_ENDPOINT_SOCKET', value: 'unix:///var/run/kedge/workload/api.sock' },
    ]);
    const env = [{ name: 'SPIFFE_ENDPOINT_SOCKET', value: 'unix:///elsewhere' }];
    const own = podWith({}, { containers: [{ name: 'web', image: 'x', env }] });
    assert.deepEqual(at(patched(own), 'spec', 'containers', 0, 'env'), env);
  });

  it('says what was done in a label and an annotation', () => {
    assert.equal(at(pod, 'metadata', 'labels', 'kedge.io/injected'), 'true');
    const status = JSON.parse(at(pod, 'metadata', 'annotations', 'kedge.io/status') as string) as object;
    assert.deepEqual(status, {
      version: '0.1.0',
      sidecar: 'native',
      container: 'kedge-agent',
      volumes: ['kedge-identity', 'kedge-cache', 'kedge-workload'],
    });
  });

  it('serves init containers too, where it starts before them', () => {
    const init = { initContainers: [{ name: 'migrate', image: 'x' }] };
    const before = patched(podWith({}, init));
    assert.equal(at(before, 'spec', 'initContainers', 1, 'env', 0, 'name'), 'SPIFFE_ENDPOINT_SOCKET');
    const after = patched(podWith({}, init), OLD_CLUSTER);
    assert.deepEqual(at(after, 'spec', 'initContainers'), init.initContainers);
  });

  it('has it beside its containers on a cluster without native sidecars; kubectl goes on with the first of them', () => {
    const old = patched(podWith(), OLD_CLUSTER);
    assert.deepEqual(
      list(at(old, 'spec', 'containers')).map(({ name }) => name),
      ['kedge-agent', 'web'],
    );
    assert.equal(at(old, 'spec', 'containers', 0, 'restartPolicy'), undefined);
    assert.notEqual(at(old, 'spec', 'containers', 0, 'lifecycle', 'postStart'), undefined);
    assert.equal(at(old, 'metadata', 'annotations', 'kubectl.kubernetes.io/default-container'), 'web');
  });

  it('takes its trust bundle from a ClusterTrustBundle where that is configured', () => {
    const bundle = { kind: 'cluster-trust-bundle', name: 'kedge.io:trust:bundle' } as const;
    const projected = patched(podWith(), { ...CONTEXT, settings: { ...SETTINGS, bundle } });
    assert.deepEqual(at(projected, 'spec', 'volumes', 0, 'projected', 'sources', 1), {
      clusterTrustBundle: { name: 'kedge.io:trust:bundle', path: 'trust-bundle' },
    });
  });

  it("shares the volume that Istio's own injection mounts for an SDS socket", () => {
    const mounts = [{ name: 'workload-socket', mountPath: '/var/run/secrets/workload-spiffe-uds' }];
    const spec = {
      volumes: [{ name: 'workload-socket', emptyDir: {} }],
      containers: [
        { name: 'web', image: 'x' },
        { name: 'istio-proxy', image: 'y', volumeMounts: mounts },
      ],
    };
    const meshed = patched(podWith({ 'istio-sds': 'enabled' }, spec));
    const mounted = list(at(meshed, 'spec', 'initContainers', 0, 'volumeMounts'));
    assert.ok(mounted.some(({ name }) => name === 'workload-socket'));
    assert.equal(list(at(meshed, 'spec', 'volumes')).filter(({ name }) => name === 'kedge-istio').length, 0);
  });
});

describe('whether a pod is meshed', () => {
  const cases: {
    name: string;
    namespace?: string;
    label?: string;
    annotation?: string;
    want: string;
    in?: string;
  }[] = [
    { name: 'nothing said anywhere', want: 'not-selected' },
    { name: 'the namespace', namespace: 'enabled', want: 'injected' },
    { name: "the pod's label", label: 'enabled', want: 'injected' },
    { name: "the pod's annotation", annotation: 'enabled', want: 'injected' },
    { name: 'the label against the namespace', namespace: 'enabled', label: 'disabled', want: 'disabled' },
    {
      name: 'the annotation against both',
      namespace: 'enabled',
      label: 'enabled',
      annotation: 'disabled',
      want: 'disabled',
    },
    { name: 'the namespace against the pod', namespace: 'disabled', label: 'enabled', want: 'disabled' },
    {
      name: 'in kube-system',
      namespace: 'enabled',
      label: 'enabled',
      want: 'system-namespace',
      in: 'kube-system',
    },
    { name: 'in the namespace of Kedge', namespace: 'enabled', want: 'own-namespace', in: 'kedge' },
  ];
  for (const { name, namespace, label, annotation, want, in: where } of cases) {
    it(`is decided: ${name}`, () => {
      const labelled = (value: string | undefined): Json =>
        value === undefined ? {} : { 'kedge.io/inject': value };
      const pod: Json = {
        metadata: { labels: labelled(label), annotations: labelled(annotation) },
        spec: { containers: [{ name: 'web' }] },
      };
      const injection = injectPod(pod, {
        ...CONTEXT,
        namespace: { name: where ?? 'shop', labels: labelled(namespace) },
      });
      assert.equal(injection.kind === 'skipped' ? injection.reason : injection.kind, want);
    });
  }

  it('is not asked of the mirror of a static pod, which cannot be changed', () => {
    const pod: Json = {
      metadata: { annotations: { 'kubernetes.io/config.mirror': 'x' } },
      spec: { containers: [{ name: 'web' }] },
    };
    assert.deepEqual(injectPod(pod, CONTEXT), { kind: 'skipped', reason: 'mirror-pod' });
  });
});

describe('a pod that cannot have an agent', () => {
  const web = { name: 'web', image: 'x' };
  const cases: {
    name: string;
    pod: Json;
    code?: ErrorCode;
    says: RegExp;
    context?: InjectionContext;
  }[] = [
    {
      name: 'one with a container of that name',
      pod: podWith({}, { containers: [{ name: 'kedge-agent' }] }),
      says: /container "kedge-agent" already/,
    },
    {
      name: 'one with a volume of that name',
      pod: podWith({}, { volumes: [{ name: 'kedge-cache' }] }),
      says: /volume "kedge-cache" already/,
    },
    {
      name: 'one that mounts something else where the socket belongs',
      pod: podWith(
        {},
        { containers: [{ ...web, volumeMounts: [{ name: 'v', mountPath: '/var/run/kedge/workload/' }] }] },
      ),
      says: /container "web" mounts the volume "v" at \/var\/run\/kedge\/workload/,
    },
    {
      name: 'one on the network of its node',
      pod: podWith({}, { hostNetwork: true }),
      says: /network of its node/,
    },
    {
      name: "one that has the agent's port",
      pod: podWith({}, { containers: [{ ...web, ports: [{ containerPort: 15_940 }] }] }),
      says: /container "web" has the port 15940/,
    },
    {
      name: 'one for Windows',
      pod: podWith({}, { nodeSelector: { 'kubernetes.io/os': 'windows' } }),
      says: /Windows/,
    },
    { name: 'one without any feed', pod: podWith({ 'workload-api': 'disabled' }), says: /without a feed/ },
    {
      name: 'one that ends by itself, without native sidecars',
      pod: podWith({}, { restartPolicy: 'Never' }),
      context: OLD_CLUSTER,
      says: /ends by itself/,
    },
    {
      name: 'one with a mistyped annotation',
      pod: podWith({ canaryport: '1' }),
      code: 'injection_annotation_invalid',
      says: /no annotation "kedge.io\/canaryport"/,
    },
    {
      name: 'one with nonsense in an annotation',
      pod: podWith({ 'canary-port': '0' }),
      code: 'injection_annotation_invalid',
      says: /canary-port does not take "0"/,
    },
    {
      name: 'one whose inject is neither',
      pod: podWith({ inject: 'true' }),
      code: 'injection_annotation_invalid',
      says: /does not take "true"/,
    },
    {
      name: 'one without containers',
      pod: podWith({}, { containers: [] }),
      code: 'pod_malformed',
      says: /spec.containers is empty/,
    },
    { name: 'one without a spec', pod: { metadata: {} }, code: 'pod_malformed', says: /spec is no object/ },
    {
      name: 'one whose volumes are no list',
      pod: podWith({}, { volumes: {} }),
      code: 'pod_malformed',
      says: /spec.volumes is no list/,
    },
    {
      name: 'one with a nameless container',
      pod: podWith({}, { containers: [{}] }),
      code: 'pod_malformed',
      says: /containers\[0\].name/,
    },
    {
      name: 'one with more containers than any pod',
      pod: podWith({}, { containers: Array.from({ length: 300 }, (_, i) => ({ name: `c${i}` })) }),
      code: 'pod_malformed',
      says: /300 elements/,
    },
    {
      name: 'one whose labels are a list',
      pod: { metadata: { labels: [] }, spec: { containers: [web] } },
      code: 'pod_malformed',
      says: /metadata.labels/,
    },
    { name: 'no object at all', pod: 'pod', code: 'pod_malformed', says: /spec is no object/ },
  ];
  for (const { name, pod, code = 'injection_refused', says, context = CONTEXT } of cases) {
    it(`is refused: ${name}`, () => {
      const { message, hint } = expectCode(code, () => injectPod(pod, context));
      assert.match(message, says);
      assert.ok(hint !== undefined && hint.length > 0);
    });
  }

  it('gets one when it says how: no HTTP on the network of a node, an agent beside the containers of a Job', () => {
    const host = patched(podWith({ 'http-port': 'disabled' }, { hostNetwork: true }));
    const agent = at(host, 'spec', 'initContainers', 0);
    assert.equal(member(agent, 'ports'), undefined);
    assert.equal(at(agent, 'startupProbe', 'exec', 'command', AGENT_PROGRAM.length + 1), 'healthcheck');
    const job = podWith({ sidecar: 'container' }, { restartPolicy: 'Never' });
    assert.equal(at(patched(job, OLD_CLUSTER), 'spec', 'containers', 0, 'name'), 'kedge-agent');
  });
});

describe('injection done again', () => {
  it('has nothing to do on its own result, whatever the pod', () => {
    checkProperty(
      fc.property(meshablePods, fc.constantFrom(CONTEXT, OLD_CLUSTER), (pod, context) => {
        assert.deepEqual(injectPod(patched(pod, context), context), { kind: 'unchanged' });
      }),
      60,
    );
  });

  it('removes nothing, and alters nothing but lists that grow', () => {
    checkProperty(
      fc.property(meshablePods, (pod) => {
        const after = patched(pod);
        const contains = (small: Json, big: Json | undefined): boolean => {
          if (Array.isArray(small)) {
            const rest = [...(big as readonly Json[])];
            return small.every((item: Json) => {
              const index = rest.findIndex((candidate) => contains(item, candidate));
              rest.splice(0, index + 1);
              return index >= 0;
            });
          }
          if (typeof small !== 'object' || small === null) return small === big;
          return Object.entries(small as JsonMap).every(([name, item]) => contains(item, member(big, name)));
        };
        assert.ok(contains(pod, after));
      }),
      60,
    );
  });

  it('gives a container that another webhook added meanwhile its share, and keeps the agent as it is', () => {
    const once = patched(podWith()) as JsonMap;
    const spec = once['spec'] as JsonMap;
    const grown: Json = {
      ...once,
      spec: { ...spec, containers: [...list(spec['containers']), { name: 'late' }] },
    };
    const twice = patched(grown, { ...CONTEXT, settings: { ...SETTINGS, image: 'kedge:newer' } });
    assert.equal(at(twice, 'spec', 'containers', 1, 'env', 0, 'name'), 'SPIFFE_ENDPOINT_SOCKET');
    assert.equal(at(twice, 'spec', 'initContainers', 0, 'image'), 'kedge:0.1.0');
    assert.equal(list(at(twice, 'spec', 'initContainers')).length, 1);
  });
});
