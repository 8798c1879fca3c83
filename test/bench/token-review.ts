import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { TestContext } from 'node:test';
import { freePort } from '../support/identity-plane.ts';
import { KubernetesCluster } from '../support/kubernetes-cluster.ts';
import { ready } from './end-to-end.ts';
import { inTurns, type Measurement, median, medianRatio } from './measurement.ts';
import { canPin, cpuMicroseconds, JsonChild, ROOT } from './processes.ts';
import { reviewedTokens } from './reviewed-tokens.ts';
import { freshCsrs, writeWorkload } from './workload-file.ts';

/**
 * More than are asked about in 10 s, for which kube-apiserver remembers a token: an agent asks once in hours, so that in
 * a cluster nobody's token is ever remembered.
 */
const TOKENS = 16_000;
/** As many calls are under way, on either side. */
const IN_FLIGHT = 64;
const CONNECTIONS = 4;
const WARM_UP_ROUNDS = 2;

/**
 * SVIDs per second for tokens that the CA has reviewed by a real API server, over the TokenReviews per second of the same
 * API server by the same client, for the same tokens, in turns. No review is used twice: each SVID costs one, which
 * the CA's own count is held to, and the API server remembers none of the tokens either.
 *
 * The API server has one core to itself and everything of ours the other, so that what is measured is what Kedge puts
 * on top of the API server, and not who gets which core.
 */
export async function tokenReview(
  t: Pick<TestContext, 'after'>,
  folder: string,
  rounds: number,
  measureMs: number,
): Promise<Measurement[]> {
  const cluster = await KubernetesCluster.start(t, { controllers: false });
  if (canPin) spawnSync('taskset', ['-a', '-c', '-p', '0', String(cluster.apiServerPid)]);
  const workloadFile = join(folder, 'workload.json');
  writeWorkload(workloadFile, { csrs: freshCsrs(4_000), tokens: await reviewedTokens(cluster, TOKENS) });
  const kubeconfig = await reviewer(cluster);
  const ca = await startCa(folder, kubeconfig);
  t.after(() => ca.child.stop());

  const load = async (program: string, job: object): Promise<JsonChild> => {
    const jobFile = join(folder, `${basename(program, '.ts')}.json`);
    const times = { inFlight: IN_FLIGHT, warmUpMs: measureMs / 4, measureMs, onSignal: true };
    writeFileSync(jobFile, JSON.stringify({ workloadFile, ...times, ...job }));
    const client = new JsonChild('load', [program, jobFile]);
    t.after(() => client.stop());
    await client.next();
    return client;
  };
  const reviewers = await load('test/bench/token-review-client.ts', { kubeconfig });
  const agents = await load('test/bench/lean-client.ts', {
    port: ca.port,
    rootsFile: ca.rootsFile,
    connections: CONNECTIONS,
  });
  const pids = { apiServer: cluster.apiServerPid, ca: ca.child.pid };
  const cost = { review: [] as Cost[], svid: [] as Cost[] };
  const round = async (client: JsonChild, costs: Cost[]): Promise<number> => {
    client.process.kill('SIGUSR2');
    await client.next();
    const all = { ...pids, client: client.pid };
    const before = mapped(all, cpuMicroseconds);
    const { count, elapsedMs } = await client.next<{ count: number; elapsedMs: number }>();
    const after = mapped(all, cpuMicroseconds);
    costs.push(mapped(after, (us, name) => (us - before[name]) / count));
    return (count * 1_000) / elapsedMs;
  };
  // Until V8 has compiled what is hot in the CA and in both clients: they share a core with its compiler threads.
  for (let warmUp = 0; warmUp < WARM_UP_ROUNDS; warmUp += 1) {
    for (const client of [reviewers, agents]) await round(client, []);
  }
  const figures = await inTurns(rounds, {
    review: () => round(reviewers, cost.review),
    svid: () => round(agents, cost.svid),
  });
  const reviews = await counted(
    ca.httpPort,
    /^kedge_kubernetes_requests_total\{[^}]*code="ok"[^}]*\} (\d+)$/gm,
  );
  const issued = await counted(ca.httpPort, /^kedge_svid_issued_total(?:\{[^}]*\})? (\d+)$/gm);
  if (reviews < issued * 0.99) throw new Error(`${issued} SVIDs were issued on ${reviews} TokenReviews only`);
  return [
    {
      metric: 'issue_with_token_review_rate_over_token_review',
      value: medianRatio(figures.svid, figures.review),
      reach: 0.8,
      better: 'higher',
      detail:
        `${median(figures.svid).toFixed(0)} SVIDs/s, ${median(figures.review).toFixed(0)} TokenReviews/s, ` +
        `${IN_FLIGHT} in flight; ${(reviews / issued).toFixed(2)} reviews for each SVID; ` +
        `CPU of a TokenReview: ${told(cost.review, ['apiServer', 'client'])}; ` +
        `of an SVID: ${told(cost.svid, ['apiServer', 'ca', 'client'])}`,
    },
  ];
}

