/**
 * HAProxy from Debian on the files feed, with the configuration of docs/feeds.md: mTLS traffic through at least 20
 * rotations, each a reload of the master by a signal, and no request fails. A worker that is replaced closes its idle
 * kept connections; a request that meets one is sent again on a new one (RFC 9112 section 9.3.1), and counted apart.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { socketTarget } from '../../cli/endpoint-socket.ts';
import { findPeer, peerEnvironment } from '../../scripts/peer-folder.ts';
import { documentedConfiguration } from '../support/feeds-document.ts';
import { freePort, IdentityPlane, until } from '../support/identity-plane.ts';
import { MtlsLoad } from '../support/mtls-load.ts';
import { RunningPeer } from '../support/peer-process.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const ROTATIONS = 20;
const haproxy = findPeer('haproxy');
const skip = haproxy === null ? 'no HAProxy on this machine: npm run peers gets it from Debian' : false;

describe('HAProxy on the files feed', { skip }, () => {
  it(`serves mTLS through ${ROTATIONS} rotations without a failed request`, async (t) => {
    const folder = temporaryFolder(t);
    const [port, files, ownFolder] = [await freePort(), join(folder, 'web-files'), join(folder, 'haproxy')];
    mkdirSync(ownFolder);
    const [pidFile, configFile] = [join(ownFolder, 'haproxy.pid'), join(ownFolder, 'haproxy.cfg')];
    writeFileSync(
      configFile,
      documentedConfiguration('HAProxy', 'haproxy', { files, port }).replace('/run/kedge/', `${ownFolder}/`),
    );
    const settings =
      'svid: { ttl: 4s, backdate: 1s }\nissuer: { lifetime: 40s, renewAfter: 20s }\nclockSkew: 1s';
    const plane = await IdentityPlane.start(t, folder, settings);
    const web = await plane.agent('web', [
      ...['--files-folder', files, '--files-preset', 'haproxy'],
      ...['--hook-pid-file', pidFile, '--hook-signal', 'SIGUSR2'],
    ]);
    const socket = join(folder, 'client', 'api.sock');
    const client = await plane.agent('client', ['--socket', socket]);
    await until('the files are there', () => existsSync(join(files, 'haproxy.pem')));
    await until('the socket is there', () => existsSync(socket));
    const server = await RunningPeer.start(t, {
      program: haproxy ?? '',
      args: ['-W', '-p', pidFile, '-f', configFile],
      env: peerEnvironment('haproxy'),
      isReady: () => existsSync(pidFile) && statSync(pidFile).size > 0,
    });

    const load = await MtlsLoad.start({ target: socketTarget(`unix://${socket}`), port, workers: 4 });
    t.after(() => load.stop());
    await until(
      `${ROTATIONS} rotations on both sides`,
      () =>
        (load.serverSerials.size > ROTATIONS && load.clientSerials.size > ROTATIONS) ||
        load.failures.length > 0,
      240_000,
    );
    await load.stop();

    t.diagnostic(
      `${load.requests} requests, ${load.failures.length} failed, ${load.resent} sent again on a new connection; ` +
        `${load.serverSerials.size} server SVIDs, ${load.clientSerials.size} client SVIDs`,
    );
    assert.deepEqual(load.failures, []);
    assert.ok(load.requests > (100 * ROTATIONS) / 10, 'hardly any traffic');
    await server.end();
    assert.doesNotMatch(server.output, /\[(ALERT|EMERG)\].*(unable|error|cannot)/i);
    assert.equal(await web.end(), 0, web.log);
    assert.equal(await client.end(), 0, client.log);
  });
});
