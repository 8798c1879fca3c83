/**
 * The demo's workload `echo`: answers each line with the same line.
 *
 * `node demo/echo-server.ts <SPIFFE ID of the client>` speaks mTLS itself, to that SPIFFE ID only;
 * `node demo/echo-server.ts <path>` speaks plain text to its proxy on that Unix socket. With SPIFFE_ENDPOINT_SOCKET set.
 */
import { type AddressInfo, createServer as createPlainServer, type Server, type Socket } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { SpiffeId } from '../pki/spiffe-id.ts';
import { tellDemo } from './message.ts';
import { followIdentity } from './workload-identity.ts';
import { secureContextOptions, verifyClient } from './workload-tls.ts';

const MAX_LINE_BYTES = 1024;

const [peer = ''] = process.argv.slice(2);
const open = new Set<Socket>();
const server = peer.startsWith('/') ? await servePlain(peer) : await serveMtls(SpiffeId.parse(peer));
server.on('error', (error) => {
  console.error(error);
  process.exit(1);
});

async function servePlain(path: string): Promise<Server> {
  await followIdentity(() => {});
  return createPlainServer(echo).listen({ path }, () => tellDemo({ kind: 'listening', port: 0 }));
}

async function serveMtls(clientId: SpiffeId): Promise<Server> {
  // New connections get the new SVID; those that exist go on as they are.
  const identity = await followIdentity((next) => tls.setSecureContext(secureContextOptions(next)));
  const tls = createServer(
    { ...secureContextOptions(identity.current()), requestCert: true, rejectUnauthorized: true },
    (socket) => serve(socket, clientId),
  );
  tls.on('tlsClientError', (error) => tellDemo({ kind: 'failure', reason: `handshake: ${error.message}` }));
  return tls.listen(0, '127.0.0.1', () => {
    tellDemo({ kind: 'listening', port: (tls.address() as AddressInfo).port });
  });
}

function serve(socket: TLSSocket, clientId: SpiffeId): void {
  try {
    verifyClient(socket.getPeerCertificate(), clientId);
  } catch (error) {
    tellDemo({ kind: 'failure', reason: `refused a client: ${String(error)}` });
    socket.destroy();
    return;
  }
  echo(socket);
}

function echo(socket: Socket): void {
  open.add(socket);
  socket.on('close', () => open.delete(socket));
  socket.on('error', () => socket.destroy());
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