/** Microseconds of CPU for each call, by process. */
type Cost = Readonly<Record<'apiServer' | 'ca' | 'client', number>>;

const NAMES: Readonly<Record<keyof Cost, string>> = { apiServer: 'API server', ca: 'CA', client: 'client' };

function mapped(of: Cost, change: (value: number, name: keyof Cost) => number): Cost {
  return {
    apiServer: change(of.apiServer, 'apiServer'),
    ca: change(of.ca, 'ca'),
    client: change(of.client, 'client'),
  };
}

function told(costs: readonly Cost[], names: readonly (keyof Cost)[]): string {
  return names
    .map((name) => `${NAMES[name]} ${median(costs.map((cost) => cost[name])).toFixed(0)} us`)
    .join(', ');
}

/** The sum of what a counter of the CA says. */
async function counted(port: number, line: RegExp): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return [...metrics.matchAll(line)].reduce((sum, [, value]) => sum + Number(value), 0);
}

/** Credentials that may create TokenReviews and nothing else. */
async function reviewer(cluster: KubernetesCluster): Promise<string> {
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  await cluster.admin.create(`${rbac}/clusterroles`, {
    metadata: { name: 'reviewer' },
    rules: [{ apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] }],
  });
  await cluster.admin.create(`${rbac}/clusterrolebindings`, {
    metadata: { name: 'reviewer' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'reviewer' },
    subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: 'reviewer' }],
  });
  return await cluster.kubeconfigFor('reviewer');
}

async function startCa(
  folder: string,
  kubeconfig: string,
): Promise<{
  readonly child: JsonChild;
  readonly port: number;
  readonly httpPort: number;
  readonly rootsFile: string;
}> {
  const [grpc, http] = [await freePort(), await freePort()];
  const [config, data, rootsFile] = ['kedge.yaml', 'ca', 'roots.pem'].map((name) => join(folder, name));
  writeFileSync(
    config ?? '',
    [
      `dataFolder: ${data}`,
      'logLevel: warn',
      `listen: { grpc: "127.0.0.1:${grpc}", http: "127.0.0.1:${http}" }`,
      `kubernetes: { kubeconfig: ${kubeconfig} }`,
      'attest: { kind: tokenReview, reviewReuse: 0s }',
      'limits: { instanceQueue: 64 }',
    ].join('\n'),
  );
  const kedge = join(ROOT, 'bin/kedge.mjs');
  // Beside the load, so that the API server keeps its core.
  const child = new JsonChild('load', [kedge, 'ca', '--config', config ?? '']);
  await ready(http);
  const argv = [kedge, 'bundle', 'show', '--data', data ?? '', '--output', 'pem'];
  const show = spawnSync(process.execPath, argv, { encoding: 'utf8' });
  if (show.status !== 0) throw new Error(`no bundle: ${show.stderr}`);
  writeFileSync(rootsFile ?? '', show.stdout);
  return { child, port: grpc, httpPort: http, rootsFile: rootsFile ?? '' };
}
