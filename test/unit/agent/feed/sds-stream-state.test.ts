import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { SotwRequest } from '../../../../agent/feed/sds-request.ts';
import type { SdsCatalog } from '../../../../agent/feed/sds-resources.ts';
import {
  newSotwState,
  type SdsEvent,
  type SdsStep,
  type SotwState,
  stepSotw,
} from '../../../../agent/feed/sds-stream-state.ts';
import { SVID_ID } from '../../../support/certificates.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { catalogOf, sotwRequest } from '../../../support/sds-catalogs.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';

const TD = 'spiffe://example.org';

/** A stream under test: each step is given a nonce of its own, `n1`, `n2`, ... */
class Stream {
  state: SotwState;
  nack: SdsStep<SotwState>['nack'] = null;
  #steps = 0;

  constructor(catalog: SdsCatalog | null) {
    this.state = newSotwState('spiffe', catalog);
  }

  /** The names, version and nonce of what is sent, as text; null = nothing. */
  step(event: SdsEvent<SotwRequest>): string | null {
    this.#steps += 1;
    const { state, send, nack } = stepSotw(this.state, event, `n${this.#steps}`);
    this.state = state;
    this.nack = nack;
    if (send === null) return null;
    assert.deepEqual(send.removed, []);
    return `${send.version} ${send.nonce} ${send.resources.map(({ name }) => name).join(' ')}`;
  }

  request(names: readonly string[], more: Partial<SotwRequest> = {}): string | null {
    return this.step({ type: 'request', request: sotwRequest(names, more) });
  }

  /** A request that accepts the newest response. */
  ack(names: readonly string[]): string | null {
    return this.request(names, this.state.newest ?? {});
  }

