import { WorkloadApiFeed } from '../../agent/feed/workload-api-feed.ts';
import { WorkloadEndpoint } from '../../agent/feed/workload-endpoint.ts';
import { NO_REFUSALS } from './endpoint-refusals.ts';
import type { Clock } from '../../host/clock.ts';

/** Serves the Workload API alone on a socket. */
export async function openWorkloadApi({
  socketPath,
  maxStreams,
  clock,
  onConsumersChange = () => {},
  isReady = () => true,
}: {
  readonly socketPath: string;
  readonly maxStreams: number;
  readonly clock: Clock;
  readonly onConsumersChange?: () => void;
  /** Whether the agent around it is ready. */
  readonly isReady?: () => boolean;
}): Promise<{ readonly feed: WorkloadApiFeed; readonly endpoint: WorkloadEndpoint }> {
  const endpoint = new WorkloadEndpoint({
    socketPaths: [socketPath],
    socketMode: 0o660,
    maxStreams,
    clock,
    ...NO_REFUSALS,
  });
  const feed = new WorkloadApiFeed({ endpoint, clock, onConsumersChange, isReady });
  await endpoint.listen();
  return { feed, endpoint };
}
