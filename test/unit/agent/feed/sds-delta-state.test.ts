import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { type DeltaState, newDeltaState, stepDelta } from '../../../../agent/feed/sds-delta-state.ts';
import type { DeltaRequest } from '../../../../agent/feed/sds-request.ts';
import type { SdsCatalog } from '../../../../agent/feed/sds-resources.ts';
import type { SdsEvent, SdsStep } from '../../../../agent/feed/sds-stream-state.ts';
import { SVID_ID } from '../../../support/certificates.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { catalogOf, deltaRequest } from '../../../support/sds-catalogs.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';

const TD = 'spiffe://example.org';

/** A stream under test: each step is given a nonce of its own, `n1`, `n2`, ... */
class Stream {
  state: DeltaState;
  nack: SdsStep<DeltaState>['nack'] = null;
  newestNonce = '';
  #steps = 0;

  constructor(catalog: SdsCatalog | null) {
    this.state = newDeltaState('spiffe', catalog);
  }

  /** Version, nonce and names of what is sent, `-name` for what is removed; null = nothing. */
  step(event: SdsEvent<DeltaRequest>): string | null {
    this.#steps += 1;
    const { state, send, nack } = stepDelta(this.state, event, `n${this.#steps}`);
    this.state = state;
    this.nack = nack;
    if (send === null) return null;
    this.newestNonce = send.nonce;
    const names = [...send.resources.map(({ name }) => name), ...send.removed.map((name) => `-${name}`)];
    return `${send.version} ${send.nonce} ${names.join(' ')}`;
  }

  request(request: Parameters<typeof deltaRequest>[0]): string | null {
    return this.step({ type: 'request', request: deltaRequest(request) });
  }

  ack(nonce = this.newestNonce): string | null {
    return this.request({ nonce });
  }

  written(): string | null {
    return this.step({ type: 'written' });
  }

  catalog(catalog: SdsCatalog): string | null {
    return this.step({ type: 'catalog', catalog });
  }

  /** Generations of what is delivered and loaded, and the code. */
  get evidence(): readonly unknown[] {
    const { delivered, loaded, errorCode } = this.state.evidence;
    return [delivered?.generation ?? null, loaded?.generation ?? null, errorCode];
  }
}