  /** A request that refuses it. */
  refuse(names: readonly string[], reason = 'bad'): string | null {
    return this.request(names, { nonce: this.state.newest?.nonce ?? '', nack: reason });
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

describe('a StreamSecrets stream', () => {
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

  const started = (names: readonly string[]): Stream => {
    const stream = new Stream(first);
    assert.equal(stream.request(names), `0 n1 ${names.join(' ')}`);
    assert.equal(stream.written(), null);
    return stream;
  };

  describe('sends', () => {
    it('what is asked for, on the first request, as version 0', () => {
      assert.equal(new Stream(first).request(['default', 'ROOTCA']), '0 n1 default ROOTCA');
    });

    it('everything to a client that names nothing, and goes on to', () => {
      const stream = new Stream(first);
      assert.equal(stream.request([]), `0 n1 ${TD} ${SVID_ID}`);
      stream.written();
      assert.equal(stream.ack([]), null);
      assert.equal(stream.catalog(renewed), `1 n4 ${SVID_ID}`);
    });

    it('everything, and more names, under the wildcard', () => {
      assert.equal(new Stream(first).request(['*', 'default']), `0 n1 ${TD} ${SVID_ID} default`);
    });

    it('nothing on an ACK', () => {
      const stream = started(['default']);
      assert.equal(stream.ack(['default']), null);
    });

    it('of a new snapshot what has changed', () => {
      const stream = started(['default', 'ROOTCA']);
      stream.ack(['default', 'ROOTCA']);
      assert.equal(stream.catalog(renewed), '1 n4 default');
      stream.written();
      stream.ack(['default', 'ROOTCA']);
      assert.equal(stream.catalog(rerooted), '2 n7 ROOTCA');
    });

    it('nothing for a snapshot that changes nothing that is asked for', () => {
      const stream = started(['ROOTCA']);
      stream.ack(['ROOTCA']);
      assert.equal(stream.catalog(renewed), null);
      assert.deepEqual(stream.evidence, [2, 2, null]);
    });

    it('a new snapshot without waiting for the ACK, with what was not yet acknowledged', () => {
      const stream = started(['default', 'ROOTCA']);
      assert.equal(stream.catalog(renewed), '1 n3 default ROOTCA');
    });

    it('nothing while the transport has not taken the response before; then only the newest', () => {
      const stream = new Stream(first);
      stream.request(['default']);
      assert.equal(stream.catalog(renewed), null);
      assert.equal(stream.catalog(rerooted), null);
      assert.equal(stream.written(), '1 n4 default');
      assert.equal(stream.written(), null);
    });

    it('what is added to the names', () => {
      const stream = started(['default']);
      assert.equal(stream.ack(['default', 'ROOTCA', TD]), `1 n3 ROOTCA ${TD}`);
    });

    it('nothing when names are only taken away, and nothing for them afterwards', () => {
      const stream = started(['default', 'ROOTCA']);
      assert.equal(stream.ack(['ROOTCA']), null);
      assert.equal(stream.catalog(renewed), null);
    });

    it('a name that was taken away and added again', () => {
      const stream = started(['default', 'ROOTCA']);
      stream.ack(['default']);
      assert.equal(stream.ack(['default', 'ROOTCA']), '1 n4 ROOTCA');
    });

    it('nothing once the client has named and then dropped everything', () => {
      const stream = started(['default']);
      assert.equal(stream.ack([]), null);
      assert.equal(stream.catalog(renewed), null);
    });

    it('anew what another form of the node changes', () => {
      const stream = started(['default', 'ROOTCA']);
      const node = { name: 'old-envoy', form: 'plain' } as const;
      assert.equal(stream.request(['default', 'ROOTCA'], { node, ...stream.state.newest }), '1 n3 ROOTCA');
    });
  });

  describe('before there is an identity', () => {
    it('holds the stream, and sends at once when there is one', () => {
      const stream = new Stream(null);
      assert.equal(stream.request(['default']), null);
      assert.equal(stream.catalog(first), '0 n2 default');
    });

    it('takes the newest names', () => {
      const stream = new Stream(null);
      stream.request(['default']);
      stream.request(['ROOTCA']);
      assert.equal(stream.catalog(first), '0 n3 ROOTCA');
    });

    it('sends nothing to a client that has not asked', () => {
      assert.equal(new Stream(null).catalog(first), null);
    });
  });

  describe('ignores', () => {
    it('a request with a stale nonce, its names too', () => {
      const stream = started(['default']);
      stream.catalog(renewed);
      stream.written();
      assert.equal(stream.request(['default', 'ROOTCA'], { nonce: 'n1', version: '0' }), null);
      assert.deepEqual([...stream.state.names], ['default']);
      assert.deepEqual(stream.evidence, [2, null, null]);
    });

    it('a refusal with a stale nonce', () => {
      const stream = started(['default']);
      stream.catalog(renewed);
      stream.written();
      stream.request(['default'], { nonce: 'n1', nack: 'bad' });
      assert.equal(stream.nack, null);
      assert.deepEqual(stream.evidence, [2, null, null]);
    });

    it('a request without a nonce once something was sent', () => {
      const stream = started(['default']);
      assert.equal(stream.request(['ROOTCA']), null);
      assert.deepEqual([...stream.state.names], ['default']);
    });

    it('a request with a nonce that was never given', () => {
      const stream = started(['default']);
      assert.equal(stream.request(['ROOTCA'], { nonce: 'n99', version: '0' }), null);
    });

    it('the nonce and the version that the first request brings from an earlier stream', () => {
      const stream = new Stream(first);
      assert.equal(stream.request(['default'], { nonce: 'earlier', version: '7' }), '0 n1 default');
    });
  });

  describe('remembers', () => {
    it('the node when a request leaves it out', () => {
      const stream = new Stream(first);
      stream.request(['default'], { node: { name: 'envoy-1', form: 'plain' } });
      stream.written();
      stream.ack(['default']);
      assert.deepEqual([stream.state.nodeName, stream.state.form], ['envoy-1', 'plain']);
    });
  });

  describe('refuses', () => {
    it('an unknown name, on the first request and on a later one', () => {
      expectCode('sds_name_unknown', () => new Stream(first).request(['nobody']));
      const stream = started(['default']);
      expectCode('sds_name_unknown', () => stream.ack(['default', 'nobody']));
    });

    it('an unknown name once there is an identity', () => {
      const stream = new Stream(null);
      stream.request(['nobody']);
      expectCode('sds_name_unknown', () => stream.catalog(first));
    });

    it('a SPIFFE ID that the workload no longer has', () => {
      const stream = started([SVID_ID]);
      expectCode('sds_name_unknown', () => stream.catalog(renamed));
    });

    it('ALL in the plain form', () => {
      expectCode('sds_validator_disabled', () =>
        new Stream(first).request(['ALL'], { node: { name: '', form: 'plain' } }),
      );
    });
  });

  describe('takes a NACK', () => {
    it('and tells of it once, with the names', () => {
      const stream = started(['default', 'ROOTCA']);
      assert.equal(stream.refuse(['default', 'ROOTCA'], 'no good'), null);
      assert.deepEqual(stream.nack, { names: ['default', 'ROOTCA'], reason: 'no good' });
      stream.refuse(['default', 'ROOTCA'], 'no good');
      assert.equal(stream.nack, null);
    });

    it('from a client that goes on with another version without a word', () => {
      const stream = started(['default']);
      stream.request(['default'], { nonce: 'n1', version: '' });
      assert.deepEqual(stream.nack?.names, ['default']);
      assert.deepEqual(stream.evidence, [1, null, 'sds_nack']);
    });

    it('and never sends the same again', () => {
      const stream = started(['default']);
      stream.refuse(['default']);
      assert.equal(stream.catalog(first), null);
      assert.equal(stream.written(), null);
      assert.equal(stream.refuse(['default']), null);
    });

    it('and does not send it again either when the content goes there and back', () => {
      const stream = started(['default']);
      stream.refuse(['default']);
      assert.equal(stream.catalog(renewed), '1 n4 default');
      stream.written();
      assert.equal(stream.catalog(first), null);
      assert.equal(stream.state.evidence.errorCode, 'sds_nack');
    });

    it('and sends again what has changed, of each resource by itself', () => {
      const stream = started(['default', 'ROOTCA']);
      stream.refuse(['default', 'ROOTCA']);
      assert.equal(stream.catalog(renewed), '1 n4 default');
      stream.written();
      stream.ack(['default', 'ROOTCA']);
      assert.deepEqual(stream.evidence, [2, null, 'sds_nack']);
      assert.equal(stream.catalog(rerooted), '2 n7 ROOTCA');
      stream.written();
      stream.ack(['default', 'ROOTCA']);
      assert.deepEqual(stream.evidence, [3, 3, null]);
    });

    it('together with new names, and sends those alone', () => {
      const stream = started(['default']);
      assert.equal(stream.refuse(['default', 'ROOTCA']), '1 n3 ROOTCA');
    });

    it('and does not take back an ACK, nor an ACK the NACK', () => {
      const stream = started(['default']);
      stream.ack(['default']);
      stream.refuse(['default']);
      assert.deepEqual(stream.evidence, [1, 1, null]);
      const other = started(['default']);
      other.refuse(['default']);
      other.ack(['default']);
      assert.deepEqual(other.evidence, [1, null, 'sds_nack']);
    });

    it('of what replaced an accepted version, and does not take that for it', () => {
      const stream = started(['default']);
      stream.ack(['default']);
      stream.catalog(renewed);
      stream.written();
      stream.refuse(['default']);
      assert.deepEqual(stream.evidence, [2, 1, 'sds_nack']);
      assert.equal(stream.catalog(first), '2 n7 default', 'Envoy may have kept neither');
    });
  });

  describe('shows', () => {
    it('nothing before the first request', () => {
      assert.deepEqual(new Stream(first).evidence, [null, null, null]);
    });

    it('delivered once the transport has taken it, loaded once it is acknowledged', () => {
      const stream = new Stream(first);
      stream.request(['default']);
      assert.deepEqual(stream.evidence, [null, null, null]);
      stream.written();
      assert.deepEqual(stream.evidence, [1, null, null]);
      stream.ack(['default']);
      assert.deepEqual(stream.evidence, [1, 1, null]);
    });

    it('not loaded while one of several resources is not acknowledged', () => {
      const stream = started(['default']);
      stream.ack(['default', 'ROOTCA']);
      stream.written();
      assert.deepEqual(stream.evidence, [1, null, null]);
      stream.catalog(renewed);
      stream.written();
      assert.deepEqual(stream.evidence, [2, null, null]);
      stream.ack(['default', 'ROOTCA']);
      assert.deepEqual(stream.evidence, [2, 2, null]);
    });
  });
});
