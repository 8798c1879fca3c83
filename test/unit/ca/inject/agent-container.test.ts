import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type AgentConfig, loadAgentConfig } from '../../../../agent/config.ts';
import { applyEdits } from '../../../../ca/inject/edit.ts';
import { injectPod } from '../../../../ca/inject/injection.ts';
import type { Json, JsonMap } from '../../../../ca/inject/json.ts';
import { agentCommand } from '../../../../cli/command/agent.ts';
import { parseArguments } from '../../../../cli/arguments.ts';
import { CONTEXT, meshablePods, OLD_CLUSTER, podWith } from '../../../support/pods.ts';
import { checkAsyncProperty } from '../../../support/property.ts';

/** The arguments of the agent that a pod gets. */
function argumentsOf(pod: Json, context = CONTEXT): readonly string[] {
  const injection = injectPod(pod, context);
  assert.ok(injection.kind === 'injected');
  const { spec } = applyEdits(pod, injection.edits) as { spec: Record<string, readonly JsonMap[]> };
  const list = spec[injection.mode === 'native' ? 'initContainers' : 'containers'];
  const agent = list?.find(({ name }) => name === 'kedge-agent');
  return agent?.['args'] as readonly string[];
}

/** What the agent itself makes of them: its command line, then its configuration. */
async function configOf(pod: Json, context = CONTEXT): Promise<AgentConfig> {
  const [command, ...rest] = argumentsOf(pod, context);
  assert.equal(command, 'agent');
  const parsed = parseArguments(agentCommand, rest, {});
  assert.ok(parsed.kind === 'run');
  const flags = new Map(
    agentCommand.options.flatMap(({ name }) => {
      const value = parsed.args.value(name);
      return value === undefined ? [] : [[name, value] as const];
    }),
  );
  return loadAgentConfig({ flags, env: {} });
}

describe('the arguments of an injected agent', () => {
  it('are taken by the agent, whatever the pod asks for', async () => {
    await checkAsyncProperty(
      fc.asyncProperty(meshablePods, fc.constantFrom(CONTEXT, OLD_CLUSTER), async (pod, context) => {
        const config = await configOf(pod, context);
        assert.equal(config.trustDomain.name, 'example.org');
      }),
      100,
    );
  });

  it('make of the settings what they say', async () => {
    const config = await configOf(podWith());
    assert.equal(config.caAddress, 'kedge-ca.kedge.svc:8443');
    assert.equal(config.tokenFile, '/var/run/secrets/kedge.io/token');
    assert.equal(config.bootstrapBundle, '/var/run/secrets/kedge.io/trust-bundle');
    assert.deepEqual(config.workloadApi?.socketPaths, ['/var/run/kedge/workload/api.sock']);
    assert.equal(config.workloadApi?.socketMode, 0o666);
    assert.deepEqual(config.cache, { folder: '/var/run/kedge/cache/identity', allowDisk: false });
    assert.equal(config.httpAddress, '0.0.0.0:15940');
    assert.equal(config.files, undefined);
    assert.equal(config.canary, undefined);
  });

  it('make of every annotation what it says', async () => {
    const config = await configOf(
      podWith({
        'ca-address': '[fd00::1]:9000',
        'log-level': 'debug',
        'svid-ttl': '30m',
        'dns-names': 'a.example.org,b.example.org',
        'http-port': '9001',
        'istio-sds': 'enabled',
        'workload-api': 'disabled',
        'files-preset': 'postgresql',
        'files-key-mode': '0600',
        'haproxy-sockets': '/var/run/kedge/haproxy/admin.sock,127.0.0.1:9999',
        'canary-port': '8443',
        'canary-protocol': 'tls',
        'canary-path': '/live',
      }),
    );
    assert.equal(config.caAddress, '[fd00::1]:9000');
    assert.equal(config.logLevel, 'debug');
    assert.deepEqual(config.wish, { ttlSeconds: 1_800, dnsNames: ['a.example.org', 'b.example.org'] });
    assert.equal(config.httpAddress, '0.0.0.0:9001');
    assert.deepEqual(config.workloadApi?.socketPaths, ['/var/run/secrets/workload-spiffe-uds/socket']);
    assert.equal(config.files?.preset, 'postgresql');
    assert.equal(config.files?.folder, '/var/run/kedge/files');
    assert.equal(config.files?.keyMode, 0o600);
    assert.deepEqual(config.haproxy?.addresses, [
      { path: '/var/run/kedge/haproxy/admin.sock' },
      { host: '127.0.0.1', port: 9999 },
    ]);
    assert.deepEqual(config.canary?.target, {
      host: '127.0.0.1',
      port: 8443,
      protocol: 'tls',
      path: '/live',
    });
  });

  it('let the group of the pod read the key, where the pod has one', async () => {
    const spec = { securityContext: { fsGroup: 2_000 } };
    const config = await configOf(podWith({ 'files-preset': 'nginx' }, spec));
    assert.equal(config.files?.keyMode, 0o640);
    assert.deepEqual(config.files?.owner, { uid: null, gid: 2_000 });
  });
});
