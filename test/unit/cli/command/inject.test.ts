import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { parse } from 'yaml';
import { COMMANDS } from '../../../../cli/command-table.ts';
import { runCli } from '../../../../cli/run.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

const POD = '# mine\napiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: web\n';

async function inject(t: TestContext, manifest: string | Uint8Array, ...argv: readonly string[]) {
  const file = join(temporaryFolder(t), 'app.yaml');
  writeFileSync(file, manifest);
  let [stdout, stderr] = ['', ''];
  const code = await runCli({
    argv: ['inject', file, ...argv],
    entries: COMMANDS,
    terminal: { stdout: (text) => (stdout += text), stderr: (text) => (stderr += text), env: {} },
  });
  return { code, stdout, stderr, file };
}

const agentOf = (stdout: string, list = 'initContainers'): { image: string; args: string[] } =>
  (parse(stdout) as { spec: Record<string, { image: string; args: string[] }[]> }).spec[list]![0]!;

describe('kedge inject', () => {
  it('prints the manifest with its agent, and says on standard error what it did', async (t) => {
    const { code, stdout, stderr } = await inject(t, POD, '--enable');
    assert.deepEqual([code, stderr], [0, 'pod/web: injected (native sidecar)\n']);
    assert.equal(agentOf(stdout).image, 'kedge:0.1.0');
    assert.ok(agentOf(stdout).args.includes('--ca-address=kedge-ca.kedge.svc:8443'));
  });

  it('prints what is not meshed as it is', async (t) => {
    const { code, stdout, stderr } = await inject(t, POD);
    assert.deepEqual([code, stdout, stderr], [0, POD, 'pod/web: left out (not meshed)\n']);
  });

  it('goes by the configuration of the CA, and by options before that', async (t) => {
    const config = join(temporaryFolder(t), 'ca.yaml');
    writeFileSync(config, 'trustDomain: prod.example\ninjection: {image: "a:1", sidecar: container}\n');
    const { stdout, stderr } = await inject(t, POD, '--enable', '--config', config, '--image', 'b:2');
    assert.equal(stderr, 'pod/web: injected (container)\n');
    const agent = agentOf(stdout, 'containers');
    assert.equal(agent.image, 'b:2');
    assert.ok(agent.args.includes('--trust-domain=prod.example'));
  });

  it('takes a plain container for a cluster without native sidecars', async (t) => {
    const { stderr } = await inject(t, POD, '--enable', '--kubernetes-version', 'v1.20.2');
    assert.equal(stderr, 'pod/web: injected (container)\n');
  });

  it('prints nothing where one workload of many cannot have its agent', async (t) => {
    const { code, stdout, stderr } = await inject(t, `${POD}---\n${POD}  hostNetwork: true\n`, '--enable');
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(
      stderr,
      /^error: "pod\/web": the pod is on the network of its node[\s\S]*code: injection_refused\n$/,
    );
  });

  it('refuses what is no manifest, with the place', async (t) => {
    const { code, stderr, file } = await inject(t, `${POD}   x\n  y: [`);
    assert.equal(code, 1);
    assert.ok(stderr.startsWith(`error: ${file}:`), stderr);
    assert.match((await inject(t, Uint8Array.of(0xff, 0xfe))).stderr, /is not UTF-8/);
  });

  it('refuses options that the configuration would refuse', async (t) => {
    for (const argv of [
      ['--image', 'a b'],
      ['--ca-address', 'nowhere'],
      ['--sidecar', 'both'],
      ['--kubernetes-version', 'new'],
    ]) {
      assert.equal((await inject(t, POD, ...argv)).code, 2, argv.join(' '));
    }
  });
});
