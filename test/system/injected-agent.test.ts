/** The agent of an injected pod, run with exactly the command line that injection gives it. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { applyEdits } from '../../ca/inject/edit.ts';
import { injectPod } from '../../ca/inject/injection.ts';
import { freePort, IdentityPlane, KedgeDaemon, until } from '../support/identity-plane.ts';
import { runKedge } from '../support/kedge-process.ts';
import { CONTEXT, podWith, SETTINGS } from '../support/pods.ts';

const MEMORY = '/dev/shm';

interface AgentContainer {
  readonly name: string;
  readonly args: readonly string[];
  readonly startupProbe: { readonly httpGet: { readonly path: string; readonly port: number } };
}

describe('the agent of an injected pod', { skip: existsSync(MEMORY) ? false : `no ${MEMORY}` }, () => {
  it('starts from its container alone, and feeds what the annotations ask for', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'kedge-injected-'));
    // What is /var/run in the container: in memory, as its volumes are.
    const run = mkdtempSync(join(MEMORY, 'kedge-'));
    t.after(() => {
      rmSync(run, { recursive: true, force: true });
      rmSync(folder, { recursive: true, force: true });
    });
    const plane = await IdentityPlane.start(t, folder, 'svid: { ttl: 1h }');
    const settings = {
      ...SETTINGS,
      caAddress: `127.0.0.1:${plane.grpcPort}`,
      httpPort: await freePort(),
    };
    const pod = podWith({ 'istio-sds': 'enabled', 'files-preset': 'nginx' });
    const injection = injectPod(pod, { ...CONTEXT, settings });
    assert.ok(injection.kind === 'injected');
    const { spec } = applyEdits(pod, injection.edits) as unknown as {
      spec: { initContainers: readonly AgentContainer[]; containers: { env: { value: string }[] }[] };
    };
    const [agent] = spec.initContainers;
    assert.ok(agent !== undefined);

    mkdirSync(join(run, 'secrets/kedge.io'), { recursive: true });
    copyFileSync(await plane.tokenFor('web'), join(run, 'secrets/kedge.io/token'));
    copyFileSync(plane.bootstrapBundle, join(run, 'secrets/kedge.io/trust-bundle'));
    for (const volume of ['cache', 'workload', 'files'])
      mkdirSync(join(run, 'kedge', volume), { recursive: true });
    mkdirSync(join(run, 'secrets/workload-spiffe-uds'));
    const inRun = (text: string): string => text.replaceAll('/var/run/', `${run}/`);
    const daemon = new KedgeDaemon(agent.args.map(inRun));
    t.after(() => daemon.end('SIGKILL'));

    const { path, port } = agent.startupProbe.httpGet;
    await until(`the startup probe passes: ${daemon.log}`, async () => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`).catch(() => null);
      return response?.status === 200;
    });
    const socket = spec.containers[0]?.env[0]?.value ?? '';
    for (const address of [inRun(socket), join(run, 'secrets/workload-spiffe-uds/socket')]) {
      const fetched = await runKedge(['svid', 'fetch', '--socket', address, '--output', 'json']);
      assert.equal(fetched.code, 0, fetched.stderr);
      assert.match(fetched.stdout, /spiffe:\/\/example\.org\/ns\/demo\/sa\/web/);
    }
    for (const file of ['tls.crt', 'tls.key', 'ca.crt']) {
      assert.match(readFileSync(join(run, 'kedge/files', file), 'utf8'), /^-----BEGIN /);
    }
    assert.ok(existsSync(join(run, 'kedge/cache/identity')));
    assert.equal(await daemon.end(), 0);
  });
});
