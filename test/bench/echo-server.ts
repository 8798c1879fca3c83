/**
 * The yardstick of the end-to-end figures: a bare grpc-js server over TLS that answers IssueX509Svid's path with
 * a fixed message of the size of a real answer: `node echo-server.ts <cert.pem> <key.pem> <response bytes>`.
 */
import { readFileSync } from 'node:fs';
import { Server, ServerCredentials, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';

const [certFile = '', keyFile = '', size = '0'] = process.argv.slice(2);
const bytes = (b: Buffer): Buffer => b;
const response = Buffer.alloc(Number(size), 0x5a);

const server = new Server();
server.addService(
  {
    issueX509Svid: {
      path: '/kedge.v1.Identity/IssueX509Svid',
      requestStream: false,
      responseStream: false,
      requestSerialize: bytes,
      requestDeserialize: bytes,
      responseSerialize: bytes,
      responseDeserialize: bytes,
    },
  },
  {
    issueX509Svid: (_call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
      done(null, response);
    },
  },
);
const credentials = ServerCredentials.createSsl(null, [
  { cert_chain: readFileSync(certFile), private_key: readFileSync(keyFile) },
]);
server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
  if (error !== null) throw error;
  console.log(JSON.stringify({ port }));
});
process.on('SIGTERM', () => process.exit(0));
