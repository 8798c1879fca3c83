import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { DEFAULT_KUBERNETES_SETTINGS } from '../../../../ca/kubernetes/kubernetes-settings.ts';
import { openKubernetes } from '../../../../ca/kubernetes/open-kubernetes.ts';
import { silentLog } from '../../../../host/log.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

/** Kubeconfigs whose context is in a namespace of the file's own name. */
function kubeconfigs(t: TestContext) {
  const folder = temporaryFolder(t);
  const write = (name: string): string => {
    const path = join(folder, name);
    mkdirSync(join(path, '..'), { recursive: true });
    const namespace = name.replace(/^.*\//, '');
    writeFileSync(
      path,
      JSON.stringify({
        'current-context': 'c',
        contexts: [{ name: 'c', context: { cluster: 'c', namespace } }],
        clusters: [{ name: 'c', cluster: { server: 'https://a.example' } }],
      }),
    );
    return path;
  };
  return { folder, write };
}

async function namespaceOf(
  environment: Readonly<Record<string, string>>,
  kubeconfig: string | null = null,
): Promise<string> {
  const settings = { ...DEFAULT_KUBERNETES_SETTINGS, kubeconfig };
  const api = await openKubernetes({ settings, environment, clock: new ManualClock(), log: silentLog });
  api.close();
  return api.namespace;
}

describe('openKubernetes', () => {
  it('reads the files that KUBECONFIG lists, missing ones passed over', async (t) => {
    const { folder, write } = kubeconfigs(t);
    const [one, two, missing] = [write('one'), write('two'), join(folder, 'missing')];
    assert.equal(await namespaceOf({ KUBECONFIG: [missing, two, one].join(delimiter) }), 'two');
    // The command line gives the value of the environment as that of its option.
    const list = [one, two].join(delimiter);
    assert.equal(await namespaceOf({ KUBECONFIG: list }, list), 'one');
  });

  it('reads one file where it is named, whatever KUBECONFIG lists, and whatever its name', async (t) => {
    const { write } = kubeconfigs(t);
    const [one, odd] = [write('one'), write(`odd${delimiter}name`)];
    assert.equal(await namespaceOf({ KUBECONFIG: one }, odd), `odd${delimiter}name`);
    await expectRejection('file_unreadable', namespaceOf({ KUBECONFIG: one }, `${one}.not`));
  });

  it('reads that of the home folder where nothing is named', async (t) => {
    const { folder, write } = kubeconfigs(t);
    write('.kube/config');
    assert.equal(await namespaceOf({ HOME: folder }), 'config');
    assert.equal(await namespaceOf({ HOME: folder, KUBECONFIG: '' }), 'config');
  });
});
