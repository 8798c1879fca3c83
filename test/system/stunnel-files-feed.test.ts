/**
 * stunnel from Debian on the files feed, with the configuration of docs/feeds.md: mTLS traffic through at least 20
 * rotations, and no request fails. A signal tells it; it keeps its open connections over a reload. Its socket is handed
 * to it as systemd does, since one of its own it closes and opens again at each reload.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { get } from 'node:https';
import type { AddressInfo } from 'node:net';
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
const stunnel = findPeer('stunnel');
const skip = stunnel === null ? 'no stunnel on this machine: npm run peers gets it from Debian' : false;

describe('stunnel on the files feed', { skip }, () => {
  it(`serves mTLS through ${ROTATIONS} rotations without a failed request`, async (t) => {
    const folder = temporaryFolder(t);
    const backend = createServer((_, response) => response.end('behind stunnel\n'));
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    t.after(() => backend.close());
    const backendPort = (backend.address() as AddressInfo).port;
    const [port, files, ownFolder] = [await freePort(), join(folder, 'web-files'), join(folder, 'stunnel')];
    mkdirSync(ownFolder);
    const [pidFile, log] = [join(ownFolder, 'stunnel.pid'), join(ownFolder, 'stunnel.log')];
    const configuration = documentedConfiguration('stunnel', 'ini', { files, port })
      .replace('/run/kedge/stunnel.pid', pidFile)
      .replace('127.0.0.1:8080', `127.0.0.1:${backendPort}`);
    writeFileSync(join(ownFolder, 'stunnel.conf'), `output = ${log}\ndebug = notice\n${configuration}`);

    const settings =
      'svid: { ttl: 4s, backdate: 1s }\nissuer: { lifetime: 40s, renewAfter: 20s }\nclockSkew: 1s';
    const plane = await IdentityPlane.start(t, folder, settings);
    const web = await plane.agent('web', [
      ...['--files-folder', files, '--files-preset', 'stunnel', '--hook-pid-file', pidFile],
    ]);
    const socket = join(folder, 'client', 'api.sock');
    const client = await plane.agent('client', ['--socket', socket]);
    await until('the files are there', () => existsSync(join(files, 'tls.crt')));
    await until('the socket is there', () => existsSync(socket));
    const server = await RunningPeer.start(t, {
      program: stunnel ?? '',
      args: [join(ownFolder, 'stunnel.conf')],
      env: peerEnvironment('stunnel'),
      listenPort: port,
      isReady: () => existsSync(pidFile) && statSync(pidFile).size > 0,
    });

    const load = await MtlsLoad.start({ target: socketTarget(`unix://${socket}`), port, workers: 4 });
    t.after(() => load.stop());
    await until(
      `${ROTATIONS} rotations of the server`,
      () => load.serverSerials.size > ROTATIONS || load.failures.length > 0,
      240_000,
    );
    await load.stop();

    t.diagnostic(
      `${load.requests} requests, ${load.failures.length} failed, ${load.resent} sent again; ${load.serverSerials.size} server SVIDs`,
    );
    assert.deepEqual(load.failures, []);
    assert.ok(load.requests > (100 * ROTATIONS) / 10, 'hardly any traffic');
    // Without a certificate of its own nobody gets through.
    const ca = readFileSync(join(files, 'ca.crt'));
    const withoutCertificate = get({ host: '127.0.0.1', port, ca, checkServerIdentity: () => undefined });
    await assert.rejects(once(withoutCertificate, 'response'));

    await server.end();
    const errors = readFileSync(log, 'utf8').split('\n');
    assert.deepEqual(
      errors.filter((line) => / LOG[0-3]\[/.test(line) && !/peer did not return a certificate/.test(line)),
      [],
    );
    assert.equal(await web.end(), 0, web.log);
    assert.equal(await client.end(), 0, client.log);
  });
});
