import type { Check, CheckResult } from '../check/check.ts';
import { resultLines, summaryLine } from '../check/check-report.ts';
import { runChecks } from '../check/run-checks.ts';
import { type Command, type Invocation, OUTPUT_OPTION } from '../command.ts';
import { jsonDocument } from '../json-document.ts';
import { KUBERNETES_OPTIONS, openCluster } from '../kubernetes-options.ts';

const DEFAULT_NAMESPACE = 'kedge';

/** `kedge check`. */
export const checkCommand: Command = {
  name: 'check',
  summary: 'check that a cluster can run Kedge, or that the one that runs there is well',
  description: [
    'Asks the cluster one question after the other and prints each with its answer, and what to do where the answer is no. It changes nothing: where only a trial tells, it is a dry run of the API server.',
    'A warning does not count as a no. What could not be asked is shown as skipped, with the reason, and never as ok.',
  ],
  positionals: [],
  options: [
    { name: 'pre', help: 'ask what must hold before Kedge is installed' },
    {
      name: 'namespace',
      short: 'n',
      value: 'name',
      default: DEFAULT_NAMESPACE,
      help: 'namespace of the identity plane',
    },
    ...KUBERNETES_OPTIONS,
    OUTPUT_OPTION,
  ],
  examples: [
    ['kedge check --pre', 'before an installation'],
    ['kedge check', 'after it, and whenever something is strange'],
    ['kedge check --output json | jq ".checks[] | select(.verdict != \\"ok\\")"', 'what is not well'],
  ],
  no: 'a check failed',
  async run(invocation) {
    const { args, output, terminal, clock } = invocation;
    const namespace = args.value('namespace') ?? DEFAULT_NAMESPACE;
    const checks = await checksOf(args.has('pre'), namespace);
    const api = await openCluster(invocation);
    // Each call has its own deadline; the whole has none but the operator's Ctrl-C.
    const context = { api, namespace, clock, signal: new AbortController().signal };
    try {
      const results: CheckResult[] = [];
      for await (const result of runChecks(checks, context)) {
        if (output === 'text') printResult(invocation, result, results.at(-1)?.category ?? null);
        results.push(result);
      }
      const ok = results.every(({ verdict }) => verdict !== 'failed');
      terminal.stdout(
        output === 'json' ? jsonDocument({ ok, checks: results }) : `\n${summaryLine(results)}\n`,
      );
      return ok ? 0 : 1;
    } finally {
      api.close();
    }
  },
};

function printResult({ terminal }: Invocation, result: CheckResult, previousCategory: string | null): void {
  terminal.stdout(`${resultLines(result, previousCategory).join('\n')}\n`);
}

async function checksOf(pre: boolean, namespace: string): Promise<readonly Check[]> {
  const [{ CLUSTER_CHECKS }, { ABSENCE_CHECKS, PLANE_CHECKS }] = await Promise.all([
    import('../check/cluster-checks.ts'),
    import('../check/plane-checks.ts'),
  ]);
  if (pre) {
    const [{ permissionChecks }, { installValues }, { manifests }, version] = await Promise.all([
      import('../check/permission-checks.ts'),
      import('../install/install-values.ts'),
      import('../install/manifests.ts'),
      import('../install/kubernetes-version.ts'),
    ]);
    const values = installValues({ ha: true, sets: [`namespace=${namespace}`] });
    const objects = manifests(values, version.parseKubernetesVersion(version.DEFAULT_KUBERNETES_VERSION));
    return [...CLUSTER_CHECKS, ...permissionChecks(objects), ...ABSENCE_CHECKS];
  }
  const [{ rbacChecks }, { TRUST_CHECKS }, { ENDPOINT_CHECKS }, { INJECTION_CHECKS }] = await Promise.all([
    import('../check/rbac-checks.ts'),
    import('../check/trust-checks.ts'),
    import('../check/endpoint-checks.ts'),
    import('../check/injection-checks.ts'),
  ]);
  return [
    ...CLUSTER_CHECKS,
    ...PLANE_CHECKS,
    ...ENDPOINT_CHECKS,
    ...rbacChecks(),
    ...TRUST_CHECKS,
    ...INJECTION_CHECKS,
  ];
}
