import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type HaproxyFile, isHaproxyPath, setCommands } from '../../../../agent/feed/haproxy-commands.ts';
import { expectCode } from '../../../support/expect-code.ts';

const CA: HaproxyFile = { kind: 'ca-file', path: '/run/ca.pem' };
const block = (letter: string, length = 100): string => `${letter.repeat(length - 1)}\n`;

describe('commands to HAProxy', () => {
  it('put all blocks into one set, with an empty line at its end', () => {
    assert.deepEqual(setCommands(CA, [block('a', 3), block('b', 3)], { maxBytes: 100, mayAdd: false }), [
      'set ssl ca-file /run/ca.pem <<\naa\nbb\n\n',
    ]);
  });

  it('may be as long as HAProxy takes, and not a byte longer: 2.6 dies of it', () => {
    const blocks = [block('a')];
    const [command = ''] = setCommands(CA, blocks, { maxBytes: 1000, mayAdd: false });
    assert.equal(setCommands(CA, blocks, { maxBytes: command.length, mayAdd: false }).length, 1);
    for (const mayAdd of [false, true]) {
      expectCode('haproxy_payload_too_large', () =>
        setCommands(CA, blocks, { maxBytes: command.length - 1, mayAdd }),
      );
    }
  });

  it('are divided for a CA file where HAProxy can add, every block whole and in one of them', () => {
    const blocks = ['a', 'b', 'c', 'd', 'e'].map((letter) => block(letter));
    const commands = setCommands(CA, blocks, { maxBytes: 250, mayAdd: true });
    assert.deepEqual(
      commands.map((command) => command.split(' ')[0]),
      ['set', 'add', 'add'],
    );
    assert.ok(commands.every((command) => command.length <= 250 && command.endsWith('\n\n')));
    assert.deepEqual(
      commands.flatMap((command) => command.split('\n').filter((line) => line.length === 99)),
      [...blocks.map((text) => text.trimEnd())],
    );
    expectCode('haproxy_payload_too_large', () => setCommands(CA, blocks, { maxBytes: 250, mayAdd: false }));
    const crl: HaproxyFile = { kind: 'crl-file', path: '/run/crl.pem' };
    expectCode('haproxy_payload_too_large', () => setCommands(crl, blocks, { maxBytes: 250, mayAdd: true }));
  });

  it('never hold an empty line inside the payload: what follows would be read as a command', () => {
    for (const text of ['\na\n', 'a\n\nb\n', 'a', '']) {
      assert.throws(() => setCommands(CA, [text], { maxBytes: 1000, mayAdd: false }), TypeError);
    }
  });

  it('take paths that need no quoting, and no others', () => {
    for (const path of ['/run/kedge/haproxy', '/a-b_c.d/e@f,g=h+i']) assert.ok(isHaproxyPath(path), path);
    for (const path of ['run', '/a b', '/a;b', '/a\nb', '/a\\b', '/a<<', '/a"', '/', '/ä']) {
      assert.ok(!isHaproxyPath(path), path);
    }
  });
});
