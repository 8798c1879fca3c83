/** An agent that starts, and heals, from the ConfigMap with the trust bundle as a kubelet projects it into its pod. */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { loadAgentConfig } from '../../agent/config.ts';
import { type RunningAgent, startAgent } from '../../agent/main.ts';
import { systemClock } from '../../host/clock.ts';
import { systemRandom } from '../../host/random.ts';
import { RecordingLog } from '../support/authority-replica.ts';
import { grantCaRights } from '../support/cluster-replica.ts';
import { freePort, until } from '../support/identity-plane.ts';
import { clusterSkip, suiteCluster } from '../support/kubernetes-cluster.ts';
import { type CaUnderTest, runningCa } from '../support/running-ca.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

describe('an agent in a meshed namespace', { skip: clusterSkip }, () => {
  const cluster = suiteCluster();

  it('starts from the ConfigMap, and heals from it after the anchors changed while it was away', async (t) => {
    await grantCaRights(cluster(), 'kedge-ca', 'default');
    const kubeconfig = await cluster().kubeconfigFor('kedge-ca');
    const folder = temporaryFolder(t);
    const grpc = `127.0.0.1:${await freePort()}`;
    const startCa = (): Promise<CaUnderTest> =>
      runningCa(t, {
        folder: join(folder, 'ca'),
        flags: { 'store.kind': 'kubernetes', 'kubernetes.kubeconfig': kubeconfig, 'listen.grpc': grpc },
      });
    await cluster().createNamespace('shop', { 'kedge.io/inject': 'enabled' });
    const bundle = async (): Promise<string> => {
      const path = '/api/v1/namespaces/shop/configmaps/kedge-trust-bundle';
      const { body } = await cluster().admin.request('GET', path);
      return (body['data'] as Record<string, string> | undefined)?.['bundle.pem'] ?? '';
    };
    const volume = new ProjectedVolume(join(folder, 'volume'));

    const first = await startCa();
    await until('the namespace has the bundle', async () => (await bundle()) !== '');
    const old = await bundle();
    volume.write(old);
    writeFileSync(join(folder, 'token'), first.token());
    const before = await startedAgent(t, folder, grpc, volume.path);
    await until('the agent serves', () => before.agent.state.phase === 'serving');
    await before.agent.close();

    // The trust domain begins anew, as docs/kubernetes.md says: no anchor from before is left.
    await first.ca.close();
    for (const resource of ['secrets', 'configmaps']) {
      await cluster().admin.delete(`/api/v1/namespaces/default/${resource}/kedge-trust-state`);
    }
    await startCa();
    const { agent, log } = await startedAgent(t, folder, grpc, volume.path);
    await until('the agent sees that this is not the CA that it knows', () =>
      log
        .of('svid.attempt_failed')
        .some(({ error }) => (error as { code: string }).code === 'ca_identity_mismatch'),
    );
    await until('the namespace has the new bundle', async () => (await bundle()) !== old);
    assert.notEqual(agent.state.phase, 'serving');
    volume.write(await bundle());
    await until('the agent serves by itself', () => agent.state.phase === 'serving', 120_000);
  });
});

/** A volume as a kubelet writes it: a new folder for each content, and one link that is moved (AtomicWriter). */
class ProjectedVolume {
  readonly path: string;
  readonly #folder: string;
  #writes = 0;

  constructor(folder: string) {
    this.#folder = folder;
    this.path = join(folder, 'bundle.pem');
    mkdirSync(folder, { recursive: true });
    symlinkSync('..data/bundle.pem', this.path);
  }

  write(pem: string): void {
    this.#writes += 1;
    const name = `..content-${this.#writes}`;
    mkdirSync(join(this.#folder, name));
    writeFileSync(join(this.#folder, name, 'bundle.pem'), pem);
    symlinkSync(name, join(this.#folder, '..data_tmp'));
    renameSync(join(this.#folder, '..data_tmp'), join(this.#folder, '..data'));
  }
}

async function startedAgent(
  t: TestContext,
  folder: string,
  caAddress: string,
  bootstrapBundle: string,
): Promise<{ readonly agent: RunningAgent; readonly log: RecordingLog }> {
  const flags = {
    'ca-address': caAddress,
    'trust-domain': 'example.org',
    'token-file': join(folder, 'token'),
    'bootstrap-bundle': bootstrapBundle,
    socket: join(folder, 'agent.sock'),
  };
  const config = await loadAgentConfig({ flags: new Map(Object.entries(flags)), env: {} });
  const log = new RecordingLog();
  const agent = await startAgent({ config, clock: systemClock, random: systemRandom, log });
  t.after(() => agent.close());
  return { agent, log };
}
