/** The node that runs the pods of the cluster tests does what they rest on. */
import assert from 'node:assert/strict';
import { readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type ContainerImage, librariesOf } from '../support/container-image.ts';
import { containerSkip } from '../support/container-process.ts';
import { until } from '../support/identity-plane.ts';
import { clusterSkip, KubernetesCluster } from '../support/kubernetes-cluster.ts';
import { PodNode } from '../support/pod-node.ts';

const skip = clusterSkip === false ? containerSkip : clusterSkip;

/** Node alone. */
const nodeImage: ContainerImage = {
  entrypoint: ['/node'],
  files: new Map([['/node', realpathSync(process.execPath)], ...librariesOf(realpathSync(process.execPath))]),
  env: {},
};

/** Says what it sees from inside, then serves HTTP. */
const PROGRAM = `
const fs = require('node:fs');
const attempt = (path) => { try { fs.writeFileSync(path, 'x'); return 'written'; } catch (error) { return error.code; } };
console.log(JSON.stringify({
  event: 'inside',
  user: process.getuid(),
  hostname: require('node:os').hostname(),
  token: fs.readFileSync('/identity/token', 'utf8').split('.').length,
  bundle: fs.readFileSync('/identity/trust-bundle', 'utf8'),
  environment: Object.keys(process.env).sort().join(),
  greeting: process.env.GREETING,
  image: attempt('/node'), root: attempt('/x'), identity: attempt('/identity/x'), data: attempt('/data/x'),
  etc: fs.readdirSync('/etc').sort().join(), argument: process.argv[1],
}));
require('node:http').createServer((_, response) => response.end('ok')).listen(8080, process.argv[1]);
`;

describe('a node for tests', { skip }, () => {
  it('runs a pod as its spec says, and nothing of the machine is in it', async (t) => {
    const cluster = await KubernetesCluster.start(t, { controllers: false });
    await cluster.createNamespace('node');
    const maps = '/api/v1/namespaces/node/configmaps';
    await cluster.admin.create(maps, { metadata: { name: 'bundle' }, data: { 'bundle.pem': 'anchors' } });
    const pod = await cluster.admin.create('/api/v1/namespaces/node/pods', {
      metadata: { name: 'web-0' },
      spec: {
        serviceAccountName: 'default',
        volumes: [
          {
            name: 'identity',
            projected: {
              sources: [
                { serviceAccountToken: { audience: 'kedge', expirationSeconds: 3600, path: 'token' } },
                { configMap: { name: 'bundle', items: [{ key: 'bundle.pem', path: 'trust-bundle' }] } },
              ],
            },
          },
          { name: 'data', emptyDir: {} },
        ],
        containers: [
          {
            name: 'app',
            image: 'node',
            args: ['-e', PROGRAM, '0.0.0.0'],
            env: [{ name: 'GREETING', value: 'hello' }],
            ports: [{ name: 'http', containerPort: 8080 }],
            startupProbe: { httpGet: { path: '/', port: 'http' } },
            securityContext: { runAsUser: 4711, runAsGroup: 4712 },
            volumeMounts: [
              { name: 'identity', mountPath: '/identity', readOnly: true },
              { name: 'data', mountPath: '/data' },
            ],
          },
        ],
      },
    });
    const node = new PodNode(t, { cluster, images: new Map([['node', nodeImage]]) });
    node.publish('other.node.svc', []);
    const running = await node.run(pod);
    const [{ time: _, ...inside } = {}] = running.container('app').events('inside');
    assert.deepEqual(inside, {
      event: 'inside',
      user: 4711,
      hostname: 'web-0',
      token: 3,
      bundle: 'anchors',
      environment: 'GREETING,HOSTNAME,KUBERNETES_SERVICE_HOST,KUBERNETES_SERVICE_PORT,PWD',
      greeting: 'hello',
      image: 'EROFS',
      root: 'EROFS',
      identity: 'EROFS',
      data: 'written',
      etc: 'hosts',
      argument: running.ip,
    });
    assert.equal(readFileSync(join(running.volume('data'), 'x'), 'utf8'), 'x');
    const status = (await cluster.admin.get('/api/v1/namespaces/node/pods/web-0'))['status'];
    assert.equal((status as { readonly phase?: string }).phase, 'Running');

    await running.container('app').kill();
    await assert.rejects(fetch(`http://${running.ip}:8080/`), 'the container is gone with its first process');
    await running.startContainer('app');
    assert.equal(await (await fetch(`http://${running.ip}:8080/`)).text(), 'ok');
    await running.delete();
    await until('the pod is gone', async () => {
      return (await cluster.admin.request('GET', '/api/v1/namespaces/node/pods/web-0')).status === 404;
    });
  });
});
