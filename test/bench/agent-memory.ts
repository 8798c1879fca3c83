import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { IdentityPlane, until } from '../support/identity-plane.ts';
import { SdsClient } from '../support/sds-client.ts';
import { WorkloadClient } from '../support/workload-client.ts';
import { type Measurement, median } from './measurement.ts';
import { buildBundles, ROOT } from './processes.ts';

/** When what the start needed has been collected, and the first trim of the heap is done. */
const STEADY_MS = 6_000;
const FURTHER_STREAMS = 100;
/** The shortest that a CA issues: an SVID ends at a full second. An agent renews it after 1.0 to 1.3 s. */
const SHORT_TTL_MS = 2_000;
const SAMPLE_MS = 1_000;
/** A development token is good for five minutes. */
const SAMPLES_PER_TOKEN = 120;
/** The share of a run that is not looked at: a heap finds its size first. */
const WARM_UP_SHARE = 0.2;

/** A client of a feed that stays. */
interface HeldClient {
  /** Snapshots that it was sent; undefined where it cannot say. */
  readonly snapshots?: () => number;
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
      const stream = client.fetchX509Svid();
      stream.call.on('error', () => {});
      await stream.next();
      return { snapshots: () => stream.received.length, close: () => client.close() };
    },
    hasStreams: true,
  },
  {
    name: 'SDS',
    // On the socket of the Workload API.
    options: () => [],
    connect: async (folder) => {
      const client = new SdsClient(join(folder, 'workload.sock'));
      const stream = client.stream();
      const names = ['default', 'ROOTCA'];
      stream.request(names);
      stream.ack(await stream.next(), names);
      return { close: () => client.close() };
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
 * Memory of the agent's bundle in dist/, every feed on and one client on each: over an empty Node process, for each
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
    const growth = await withAgent(quick, subfolder(home, 'rotations'), async ({ pid, snapshots }) =>
      growthOver(pid, snapshots, rotations, () => quick.tokenFor('web')),
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
        value: growth.fittedKib / growth.noiseKib,
        reach: 1,
        better: 'lower',
        detail: `${growth.fittedKib.toFixed(0)} KiB by the fitted slope over ${rotations} rotations, noise ${growth.noiseKib.toFixed(0)} KiB`,
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
  /** Snapshots that the first stream was sent. */
  readonly snapshots: () => number;
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
      snapshots: () => clients.find((client) => client.snapshots !== undefined)?.snapshots?.() ?? 0,
    });
  } finally {
    for (const client of clients) client.close();
    await end(agent);
  }
}

/** The slope of the resident set over the rotations, as growth over the whole run, and how far samples stray from it. */
async function growthOver(
  pid: number,
  snapshots: () => number,
  rotations: number,
  renewToken: () => Promise<unknown>,
): Promise<{ readonly fittedKib: number; readonly noiseKib: number }> {
  const samples: (readonly [rotation: number, kib: number])[] = [];
  const first = snapshots();
  while (snapshots() - first < rotations) {
    await delay(SAMPLE_MS);
    if (samples.length % SAMPLES_PER_TOKEN === SAMPLES_PER_TOKEN - 1) await renewToken();
    samples.push([snapshots() - first, rssKib(pid)]);
  }
  const looked = samples.filter(([rotation]) => rotation >= rotations * WARM_UP_SHARE);
  const mean = (pick: 0 | 1): number => looked.reduce((sum, s) => sum + s[pick], 0) / looked.length;
  const [x, y] = [mean(0), mean(1)];
  const slope =
    looked.reduce((sum, s) => sum + (s[0] - x) * (s[1] - y), 0) /
    looked.reduce((sum, s) => sum + (s[0] - x) ** 2, 0);
  const strays = looked.map((s) => s[1] - y - slope * (s[0] - x));
  return { fittedKib: slope * rotations, noiseKib: Math.max(...strays) - Math.min(...strays) };
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
  return rssKib(pid);
}

/** Resident set size, KiB (proc(5), VmRSS). */
function rssKib(pid: number): number {
  const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (found === null) throw new Error(`process ${pid} has no VmRSS`);
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
