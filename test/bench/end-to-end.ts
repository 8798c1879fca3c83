import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DevelopmentIssuer } from '../../ca/attest/development-issuer.ts';
import { systemClock } from '../../host/clock.ts';
import { systemRandom } from '../../host/random.ts';
import { encodePem } from '../../pki/pem.ts';
import { freePort } from '../support/identity-plane.ts';
import { newHierarchy } from '../support/hierarchy.ts';
import { inTurns, type Measurement, median, medianRatio } from './measurement.ts';
import { cpuMicroseconds, JsonChild, ROOT } from './processes.ts';
import { freshCsrs, writeWorkload } from './workload-file.ts';

/** What one load run saw of its server. */
interface LoadFigure {
  readonly perSecond: number;
  readonly cpuMicroseconds: number;
  readonly responseBytes: number;
}

interface Target {
  readonly pid: number;
  readonly port: number;
  readonly rootsFile: string;
}

type Mode = 'kept' | 'new';

const INSTANCES = 400;
const WARM_UP_MS = 8_000;

/** Issuing end to end: the real CA process against a bare grpc-js echo of the same message sizes. */
export async function endToEnd(folder: string, rounds: number, measureMs: number): Promise<Measurement[]> {
  const workloadFile = join(folder, 'workload.json');
  const { ca, child } = await startCa(folder);
  const issuer = await DevelopmentIssuer.open({
    folder: join(folder, 'ca'),
    clock: systemClock,
    random: systemRandom,
  });
  const tokens = Array.from({ length: INSTANCES }, (_, i) =>
    issuer.mint({
      namespace: `ns-${i % 20}`,
      serviceAccount: `sa-${i % 50}`,
      podName: `pod-${i}`,
      podUid: randomUUID(),
      audiences: ['kedge'],
      ttlSeconds: 3_600,
    }),
  );
  writeWorkload(workloadFile, { csrs: freshCsrs(8_000), tokens });

  const load = (target: Target, mode: Mode, ms: number) => runLoad(folder, workloadFile, target, mode, ms);
  const sample = await load(ca, 'kept', 300);
  const echo = await startEcho(folder, sample.responseBytes);
  const boundChild = new JsonChild('server', ['test/bench/bound-process.ts']);
  await boundChild.next();

  // Until V8 has compiled what is hot in either server: its compiler threads are on the same account.
  for (const target of [ca, echo.target]) {
    for (const mode of ['kept', 'new'] as const) await load(target, mode, WARM_UP_MS);
  }

  const runs = new Map<string, LoadFigure[]>();
  const keep = (name: string, figure: LoadFigure): number => {
    runs.set(name, [...(runs.get(name) ?? []), figure]);
    return figure.perSecond;
  };
  await inTurns(rounds, {
    ca: async () => keep('ca', await load(ca, 'kept', measureMs)),
    echo: async () => keep('echo', await load(echo.target, 'kept', measureMs)),
    caNew: async () => keep('caNew', await load(ca, 'new', measureMs)),
    echoNew: async () => keep('echoNew', await load(echo.target, 'new', measureMs)),
    bound: async () => {
      boundChild.process.kill('SIGUSR2');
      const { perStep } = await boundChild.next<{ perStep: number }>();
      return keep('bound', { perSecond: 1e6 / perStep, cpuMicroseconds: perStep, responseBytes: 0 });
    },
  });
  await Promise.all([child.stop(), echo.child.stop(), boundChild.stop()]);

  // The first round warmed up.
  const of = (name: string, field: 'perSecond' | 'cpuMicroseconds'): number[] =>
    (runs.get(name) ?? []).slice(1).map((figure) => figure[field]);
  const [cpu, bound] = [of('ca', 'cpuMicroseconds'), of('bound', 'cpuMicroseconds')];
  const rate = (name: string): string => `${median(of(name, 'perSecond')).toFixed(0)}/s`;
  return [
    {
      metric: 'issue_end_to_end_cpu_over_bound',
      value: medianRatio(cpu, bound),
      reach: 1.9,
      better: 'lower',
      detail: `${median(cpu).toFixed(0)} us of server CPU each, bound ${median(bound).toFixed(0)} us`,
    },
    {
      metric: 'issue_end_to_end_rate_over_echo',
      value: medianRatio(of('ca', 'perSecond'), of('echo', 'perSecond')),
      reach: 0.45,
      better: 'higher',
      detail: `${rate('ca')}, echo ${rate('echo')} at ${median(of('echo', 'cpuMicroseconds')).toFixed(0)} us of CPU, ${sample.responseBytes} bytes each`,
    },
    {
      metric: 'issue_new_connection_rate_over_echo',
      value: medianRatio(of('caNew', 'perSecond'), of('echoNew', 'perSecond')),
      reach: 0.6,
      better: 'higher',
      detail: `${rate('caNew')}, echo ${rate('echoNew')}`,
    },
  ];
}

