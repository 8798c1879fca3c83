import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AGENT_NODE_OPTIONS } from '../../host/node-options.ts';
import { IdentityPlane, until } from '../support/identity-plane.ts';
import { SdsClient } from '../support/sds-client.ts';
import { WorkloadClient } from '../support/workload-client.ts';
import { type Measurement, median } from './measurement.ts';
import { growthOf, type MemorySample } from './memory-growth.ts';
import { buildBundles, ROOT } from './processes.ts';

/** When what the start needed has been collected, and the first trim of the heap is done. */
const STEADY_MS = 6_000;
const FURTHER_STREAMS = 100;
/** The shortest that a CA issues: an SVID ends at a full second. An agent renews it after 1.0 to 1.3 s. */
const SHORT_TTL_MS = 2_000;
/** Often enough to see every rotation. */
const SAMPLE_MS = 200;
/** A development token is good for five minutes. */
const TOKEN_MS = 60_000;
/** An agent that rotates no more is not measured any longer. */
const STALLED_MS = 60_000;
const REOPEN_MS = 100;

/** A client of a feed that stays. */
interface HeldClient {
  close(): void;
}

/** One feed of the agent, switched on, with one client. A further feed is a further row. */
interface FeedUnderTest {
  readonly name: string;
  options(folder: string): readonly string[];
  connect(folder: string): Promise<HeldClient>;
  /** Whether {@link connect} opens a stream of its own, whose cost is measured. */
  readonly hasStreams: boolean;
}

const FEEDS: readonly FeedUnderTest[] = [
  {
    name: 'Workload API',
    options: (folder) => ['--socket', join(folder, 'workload.sock')],
    connect: async (folder) => {
      const client = new WorkloadClient(join(folder, 'workload.sock'));
      return held(client, () => {
        const stream = client.fetchX509Svid();
        return () => stream.next();
      });
    },
    hasStreams: true,
  },
  {
    name: 'SDS',
    // On the socket of the Workload API.
    options: () => [],
    connect: async (folder) => {
      const client = new SdsClient(join(folder, 'workload.sock'));
      const names = ['default', 'ROOTCA'];
      return held(client, () => {
        const stream = client.stream();
        stream.request(names);
        return async () => stream.ack(await stream.next(), names);
      });
    },
    hasStreams: true,
  },
  {
    name: 'files and hook',
    options: (folder) => ['--files-folder', join(folder, 'files'), '--hook', '["/bin/true"]'],
    connect: async (folder) => {
      await until('the files are there', () => existsSync(join(folder, 'files/tls.crt')));
      return { close: () => {} };
    },
    hasStreams: false,
  },
];

/**
 * Reads a stream, and opens another when it ends: a machine that is busy for long may see an SVID of two seconds
 * expire. Resolves with the first message.
 */
async function held(client: HeldClient, open: () => () => Promise<unknown>): Promise<HeldClient> {
  const reader = { isClosed: false };
  const first = Promise.withResolvers<void>();
  const read = async (): Promise<void> => {
    while (!reader.isClosed) {
      try {
        for (const next = open(); ; first.resolve()) await next();
      } catch {
        await delay(REOPEN_MS);
      }
    }
  };
  void read();
  await first.promise;
  return {
    close: () => {
      reader.isClosed = true;
      client.close();
    },
  };
}

/**
 * Memory of the agent's program in dist/, every feed on and one client on each: over an empty Node process, for each
 * further stream (each on a connection of its own), and over `rotations` rotations. Resident set sizes of proc(5);
 * nothing is measured where there are none.
 */
export async function agentMemory(folder: string, rounds: number, rotations: number): Promise<Measurement[]> {
  if (!existsSync('/proc/self/status')) return [];
  buildBundles();
  const cleanUp: (() => unknown)[] = [];
  const context = { after: (step: () => unknown) => void cleanUp.push(step) };
  const home = join(folder, 'memory');
  mkdirSync(home);
  try {
    const steady = await IdentityPlane.start(context, subfolder(home, 'steady'), 'logLevel: error');
    const quick = await IdentityPlane.start(
      context,
      subfolder(home, 'quick'),
      `svid: { ttl: ${SHORT_TTL_MS}ms }\nlogLevel: error`,
    );
    const empty: number[] = [];
    const full: number[] = [];
    const stream: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      empty.push(await emptyNodeKib());
      await withAgent(steady, subfolder(home, `round-${round}`), async ({ pid, further }) => {
        const before = await steadyKib(pid);
        full.push(before);
        await further(FURTHER_STREAMS);
        stream.push(((await steadyKib(pid)) - before) / FURTHER_STREAMS);
      });
    }
    const growth = await withAgent(quick, subfolder(home, 'rotations'), async (agent) =>
      growthOf(await samplesOver(agent, rotations, () => quick.tokenFor('web'))),
    );
    const mib = (kib: number): string => `${(kib / 1024).toFixed(1)} MB`;
    return [
      {
        metric: 'agent_memory_over_node',
        value: median(full.map((kib, i) => kib / (empty[i] ?? Number.NaN))),
        reach: 1.35,
        better: 'lower',
        detail: `${mib(median(full))} with ${FEEDS.map(({ name }) => name).join(', ')}; empty Node ${mib(median(empty))}`,
      },
      {
        metric: 'agent_memory_per_stream_kib',
        value: median(stream),
        reach: 60,
        better: 'lower',
        detail: `${FURTHER_STREAMS} further streams, each on its own connection`,
      },
      {
        metric: 'agent_memory_growth_over_noise',
        value: growth.grownKib / growth.noiseKib,
        reach: 1,
        better: 'lower',
        detail: `${growth.grownKib.toFixed(0)} KiB by the slope over ${rotations} rotations, the last ${growth.rotations} looked at, noise ${growth.noiseKib.toFixed(0)} KiB`,
      },
    ];
  } finally {
    for (const step of cleanUp.toReversed()) await step();
  }
}

