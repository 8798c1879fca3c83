/** What `kedge install` prints is taken by a real API server, and `kedge check` tells what is there. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { CheckResult } from '../../cli/check/check.ts';
import { CLUSTER_RULES, NAMESPACE_RULES } from '../../cli/install/rbac.ts';
import { runKedge } from '../support/kedge-process.ts';
import { clusterSkip, suiteCluster } from '../support/kubernetes-cluster.ts';

interface CheckReport {
  readonly ok: boolean;
  readonly checks: readonly CheckResult[];
}

describe('an installation', { skip: clusterSkip }, () => {
  const cluster = suiteCluster({ controllers: false });

  const kedge = (argv: readonly string[], kubeconfig = cluster().kubeconfig): ReturnType<typeof runKedge> =>
    runKedge(argv, { env: { KUBECONFIG: kubeconfig, HOME: cluster().folder } });
  const check = async (
    argv: readonly string[],
    kubeconfig?: string,
  ): Promise<{ readonly code: number | null; readonly report: CheckReport }> => {
    const { code, stdout, stderr } = await kedge(['check', ...argv, '--output', 'json'], kubeconfig);
    assert.equal(stderr, '');
    return { code, report: JSON.parse(stdout) as CheckReport };
  };
  const verdictOf = ({ checks }: CheckReport, statement: RegExp): CheckResult => {
    const found = checks.find((result) => statement.test(result.statement));
    assert.ok(found !== undefined, `${statement} is asked`);
    return found;
  };
  const version = (): string => `1.${cluster().minor}`;

  it('is not there at first, and may be made by an admin', async () => {
    const { code, report } = await check(['--pre']);
    assert.deepEqual(
      report.checks.filter(({ verdict }) => verdict !== 'ok'),
      [],
    );
    assert.equal(code, 0);
  });

  it('may not be made by somebody without rights, who is told each rule that is missing', async () => {
    const { code, report } = await check(['--pre'], await cluster().kubeconfigFor('nobody'));
    assert.equal(code, 1);
    const refused = verdictOf(report, /you may create clusterroles$/);
    assert.equal(refused.verdict, 'failed');
    assert.match(refused.hint, /rbac\.authorization\.k8s\.io.*clusterroles.*create/);
  });

  it('is reported as missing before it is made', async () => {
    const { code, report } = await check([]);
    assert.equal(code, 1);
    assert.equal(verdictOf(report, /has its namespace/).verdict, 'failed');
    assert.equal(verdictOf(report, /every replica/).verdict, 'skipped', 'what makes no sense is not asked');
  });

  for (const options of [[], ['--ha', '--set', 'trustDomain=prod.example.org']]) {
    it(`with ${options.join(' ') || 'the defaults'} is taken by server-side apply with strict validation, also twice`, async () => {
      const { code, stdout, stderr } = await kedge([
        'install',
        '--kubernetes-version',
        version(),
        ...options,
      ]);
      assert.equal(code, 0, stderr);
      for (let i = 0; i < 2; i += 1) {
        const applied = cluster().kubectl(
          ['apply', '--server-side', '--force-conflicts', '--validate=true', '-f', '-'],
          stdout,
        );
        assert.equal(applied.code, 0, applied.stderr);
        assert.equal(applied.stderr.replace(/^Warning: resource .*\n/gm, ''), '');
      }
    });
  }

  it('gives the ServiceAccount of the CA each right that it needs', async () => {
    const { report } = await check([]);
    const rights = report.checks.filter(({ category }) => category === 'rbac');
    assert.equal(rights.length, CLUSTER_RULES.length + NAMESPACE_RULES.length);
    assert.deepEqual(
      rights.filter(({ verdict }) => verdict !== 'ok'),
      [],
    );
  });

  it('that lacks a right is told which', async () => {
    cluster().kubectl(['delete', 'clusterrolebinding', 'kedge-ca']);
    const { report } = await check([]);
    const missing = verdictOf(report, /attest the ServiceAccount tokens/);
    assert.equal(missing.verdict, 'failed');
    assert.match(missing.hint, /tokenreviews/);
  });

  it('with no replica running fails the check, with what to look at', async () => {
    const { code, report } = await check([]);
    assert.equal(code, 1);
    const replicas = verdictOf(report, /every replica of the CA ready/);
    assert.notEqual(replicas.verdict, 'ok');
    assert.equal(verdictOf(report, /has its configuration/).detail, 'trust domain prod.example.org');
  });

  it('tells in plain lines what it found', async () => {
    const { stdout } = await kedge(['check', '--pre']);
    assert.match(stdout, /^kubernetes-api\n-+\n√ can ask the Kubernetes API: v1\./);
    assert.match(stdout, /\nchecks: \d+ ok, \d+ warnings, 0 failed, 0 skipped\n$/);
  });

  it('cannot be checked while the API server is away, and says so in one line', async () => {
    await cluster().stopApiServer();
    const { code, report } = await check([]);
    assert.equal(code, 1);
    assert.equal(report.checks[0]?.verdict, 'failed');
    assert.ok(report.checks.slice(1).every(({ verdict }) => verdict === 'skipped'));
  });
});
