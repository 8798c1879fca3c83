import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { errorOfGrpc, type GrpcRefusal, isGrpcFailure, refusalOf } from '../../../host/grpc-errors.ts';
import { serviceError } from '../../../host/grpc-service-error.ts';
import { GRPC_STATUS } from '../../../host/grpc-status.ts';
import { jsonLog, silentLog } from '../../../host/log.ts';
import { ERROR_TABLE, type ErrorCode } from '../../../pki/error-table.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { ErrorInfo, RetryInfo, Status } from '../../../proto/gen/google/rpc/status.ts';
import { fixedRandom } from '../../fakes/fixed-random.ts';
import { checkProperty } from '../../support/property.ts';

const context = { log: silentLog, random: fixedRandom(0) };
const PEER = { unreachable: 'ca_unreachable', invalid: 'ca_answer_invalid' } as const;
const CODES = Object.keys(ERROR_TABLE) as ErrorCode[];

/** What a client on grpc-js is handed for a refusal. */
const received = (refusal: GrpcRefusal) => serviceError(refusal);

const withDetails = (details: Uint8Array, code: number = GRPC_STATUS.UNAVAILABLE) => ({
  code,
  details: 'gone',
  metadata: { get: () => [Buffer.from(details)] },
});

const errorInfo = (info: Partial<ErrorInfo>) => ({
  typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo',
  value: ErrorInfo.encode({ reason: 'overloaded', domain: 'kedge', metadata: {}, ...info }).finish(),
});
const retryInfo = (seconds: bigint) => ({
  typeUrl: 'type.googleapis.com/google.rpc.RetryInfo',
  value: RetryInfo.encode({ retryDelay: { seconds, nanos: 0 } }).finish(),
});
const statusOf = (...details: { typeUrl: string; value: Uint8Array }[]): Uint8Array =>
  Status.encode({ code: 14, message: 'gone', details }).finish();

describe('a refusal', () => {
  for (const code of CODES.filter((code) => ERROR_TABLE[code].exposure === 'public')) {
    it(`${code} carries its status, and reaches a client whole`, () => {
      const error = new KedgeError(code, 'what was wrong', { hint: 'what to do', retryAfterMs: 1_250 });
      const refusal = refusalOf(error, context);
      assert.equal(refusal.status, GRPC_STATUS[ERROR_TABLE[code].status]);
      assert.equal(refusal.message, 'what was wrong; what to do');
      const back = errorOfGrpc(received(refusal), PEER);
      assert.deepEqual(
        [back.code, back.message, back.hint, back.retryAfterMs],
        [code, 'what was wrong', 'what to do', 1_250],
      );
    });
  }

  for (const code of CODES.filter((code) => ERROR_TABLE[code].exposure === 'internal')) {
    it(`${code} shows the caller nothing but an incident`, () => {
      const lines: string[] = [];
      const log = jsonLog({ level: 'info', write: (line) => lines.push(line), now: () => 0 });
      const refusal = refusalOf(new KedgeError(code, 'the secret reason', { hint: 'h' }), {
        ...context,
        log,
      });
      assert.equal(refusal.status, GRPC_STATUS.INTERNAL);
      assert.equal(refusal.code, 'internal');
      assert.equal(refusal.message, 'internal error, incident 5a5a5a5a5a5a5a5a');
      assert.ok(!Buffer.from(refusal.details).includes('secret'));
      const line = JSON.parse(lines[0]!) as {
        event: string;
        incident: string;
        error: { code: string; message: string };
      };
      assert.deepEqual(
        [line.event, line.incident, line.error.code, line.error.message],
        ['grpc.internal_error', '5a5a5a5a5a5a5a5a', code, 'the secret reason'],
      );
    });
  }

  it('of anything that is no KedgeError shows nothing but an incident', () => {
    for (const thrown of [new TypeError('secret'), 'secret', undefined, { secret: true }]) {
      const refusal = refusalOf(thrown, context);
      assert.equal(refusal.status, GRPC_STATUS.INTERNAL);
      assert.ok(!JSON.stringify(refusal).includes('secret'));
    }
  });

  it('leaves out what there is not', () => {
    const back = errorOfGrpc(received(refusalOf(new KedgeError('overloaded', 'busy'), context)), PEER);
    assert.deepEqual([back.message, back.hint, back.retryAfterMs], ['busy', undefined, undefined]);
  });

  it('has a bounded message without characters that a terminal obeys', () => {
    const message = `\u001b[31mred\u0000\n\u202e${'x'.repeat(5_000)}\ud800`;
    const refusal = refusalOf(new KedgeError('overloaded', message), context);
    assert.ok(refusal.message.length <= 1_100);
    assert.ok(refusal.message.isWellFormed());
    assert.doesNotMatch(refusal.message, /\p{Cc}|\p{Cf}/u);
  });
});

