import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Bounds how many connections an HTTP or HTTPS server has, and turns no newcomer away: over `max`, the one goes that has
 * been without the head of a request for longest.
 *
 * Node's own `maxConnections` drops who comes last. Whoever reaches the port could then keep everybody else from it with
 * connections that cost nothing: from the kubelet's probes, and the process is killed; or from the API server's calls.
 * Who is served at once, as they are, is never the oldest here, unless `max` others come in that moment.
 */
export function boundConnections(server: Server, max: number): void {
  /** By peer, so that a TLS connection and the TCP connection below it are one. Least recently used first. */
  const sockets = new Map<string, Socket>();
  server.on('connection', (socket: Socket) => {
    const peer = peerOf(socket);
    sockets.set(peer, socket);
    socket.once('close', () => {
      if (sockets.get(peer) === socket) sockets.delete(peer);
    });
    const [oldest] = sockets.values();
    if (sockets.size > max) oldest?.destroy();
  });
  server.on('request', ({ socket }) => {
    const peer = peerOf(socket);
    const known = sockets.get(peer);
    if (known === undefined) return;
    sockets.delete(peer);
    sockets.set(peer, known);
  });
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
