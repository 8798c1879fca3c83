/**
 * The demo's workload `web`: asks the echo server over mTLS without a pause, over one connection that it keeps and
 * over a new one each time, and counts what fails.
 *
 * `node demo/echo-client.ts <port> <SPIFFE ID of the server>` speaks mTLS itself; `node demo/echo-client.ts <path>`
 * speaks plain text to its proxy on that Unix socket. With SPIFFE_ENDPOINT_SOCKET set.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SpiffeId } from '../pki/spiffe-id.ts';
import { EchoConnection } from './echo-connection.ts';
import { tellDemo } from './message.ts';
import { followIdentity } from './workload-identity.ts';

const KEPT_PAUSE_MS = 50;
const NEW_PAUSE_MS = 150;
const REPORT_MS = 200;
const RECONNECT_PAUSE_MS = 500;

const [address = '', server] = process.argv.slice(2);
const totals = { requests: 0, newConnections: 0, failures: 0 };

const identity = await followIdentity(() => {});
const connect = (): Promise<EchoConnection> =>
  server === undefined
    ? EchoConnection.openThroughProxy(address)
    : EchoConnection.open({
        port: Number(address),
        serverId: SpiffeId.parse(server),
        own: identity.current(),
      });

function failed(error: unknown): void {
  totals.failures += 1;
  tellDemo({ kind: 'failure', reason: error instanceof Error ? error.message : String(error) });
}

/** One connection for the whole run: it goes through every rotation. Only when it breaks is there another. */
async function overOneConnection(): Promise<never> {
  for (;;) {
    try {
      const connection = await connect();
      for (;;) {
        totals.requests += 1;
        await connection.echo(`kept ${totals.requests}`);
        await delay(KEPT_PAUSE_MS);
      }
    } catch (error) {
      failed(error);
      await delay(RECONNECT_PAUSE_MS);
    }
  }
}

/** A handshake for each request: it sees every new SVID. */
async function overNewConnections(): Promise<never> {
  for (;;) {
    totals.requests += 1;
    totals.newConnections += 1;
    try {
      const connection = await connect();
      await connection.echo(`new ${totals.requests}`);
      connection.close();
    } catch (error) {
      failed(error);
    }
    await delay(NEW_PAUSE_MS);
  }
}

setInterval(() => tellDemo({ kind: 'traffic', traffic: { ...totals } }), REPORT_MS);
for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => process.exit(0));
await Promise.all([overOneConnection(), overNewConnections()]);