async function startCa(folder: string): Promise<{ ca: Target; child: JsonChild }> {
  const [grpc, http] = [await freePort(), await freePort()];
  const config = join(folder, 'kedge.yaml');
  writeFileSync(
    config,
    `dataFolder: ${join(folder, 'ca')}\nlogLevel: warn\nlisten: { grpc: "127.0.0.1:${grpc}", http: "127.0.0.1:${http}" }\nlimits: { instanceQueue: 64 }\n`,
  );
  const child = new JsonChild('server', [join(ROOT, 'bin/kedge.mjs'), 'ca', '--config', config]);
  await ready(http);
  const rootsFile = join(folder, 'roots.pem');
  const show = spawnSync(
    process.execPath,
    [join(ROOT, 'bin/kedge.mjs'), 'bundle', 'show', '--data', join(folder, 'ca'), '--output', 'pem'],
    { encoding: 'utf8' },
  );
  if (show.status !== 0) throw new Error(`no bundle: ${show.stderr}`);
  writeFileSync(rootsFile, show.stdout);
  return { ca: { pid: child.pid, port: grpc, rootsFile }, child };
}

/** Resolves when the CA on this HTTP port says that it is ready. */
export async function ready(port: number): Promise<void> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    try {
      if ((await fetch(`http://127.0.0.1:${port}/readyz`)).status === 200) return;
    } catch {
      // It does not listen yet.
    }
    if (performance.now() > deadline) throw new Error('the CA did not become ready');
    await delay(20);
  }
}

async function startEcho(
  folder: string,
  responseBytes: number,
): Promise<{ target: Target; child: JsonChild }> {
  // The echo's chain is like the CA's, so that handshakes weigh the same.
  const { anchor, issuer, svid, svidKey } = await newHierarchy(Date.now() - 60_000);
  const [certFile, keyFile, rootsFile] = [
    join(folder, 'echo.pem'),
    join(folder, 'echo.key'),
    join(folder, 'echo-roots.pem'),
  ];
  writeFileSync(certFile, [svid, issuer].map((der) => encodePem('CERTIFICATE', der)).join(''));
  writeFileSync(rootsFile, encodePem('CERTIFICATE', anchor));
  writeFileSync(keyFile, svidKey.privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  const child = new JsonChild('server', [
    'test/bench/echo-server.ts',
    certFile,
    keyFile,
    String(responseBytes),
  ]);
  const { port } = await child.next<{ port: number }>();
  return { target: { pid: child.pid, port, rootsFile }, child };
}

async function runLoad(
  folder: string,
  workloadFile: string,
  target: Target,
  mode: Mode,
  measureMs: number,
): Promise<LoadFigure> {
  mkdirSync(folder, { recursive: true });
  const jobFile = join(folder, 'job.json');
  writeFileSync(
    jobFile,
    JSON.stringify({
      port: target.port,
      rootsFile: target.rootsFile,
      workloadFile,
      mode,
      connections: 4,
      inFlight: mode === 'kept' ? 64 : 8,
      warmUpMs: measureMs / 4,
      measureMs,
    }),
  );
  const client = new JsonChild('load', ['test/bench/load-client.ts', jobFile]);
  await client.next();
  const before = cpuMicroseconds(target.pid);
  const { count, elapsedMs, responseBytes } = await client.next<{
    count: number;
    elapsedMs: number;
    responseBytes: number;
  }>();
  const after = cpuMicroseconds(target.pid);
  await client.stop();
  if (count === 0) throw new Error(`no answer in ${readFileSync(jobFile, 'utf8')}`);
  return { perSecond: (count * 1_000) / elapsedMs, cpuMicroseconds: (after - before) / count, responseBytes };
}
