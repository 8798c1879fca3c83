/**
 * The mTLS proxy beside a workload, as an operator would set it up: nginx on the files feed, HAProxy on its runtime
 * API. `server` takes mTLS and hands on plain HTTP; `client` takes plain HTTP and speaks mTLS to a server.
 */
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { bindOptions, RunningHaproxy, serverOptions, socketPathOf } from './haproxy.ts';
import { nginxErrors, RunningNginx } from './nginx.ts';

/** Which way a sidecar faces, and to whom. Ports are on 127.0.0.1. */
export interface SidecarRole {
  readonly side: 'server' | 'client';
  /** Where it listens. */
  readonly port: number;
  /** Where it sends to: the workload (server), or the peer's sidecar (client). */
  readonly upstreamPort: number;
  /** A DNS name in the peer's SVID, for a proxy that checks names and no URIs. */
  readonly peerName: string;
}

/** A sidecar, made but not started: its agent writes what it starts on. */
export interface Sidecar {
  /** What its agent is started with. */
  readonly agentOptions: readonly string[];
  start(): Promise<void>;
  /** Another process of the same configuration takes over its sockets while it serves; the old one ends. */
  replace(): Promise<void>;
  /** Requests that it has served, by its own log. */
  served(): number;
  /** Lines that its log lacks, by its own count. */
  unlogged(): Promise<number>;
  /** What its own log says that should not be there. */
  complaints(): readonly string[];
}

/** Kinds of sidecar by name. */
export const SIDECARS = { nginx: nginxSidecar, haproxy: haproxySidecar } as const;

function nginxSidecar(t: Pick<TestContext, 'after'>, folder: string, role: SidecarRole): Sidecar {
  const files = join(folder, 'files');
  const nginx = new RunningNginx(t, { folder, http: nginxConfiguration(files, role) });
  return {
    agentOptions: ['--files-folder', files, '--hook', nginx.reloadHook],
    start: () => nginx.start(),
    replace: () => nginx.replace(),
    served: () => nginx.accessLog().length,
    unlogged: () => Promise.resolve(0),
    complaints: () => [
      ...nginxErrors(nginx.errorLog()).filter((line) => !isSentAgain(line)),
      ...nginx.accessLog().filter((line) => !/" 200 /.test(line)),
    ],
  };
}

/**
 * A kept connection to the peer was closed by its reload, and nginx has sent the request again on a new one (RFC 9112
 * section 9.3.1). What became of the request is in the access log.
 */
function isSentAgain(line: string): boolean {
  return line.includes('upstream prematurely closed connection while reading response header');
}

function nginxConfiguration(files: string, role: SidecarRole): string {
  const toUpstream = `proxy_http_version 1.1; proxy_set_header Connection "";`;
  const server =
    role.side === 'server'
      ? `listen 127.0.0.1:${role.port} ssl;
    ssl_certificate ${files}/tls.crt;
    ssl_certificate_key ${files}/tls.key;
    ssl_client_certificate ${files}/ca.crt;
    ssl_verify_client on;
    ssl_verify_depth 3;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / { proxy_pass http://upstream; ${toUpstream} proxy_set_header X-Peer-Serial $ssl_client_serial; }`
      : `listen 127.0.0.1:${role.port};
    proxy_ssl_certificate ${files}/tls.crt;
    proxy_ssl_certificate_key ${files}/tls.key;
    proxy_ssl_trusted_certificate ${files}/ca.crt;
    proxy_ssl_verify on;
    proxy_ssl_verify_depth 3;
    proxy_ssl_name ${role.peerName};
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    proxy_ssl_session_reuse off;
    location / { proxy_pass https://upstream; ${toUpstream} }`;
  return `keepalive_requests 50;
  upstream upstream { server 127.0.0.1:${role.upstreamPort}; keepalive 4; keepalive_requests 25; }
  server {
    ${server}
  }`;
}

function haproxySidecar(t: Pick<TestContext, 'after'>, folder: string, role: SidecarRole): Sidecar {
  const files = join(folder, 'files');
  const { port, upstreamPort } = role;
  const sections =
    role.side === 'server'
      ? `
frontend mtls
  bind 127.0.0.1:${port} ${bindOptions(files)}
  http-request set-header X-Peer-Serial %[ssl_c_serial,hex]
  default_backend workload
backend workload
  server workload 127.0.0.1:${upstreamPort}`
      : `
frontend outbound
  bind 127.0.0.1:${port}
  default_backend peer
backend peer
  retry-on conn-failure empty-response
  retries 3
  # Connections are used again, and not for ever: handshakes go on all the time.
  http-reuse safe
  server peer 127.0.0.1:${upstreamPort} ${serverOptions(files)} verifyhost ${role.peerName} max-reuse 25 no-ssl-reuse`;
  let haproxy: RunningHaproxy | null = null;
  return {
    agentOptions: [
      ...['--haproxy-sockets', socketPathOf(folder), '--haproxy-folder', files],
      ...(role.side === 'client' ? ['--haproxy-server-lines-only'] : []),
    ],
    async start() {
      haproxy = await RunningHaproxy.start(t, { folder, sections });
    },
    async replace() {
      await haproxy?.replace();
    },
    served: () => requestLines(haproxy).length,
    unlogged: async () => (await haproxy?.droppedLogLines()) ?? 0,
    complaints: () => [
      ...requestLines(haproxy).filter((line) => !/ 200 /.test(line)),
      ...lines(haproxy).filter((line) => /SSL handshake failure|\[ALERT\]/.test(line)),
    ],
  };
}

function lines(haproxy: RunningHaproxy | null): string[] {
  return haproxy?.log.split('\n').filter(Boolean) ?? [];
}

/** Lines of `option httplog`: they end in the request line. */
function requestLines(haproxy: RunningHaproxy | null): string[] {
  return lines(haproxy).filter((line) => line.includes('"GET / HTTP/1.1"'));
}
