import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { AuthorityKeyAlgorithm, KeyHandle, KeyManager, KeyManagerKind, Signer } from './key-manager.ts';

/** What a {@link RoutedKeyManager} is made of. */
export interface RoutedKeyManagerOptions {
  /** Those that are configured; their owner closes them. */
  readonly managers: Readonly<Partial<Record<KeyManagerKind, KeyManager>>>;
  /** Which of them makes new keys. */
  readonly makes: KeyManagerKind;
}

/**
 * Several key managers as one: new keys come from one of them, and each key is signed with and destroyed where it is.
 * So an authority goes on signing with the key that it has while the next one already gets its key elsewhere.
 */
export class RoutedKeyManager implements KeyManager {
  readonly #options: RoutedKeyManagerOptions;

  constructor(options: RoutedKeyManagerOptions) {
    this.#options = options;
  }

  async generate(id: string, algorithm: AuthorityKeyAlgorithm): Promise<KeyHandle> {
    return this.#of(this.#options.makes, id).generate(id, algorithm);
  }

  async signer(handle: KeyHandle): Promise<Signer> {
    return this.#of(handle.manager, handle.id).signer(handle);
  }

  async destroy(handle: KeyHandle): Promise<void> {
    await this.#of(handle.manager, handle.id).destroy(handle);
  }

  #of(kind: KeyManagerKind, id: string): KeyManager {
    const { managers } = this.#options;
    const manager = Object.hasOwn(managers, kind) ? managers[kind] : undefined;
    if (manager !== undefined) return manager;
    throw new KedgeError('key_not_found', `the key ${quote(id)} is in a key manager that is not configured`, {
      hint: `configure keys.${kind}: an authority needs it until it is removed`,
    });
  }
}
