import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bundleMessage, CurrentBundle } from '../../../../ca/api/bundle-message.ts';
import type { BundleView } from '../../../../ca/authority/trust-view.ts';
import { IssueX509SvidResponse, WatchResponse } from '../../../../proto/gen/kedge/v1/identity.ts';

const view = (sequence: number, ...authorities: readonly string[]): BundleView => ({
  trustDomain: 'example.org',
  sequence,
  x509Authorities: authorities.map((text) => Buffer.from(text)),
});

describe('a bundle message', () => {
  const { bundle, issueField, watchField } = bundleMessage(view(7, 'one', 'x'.repeat(300)), 300);

  it('holds the bundle', () => {
    assert.deepEqual(
      [bundle.trustDomain, bundle.sequence, bundle.refreshHintSeconds, bundle.x509Authorities.length],
      ['example.org', 7n, 300, 2],
    );
  });

  it('appended to an answer without a bundle gives the answer with it', () => {
    const head = {
      x509Svid: [Buffer.from('leaf')],
      renewal: { notBeforeMs: 1n, notAfterMs: 2n },
      serverTimeMs: 3n,
    };
    const spliced = Buffer.concat([
      IssueX509SvidResponse.encode({ ...head, bundle: undefined }).finish(),
      issueField,
    ]);
    const whole = IssueX509SvidResponse.encode({ ...head, bundle }).finish();
    assert.deepEqual(
      IssueX509SvidResponse.decode(Uint8Array.from(spliced)),
      IssueX509SvidResponse.decode(whole),
    );
    assert.equal(spliced.length, whole.length);
  });

  it('before the time of a push gives the push', () => {
    const tail = WatchResponse.encode({ message: undefined, serverTimeMs: 9n }).finish();
    const decoded = WatchResponse.decode(Uint8Array.from([...watchField, ...tail]));
    const want = WatchResponse.encode({
      message: { $case: 'bundle', value: bundle },
      serverTimeMs: 9n,
    }).finish();
    assert.deepEqual(decoded, WatchResponse.decode(want));
  });
});

describe('the current bundle', () => {
  it('is encoded once, and again only when it is another one', () => {
    let now = view(1, 'a');
    const current = new CurrentBundle({ read: () => now, refreshHintSeconds: 300 });
    const first = current.get();
    assert.equal(current.get(), first);
    now = view(1, 'a');
    assert.equal(current.get(), first);
    const changes = [
      view(2, 'a'),
      view(2, 'b'),
      view(2, 'b', 'c'),
      { ...view(2, 'b', 'c'), trustDomain: 'b.test' },
    ];
    let last = first;
    for (const change of changes) {
      now = change;
      const message = current.get();
      assert.notEqual(message, last);
      last = message;
    }
  });
});
