/**
 * The load of many agents on a CA: `node lean-client.ts <job.json>`; prints what `load-rounds.ts` says.
 *
 * Like the mode `kept` of `load-client.ts`, but gRPC over HTTP/2 by hand, at a third of the CPU: for measurements in
 * which the load shares its core with what is measured.
 */
import { readFileSync } from 'node:fs';
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2';
import { IssueX509SvidRequest } from '../../proto/gen/kedge/v1/identity.ts';
import { loadRounds, type LoadTimes } from './load-rounds.ts';
import { readWorkload } from './workload-file.ts';

interface Job extends LoadTimes {
  readonly port: number;
  readonly rootsFile: string;
  readonly workloadFile: string;
  readonly connections: number;
}

const job = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Job;
const workload = readWorkload(job.workloadFile);
const requests = workload.csrs.map((csr) =>
  framed(IssueX509SvidRequest.encode({ csr, ttlSeconds: 0, dnsNames: [] }).finish()),
);
const authorizations = workload.tokens.map((token) => `Bearer ${token}`);
const ca = readFileSync(job.rootsFile);
const sessions = Array.from({ length: job.connections }, () =>
  // The load measures the server; agents check the CA's SPIFFE ID in their own tests.
  connect(`https://127.0.0.1:${job.port}`, { ca, checkServerIdentity: () => undefined }),
);

let sent = 0;
await loadRounds(job, async (worker) => {
  const session = sessions[worker % sessions.length];
  if (session === undefined) throw new TypeError('there is no connection');
  const index = sent++;
  await issue(
    session,
    authorizations[index % authorizations.length] ?? '',
    requests[index % requests.length] ?? Buffer.alloc(0),
  );
});

/** A message of gRPC: not compressed, its length, itself. */
function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

function issue(session: ClientHttp2Session, authorization: string, request: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    let status: string | undefined;
    let octets = 0;
    const note = (headers: IncomingHttpHeaders): void => {
      const value = headers['grpc-status'];
      if (typeof value === 'string') status = value;
    };
    const stream = session.request({
      ':method': 'POST',
      ':path': '/kedge.v1.Identity/IssueX509Svid',
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization,
    });
    stream.once('response', note);
    stream.once('trailers', note);
    stream.on('data', (chunk: Buffer) => (octets += chunk.length));
    stream.once('error', reject);
    stream.once('close', () => {
      if (status === '0' && octets > 0) resolve();
      else reject(new Error(`no SVID: status ${status}, ${octets} bytes`));
    });
    stream.end(request);
  });
}
