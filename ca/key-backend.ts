import type { Clock } from '../host/clock.ts';
import type { Random } from '../host/random.ts';
import type { Secret } from '../pki/secret.ts';
import type { CaConfig } from './config.ts';
import type { KeyHandle, KeyImporter, KeyManager, KeyManagerKind } from './keys/key-manager.ts';
import { RoutedKeyManager } from './keys/routed-key-manager.ts';
import { SealedKeyManager } from './keys/sealed-key-manager.ts';

/** What {@link openKeys} needs. */
export interface KeysOptions {
  readonly config: CaConfig;
  readonly sealingKey: Secret;
  readonly otherSealingKeys: readonly Secret[];
  readonly clock: Clock;
  readonly random: Random;
}

/** The key managers, each the same set of keys; they differ in where new ones are made. */
export interface Keys {
  readonly anchors: KeyManager;
  readonly issuers: KeyManager;
  /** Takes issuers' keys that others made: always sealed in the trust state. */
  readonly importer: KeyImporter;
  /** See {@link SealedKeyManager.rewrap}. */
  readonly rewrap: (handle: KeyHandle) => KeyHandle | null;
  close(): Promise<void>;
}

/** Opens the key managers that the configuration names. Throws `hsm_module_unavailable`; a token is waited for later. */
export async function openKeys(options: KeysOptions): Promise<Keys> {
  const { config, sealingKey, otherSealingKeys, clock, random } = options;
  const trustDomain = config.trustDomain.name;
  const store = new SealedKeyManager({ trustDomain, sealingKey, otherSealingKeys, random });
  const token = await openToken(config, clock);
  const managers = { store, ...(token === null ? {} : { pkcs11: token.keys }) };
  const routed = (makes: KeyManagerKind): KeyManager =>
    token === null ? store : new RoutedKeyManager({ managers, makes });
  return {
    anchors: routed(config.anchor.keyManager),
    issuers: routed(config.issuer.keyManager),
    importer: store,
    rewrap: (handle) => store.rewrap(handle),
    close: async () => token?.close(),
  };
}

async function openToken(
  { pkcs11, trustDomain }: CaConfig,
  clock: Clock,
): Promise<{ readonly keys: KeyManager; close(): Promise<void> } | null> {
  if (pkcs11 === null) return null;
  const { Pkcs11KeyManager } = await import('./keys/pkcs11/pkcs11-key-manager.ts');
  const { addonPath, WorkerTokenThread } = await import('./keys/pkcs11/token-thread.ts');
  const { readPin } = await import('./keys/pkcs11/pin-file.ts');
  const { module, token, pinFile, timeoutMs } = pkcs11;
  addonPath();
  const thread = new WorkerTokenThread({ module, clock, timeoutMs });
  const pin = (): Promise<string> => readPin(pinFile);
  const keys = new Pkcs11KeyManager({ trustDomain: trustDomain.name, token, pin, thread });
  return { keys, close: () => thread.close() };
}
