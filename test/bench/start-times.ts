import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AGENT_NODE_OPTIONS } from '../../host/node-options.ts';
import { fileAuditFolder } from '../../ca/issue/audit-folder.ts';
import { AuditLog } from '../../ca/issue/audit-log.ts';
import { issuedEntry } from '../../ca/issue/audit-record.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { freePort, IdentityPlane } from '../support/identity-plane.ts';
import { WorkloadClient } from '../support/workload-client.ts';
import { inTurns, type Measurement, median, medianRatio } from './measurement.ts';
import { buildBundles, ROOT } from './processes.ts';

/** Renewals of a year: 150 workload instances, twice a day. */
const YEAR_RECORDS = 150 * 2 * 365;
const POLL_MS = 1;
const AGENT_BUNDLE = join(ROOT, 'dist/kedge-agent.mjs');
const KEDGE_BUNDLE = join(ROOT, 'dist/kedge.mjs');

/** Start-up of the bundles, as they are deployed, over that of an empty Node process. */
export async function startTimes(folder: string, rounds: number): Promise<Measurement[]> {
  buildBundles();
  const cleanUp: (() => unknown)[] = [];
  const context = { after: (step: () => unknown) => void cleanUp.push(step) };
  const home = join(folder, 'start');
  mkdirSync(home);
  const plane = await IdentityPlane.start(context, home, 'logLevel: error');
  const token = await plane.tokenFor('web');

  const past = join(folder, 'year');
  const ports = { grpc: await freePort(), http: await freePort() };
  await withYearOfHistory(past);
  let agents = 0;
  const agentStart = async (): Promise<number> => {
    agents += 1;
    const socket = join(home, `agent-${agents}.sock`);
    const startedMs = performance.now();
    const agent = spawn(
      process.execPath,
      [
        // As pods run it.
        ...AGENT_NODE_OPTIONS,
        ...[
          AGENT_BUNDLE,
          'agent',
          '--ca-address',
          `127.0.0.1:${plane.grpcPort}`,
          '--trust-domain',
          'example.org',
        ],
        ...[
          '--token-file',
          token,
          '--bootstrap-bundle',
          plane.bootstrapBundle,
          '--socket',
          socket,
          '--log-level',
          'error',
        ],
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    );
    await firstSvid(socket);
    const elapsedMs = performance.now() - startedMs;
    await end(agent);
    return elapsedMs;
  };
  const caStart = async (): Promise<number> => {
    const startedMs = performance.now();
    const ca = spawn(process.execPath, [KEDGE_BUNDLE, ...caArguments(past, ports)], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    await readyz(ports.http);
    const elapsedMs = performance.now() - startedMs;
    await end(ca);
    return elapsedMs;
  };
  const figures = await inTurns(rounds, {
    node: emptyNode,
    agent: agentStart,
    emptyAgain: emptyNode,
    ca: caStart,
  });
  for (const step of cleanUp.toReversed()) await step();

  const ms = (values: readonly number[]): string => `${median(values).toFixed(0)} ms`;
  return [
    {
      metric: 'agent_start_over_node',
      value: medianRatio(figures.agent, figures.node),
      reach: 4,
      better: 'lower',
      detail: `${ms(figures.agent)} to the first SVID served, node -e 0 ${ms(figures.node)}`,
    },
    {
      metric: 'ca_start_over_node',
      value: medianRatio(figures.ca, figures.emptyAgain),
      reach: 6,
      better: 'lower',
      detail: `${ms(figures.ca)} to ready with ${YEAR_RECORDS} audit records, node -e 0 ${ms(figures.emptyAgain)}`,
    },
  ];
}

function caArguments(data: string, ports: { readonly grpc: number; readonly http: number }): string[] {
  return [
    ...['ca', '--data', data, '--log-level', 'error'],
    ...['--grpc-address', `127.0.0.1:${ports.grpc}`, '--http-address', `127.0.0.1:${ports.http}`],
  ];
}

/** A data folder that a CA made, with the audit log of a year. */
async function withYearOfHistory(folder: string): Promise<void> {
  const ports = { grpc: await freePort(), http: await freePort() };
  const ca = spawn(process.execPath, [KEDGE_BUNDLE, ...caArguments(folder, ports)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  await readyz(ports.http);
  await end(ca);
  const audit = await AuditLog.open({
    folder: fileAuditFolder(join(folder, 'audit')),
    clock: systemClock,
    log: silentLog,
  });
  const nowMs = Date.now();
  const entry = (index: number) =>
    issuedEntry({
      timeMs: nowMs,
      api: 'kedge.v1',
      spiffeId: `spiffe://example.org/ns/ns-${index % 10}/sa/sa-${index % 150}`,
      serialNumber: new Uint8Array(16).fill(index & 0x7f, 0, 4),
      issuerId: 'ab'.repeat(20),
      notBeforeMs: nowMs,
      notAfterMs: nowMs + 86_400_000,
      keyType: 'ec-p256',
      spki: new Uint8Array(91).fill(index & 0xff),
      dnsNames: [],
      instance: {
        cluster: 'bench',
        namespace: `ns-${index % 10}`,
        serviceAccount: `sa-${index % 150}`,
        podName: `pod-${index % 150}`,
        podUid: `00000000-0000-4000-8000-${String(index % 150).padStart(12, '0')}`,
        nodeName: undefined,
        tokenExpiresAtMs: nowMs,
      },
      peerAddress: '10.0.0.1',
    });
  for (let at = 0; at < YEAR_RECORDS; at += 4_096) {
    await audit.append(Array.from({ length: Math.min(4_096, YEAR_RECORDS - at) }, (_, i) => entry(at + i)));
  }
  await audit.close();
}

async function emptyNode(): Promise<number> {
  const startedMs = performance.now();
  await once(spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' }), 'exit');
  return performance.now() - startedMs;
}

async function end(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM');
  await once(child, 'exit');
}

/** Resolves with the first SVID that the Workload API gives; one client tries until then. */
async function firstSvid(socket: string): Promise<void> {
  while (!existsSync(socket)) await delay(POLL_MS);
  for (;;) {
    const client = new WorkloadClient(socket);
    try {
      const { svids } = await client.fetchX509Svid().next();
      if (svids.length > 0) return;
    } catch {
      await delay(POLL_MS);
    } finally {
      client.close();
    }
  }
}

/** Resolves when `/readyz` answers 200. A plain socket, so that the poll costs next to nothing. */
async function readyz(port: number): Promise<void> {
  while (!(await answers(port))) await delay(POLL_MS);
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let head = '';
    socket.setEncoding('latin1');
    socket.on('connect', () =>
      socket.write('GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    );
    socket.on('data', (text: string) => (head += text));
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(head.startsWith('HTTP/1.1 200')));
  });
}
