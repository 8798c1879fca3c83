/**
 * nginx from Debian on the files feed: mTLS traffic through at least 20 rotations, and no request fails.
 *
 * The agent of `web` writes nginx's certificate and reloads it by a hook; the agent of `client` serves the Workload
 * API to the load client, which mixes kept and new connections. A reload closes idle kept connections; a request
 * that meets one is sent again on a new one, as RFC 9112 section 9.3.1 has every client do, and counted apart.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { socketTarget } from '../../cli/endpoint-socket.ts';
import { documentedConfiguration } from '../support/feeds-document.ts';
import { freePort, IdentityPlane, until } from '../support/identity-plane.ts';
import { MtlsLoad } from '../support/mtls-load.ts';
import { nginxErrors, nginxSkip, RunningNginx } from '../support/nginx.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const ROTATIONS = 20;

/** Runs `openssl verify` on the chain that the files feed has written; gives the serial of its leaf. */
function verifyByOpenssl(files: string): string {
  const [leaf, chain, roots] = [join(files, 'tls.crt'), join(files, 'tls.crt'), join(files, 'ca.crt')];
  const verdict = spawnSync(
    'openssl',
    ['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', roots, '-untrusted', chain, leaf],
    { encoding: 'utf8' },
  );
  assert.equal(verdict.status, 0, `OpenSSL refuses the chain: ${verdict.stdout}${verdict.stderr}`);
  return spawnSync('openssl', ['x509', '-in', leaf, '-noout', '-serial'], { encoding: 'utf8' }).stdout.trim();
}

describe('nginx on the files feed', { skip: nginxSkip }, () => {
  it(`serves mTLS through ${ROTATIONS} rotations without a failed request`, async (t) => {
    const folder = temporaryFolder(t);
    const port = await freePort();
    const settings =
      'svid: { ttl: 4s, backdate: 1s }\nissuer: { lifetime: 40s, renewAfter: 20s }\nclockSkew: 1s';
    const plane = await IdentityPlane.start(t, folder, settings);

    const files = join(folder, 'web-files');
    const nginx = new RunningNginx(t, {
      folder: join(folder, 'nginx'),
      http: `keepalive_requests 1000000;\n${documentedConfiguration('nginx', 'nginx', { files, port })}`,
    });
    const web = await plane.agent('web', [
      ...['--files-folder', files, '--files-preset', 'nginx', '--hook', nginx.reloadHook],
    ]);
    const socket = join(folder, 'client', 'api.sock');
    const client = await plane.agent('client', ['--socket', socket]);
    await until('the files are there', () => existsSync(join(files, 'tls.crt')));
    await until('the socket is there', () => existsSync(socket));
    await nginx.start();

    const load = await MtlsLoad.start({ target: socketTarget(`unix://${socket}`), port, workers: 4 });
    t.after(() => load.stop());
    const opensslSerials = new Set<string>();
    await until(
      `${ROTATIONS} rotations on both sides`,
      async () => {
        opensslSerials.add(verifyByOpenssl(files));
        await delay(200);
        return load.serverSerials.size > ROTATIONS && load.clientSerials.size > ROTATIONS;
      },
      240_000,
    );
    await load.stop();

    t.diagnostic(
      `${load.requests} requests, ${load.failures.length} failed, ${load.resent} sent again on a new connection; ` +
        `${load.serverSerials.size} server SVIDs, ${load.clientSerials.size} client SVIDs, ${opensslSerials.size} chains verified by OpenSSL`,
    );
    assert.deepEqual(load.failures, []);
    assert.ok(load.requests > (100 * ROTATIONS) / 10, 'hardly any traffic');
    assert.ok(opensslSerials.size >= ROTATIONS, 'OpenSSL saw fewer chains than there were rotations');

    const served = nginx.accessLog();
    assert.deepEqual(
      served.filter((line) => !/" 200 /.test(line)),
      [],
    );
    assert.equal(served.length, load.requests, 'nginx and the client count differently');
    assert.deepEqual(nginxErrors(nginx.errorLog()), []);

    await nginx.stop();
    assert.equal(await web.end(), 0, web.log);
    assert.equal(await client.end(), 0, client.log);
    assert.equal(await plane.ca.end(), 0, plane.ca.log);
    assert.ok(readdirSync(files).includes('tls.crt'), 'files stay for the proxy when the agent ends');
  });
});
