/**
 * The load: `node load-client.ts <job.json>`; prints what `load-rounds.ts` says, with `responseBytes`.
 *
 * The same client drives the CA and the echo, with the same requests. `kept`: calls over a few kept connections,
 * many in flight. `new`: each call on a TLS connection of its own, closed afterwards.
 */
import { readFileSync } from 'node:fs';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { IssueX509SvidRequest } from '../../proto/gen/kedge/v1/identity.ts';
import { loadRounds, type LoadTimes } from './load-rounds.ts';
import { readWorkload } from './workload-file.ts';

interface Job extends LoadTimes {
  readonly port: number;
  readonly rootsFile: string;
  readonly workloadFile: string;
  readonly mode: 'kept' | 'new';
  readonly connections: number;
}

const job = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Job;
const workload = readWorkload(job.workloadFile);
const requests = workload.csrs.map((csr) =>
  Buffer.from(IssueX509SvidRequest.encode({ csr, ttlSeconds: 0, dnsNames: [] }).finish()),
);
const metadata = workload.tokens.map((token) => {
  const values = new Metadata();
  values.set('authorization', `Bearer ${token}`);
  return values;
});
const channelCredentials = credentials.createSsl(readFileSync(job.rootsFile), null, null, {
  // The load measures the server; agents check the CA's SPIFFE ID in their own tests.
  checkServerIdentity: () => undefined,
});
const bytes = (b: Buffer): Buffer => b;
const connect = (): Client =>
  new Client(`ipv4:127.0.0.1:${job.port}`, channelCredentials, {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.ssl_target_name_override': 'kedge-ca',
    'grpc.default_authority': 'kedge-ca',
    'grpc.max_receive_message_length': 1 << 20,
  });

let sent = 0;
let responseBytes = 0;
const call = (client: Client): Promise<void> =>
  new Promise((resolve, reject) => {
    const index = sent++;
    const request = requests[index % requests.length] ?? Buffer.alloc(0);
    const headers = metadata[index % metadata.length] ?? new Metadata();
    client.makeUnaryRequest(
      '/kedge.v1.Identity/IssueX509Svid',
      bytes,
      bytes,
      request,
      headers,
      (error, response) => {
        if (error !== null) return reject(error);
        responseBytes = response?.length ?? 0;
        resolve();
      },
    );
  });
const callOnce = async (): Promise<void> => {
  const client = connect();
  try {
    await call(client);
  } finally {
    client.close();
  }
};

const kept = job.mode === 'kept' ? Array.from({ length: job.connections }, connect) : [];
await loadRounds(
  job,
  (worker) => {
    const client = kept[worker % kept.length];
    return client === undefined ? callOnce() : call(client);
  },
  () => ({ responseBytes }),
);
