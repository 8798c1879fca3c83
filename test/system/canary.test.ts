/**
 * The canary of an agent against the real proxy that reads its files: nginx and HAProxy from Debian. A proxy that is
 * reloaded is proven; one that is not is found out, by the exit code of `kedge agent status` too.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { findPeer, peerEnvironment } from '../../scripts/peer-folder.ts';
import { freePort, IdentityPlane, until } from '../support/identity-plane.ts';
import { runKedge } from '../support/kedge-process.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

interface Proxy {
  readonly name: string;
  readonly preset: string;
  /** Writes its configuration; gives the arguments to run it with. */
  configure(folder: string, files: string, port: number): readonly string[];
}

const NGINX: Proxy = {
  name: 'nginx',
  preset: 'nginx',
  configure(folder, files, port) {
    const file = join(folder, 'nginx.conf');
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((kind) => `${kind}_temp_path ${folder}/${kind};`)
      .join(' ');
    writeFileSync(
      file,
      `daemon off; pid ${folder}/proxy.pid; error_log ${folder}/error.log;
events { worker_connections 64; }
http { access_log off; ${temporary}
  server { listen 127.0.0.1:${port} ssl; ssl_certificate ${files}/tls.crt; ssl_certificate_key ${files}/tls.key;
    ssl_client_certificate ${files}/ca.crt; ssl_verify_client on; ssl_verify_depth 3;
    location / { return 200 ""; } } }
`,
    );
    return ['-p', folder, '-c', file];
  },
};

const HAPROXY: Proxy = {
  name: 'haproxy',
  preset: 'haproxy',
  configure(folder, files, port) {
    const file = join(folder, 'haproxy.cfg');
    writeFileSync(
      file,
      `defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend web
  bind 127.0.0.1:${port} ssl crt ${files}/haproxy.pem ca-file ${files}/ca.crt verify required
  http-request return status 200
`,
    );
    return ['-f', file, '-db'];
  },
};

function run(t: TestContext, proxy: Proxy, program: string, argv: readonly string[]): () => Promise<void> {
  const child: ChildProcess = spawn(program, argv, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...peerEnvironment(proxy.name) },
  });
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  };
  t.after(stop);
  return stop;
}

for (const proxy of [NGINX, HAPROXY]) {
  const program = findPeer(proxy.name);
  const skip =
    program === null ? `no ${proxy.name} on this machine: npm run peers gets it from Debian` : false;
  describe(`the canary of an agent with ${proxy.name}`, { skip }, () => {
    it('proves the proxy, finds out one that was not reloaded, and proves it again after a restart', async (t) => {
      const folder = temporaryFolder(t);
      const [own, port] = [join(folder, 'proxy'), await freePort()];
      mkdirSync(own);
      const plane = await IdentityPlane.start(t, folder, 'svid: { ttl: 20s, backdate: 1s }\nclockSkew: 1s');
      const [files, socket] = [join(folder, 'web-files'), join(folder, 'web', 'api.sock')];
      const agent = await plane.agent('web', [
        ...['--files-folder', files, '--files-preset', proxy.preset, '--socket', socket],
        ...['--canary-address', `127.0.0.1:${port}`, '--canary-interval', '1s'],
      ]);
      await until(`the files are there: ${agent.log}`, () => existsSync(join(files, 'ca.crt')));
      const argv = proxy.configure(own, files, port);
      const stop = run(t, proxy, program ?? '', argv);
      const verdicts = (): unknown[] => agent.events('canary.finished').map(({ verdict }) => verdict);
      const status = () => runKedge(['agent', 'status', '--socket', socket]);

      await until(`it is proven: ${agent.log}`, () => verdicts().includes('proven'));
      const proven = agent.events('canary.finished').find(({ verdict }) => verdict === 'proven');
      assert.deepEqual([proven?.['answer'], proven?.['authorities']], ['http_served', 'current']);
      const good = await status();
      assert.equal(good.code, 0, good.stdout + good.stderr);
      assert.match(good.stdout, /canary +proven .* the proxy uses the newest SVID and bundle/);

      // Nobody reloads it: the next SVID is in the files, and the proxy goes on with the one before.
      await until('it is outdated', () => verdicts().at(-1) === 'outdated');
      const stale = await status();
      assert.equal(stale.code, 1);
      assert.match(stale.stdout, /^! canary: the proxy presents an older SVID$/m);

      await stop();
      run(t, proxy, program ?? '', argv);
      await until('it is proven again', () => verdicts().at(-1) === 'proven');
      assert.equal(await agent.end(), 0, agent.log);
    });
  });
}
