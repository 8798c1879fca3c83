import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { findPeer, peerEnvironment } from '../../../scripts/peer-folder.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

/** A machine with nothing on PATH and an empty peer folder; gives that folder. */
function bareMachine(t: TestContext): string {
  const { PATH, XDG_CACHE_HOME } = process.env;
  t.after(() => {
    process.env['PATH'] = PATH;
    if (XDG_CACHE_HOME === undefined) delete process.env['XDG_CACHE_HOME'];
    else process.env['XDG_CACHE_HOME'] = XDG_CACHE_HOME;
  });
  const cache = temporaryFolder(t);
  process.env['PATH'] = '';
  process.env['XDG_CACHE_HOME'] = cache;
  return join(cache, 'kedge', 'peers');
}

describe('the peers of the system tests', () => {
  it('are null where the machine has none, and where nobody knows the name', (t) => {
    bareMachine(t);
    assert.equal(findPeer('haproxy'), null);
    assert.equal(findPeer('no-such-peer'), null);
    assert.deepEqual(peerEnvironment('haproxy'), {});
  });

  it('are found where they were unpacked, with the libraries that came with them', (t) => {
    const peers = bareMachine(t);
    const [program, libraries] = [
      join(peers, 'haproxy/usr/sbin'),
      join(peers, 'liblua5.3-0/usr/lib/x86_64-linux-gnu'),
    ];
    for (const folder of [program, libraries]) mkdirSync(folder, { recursive: true });
    writeFileSync(join(program, 'haproxy'), '', { mode: 0o644 });
    assert.equal(findPeer('haproxy'), null, 'a file that is no program');
    writeFileSync(join(peers, 'haproxy/usr/sbin/other'), '', { mode: 0o755 });
    assert.equal(findPeer('haproxy'), null);
    mkdirSync(join(peers, 'nginx/usr/sbin'), { recursive: true });
    writeFileSync(join(peers, 'nginx/usr/sbin/nginx'), '', { mode: 0o755 });
    assert.equal(findPeer('nginx'), join(peers, 'nginx/usr/sbin/nginx'));
    assert.deepEqual(peerEnvironment('haproxy'), { LD_LIBRARY_PATH: libraries });
  });
});
