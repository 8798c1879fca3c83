import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NAMESPACE, POD } from '../../../../ca/kubernetes/objects.ts';
import type { CheckResult } from '../../../../cli/check/check.ts';
import { PLANE_CHECKS } from '../../../../cli/check/plane-checks.ts';
import { DEPLOYMENT } from '../../../../cli/check/resource-types.ts';
import { runChecks } from '../../../../cli/check/run-checks.ts';
import { KEDGE_VERSION } from '../../../../host/version.ts';
import { MemoryKubernetes } from '../../../fakes/memory-kubernetes.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const { signal } = new AbortController();

interface Plane {
  readonly want?: number;
  readonly ready?: number;
  readonly generation?: number;
  /** Of each pod. */
  readonly nodes?: readonly string[];
  readonly restarts?: number;
  readonly image?: string;
}

async function ask(
  {
    want = 3,
    ready = 3,
    generation = 1,
    nodes = ['a', 'b', 'c'],
    restarts = 0,
    image = `registry.example:5000/kedge:${KEDGE_VERSION}`,
  }: Plane,
  statement: RegExp,
): Promise<CheckResult> {
  const api = new MemoryKubernetes();
  await api.create(NAMESPACE, { metadata: { name: 'kedge' } }, { signal });
  const deployment = {
    metadata: { name: 'kedge-ca', namespace: 'kedge', generation },
    spec: { replicas: want },
    status: { readyReplicas: ready, observedGeneration: 1 },
  };
  await api.create(DEPLOYMENT, deployment, { signal });
  for (const [index, nodeName] of nodes.entries()) {
    const labels = { 'app.kubernetes.io/name': 'kedge', 'app.kubernetes.io/component': 'ca' };
    const pod = {
      metadata: { name: `ca-${index}`, namespace: 'kedge', labels },
      spec: { nodeName, containers: [{ name: 'ca', image }] },
      status: { containerStatuses: [{ name: 'ca', restartCount: restarts }] },
    };
    await api.create(POD, pod, { signal });
  }
  const context = { api, namespace: 'kedge', clock: new ManualClock(), signal };
  for await (const result of runChecks(PLANE_CHECKS, context))
    if (statement.test(result.statement)) return result;
  throw new Error(`there is no check ${String(statement)}`);
}

describe('kedge check, on the replicas of the CA', () => {
  const CASES: readonly {
    readonly name: string;
    readonly plane: Plane;
    readonly statement: RegExp;
    readonly verdict: CheckResult['verdict'];
    readonly detail?: RegExp;
  }[] = [
    {
      name: 'all replicas ready',
      plane: {},
      statement: /every replica/,
      verdict: 'ok',
      detail: /^3 of 3$/,
    },
    {
      name: 'a replica that is not ready',
      plane: { ready: 2 },
      statement: /every replica/,
      verdict: 'warning',
      detail: /^2 of 3 replicas/,
    },
    { name: 'no replica ready', plane: { ready: 0 }, statement: /every replica/, verdict: 'failed' },
    {
      name: 'a Deployment that asks for none',
      plane: { want: 0, ready: 0 },
      statement: /every replica/,
      verdict: 'failed',
    },
    {
      name: 'a change that its controller has not seen',
      plane: { generation: 2 },
      statement: /every replica/,
      verdict: 'warning',
      detail: /not taken up/,
    },
    {
      name: 'replicas on several nodes',
      plane: {},
      statement: /more than one node/,
      verdict: 'ok',
      detail: /^3 replicas on 3 nodes$/,
    },
    {
      name: 'replicas that share one node',
      plane: { nodes: ['a', 'a', 'a'] },
      statement: /more than one node/,
      verdict: 'warning',
    },
    {
      name: 'one replica',
      plane: { nodes: ['a'] },
      statement: /more than one node/,
      verdict: 'warning',
    },
    { name: 'few restarts', plane: { restarts: 2 }, statement: /do not restart/, verdict: 'ok' },
    {
      name: 'many restarts',
      plane: { restarts: 3 },
      statement: /do not restart/,
      verdict: 'warning',
      detail: /ca-0 \(3 times\)/,
    },
    { name: 'the version of this command', plane: {}, statement: /runs version/, verdict: 'ok' },
    {
      name: 'another version',
      plane: { image: 'kedge:0.0.9' },
      statement: /runs version/,
      verdict: 'warning',
      detail: /"kedge:0\.0\.9"/,
    },
  ];
  for (const { name, plane, statement, verdict, detail } of CASES) {
    it(`says ${verdict} of ${name}`, async () => {
      const found = await ask(plane, statement);
      assert.equal(found.verdict, verdict, found.detail);
      if (detail !== undefined) assert.match(found.detail, detail);
    });
  }
});
