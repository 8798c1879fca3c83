/** A workload of a test cluster behind HAProxy: its pod, as a developer would write it. */
import { bindOptions, serverOptions } from './haproxy.ts';
import type { KubernetesObject } from './kubernetes-api.ts';

const FOLDER = '/var/run/kedge/haproxy';
const SOCKET = `${FOLDER}/admin.sock`;

/** What {@link haproxyPod} takes. */
export interface HaproxyPodOptions {
  readonly name: string;
  readonly serviceAccount: string;
  readonly side: 'server' | 'client';
  /** Where HAProxy takes mTLS, at the pod's address. */
  readonly port: number;
  /** Where it takes plain HTTP of its own workload (client). */
  readonly outboundPort?: number;
  /** Where it sends to, `host:port`: the workload itself (server), or the peer's HAProxy (client). */
  readonly upstream: string;
  /** The DNS name in the peer's SVID. */
  readonly peerName: string;
}

/** The pod, and the ConfigMap with HAProxy's configuration, of the same name. */
export function haproxyPod(options: HaproxyPodOptions): {
  readonly pod: KubernetesObject;
  readonly configMap: KubernetesObject;
} {
  const { name, serviceAccount, port } = options;
  return {
    configMap: { metadata: { name }, data: { 'haproxy.cfg': configuration(options) } },
    pod: {
      metadata: { name, labels: { app: name }, annotations: { 'kedge.io/haproxy-sockets': SOCKET } },
      spec: {
        serviceAccountName: serviceAccount,
        volumes: [{ name: 'configuration', configMap: { name } }],
        containers: [
          {
            name: 'proxy',
            image: 'haproxy',
            ports: [{ name: 'mesh', containerPort: port }],
            volumeMounts: [{ name: 'configuration', mountPath: '/etc/haproxy', readOnly: true }],
          },
        ],
      },
    },
  };
}

function configuration({ side, port, outboundPort, upstream, peerName }: HaproxyPodOptions): string {
  const backend = side === 'server' ? 'workload' : 'nobody';
  // Both sides take mTLS: the certificate of a `bind` line is what HAProxy 2.6 must have loaded.
  const inbound = `
frontend mtls
  bind 0.0.0.0:${port} ${bindOptions(FOLDER)}
  http-request set-header X-Peer-Serial %[ssl_c_serial,hex]
  default_backend ${backend}`;
  const sections =
    side === 'server'
      ? `
backend workload
  server workload ${upstream}`
      : `
backend nobody
  http-request return status 404
frontend outbound
  bind 0.0.0.0:${outboundPort ?? 0}
  default_backend peer
backend peer
  retry-on conn-failure empty-response
  retries 3
  # Connections are used again, and not for ever: handshakes go on all the time.
  http-reuse safe
  server peer ${upstream} ${serverOptions(FOLDER)} verifyhost ${peerName} max-reuse 25 no-ssl-reuse`;
  return `
global
  stats socket ${SOCKET} mode 600 level admin
  tune.ssl.cachesize 0
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 60s
  timeout server 60s
${inbound}${sections}
`;
}