interface AgentUnderTest {
  readonly pid: number;
  /** Opens so many more streams, spread over the feeds that have them. */
  readonly further: (count: number) => Promise<void>;
  /** The certificate that the files feed wrote last. */
  readonly certificate: string;
}

async function withAgent<T>(
  plane: IdentityPlane,
  folder: string,
  use: (agent: AgentUnderTest) => Promise<T>,
): Promise<T> {
  const token = await plane.tokenFor('web');
  mkdirSync(join(folder, 'files'), { mode: 0o700 });
  const agent = spawn(
    process.execPath,
    [
      // As pods run it.
      ...AGENT_NODE_OPTIONS,
      ...[join(ROOT, 'dist/kedge-agent.mjs'), 'agent', '--log-level', 'error'],
      ...['--ca-address', `127.0.0.1:${plane.grpcPort}`, '--trust-domain', 'example.org'],
      ...['--token-file', token, '--bootstrap-bundle', plane.bootstrapBundle],
      ...FEEDS.flatMap((feed) => feed.options(folder)),
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const clients: HeldClient[] = [];
  try {
    await until('the agent has its first identity', () => existsSync(join(folder, 'files/tls.crt')));
    for (const feed of FEEDS) clients.push(await feed.connect(folder));
    const withStreams = FEEDS.filter(({ hasStreams }) => hasStreams);
    return await use({
      pid: pidOf(agent),
      further: async (count) => {
        for (let i = 0; i < count; i += 1) {
          const feed = withStreams[i % withStreams.length];
          if (feed !== undefined) clients.push(await feed.connect(folder));
        }
      },
      certificate: join(folder, 'files/tls.crt'),
    });
  } finally {
    for (const client of clients) client.close();
    await end(agent);
  }
}

/** Looks at an agent until it has rotated so often. */
async function samplesOver(
  { pid, certificate }: AgentUnderTest,
  rotations: number,
  renewToken: () => Promise<unknown>,
): Promise<MemorySample[]> {
  const samples: MemorySample[] = [];
  let newest = newestOf(certificate);
  let [rotation, rotatedMs, tokenMs] = [0, performance.now(), performance.now()];
  let renewing: Promise<unknown> = Promise.resolve();
  while (rotation < rotations) {
    await delay(SAMPLE_MS);
    const nowMs = performance.now();
    if (nowMs - tokenMs > TOKEN_MS) {
      await renewing;
      tokenMs = nowMs;
      // Not awaited: no rotation is to be missed meanwhile.
      renewing = renewToken();
      renewing.catch(() => {});
    }
    const found = newestOf(certificate);
    if (found !== '' && found !== newest) {
      newest = found;
      rotation += 1;
      rotatedMs = nowMs;
    }
    if (nowMs - rotatedMs > STALLED_MS) throw new Error(`no rotation after ${rotation} for a minute`);
    samples.push({ rotation, kib: memoryKib(pid, 'RssAnon') });
  }
  await renewing;
  return samples;
}

/** The certificate that is served; empty while there is none: an SVID that expires takes its files along. */
function newestOf(certificate: string): string {
  try {
    return readFileSync(certificate, 'latin1');
  } catch {
    return '';
  }
}

async function emptyNodeKib(): Promise<number> {
  const node = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e9)'], { stdio: 'ignore' });
  try {
    return await steadyKib(pidOf(node));
  } finally {
    await end(node);
  }
}

async function steadyKib(pid: number): Promise<number> {
  await delay(STEADY_MS);
  return memoryKib(pid, 'VmRSS');
}

/**
 * The resident set, KiB (proc(5)): all of it, or what is no page of a file. What a process keeps too long is of the
 * second kind; how much of Node's binary is resident is for the kernel to say.
 */
function memoryKib(pid: number, what: 'VmRSS' | 'RssAnon'): number {
  const found = new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (found === null) throw new Error(`process ${pid} has no ${what}`);
  return Number(found[1]);
}

function pidOf({ pid }: ChildProcess): number {
  if (pid === undefined) throw new Error('the process did not start');
  return pid;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

function subfolder(parent: string, name: string): string {
  const folder = join(parent, name);
  mkdirSync(folder, { mode: 0o700 });
  return folder;
}