describe('a DeltaSecrets stream', () => {
  let first: SdsCatalog;
  /** Another SVID, the same bundle. */
  let renewed: SdsCatalog;
  /** Another bundle, the SVID of `renewed`. */
  let rerooted: SdsCatalog;
  /** Another SPIFFE ID. */
  let renamed: SdsCatalog;

  before(async () => {
    const factory = await SnapshotFactory.make(Date.now());
    const other = await SnapshotFactory.make(Date.now());
    const [svid, next] = [await factory.svid(), await factory.svid()];
    const bundle = factory.bundle(1n);
    first = catalogOf({ generation: 1, svid, bundle });
    renewed = catalogOf({ generation: 2, svid: next, bundle });
    rerooted = catalogOf({ generation: 3, svid: next, bundle: factory.bundle(2n, other.anchor) });
    renamed = catalogOf({ generation: 4, svid: await factory.svid({ id: `${TD}/other` }), bundle });
  });

  const versionOf = (catalog: SdsCatalog, name: string): string =>
    catalog.get(name, 'spiffe')?.version ?? assert.fail(`there is no ${name}`);

  const started = (subscribe: readonly string[]): Stream => {
    const stream = new Stream(first);
    assert.equal(stream.request({ subscribe }), `0 n1 ${subscribe.join(' ')}`);
    assert.equal(stream.written(), null);
    return stream;
  };

  describe('sends', () => {
    it('what is subscribed to', () => {
      assert.equal(new Stream(first).request({ subscribe: ['default', 'ROOTCA'] }), '0 n1 default ROOTCA');
    });

    it('everything to a client that first subscribes to nothing, or to the wildcard', () => {
      assert.equal(new Stream(first).request({}), `0 n1 ${TD} ${SVID_ID}`);
      assert.equal(
        new Stream(first).request({ subscribe: ['*', 'default'] }),
        `0 n1 ${TD} ${SVID_ID} default`,
      );
    });

    it('nothing on an ACK', () => {
      assert.equal(started(['default']).ack(), null);
    });

    it('of a new snapshot what has changed, without waiting for the ACK', () => {
      const stream = started(['default', 'ROOTCA']);
      assert.equal(stream.catalog(renewed), '1 n3 default');
      stream.written();
      assert.equal(stream.catalog(rerooted), '2 n5 ROOTCA');
    });

    it('nothing while the transport has not taken the response before; then only the newest', () => {
      const stream = new Stream(first);
      stream.request({ subscribe: ['default'] });
      assert.equal(stream.catalog(renewed), null);
      assert.equal(stream.request({ subscribe: ['ROOTCA'] }), null);
      assert.equal(stream.catalog(rerooted), null);
      assert.equal(stream.written(), '1 n5 default ROOTCA');
    });

    it('what is subscribed to later, with an ACK or without', () => {
      const stream = started(['default']);
      assert.equal(stream.request({ nonce: 'n1', subscribe: ['ROOTCA'] }), '1 n3 ROOTCA');
      stream.written();
      assert.equal(stream.request({ subscribe: [TD] }), `2 n5 ${TD}`);
    });

    it('again what is subscribed to again: the client may have dropped it', () => {
      const stream = started(['default']);
      stream.ack();
      assert.equal(stream.request({ subscribe: ['default'] }), '1 n4 default');
    });

    it('nothing more of what is unsubscribed from', () => {
      const stream = started(['default', 'ROOTCA']);
      assert.equal(stream.request({ unsubscribe: ['default'] }), null);
      assert.equal(stream.catalog(renewed), null);
    });

    it('a name that is unsubscribed from and subscribed to again', () => {
      const stream = started(['default']);
      stream.ack();
      stream.request({ unsubscribe: ['default'] });
      assert.equal(stream.request({ subscribe: ['default'] }), '1 n5 default');
    });

    it('nothing more of the wildcard once that is unsubscribed from', () => {
      const stream = new Stream(first);
      stream.request({ subscribe: ['*', 'ROOTCA'] });
      stream.written();
      assert.equal(stream.request({ unsubscribe: ['*'] }), null);
      assert.equal(stream.catalog(rerooted), '1 n4 ROOTCA');
    });

    it('again what is unsubscribed from by name while the wildcard still covers it', () => {
      const stream = new Stream(first);
      stream.request({ subscribe: ['*'] });
      stream.written();
      assert.equal(stream.request({ unsubscribe: [TD] }), `1 n3 ${TD}`);
    });
  });

  describe('after a reconnection', () => {
    it('sends nothing that the client has already, and counts that as loaded', () => {
      const stream = new Stream(first);
      const initialVersions = { default: versionOf(first, 'default') };
      assert.equal(stream.request({ subscribe: ['default'], initialVersions }), null);
      assert.deepEqual(stream.evidence, [1, 1, null]);
    });

    it('sends what has changed meanwhile', () => {
      const stream = new Stream(renewed);
      const initialVersions = {
        default: versionOf(first, 'default'),
        ROOTCA: versionOf(first, 'ROOTCA'),
      };
      assert.equal(stream.request({ subscribe: ['default', 'ROOTCA'], initialVersions }), '0 n1 default');
    });

    it('holds while there is no identity, and then sends what has changed', () => {
      const stream = new Stream(null);
      const initialVersions = { default: versionOf(first, 'default') };
      assert.equal(stream.request({ subscribe: ['default'], initialVersions }), null);
      assert.equal(stream.catalog(renewed), '0 n2 default');
    });

    it('tells what is gone of what the client has', () => {
      const stream = new Stream(renamed);
      const initialVersions = { [SVID_ID]: versionOf(first, SVID_ID) };
      assert.equal(
        stream.request({ subscribe: [SVID_ID, 'ROOTCA'], initialVersions }),
        `0 n1 ROOTCA -${SVID_ID}`,
      );
    });

    it('tells under the wildcard too, of any name', () => {
      const stream = new Stream(first);
      const initialVersions = { [TD]: versionOf(first, TD), 'spiffe://gone.example': 'not ours' };
      assert.equal(stream.request({ initialVersions }), `0 n1 ${SVID_ID} -spiffe://gone.example`);
    });

    it('does not care about versions of what is not subscribed to', () => {
      const stream = new Stream(first);
      assert.equal(
        stream.request({ subscribe: ['default'], initialVersions: { gone: 'not ours' } }),
        '0 n1 default',
      );
      assert.equal(stream.state.tracking.size, 1);
    });

    it('takes such versions from the first request alone', () => {
      const stream = started(['default']);
      const initialVersions = { ROOTCA: versionOf(first, 'ROOTCA') };
      assert.equal(stream.request({ subscribe: ['ROOTCA'], initialVersions }), '1 n3 ROOTCA');
    });
  });

  describe('tells once of what is gone', () => {
    it('when the SPIFFE ID changes', () => {
      const stream = started([SVID_ID]);
      stream.ack();
      assert.equal(stream.catalog(renamed), `1 n4 -${SVID_ID}`);
      stream.written();
      assert.equal(stream.ack(), null);
      assert.equal(stream.catalog(renamed), null);
    });

    it('under the wildcard, together with what is new', () => {
      const stream = new Stream(first);
      stream.request({});
      stream.written();
      assert.equal(stream.catalog(renamed), `1 n3 ${TD}/other -${SVID_ID}`);
    });

    it('and sends it when it is there again', () => {
      const stream = started([SVID_ID]);
      stream.catalog(renamed);
      stream.written();
      assert.equal(stream.catalog(first), `2 n5 ${SVID_ID}`);
    });
  });

  describe('refuses', () => {
    it('a name that it never had', () => {
      expectCode('sds_name_unknown', () => new Stream(first).request({ subscribe: ['nobody'] }));
      const stream = started(['default']);
      expectCode('sds_name_unknown', () => stream.request({ subscribe: ['nobody'] }));
      const held = new Stream(null);
      held.request({ subscribe: ['nobody'] });
      expectCode('sds_name_unknown', () => held.catalog(first));
    });

    it('ALL in the plain form', () => {
      expectCode('sds_validator_disabled', () =>
        new Stream(first).request({ subscribe: ['ALL'], node: { name: '', form: 'plain' } }),
      );
    });

    it('more names than a stream may have, over several requests', () => {
      const stream = new Stream(null);
      const names = (from: number): string[] => Array.from({ length: 100 }, (_, i) => `name-${from + i}`);
      stream.request({ subscribe: names(0) });
      expectCode('sds_names_exceeded', () => stream.request({ subscribe: names(100) }));
    });

    it('names that are too long together, over several requests: they are kept while there is no identity', () => {
      const name = (n: number): string => `${n}/`.padEnd(2_000, 'x');
      const stream = new Stream(null);
      for (let n = 0; n < 16; n += 1) stream.request({ subscribe: [name(n)] });
      // What is asked for again, or given up, does not count twice.
      stream.request({ subscribe: [name(0)] });
      stream.request({ subscribe: [name(16)], unsubscribe: [name(1)] });
      expectCode('message_too_large', () => stream.request({ subscribe: [name(17)] }));
    });
  });

  describe('takes an answer', () => {
    it('to the response that has its nonce, though a newer one was sent', () => {
      const stream = started(['default', 'ROOTCA']);
      stream.catalog(renewed);
      stream.written();
      stream.ack('n1');
      assert.deepEqual(stream.evidence, [2, null, null], 'the new SVID is not acknowledged');
      stream.ack('n3');
      assert.deepEqual(stream.evidence, [2, 2, null]);
    });

    it('for nothing when the nonce was never given', () => {
      const stream = started(['default']);
      assert.equal(stream.ack('n99'), null);
      stream.request({ nonce: 'n99', nack: 'bad' });
      assert.equal(stream.nack, null);
      assert.deepEqual(stream.evidence, [1, null, null]);
    });

    it('that refuses, of each resource by itself, and never sends the same again', () => {
      const stream = started(['default', 'ROOTCA']);
      stream.request({ nonce: 'n1', nack: 'no good' });
      assert.deepEqual(stream.nack, { names: ['default', 'ROOTCA'], reason: 'no good' });
      assert.deepEqual(stream.evidence, [1, null, 'sds_nack']);
      assert.equal(stream.catalog(first), null);
      assert.equal(stream.catalog(renewed), '1 n5 default');
      stream.written();
      stream.ack();
      assert.deepEqual(stream.evidence, [2, null, 'sds_nack']);
      assert.equal(stream.catalog(rerooted), '2 n8 ROOTCA');
      stream.written();
      stream.ack();
      assert.deepEqual(stream.evidence, [3, 3, null]);
    });

    it('that refuses, once', () => {
      const stream = started(['default']);
      stream.request({ nonce: 'n1', nack: 'no good' });
      stream.request({ nonce: 'n1', nack: 'no good' });
      assert.equal(stream.nack, null);
      stream.ack('n1');
      assert.deepEqual(stream.evidence, [1, null, 'sds_nack']);
    });
  });

  it('remembers the node when a request leaves it out, and sends what another form changes', () => {
    const stream = started(['default', 'ROOTCA']);
    assert.equal(stream.request({ node: { name: 'old', form: 'plain' } }), '1 n3 ROOTCA');
    stream.written();
    stream.ack();
    assert.deepEqual([stream.state.nodeName, stream.state.form], ['old', 'plain']);
  });
});
