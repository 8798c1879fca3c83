/**
 * The demo's workload `echo`: answers each line with the same line, over mTLS, to one SPIFFE ID only.
 *
 * `node demo/echo-server.ts <SPIFFE ID of the client>`, with SPIFFE_ENDPOINT_SOCKET set.
 */
import type { AddressInfo } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { SpiffeId } from '../pki/spiffe-id.ts';
import { tellDemo } from './message.ts';
import { followIdentity } from './workload-identity.ts';
import { secureContextOptions, verifyClient } from './workload-tls.ts';

const MAX_LINE_BYTES = 1024;

const clientId = SpiffeId.parse(process.argv[2] ?? '');
const open = new Set<TLSSocket>();

// New connections get the new SVID; those that exist go on as they are.
const identity = await followIdentity((next) => server.setSecureContext(secureContextOptions(next)));
const server = createServer(
  { ...secureContextOptions(identity.current()), requestCert: true, rejectUnauthorized: true },
  serve,
);
server.on('tlsClientError', (error) => tellDemo({ kind: 'failure', reason: `handshake: ${error.message}` }));
server.listen(0, '127.0.0.1', () => {
  tellDemo({ kind: 'listening', port: (server.address() as AddressInfo).port });
});

function serve(socket: TLSSocket): void {
  open.add(socket);
  socket.on('close', () => open.delete(socket));
  socket.on('error', () => socket.destroy());
  try {
    verifyClient(socket.getPeerCertificate(), clientId);
  } catch (error) {
    tellDemo({ kind: 'failure', reason: `refused a client: ${String(error)}` });
    socket.destroy();
    return;
  }
  let pending = '';
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    pending += text;
    const end = pending.lastIndexOf('\n') + 1;
    if (end > 0) socket.write(pending.slice(0, end));
    pending = pending.slice(end);
    if (pending.length > MAX_LINE_BYTES) socket.destroy();
  });
  socket.on('end', () => socket.end());
}

for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => {
    for (const socket of open) socket.destroy();
    process.exit(0);
  });
}
