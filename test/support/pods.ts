import fc from 'fast-check';
import type { InjectionContext } from '../../ca/inject/injection.ts';
import type { InjectionSettings } from '../../ca/inject/injection-settings.ts';
import type { Json } from '../../ca/inject/json.ts';

/** Settings as an installation has them. */
export const SETTINGS: InjectionSettings = {
  trustDomain: 'example.org',
  caAddress: 'kedge-ca.kedge.svc:8443',
  audience: 'kedge',
  tokenTtlSeconds: 3_600,
  bundle: { kind: 'config-map', name: 'kedge-trust-bundle', key: 'bundle.pem' },
  image: 'kedge:0.1.0',
  imagePullPolicy: 'IfNotPresent',
  sidecar: 'auto',
  logLevel: 'info',
  resources: { cpuRequest: '10m', memoryRequest: '64Mi', cpuLimit: null, memoryLimit: '128Mi' },
  userId: 65_532,
  httpHost: '0.0.0.0',
  httpPort: 15_940,
};

/** A meshed namespace on a cluster of today. */
export const CONTEXT: InjectionContext = {
  namespace: { name: 'shop', labels: { 'kedge.io/inject': 'enabled' } },
  settings: SETTINGS,
  capabilities: { nativeSidecars: true },
  ownNamespace: 'kedge',
};

/** The same on a cluster without native sidecars. */
export const OLD_CLUSTER: InjectionContext = { ...CONTEXT, capabilities: { nativeSidecars: false } };

/** A pod with one container; `annotations` without their prefix `kedge.io/`. */
export function podWith(annotations: Readonly<Record<string, string>> = {}, spec: object = {}): Json {
  const entries = Object.entries(annotations).map(([name, value]) => [`kedge.io/${name}`, value]);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', annotations: Object.fromEntries(entries) as Json },
    spec: { containers: [{ name: 'web', image: 'web:1' }], ...spec },
  };
}

const name = fc
  .stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/)
  .filter((text) => !text.startsWith('kedge'));
const variable = fc.record({
  name: fc.stringMatching(/^[A-Z][A-Z_]{0,10}$/),
  value: fc.string({ maxLength: 8 }),
});
const mount = (volumes: readonly string[]) =>
  fc.record({
    name: fc.constantFrom(...volumes),
    mountPath: fc.stringMatching(/^\/data\/[a-z]{1,6}\/?$/),
  });
const container = (volumes: readonly string[]) =>
  fc.record(
    {
      name,
      image: fc.constantFrom('a:1', 'b@sha256:00'),
      env: fc.array(variable, { maxLength: 3 }),
      ports: fc.array(fc.record({ containerPort: fc.integer({ min: 1, max: 15_000 }) }), { maxLength: 2 }),
      ...(volumes.length === 0 ? {} : { volumeMounts: fc.array(mount(volumes), { maxLength: 3 }) }),
    },
    { requiredKeys: ['name', 'image'] },
  );

/** Pods that can have an agent, of many shapes; their annotations choose feeds and more. */
export const meshablePods: fc.Arbitrary<Json> = fc
  .uniqueArray(name, { maxLength: 3 })
  .chain((volumes) =>
    fc.record(
      {
        apiVersion: fc.constant('v1'),
        kind: fc.constant('Pod'),
        metadata: fc.record(
          {
            name,
            labels: fc.dictionary(name, name, { maxKeys: 2 }),
            annotations: fc.record(
              {
                'kedge.io/istio-sds': fc.constantFrom('enabled', 'disabled'),
                'kedge.io/files-preset': fc.constantFrom('nginx', 'plain'),
                'kedge.io/haproxy-sockets': fc.constant('/var/run/kedge/haproxy/admin.sock'),
                'kedge.io/canary-port': fc.constant('8443'),
                'kedge.io/http-port': fc.constantFrom('disabled', '15941'),
                'kedge.io/inject': fc.constant('enabled'),
                'example.org/other': fc.string(),
              },
              { requiredKeys: [] },
            ),
          },
          { requiredKeys: ['name'] },
        ),
        spec: fc.record(
          {
            containers: fc.uniqueArray(container(volumes), {
              minLength: 1,
              maxLength: 3,
              selector: (c) => c.name,
            }),
            initContainers: fc.array(container(volumes), { maxLength: 2 }),
            volumes: fc.constant(volumes.map((volume) => ({ name: volume, emptyDir: {} }))),
            securityContext: fc.record({ fsGroup: fc.integer({ min: 1, max: 70_000 }) }),
          },
          { requiredKeys: ['containers'] },
        ),
      },
      { requiredKeys: ['apiVersion', 'kind', 'metadata', 'spec'] },
    ),
  )
  .map((pod) => JSON.parse(JSON.stringify(pod)) as Json);
