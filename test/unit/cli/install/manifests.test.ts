import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { configOf } from '../../../../ca/config.ts';
import { readSettings } from '../../../../ca/config-schema.ts';
import {
  injectionSettings,
  webhookDnsNames,
  webhookSettings,
} from '../../../../ca/inject/injection-config.ts';
import { INSTALL_PORTS } from '../../../../cli/install/install-names.ts';
import { type InstallValues, installValues } from '../../../../cli/install/install-values.ts';
import type { KubernetesObject } from '../../../../cli/install/kubernetes-object.ts';
import {
  DEFAULT_KUBERNETES_VERSION,
  parseKubernetesVersion,
} from '../../../../cli/install/kubernetes-version.ts';
import { manifests } from '../../../../cli/install/manifests.ts';
import { CLUSTER_RULES, NAMESPACE_RULES } from '../../../../cli/install/rbac.ts';
import { kustomizeBase, yamlStream } from '../../../../cli/install/render.ts';
import { expectCode } from '../../../support/expect-code.ts';

const VERSION = parseKubernetesVersion(DEFAULT_KUBERNETES_VERSION);
const objectsOf = (
  sets: readonly string[] = [],
  ha = false,
  version = VERSION,
): readonly KubernetesObject[] => manifests(installValues({ ha, sets }), version);
const one = (kind: string, objects = objectsOf()): KubernetesObject => {
  const found = objects.filter((object) => object.kind === kind);
  assert.equal(found.length, 1, kind);
  return found[0] as KubernetesObject;
};
const at = (value: unknown, ...path: readonly (string | number)[]): unknown =>
  path.reduce<unknown>((v, key) => (v as Record<string | number, unknown>)[key], value);

interface Probe {
  readonly httpGet: { readonly path: string };
}

interface Probed {
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
}

