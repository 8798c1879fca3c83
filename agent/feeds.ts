import type { Clock } from '../host/clock.ts';
import type { Log } from '../host/log.ts';
import type { Random } from '../host/random.ts';
import type { ErrorCode } from '../pki/error-table.ts';
import type { GetAgentStatusResponse } from '../proto/gen/kedge/v1/agent.ts';
import type { AgentConfig } from './config.ts';
import type { Feed } from './feed/feed.ts';
import { FilesFeed } from './feed/files-feed.ts';
import { SdsFeed } from './feed/sds-feed.ts';
import type { SecretKind } from './feed/sds-resources.ts';
import { HaproxyFeed } from './feed/haproxy-feed.ts';
import { WorkloadApiFeed } from './feed/workload-api-feed.ts';
import { WorkloadEndpoint } from './feed/workload-endpoint.ts';
import { addStatusService } from './status-service.ts';

/** What {@link openFeeds} is given. */
export interface FeedsOptions {
  readonly config: AgentConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Told of each change of what a feed's consumers hold. */
  readonly onConsumersChange: () => void;
  /** Told of each secret that an Envoy refuses. */
  readonly onNack: (kind: SecretKind) => void;
  /** Told of each call on the agent's sockets that is refused. */
  readonly onRefusal: (code: ErrorCode) => void;
  /** Whether each feed has something for its consumers, as of now: what gRPC health says of the agent. */
  readonly isReady: () => boolean;
  /** The status of the agent, as of now. */
  readonly status: () => GetAgentStatusResponse;
}

/** The feeds of one agent, open. */
export interface OpenFeeds {
  readonly all: readonly Feed[];
  /** Streams that are open on the agent's socket. */
  readonly streams: number;
  /** Tells those who watch the health of the agent when what `isReady` says has changed. */
  refreshHealth(): void;
  /** Ends every feed, then the socket. */
  close(): Promise<void>;
}

/**
 * Opens the feeds of the configuration, side by side: the part of the composition root that knows them. Throws what
 * the first that cannot be opened throws, with all the others closed again.
 */
export async function openFeeds(options: FeedsOptions): Promise<OpenFeeds> {
  const { config, clock } = options;
  const { workloadApi, files, haproxy } = config;
  const feeds: Feed[] = [];
  const endpoint =
    workloadApi === undefined ? undefined : new WorkloadEndpoint({ ...options, ...workloadApi });
  const close = async (): Promise<void> => {
    await Promise.all(feeds.map((feed) => feed.close()));
    await endpoint?.close();
  };
  const opening: Promise<unknown>[] = [];
  let workloadApiFeed: WorkloadApiFeed | undefined;
  if (endpoint !== undefined && workloadApi !== undefined) {
    const { onConsumersChange, isReady } = options;
    workloadApiFeed = new WorkloadApiFeed({ endpoint, clock, onConsumersChange, isReady });
    feeds.push(workloadApiFeed);
    feeds.push(new SdsFeed({ ...options, ...workloadApi.sds, endpoint }));
    addStatusService(endpoint, options.status);
    opening.push(endpoint.listen());
  }
  if (files !== undefined) {
    opening.push(FilesFeed.open({ ...options, ...files }).then((feed) => feeds.push(feed)));
  }
  if (haproxy !== undefined) {
    opening.push(HaproxyFeed.open({ ...options, ...haproxy }).then((feed) => feeds.push(feed)));
  }
  // All are settled before anything is closed, so that nothing goes on behind the back of whoever closes up.
  await Promise.allSettled(opening);
  try {
    await Promise.all(opening);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    all: feeds,
    get streams() {
      return endpoint?.streams ?? 0;
    },
    refreshHealth: () => workloadApiFeed?.refreshHealth(),
    close,
  };
}
