import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { patiently } from '../../../ca/patience.ts';
import { systemRandom } from '../../../host/random.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { RecordingLog } from '../../support/authority-replica.ts';
import { ManualClock } from '../../support/manual-clock.ts';

function setUp() {
  const clock = new ManualClock();
  const log = new RecordingLog();
  const reasons: string[] = [];
  const stop = new AbortController();
  const options = {
    clock,
    random: systemRandom,
    log,
    signal: stop.signal,
    onFailure: (reason: string) => void reasons.push(reason),
  };
  return { clock, log, reasons, stop, options };
}

describe('a patient start', () => {
  it('goes on once what is broken is mended, and says each time for what it waits', async () => {
    const { clock, log, reasons, options } = setUp();
    let broken = true;
    const started = patiently(options, async () => {
      if (broken) throw new KedgeError('store_corrupt', 'it is damaged');
      return 'started';
    });
    await clock.advance(300_000);
    assert.ok(reasons.length >= 5 && reasons.length <= 60, `${reasons.length} tries in five minutes`);
    assert.equal(new Set(reasons).size, 1);
    assert.equal(log.of('ca.start_waits').length, reasons.length);
    broken = false;
    await clock.advance(60_000);
    assert.equal(await started, 'started');
  });

  it('waits at least as long as it was told', async () => {
    const { clock, options } = setUp();
    let tries = 0;
    const started = patiently(options, async () => {
      tries += 1;
      throw new KedgeError('kubernetes_throttled', 'later', { retryAfterMs: 20_000 });
    });
    started.catch(() => undefined);
    await clock.advance(19_000);
    assert.equal(tries, 1);
  });

  it('ends when it is told to, with the last refusal or the reason', async () => {
    const { clock, stop, options } = setUp();
    const started = patiently(options, () => Promise.reject(new KedgeError('store_unavailable', 'away')));
    const ended = assert.rejects(started, (error) => error === stop.signal.reason);
    await clock.advance(10);
    stop.abort(new KedgeError('shutting_down', 'stop'));
    await ended;
  });

  it('does not wait for a mistake to pass', async () => {
    const { options } = setUp();
    await assert.rejects(
      patiently(options, () => Promise.reject(new TypeError('a mistake'))),
      TypeError,
    );
  });
});
