/**
 * The conformance suite of feeds on a real HAProxy: what the feed must do is looked at from the port that HAProxy serves.
 *
 * Before 3.0, HAProxy must be reloaded for other trust anchors (docs/feeds.md). So whoever publishes here does what the
 * agent and its operator do then: HAProxy is restarted, and the publication tried again.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, describe } from 'node:test';
import type { Feed } from '../../agent/feed/feed.ts';
import { HAPROXY_FILE_NAMES, HaproxyFeed } from '../../agent/feed/haproxy-feed.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { feedConformance } from '../conformance/feed.ts';
import { bindOptions, haproxySkip, RunningHaproxy, socketPathOf } from '../support/haproxy.ts';
import { freePort } from '../support/identity-plane.ts';
import { suiteFolder } from '../support/suite-folder.ts';

/** The feed, with an operator who restarts HAProxy when the feed asks for it. */
function operated(feed: HaproxyFeed, haproxy: RunningHaproxy): Feed {
  return {
    name: feed.name,
    publish: async (snapshot, signal) => {
      try {
        await feed.publish(snapshot, signal);
      } catch (error) {
        if (!isKedgeError(error, 'haproxy_reload_needed')) throw error;
        await haproxy.restart();
        await feed.publish(snapshot, signal);
      }
    },
    withdraw: (signal) => feed.withdraw(signal),
    consumers: () => feed.consumers(),
    close: () => feed.close(),
  };
}

interface Presented {
  readonly certificate: X509Certificate;
  /** By the trust anchors that stand in the files. */
  readonly isTrusted: boolean;
}

/** What HAProxy presents. Who asks has no certificate, and learns that only later. */
async function presented(port: number, authorities: string): Promise<Presented> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    ca: readFileSync(authorities),
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  const certificate = socket.getPeerX509Certificate();
  socket.destroy();
  if (certificate === undefined) throw new Error('HAProxy presents no certificate');
  return { certificate, isTrusted: socket.authorized };
}

describe('HAProxy', { skip: haproxySkip }, () => {
  const folder = suiteFolder();
  const undo: (() => unknown)[] = [];
  after(async () => {
    for (const one of undo.toReversed()) await one();
  });
  let count = 0;

  feedConformance('HAProxy', async () => {
    count += 1;
    const [files, home, port] = [join(folder, `f${count}`), join(folder, `h${count}`), await freePort()];
    const feed = await HaproxyFeed.open({
      folder: files,
      keyMode: 0o600,
      addresses: [{ path: socketPathOf(home) }],
      crls: false,
      serverLinesOnly: false,
      timeoutMs: 5_000,
      maxCommandBytes: 16_384,
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      onConsumersChange: () => {},
    });
    const haproxy = await RunningHaproxy.start(
      { after: (stop) => void undo.push(stop as () => unknown) },
      {
        folder: home,
        sections: `frontend in\n  bind 127.0.0.1:${port} ${bindOptions(files)}\n  http-request return status 200\n`,
      },
    );
    const authorities = join(files, HAPROXY_FILE_NAMES.authorities);
    return {
      feed: operated(feed, haproxy),
      close: () => haproxy.stop('SIGKILL'),
      async servedSerial() {
        const { certificate } = await presented(port, authorities);
        // The placeholder is nobody's identity.
        const isSvid = certificate.subjectAltName?.includes('URI:spiffe://') ?? false;
        return isSvid ? certificate.serialNumber.toLowerCase() : null;
      },
      async isConsistent() {
        // A handshake that was finished is one with the key of the certificate.
        return (await presented(port, authorities)).isTrusted;
      },
    };
  });
});