describe('kedge install', () => {
  it('prints what kubectl can read back, object by object', () => {
    const objects = objectsOf([], true);
    const read = parseAllDocuments(yamlStream(objects)).map((document) => {
      assert.deepEqual(document.errors, []);
      return document.toJS() as unknown;
    });
    assert.deepEqual(read, JSON.parse(JSON.stringify(objects)));
  });

  it('writes the same bytes for the same options', () => {
    assert.equal(yamlStream(objectsOf(['replicas=2'])), yamlStream(objectsOf(['replicas=2'])));
  });

  it('writes a kustomize base that names each file once, and no other', () => {
    const files = kustomizeBase(objectsOf([], true));
    const { resources } = parse(files.get('kustomization.yaml') ?? '') as { resources: string[] };
    assert.deepEqual(
      [...files.keys()].filter((name) => name !== 'kustomization.yaml'),
      resources,
    );
    assert.equal(new Set(resources).size, resources.length);
  });

  it('is in deploy/base as it prints it without options', () => {
    const folder = join(import.meta.dirname, '../../../../deploy/base');
    const onDisk = new Map(
      readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')]),
    );
    const want = kustomizeBase(objectsOf());
    assert.deepEqual(
      Object.fromEntries(onDisk),
      Object.fromEntries(want),
      'run: kedge install --output-dir deploy/base',
    );
  });

  it('starts no CA again that waits for its trust state to be mended, and sends it no agents', () => {
    const { spec } = one('Deployment') as unknown as {
      spec: { template: { spec: { containers: Probed[] } } };
    };
    const { containers } = spec.template.spec;
    const paths = containers.map(({ startupProbe, livenessProbe, readinessProbe }) =>
      [startupProbe, livenessProbe, readinessProbe].map(({ httpGet }) => httpGet.path),
    );
    assert.deepEqual(paths, [['/livez', '/livez', '/readyz']]);
  });

  it('holds no secret, and makes no Secret', () => {
    const objects = objectsOf([], true);
    assert.deepEqual(
      objects.filter(({ kind }) => kind === 'Secret'),
      [],
    );
    assert.doesNotMatch(yamlStream(objects), /PRIVATE KEY/);
  });

  describe('rights', () => {
    it('name each verb and resource: no wildcard', () => {
      for (const { apiGroups, resources, verbs } of [...CLUSTER_RULES, ...NAMESPACE_RULES]) {
        assert.ok(![...apiGroups, ...resources, ...verbs].some((word) => word.includes('*')));
      }
    });

    it('reach no Secret outside the own namespace, and there none but by name', () => {
      assert.deepEqual(
        CLUSTER_RULES.filter(({ resources }) => resources.includes('secrets')),
        [],
      );
      for (const { verbs, resourceNames } of NAMESPACE_RULES.filter(({ resources }) =>
        resources.includes('secrets'),
      )) {
        assert.ok(resourceNames !== undefined || verbs.join() === 'create');
      }
    });

    it('change nothing of the sealing key', () => {
      const rules = NAMESPACE_RULES.filter(({ resourceNames }) =>
        resourceNames?.includes('kedge-sealing-key'),
      );
      assert.deepEqual(
        rules.map(({ verbs }) => verbs.join()),
        ['get'],
      );
    });

    it('change no ConfigMap outside the own namespace but the trust bundle', () => {
      for (const { verbs, resourceNames } of CLUSTER_RULES.filter(({ resources }) =>
        resources.includes('configmaps'),
      )) {
        assert.ok(resourceNames?.join() === 'kedge-trust-bundle' || verbs.join() === 'create');
      }
    });

    it('let nobody escalate: no rule on RBAC itself, impersonation, exec or nodes', () => {
      const forbidden = ['roles', 'rolebindings', 'clusterroles', 'clusterrolebindings', 'users', 'groups'];
      for (const { resources, verbs } of [...CLUSTER_RULES, ...NAMESPACE_RULES]) {
        assert.ok(
          !resources.some((name) => forbidden.includes(name) || name.startsWith('pods/') || name === 'nodes'),
        );
        assert.ok(!verbs.some((verb) => ['impersonate', 'bind', 'escalate'].includes(verb)));
      }
    });

    it('are bound to the ServiceAccount of the CA alone', () => {
      for (const kind of ['ClusterRoleBinding', 'RoleBinding']) {
        assert.deepEqual(at(one(kind), 'subjects'), [
          { kind: 'ServiceAccount', name: 'kedge-ca', namespace: 'kedge' },
        ]);
      }
    });
  });

  describe('the pod of the CA', () => {
    const pod = at(one('Deployment'), 'spec', 'template', 'spec');
    it('meets the restricted Pod Security Standard, with a read-only root', () => {
      assert.deepEqual(at(pod, 'securityContext', 'seccompProfile'), { type: 'RuntimeDefault' });
      assert.equal(at(pod, 'securityContext', 'runAsNonRoot'), true);
      assert.deepEqual(at(pod, 'containers', 0, 'securityContext'), {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      assert.equal(
        at(one('Namespace'), 'metadata', 'labels', 'pod-security.kubernetes.io/enforce'),
        'restricted',
      );
    });

    it('is never injected: Kedge starts without Kedge', () => {
      assert.equal(at(one('Namespace'), 'metadata', 'labels', 'kedge.io/inject'), 'disabled');
      assert.equal(
        at(one('Deployment'), 'spec', 'template', 'metadata', 'labels', 'kedge.io/inject'),
        'disabled',
      );
    });

    it('rolls when its configuration changes, and only then', () => {
      const hashOf = (sets: readonly string[]): unknown =>
        at(
          one('Deployment', objectsOf(sets)),
          'spec',
          'template',
          'metadata',
          'annotations',
          'kedge.io/config-sha256',
        );
      assert.notEqual(hashOf(['svidTtl=1h']), hashOf([]));
      assert.equal(hashOf(['replicas=2']), hashOf([]));
    });

    it('has a probe for start, life and readiness', () => {
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
        assert.equal(at(pod, 'containers', 0, probe, 'httpGet', 'port'), 'http');
      }
    });
  });

  describe('the configuration of the CA', () => {
    const settingsOf = (sets: readonly string[] = []): ReturnType<typeof readSettings> =>
      readSettings(at(one('ConfigMap', objectsOf(sets)), 'data', 'ca.yaml') as string, 'ca.yaml', {});

    it('is one that the CA takes', () => {
      const settings = settingsOf(['trustDomain=prod.example.org', 'svidTtl=12h', 'bindAddress=[::]']);
      assert.equal(settings.trustDomain?.name, 'prod.example.org');
      assert.deepEqual(settings.listen?.grpc, { host: '::', port: INSTALL_PORTS.grpc });
    });

    it('sends agents to the Service, and the API server to the webhook behind it', () => {
      const settings = settingsOf(['namespace=mesh']);
      assert.equal(injectionSettings(settings).caAddress, 'kedge-ca.mesh.svc:8443');
      const webhook = webhookSettings(settings);
      assert.ok(webhook !== null);
      assert.deepEqual(webhookDnsNames(webhook), ['kedge-ca.mesh.svc']);
      const service = one('Service', objectsOf(['namespace=mesh']));
      assert.deepEqual(
        (at(service, 'spec', 'ports') as { port: number }[]).map(({ port }) => port),
        [8443, 443],
      );
    });
  });

  it('puts everything of a namespace into the one that was asked for', () => {
    for (const { metadata } of objectsOf(['namespace=mesh'], true)) {
      assert.ok(metadata.namespace === undefined || metadata.namespace === 'mesh');
    }
  });

  it('has a disruption budget where there is more than one replica', () => {
    assert.equal(
      objectsOf().some(({ kind }) => kind === 'PodDisruptionBudget'),
      false,
    );
    assert.equal(one('PodDisruptionBudget', objectsOf([], true)).apiVersion, 'policy/v1');
    const old = objectsOf([], true, parseKubernetesVersion('1.20'));
    assert.equal(one('PodDisruptionBudget', old).apiVersion, 'policy/v1beta1');
  });

  it('leaves NetworkPolicies out where they are not wanted', () => {
    assert.equal(
      objectsOf(['networkPolicies=false']).some(({ kind }) => kind === 'NetworkPolicy'),
      false,
    );
  });

  describe('the NetworkPolicy', () => {
    const policyOf = (...sets: string[]): unknown => {
      const found = objectsOf(sets).find(
        ({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name === 'kedge-ca',
      );
      return at(found, 'spec');
    };
    const block = (cidr: string): object => ({ ipBlock: { cidr } });

    it('lets in the webhook calls of the named API servers alone: no policy beside it could narrow it', () => {
      assert.equal('from' in (at(policyOf(), 'ingress', 1) as object), false);
      const spec = policyOf('webhookFrom=10.0.0.0/28,fd00::/64');
      assert.deepEqual(at(spec, 'ingress', 1, 'from'), [block('10.0.0.0/28'), block('fd00::/64')]);
      assert.deepEqual(at(spec, 'ingress', 1, 'ports'), [{ port: 9444, protocol: 'TCP' }]);
    });

    it('lets in agents on the network of named nodes, beside pods', () => {
      assert.deepEqual(at(policyOf(), 'ingress', 0, 'from'), [{ namespaceSelector: {} }]);
      assert.deepEqual(at(policyOf('nodeCidrs=192.0.2.0/24'), 'ingress', 0, 'from'), [
        { namespaceSelector: {} },
        block('192.0.2.0/24'),
      ]);
    });

    it('lets the CA reach the API server at the ports that it has', () => {
      assert.deepEqual(at(policyOf('apiServerPorts=16443'), 'egress', 1, 'ports'), [
        { port: 16_443, protocol: 'TCP' },
      ]);
    });
  });

  it('gives a pod that is told to end time to be taken out of the Service, and to drain after that', () => {
    const pod = at(one('Deployment'), 'spec', 'template', 'spec');
    const [program, flag, script] = at(
      pod,
      'containers',
      0,
      'lifecycle',
      'preStop',
      'exec',
      'command',
    ) as string[];
    assert.deepEqual([program, flag], ['/usr/local/bin/node', '-e']);
    const waitMs = Number(
      /^setTimeout\(\(\) => \{\}, ([\d_]+)\)$/.exec(script ?? '')?.[1]?.replaceAll('_', ''),
    );
    const { drainTimeoutMs } = configOf({}, '/');
    const graceMs = Number(at(pod, 'terminationGracePeriodSeconds')) * 1_000;
    assert.ok(waitMs >= 3_000 && waitMs + drainTimeoutMs < graceMs, `${waitMs} + ${drainTimeoutMs}`);
  });

  it('takes no value that would become YAML of its own', () => {
    const hostile = installValues({ ha: false, sets: ['audience={a:b}#&*!|'] });
    const [config] = manifests(hostile satisfies InstallValues, VERSION).filter(
      ({ kind }) => kind === 'ConfigMap',
    );
    const settings = readSettings(at(config, 'data', 'ca.yaml') as string, 'ca.yaml', {});
    assert.equal(settings.attest?.audience, '{a:b}#&*!|');
  });

  for (const text of ['1.30', 'v1.30', '1.30.2', 'v1.27.4-gke.100', '1.20']) {
    it(`writes for Kubernetes ${text}`, () => {
      assert.ok(parseKubernetesVersion(text).minor >= 20);
    });
  }
  for (const text of ['1.19', '2.0', '', 'latest', '1', '1.30 ', '1.x', '1.9999']) {
    it(`refuses to write for Kubernetes "${text}"`, () => {
      expectCode('usage_invalid', () => parseKubernetesVersion(text));
    });
  }
});
