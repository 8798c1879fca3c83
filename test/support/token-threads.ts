import type { Pkcs11Addon } from '../../ca/keys/pkcs11/pkcs11-addon.ts';
import type { TokenAnswer, TokenCall } from '../../ca/keys/pkcs11/token-protocol.ts';
import type { TokenOutcome, TokenThread } from '../../ca/keys/pkcs11/token-thread.ts';
import { type TokenPort, tokenWorker } from '../../ca/keys/pkcs11/token-worker.ts';

type Listener = Parameters<TokenPort['on']>[1];

/** What runs in the thread, in this one: each call is answered before it returns. */
export class InlineTokenThread implements TokenThread {
  #listener: Listener | null = null;
  #answer: TokenAnswer | null = null;

  constructor(addon: Pkcs11Addon) {
    const port: TokenPort = {
      on: (_event, listener) => {
        this.#listener = listener;
      },
      postMessage: (answer) => {
        this.#answer = answer;
      },
    };
    tokenWorker(port, addon, { addon: '', module: '' });
  }

  async call(call: TokenCall): Promise<TokenOutcome> {
    this.#listener?.({ sequence: 1, call });
    const answer = this.#answer;
    if (answer === null) throw new TypeError('the worker did not answer');
    return 'value' in answer ? { ok: true, value: answer.value } : { ok: false, fault: answer.fault };
  }

  async close(): Promise<void> {}
}
