import { mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { getBundle } from '../cli/admin-client.ts';
import { isServing } from '../cli/health-client.ts';
import { keepTokenFresh } from '../cli/token-file.ts';
import { systemClock } from '../host/clock.ts';
import { systemRandom } from '../host/random.ts';
import { encodePem } from '../pki/pem.ts';
import { startCa, type StartedCa } from './ca-process.ts';
import type { Children } from './children.ts';
import { EchoConnection } from './echo-connection.ts';
import {
  anchorsIn,
  haproxyOnPath,
  type SidecarPaths,
  sidecarPaths,
  writeClientSidecar,
  writeServerSidecar,
} from './haproxy-sidecar.ts';
import { freePort } from './free-port.ts';
import { asWorkloadMessage, type WorkloadMessage } from './message.ts';

/** The trust domain of the demo; a name that nobody can own (RFC 2606). */
export const TRUST_DOMAIN = 'demo.example';
/** The namespace of both workloads. */
export const NAMESPACE = 'demo';

const AUDIENCE = 'kedge';
const TOKEN_TTL_SECONDS = 600;
const POLL_MS = 50;
/** How long any part may take until it is there: a slow machine with cold caches needs seconds. */
const START_MS = 60_000;

/** What {@link setStage} needs. */
export interface StageOptions {
  readonly children: Children;
  /** A folder of the demo's own. */
  readonly folder: string;
  /** Takes what the workloads tell. */
  readonly onMessage: (workload: WorkloadName, message: WorkloadMessage) => void;
  /** Told of each part once it is there. */
  readonly onStarted: (part: string, where: string) => void;
  /** Ends the tokens' renewal. */
  readonly signal: AbortSignal;
}

/** The two workloads: `web` asks, `echo` answers. */
export const WORKLOADS = ['web', 'echo'] as const;
export type WorkloadName = (typeof WORKLOADS)[number];

/** The whole play, running. */
export interface Stage {
  readonly ca: StartedCa;
  readonly sockets: Readonly<Record<WorkloadName, string>>;
}

/** The SPIFFE ID of a workload: by the CA's default template, that of its ServiceAccount. */
export function spiffeIdOf(workload: WorkloadName): string {
  return `spiffe://${TRUST_DOMAIN}/ns/${NAMESPACE}/sa/${workload}`;
}

/**
 * Starts the CA, an agent for each workload, then the workloads. Resolves when they talk. Where there is a HAProxy on
 * PATH, one stands in front of each workload and speaks mTLS for it; elsewhere the workloads do that themselves.
 */
export async function setStage(options: StageOptions): Promise<Stage> {
  const { children, folder, onStarted } = options;
  const ca = await startCa(children, folder, TRUST_DOMAIN);
  onStarted('the CA', `gRPC ${ca.address}, metrics http://${ca.httpAddress}/metrics`);
  const { x509Authorities } = await getBundle(ca.adminTarget);
  const bootstrap = join(folder, 'bootstrap.pem');
  writeFileSync(bootstrap, x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join(''));
  const haproxy = haproxyOnPath(process.env['PATH']);
  const [web, echo] = await Promise.all(
    WORKLOADS.map((workload) => startAgent(workload, ca, bootstrap, haproxy !== undefined, options)),
  );
  if (web === undefined || echo === undefined) throw new TypeError('there are two workloads');
  if (haproxy === undefined) {
    const port = await startEcho(echo, spiffeIdOf('web'), options);
    onStarted('the workload echo', `${spiffeIdOf('echo')}, mTLS on 127.0.0.1:${port}`);
    startWeb(web, [String(port), spiffeIdOf('echo')], options);
  } else {
    const port = await freePort();
    const [before, behind] = [sidecarPaths(join(folder, 'web')), sidecarPaths(join(folder, 'echo'))];
    writeServerSidecar(behind, port);
    writeClientSidecar(before, port);
    await startEcho(echo, behind.workloadSocket, options);
    onStarted('the workload echo', `${spiffeIdOf('echo')}, in plain text behind its HAProxy`);
    for (const { files } of [before, behind]) {
      // HAProxy before 3.0 takes trust anchors at its start only: it starts on the first real ones.
      await until(children, 'the files of HAProxy are there', () => hasAnchors(files, bootstrap));
    }
    startHaproxy('echo', haproxy, behind, children);
    startHaproxy('web', haproxy, before, children);
    await until(children, 'the proxies speak mTLS to each other', () => canAsk(before.workloadSocket));
    onStarted('the HAProxy of echo', `mTLS on 127.0.0.1:${port}, runtime API unix://${behind.adminSocket}`);
    onStarted('the HAProxy of web', `mTLS to echo, runtime API unix://${before.adminSocket}`);
    startWeb(web, [before.workloadSocket], options);
  }
  onStarted('the workload web', `${spiffeIdOf('web')}, asks echo without a pause`);
  return { ca, sockets: { web, echo } };
}

function startHaproxy(
  workload: WorkloadName,
  program: string,
  { configuration }: SidecarPaths,
  children: Children,
): void {
  children.start({
    name: `the HAProxy of ${workload}`,
    argv: ['demo/haproxy-process.ts', program, configuration],
  });
}

async function hasAnchors(files: string, bootstrap: string): Promise<boolean> {
  const [loaded, expected] = await Promise.all([
    readFile(anchorsIn(files), 'utf8'),
    readFile(bootstrap, 'utf8'),
  ]);
  return loaded.includes(expected.trim());
}

async function canAsk(workloadSocket: string): Promise<boolean> {
  const connection = await EchoConnection.openThroughProxy(workloadSocket);
  await connection.echo('are you there').finally(() => connection.close());
  return true;
}

/** A token that is kept fresh, then the agent; resolves with its Workload API socket once it serves. */
async function startAgent(
  workload: WorkloadName,
  ca: StartedCa,
  bootstrap: string,
  hasProxy: boolean,
  { children, folder, onStarted, signal }: StageOptions,
): Promise<string> {
  const own = join(folder, workload);
  mkdirSync(own, { mode: 0o700 });
  const [tokenFile, socket] = [join(own, 'token'), join(own, 'workload.sock')];
  const token = await keepTokenFresh(
    {
      dataFolder: ca.dataFolder,
      request: {
        namespace: NAMESPACE,
        serviceAccount: workload,
        podName: `${workload}-0`,
        audiences: [AUDIENCE],
        ttlSeconds: TOKEN_TTL_SECONDS,
      },
      path: tokenFile,
      clock: systemClock,
      random: systemRandom,
    },
    signal,
  );
  // An agent whose token cannot be renewed says so itself.
  token.ended.catch(() => {});
  const argv = ['--ca-address', ca.address, '--trust-domain', TRUST_DOMAIN, '--token-file', tokenFile];
  const { adminSocket, files } = sidecarPaths(own);
  if (hasProxy) argv.push('--haproxy-sockets', adminSocket, '--haproxy-folder', files);
  if (hasProxy && workload === 'web') argv.push('--haproxy-server-lines-only');
  children.start({
    name: `the agent of ${workload}`,
    argv: ['bin/kedge.mjs', 'agent', ...argv, '--bootstrap-bundle', bootstrap, '--socket', socket],
  });
  await until(children, `the agent of ${workload} serves an identity`, () =>
    isServing(`unix://${socket}`, 1_000),
  );
  onStarted(`the agent of ${workload}`, `Workload API unix://${socket}`);
  return socket;
}

/** `peer` is who may ask, or the socket of the proxy that knows. Resolves with the port; 0 behind a proxy. */
async function startEcho(
  socket: string,
  peer: string,
  { children, onMessage }: StageOptions,
): Promise<number> {
  const listening = Promise.withResolvers<number>();
  children.start({
    name: 'the workload echo',
    argv: ['demo/echo-server.ts', peer],
    env: { SPIFFE_ENDPOINT_SOCKET: `unix://${socket}` },
    onMessage: (value) => {
      const message = asWorkloadMessage(value);
      if (message?.kind === 'listening') listening.resolve(message.port);
      if (message !== undefined) onMessage('echo', message);
    },
  });
  return await Promise.race([listening.promise, children.died]);
}

/** `server` is the port and the SPIFFE ID to ask, or the socket of the proxy that knows. */
function startWeb(socket: string, server: readonly string[], { children, onMessage }: StageOptions): void {
  children.start({
    name: 'the workload web',
    argv: ['demo/echo-client.ts', ...server],
    env: { SPIFFE_ENDPOINT_SOCKET: `unix://${socket}` },
    onMessage: (value) => {
      const message = asWorkloadMessage(value);
      if (message !== undefined) onMessage('web', message);
    },
  });
}

/** Polls until `condition` holds; a refusal counts as not yet. Rejects when a child dies, or after a minute. */
export async function until(
  children: Children,
  what: string,
  condition: () => Promise<boolean>,
): Promise<void> {
  const endMs = systemClock.monotonic() + START_MS;
  const died = children.died;
  for (;;) {
    if (await Promise.race([condition().catch(() => false), died])) return;
    if (systemClock.monotonic() > endMs)
      throw new Error(`after ${START_MS / 1000} s it is not so that ${what}`);
    await Promise.race([systemClock.sleep(POLL_MS), died]);
  }
}
