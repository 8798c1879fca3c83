const REDACTED = '[redacted]';

/**
 * Bytes that must not be printed: a private key, a token, a passphrase.
 *
 * Every way of turning it into text gives `[redacted]`. The holder of the `Secret` owns the bytes; whoever takes
 * them out with {@link Secret.expose} must not keep a copy longer than the call that needs it.
 */
export class Secret {
  #bytes: Uint8Array | null;

  /** Takes ownership of `bytes`: the caller must not use them afterwards. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The bytes themselves. Throws when the secret was destroyed. */
  expose(): Uint8Array {
    if (this.#bytes === null) throw new TypeError('the secret was destroyed');
    return this.#bytes;
  }

  /** Overwrites the bytes with zeros and drops them. Harmless when repeated. */
  destroy(): void {
    this.#bytes?.fill(0);
    this.#bytes = null;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return REDACTED;
  }
}
