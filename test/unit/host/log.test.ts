import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { errorFields, jsonLog, LOG_LEVELS, type LogLevel, silentLog } from '../../../host/log.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { Secret } from '../../../pki/secret.ts';

function logged(level: LogLevel = 'debug') {
  const lines: string[] = [];
  return { lines, log: jsonLog({ level, write: (line) => lines.push(line), now: () => 0 }) };
}

describe('the log', () => {
  it('writes one JSON line an event', () => {
    const { lines, log } = logged();
    log.info('issuer.activated', { id: 'ab', sequence: 7n, when: undefined });
    assert.deepEqual(lines, [
      '{"time":"1970-01-01T00:00:00.000Z","level":"info","event":"issuer.activated","id":"ab","sequence":"7"}\n',
    ]);
  });

  for (const [index, threshold] of LOG_LEVELS.entries()) {
    it(`drops what is below ${threshold}`, () => {
      const { lines, log } = logged(threshold);
      for (const level of LOG_LEVELS) log[level]('x.y');
      assert.equal(lines.length, LOG_LEVELS.length - index);
    });
  }

  it('prints no secret and no bytes', () => {
    const { lines, log } = logged();
    log.warn('x.y', {
      key: new Secret(Buffer.from('hunter2')),
      der: Buffer.from('hunter2'),
      plain: new Uint8Array(3),
    });
    assert.ok(!lines[0]!.includes('hunter2'));
    assert.match(lines[0]!, /"key":"\[redacted\]"/);
    assert.match(lines[0]!, /"plain":"\[3 bytes\]"/);
  });

  it('keeps a line a line, whatever a field holds', () => {
    const { lines, log } = logged();
    log.error('x.y', { text: 'a\n{"level":"info"}\u2028' });
    assert.equal(lines[0]!.trimEnd().split('\n').length, 1);
  });

  it('tells an error with its causes, and a stack only of what is not ours', () => {
    const cause = new TypeError('beneath');
    const { stack, ...fields } = errorFields(new KedgeError('overloaded', 'busy', { hint: 'wait', cause }));
    assert.equal(stack, undefined);
    assert.deepEqual(fields['code'], 'overloaded');
    assert.equal((fields['cause'] as { message: string }).message, 'beneath');
    assert.match((fields['cause'] as { stack: string }).stack, /TypeError: beneath/);
    assert.deepEqual(errorFields('a text'), { message: 'a text' });
  });

  it('ends a chain of causes that has no end', () => {
    const error = new Error('a');
    error.cause = error;
    assert.ok(JSON.stringify(errorFields(error)).length < 20_000);
  });

  it('can be silent', () => {
    for (const level of LOG_LEVELS) silentLog[level]('x.y');
  });
});
