import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { configOf } from '../../../ca/config.ts';
import { type RunningCa, startCa } from '../../../ca/main.ts';
import { systemClock } from '../../../host/clock.ts';
import { systemRandom } from '../../../host/random.ts';
import { RecordingLog } from '../../support/authority-replica.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const ANY_PORT = { host: '127.0.0.1', port: 0 };

/** A CA with a webhook, and a cluster whose API server knows nothing and answers 404. */
async function caWithWebhook(t: TestContext): Promise<{ ca: RunningCa; log: RecordingLog }> {
  const folder = temporaryFolder(t);
  const server = createServer((_request, response) => response.writeHead(404).end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const kubeconfig = join(folder, 'kubeconfig');
  const named = { name: 'c', cluster: { server: `http://127.0.0.1:${address.port}` } };
  const context = { name: 'c', context: { cluster: 'c' } };
  writeFileSync(
    kubeconfig,
    JSON.stringify({ 'current-context': 'c', contexts: [context], clusters: [named] }),
  );
  const log = new RecordingLog();
  const settings = {
    dataFolder: folder,
    listen: { grpc: ANY_PORT, http: ANY_PORT },
    webhook: { address: ANY_PORT },
    kubernetes: { kubeconfig },
    drain: { timeout: 0 },
  };
  const ca = await startCa({
    config: configOf(settings, folder),
    clock: systemClock,
    random: systemRandom,
    log,
  });
  t.after(() => ca.close());
  return { ca, log };
}

describe('startCa with a webhook', () => {
  it('listens for the API server before agents can be told that it is ready', async (t) => {
    const { log, ca } = await caWithWebhook(t);
    assert.deepEqual(
      log.of('serving_certificate.renewed').map(({ spiffeId }) => spiffeId),
      ['spiffe://example.org/kedge/webhook', 'spiffe://example.org/kedge/ca'],
    );
    assert.ok(ca.webhookAddress !== null);
  });

  it('counts what the webhook asks of the API server with everything else', async (t) => {
    const { ca } = await caWithWebhook(t);
    const asked = /^kedge_kubernetes_requests_total\{verb="list",code="kubernetes_not_found"\} [1-9]/m;
    // The webhook looks for its configuration as soon as it listens.
    for (let left = 100; ; left -= 1) {
      const response = await fetch(`http://${ca.httpAddress}/metrics`);
      if (asked.test(await response.text())) break;
      assert.ok(left > 0, 'never counted');
    }
  });
});
