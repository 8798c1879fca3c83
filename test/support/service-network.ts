/**
 * The network behind Services for the API server of a test cluster: it reaches a Service at its ClusterIP through an HTTP
 * CONNECT proxy (KEP-1281, EgressSelectorConfiguration), which leads to a pod of the Service, as kube-proxy would.
 */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** Where a connection to a Service goes: an address to try, or null for one that leads nowhere. */
export type ServiceRoute = (clusterIp: string, port: number) => { host: string; port: number } | null;

/** Listens in `folder` and gives the flags with which kube-apiserver uses it. `route` is asked for each connection. */
export async function serviceNetwork(
  t: Pick<TestContext, 'after'>,
  folder: string,
  route: ServiceRoute,
): Promise<readonly string[]> {
  const socketPath = join(folder, 'egress.sock');
  const configFile = join(folder, 'egress.json');
  const proxy = createServer();
  proxy.on('connect', (request, client) => {
    const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(request.url ?? '') ?? [];
    const target = route(host, Number(port));
    if (target === null) {
      client.end('HTTP/1.1 503 Service Unavailable\r\n\r\n');
      return;
    }
    const upstream = connect(target, () => client.write('HTTP/1.1 200 OK\r\n\r\n'));
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.pipe(to);
      from.on('error', () => to.destroy());
    }
  });
  proxy.listen(socketPath);
  await once(proxy, 'listening');
  t.after(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  writeFileSync(
    configFile,
    JSON.stringify({
      apiVersion: 'apiserver.k8s.io/v1beta1',
      kind: 'EgressSelectorConfiguration',
      egressSelections: [
        {
          name: 'cluster',
          connection: { proxyProtocol: 'HTTPConnect', transport: { uds: { udsName: socketPath } } },
        },
      ],
    }),
  );
  return [`--egress-selector-config-file=${configFile}`];
}