describe('a failed call without details of Kedge', () => {
  const rows: readonly { readonly status: keyof typeof GRPC_STATUS; readonly want: ErrorCode }[] = [
    { status: 'UNAVAILABLE', want: 'ca_unreachable' },
    { status: 'DEADLINE_EXCEEDED', want: 'deadline_exceeded' },
    { status: 'CANCELLED', want: 'cancelled' },
    { status: 'RESOURCE_EXHAUSTED', want: 'overloaded' },
    { status: 'UNIMPLEMENTED', want: 'unimplemented' },
    { status: 'UNKNOWN', want: 'ca_answer_invalid' },
    { status: 'PERMISSION_DENIED', want: 'ca_answer_invalid' },
    { status: 'INTERNAL', want: 'ca_answer_invalid' },
  ];
  for (const { status, want } of rows) {
    it(`is ${want} when its status is ${status}`, () => {
      const error = errorOfGrpc({ code: GRPC_STATUS[status], details: 'as "it" came\n' }, PEER);
      assert.equal(error.code, want);
      assert.equal(error.message, `the server answered ${status}: "as \\"it\\" came\\n"`);
    });
  }

  it('with a status that there is not is UNKNOWN', () => {
    assert.match(errorOfGrpc({ code: 99, details: '' }, PEER).message, /answered UNKNOWN/);
  });
});

describe('details of a server that is not trusted', () => {
  const rows: readonly { readonly name: string; readonly bytes: Uint8Array; readonly want: ErrorCode }[] = [
    { name: 'that do not parse', bytes: Buffer.from('0aff', 'hex'), want: 'ca_unreachable' },
    {
      name: 'that are too large',
      bytes: statusOf(errorInfo({ metadata: { hint: 'x'.repeat(9_000) } })),
      want: 'ca_unreachable',
    },
    {
      name: 'of another domain',
      bytes: statusOf(errorInfo({ domain: 'example.org' })),
      want: 'ca_unreachable',
    },
    {
      name: 'with a code that there is not',
      bytes: statusOf(errorInfo({ reason: 'nonsense' })),
      want: 'ca_unreachable',
    },
    {
      name: 'with a code from the prototype',
      bytes: statusOf(errorInfo({ reason: 'constructor' })),
      want: 'ca_unreachable',
    },
    { name: 'of Kedge', bytes: statusOf(errorInfo({})), want: 'overloaded' },
  ];
  for (const { name, bytes, want } of rows) {
    it(`${name} give ${want}`, () => {
      assert.equal(errorOfGrpc(withDetails(bytes), PEER).code, want);
    });
  }

  it('cannot make a client wait for ever, nor a negative time', () => {
    assert.equal(errorOfGrpc(withDetails(statusOf(retryInfo(1n << 40n))), PEER).retryAfterMs, 3_600_000);
    assert.equal(errorOfGrpc(withDetails(statusOf(retryInfo(-5n))), PEER).retryAfterMs, 0);
  });

  it('never make it throw', () => {
    checkProperty(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer(), fc.string(), (bytes, code, details) => {
        const error = errorOfGrpc({ ...withDetails(bytes, code), details }, PEER);
        assert.ok(Object.hasOwn(ERROR_TABLE, error.code));
        assert.ok(error.message.isWellFormed());
      }),
      1_000,
    );
  });
});

describe('isGrpcFailure', () => {
  it('knows a ServiceError from other errors', () => {
    assert.ok(isGrpcFailure(Object.assign(new Error('x'), { code: 14, details: 'gone' })));
    for (const other of [
      new Error('x'),
      Object.assign(new Error('x'), { code: 'ENOENT' }),
      { code: 14, details: '' },
      null,
    ]) {
      assert.ok(!isGrpcFailure(other));
    }
  });
});
