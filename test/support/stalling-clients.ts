/**
 * Clients of the agent's socket that connect and stall, run in a process of its own: `node stalling-clients.ts <socket>
 * <count>`. Says `ready` once each has connected, then what it has seen, one JSON line for each line that it is sent.
 *
 * One that is cut comes back after a while.
 */
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

/** How a client stalls. */
export const STALLS = [
  'sends nothing',
  'sends half a Workload API request',
  'sends half an SDS request',
  'opens a Workload API stream and reads nothing',
  'opens a Workload API stream without a window',
  'opens an SDS stream and reads nothing',
  'opens an SDS stream without a window',
] as const;
export type Stall = (typeof STALLS)[number];

/** What {@link STALLS} of each kind have gone through. */
export interface StallCounts {
  readonly connected: number;
  /** Cut by the agent. */
  readonly cut: number;
}

const FETCH = '/SpiffeWorkloadAPI/FetchX509SVID';
const STREAM_SECRETS = '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets';
/** Well below the largest that the agent takes, and within the window that HTTP/2 begins with. */
const HALF_BYTES = 60_000;
const COME_BACK_MS = 3_000;
/** Below the backlog of a listening socket. */
const AT_ONCE = 100;

/** The bytes that a client sends until it stalls. */
async function bytesOf(stall: Stall): Promise<Buffer> {
  const whole = Buffer.alloc(5);
  const half = Buffer.alloc(5 + HALF_BYTES);
  half.writeUInt32BE(HALF_BYTES + 1, 1);
  switch (stall) {
    case 'sends nothing':
      return Buffer.alloc(0);
    case 'sends half a Workload API request':
      return await recorded(FETCH, half, { window: 65_535, isEnded: false });
    case 'sends half an SDS request':
      return await recorded(STREAM_SECRETS, half, { window: 65_535, isEnded: false });
    case 'opens a Workload API stream and reads nothing':
      return await recorded(FETCH, whole, { window: 65_535, isEnded: true });
    case 'opens a Workload API stream without a window':
      return await recorded(FETCH, whole, { window: 0, isEnded: true });
    case 'opens an SDS stream and reads nothing':
      return await recorded(STREAM_SECRETS, whole, { window: 65_535, isEnded: false });
    case 'opens an SDS stream without a window':
      return await recorded(STREAM_SECRETS, whole, { window: 0, isEnded: false });
  }
}

/** What Node's own HTTP/2 sends for a call when nobody answers. */
async function recorded(
  path: string,
  message: Buffer,
  { window, isEnded }: { readonly window: number; readonly isEnded: boolean },
): Promise<Buffer> {
  const sent: Buffer[] = [];
  const wire = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _encoding, done) => {
      sent.push(chunk);
      done();
    },
  });
  const session = connectHttp2('http://localhost', {
    createConnection: () => wire,
    settings: { initialWindowSize: window },
  });
  session.on('error', () => {});
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    'workload.spiffe.io': 'true',
  });
  stream.on('error', () => {});
  stream.write(message);
  if (isEnded) stream.end();
  await delay(200);
  session.destroy();
  return Buffer.concat(sent);
}

async function stallAll(socketPath: string, count: number): Promise<ReadonlyMap<Stall, StallCounts>> {
  const bytes = await Promise.all(STALLS.map((stall) => bytesOf(stall)));
  const counts = new Map<Stall, { connected: number; cut: number }>(
    STALLS.map((stall) => [stall, { connected: 0, cut: 0 }]),
  );
  const stall = (index: number): Promise<void> => {
    const kind = STALLS[index % STALLS.length] ?? STALLS[0];
    const tally = counts.get(kind) ?? { connected: 0, cut: 0 };
    const again = (): void => void setTimeout(() => void stall(index), COME_BACK_MS * (0.5 + Math.random()));
    return new Promise((resolve) => {
      const socket = connect(socketPath);
      // The others have nothing to read, and notice so that they are cut.
      if (kind.endsWith('reads nothing')) socket.pause();
      else socket.resume();
      let isConnected = false;
      socket.once('connect', () => {
        isConnected = true;
        tally.connected += 1;
        socket.write(bytes[index % STALLS.length] ?? Buffer.alloc(0));
        resolve();
      });
      socket.on('error', () => {});
      socket.once('close', () => {
        if (isConnected) tally.cut += 1;
        resolve();
        again();
      });
    });
  };
  for (let from = 0; from < count; from += AT_ONCE) {
    const batch = Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, index) => stall(from + index));
    await Promise.all(batch);
  }
  return counts;
}

const [socketPath, count] = process.argv.slice(2);
if (socketPath !== undefined && import.meta.filename === process.argv[1]) {
  const counts = await stallAll(socketPath, Number(count));
  console.log('ready');
  for await (const _line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(Object.fromEntries(counts)));
  }
  process.exit();
}
