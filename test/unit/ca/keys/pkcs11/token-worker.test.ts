import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runInNewContext } from 'node:vm';
import type { TokenAnswer, TokenCall } from '../../../../../ca/keys/pkcs11/token-protocol.ts';
import { tokenWorker, type TokenPort } from '../../../../../ca/keys/pkcs11/token-worker.ts';
import { FakeToken } from '../../../../fakes/fake-token.ts';

describe('what runs in the thread that talks to a token', () => {
  it('uses nothing but its arguments and what every thread has: its text alone makes it', () => {
    const elsewhere = runInNewContext(`(${tokenWorker.toString()})`, {
      Buffer,
      Uint8Array,
    }) as typeof tokenWorker;
    const answers: TokenAnswer[] = [];
    let send: Parameters<TokenPort['on']>[1] = () => assert.fail('it does not listen');
    const port: TokenPort = {
      on: (_event, listener) => {
        send = listener;
      },
      postMessage: (answer) => void answers.push(answer),
    };
    const token = new FakeToken();
    elsewhere(port, token.addon(), { addon: '', module: '' });
    const id = Uint8Array.of(1, 2, 3);
    const ecParameters = Buffer.from('06082a8648ce3d030107', 'hex');
    const calls: readonly TokenCall[] = [
      { kind: 'sign', id, mechanism: 'ecdsa', data: new Uint8Array(32) },
      { kind: 'open', label: 'kedge', pin: token.pin, again: false },
      { kind: 'sign', id, mechanism: 'ecdsa', data: new Uint8Array(32).fill(7) },
      { kind: 'generate', id, label: 'key', key: { ecParameters } },
      { kind: 'sign', id, mechanism: 'ecdsa', data: new Uint8Array(32).fill(7) },
      { kind: 'destroy', id },
      { kind: 'open', label: 'other', pin: token.pin, again: true },
    ];
    for (const [sequence, call] of calls.entries()) send({ sequence, call });
    assert.deepEqual(
      answers.map((answer) => ('value' in answer ? answer.value.kind : answer.fault.kind)),
      ['closed', 'opened', 'no-key', 'generated', 'signed', 'destroyed', 'no-token'],
    );
    assert.deepEqual(
      answers.map(({ sequence }) => sequence),
      calls.map((_, index) => index),
    );
  });
});
