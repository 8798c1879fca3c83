/**
 * The load straight on an API server: `node token-review-client.ts <job.json>`; TokenReviews by Kedge's own client, as the
 * CA makes them. Prints what `load-rounds.ts` says.
 */
import { readFileSync } from 'node:fs';
import { openKubernetes } from '../../ca/kubernetes/open-kubernetes.ts';
import { DEFAULT_KUBERNETES_SETTINGS } from '../../ca/kubernetes/kubernetes-settings.ts';
import { TOKEN_REVIEW } from '../../ca/kubernetes/objects.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { loadRounds, type LoadTimes } from './load-rounds.ts';
import { readWorkload } from './workload-file.ts';

interface Job extends LoadTimes {
  readonly kubeconfig: string;
  readonly workloadFile: string;
}

const job = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Job;
const { tokens } = readWorkload(job.workloadFile);
const api = await openKubernetes({
  settings: { ...DEFAULT_KUBERNETES_SETTINGS, kubeconfig: job.kubeconfig },
  environment: {},
  clock: systemClock,
  log: silentLog,
});
const { signal } = new AbortController();

let sent = 0;
const review = async (): Promise<void> => {
  const token = tokens[sent++ % tokens.length];
  const { status } = await api.create(TOKEN_REVIEW, { spec: { token, audiences: ['kedge'] } }, { signal });
  if ((status as { readonly authenticated?: boolean }).authenticated !== true)
    throw new Error(`a good token was refused: ${JSON.stringify(status)}`);
};

await loadRounds(job, review);
