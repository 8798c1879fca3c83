import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  decoded,
  decodeMessage,
  MalformedMessage,
  methodDefinition,
  rawMethodDefinition,
} from '../../../host/grpc-service.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { Report, WatchRequest, WatchResponse } from '../../../proto/gen/kedge/v1/identity.ts';
import { expectCode } from '../../support/expect-code.ts';
import { checkProperty } from '../../support/property.ts';

const watch = methodDefinition({
  path: '/kedge.v1.Identity/Watch',
  request: WatchRequest,
  response: WatchResponse,
  requestStream: true,
  responseStream: true,
});
const report = Report.decode(new Uint8Array(0));

describe('a method definition', () => {
  it('brings messages both ways', () => {
    const bytes = watch.requestSerialize({ report });
    assert.deepEqual(decoded(watch.requestDeserialize(bytes)), { report });
    const response = { message: undefined, serverTimeMs: 7n };
    assert.deepEqual(watch.responseDeserialize(watch.responseSerialize(response)), response);
  });

  it('hands a handler the mark of a request that does not decode, which it can only refuse', () => {
    const request = watch.requestDeserialize(Buffer.from('0aff', 'hex'));
    assert.ok(request instanceof MalformedMessage);
    const error = expectCode('message_malformed', () => decoded(request));
    assert.ok(error.cause instanceof Error);
  });

  it('never throws on hostile bytes', () => {
    checkProperty(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        watch.requestDeserialize(Buffer.from(bytes));
      }),
      2_000,
    );
  });

  it('takes nesting without end as malformed', () => {
    const deep = Buffer.concat(Array.from({ length: 20_000 }, () => Buffer.from([0x1b])));
    // Start-group tags, one in the other: what a decoder without a depth limit dies of.
    assert.ok(watch.requestDeserialize(deep) instanceof MalformedMessage);
  });
});

describe('decodeMessage', () => {
  it('throws message_malformed and nothing else', () => {
    checkProperty(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          decodeMessage(WatchRequest, bytes);
        } catch (error) {
          assert.ok(isKedgeError(error, 'message_malformed'));
        }
      }),
      2_000,
    );
  });
});

describe('a raw method definition', () => {
  it('leaves messages as they are, without a copy', () => {
    const raw = rawMethodDefinition({ path: '/a.B/C', requestStream: false, responseStream: false });
    const bytes = Buffer.from('0aff', 'hex');
    assert.equal(raw.requestDeserialize(bytes), bytes);
    const answer = new Uint8Array([1, 2, 3]).subarray(1);
    const sent = raw.responseSerialize(answer);
    assert.equal(sent.buffer, answer.buffer);
    assert.deepEqual([...sent], [2, 3]);
  });
});
