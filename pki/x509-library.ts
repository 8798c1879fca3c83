/**
 * The one door to `@peculiar/x509` on `@peculiar/webcrypto`, for the cold paths.
 *
 * The library needs the Reflect metadata polyfill before it is evaluated, which the order of these imports gives.
 * Its global crypto provider is never set nor used: every call names its crypto. Importing this file costs a
 * process about 25 MB and 200 ms, so nothing that the agent or the hot path loads may import it.
 */
import 'reflect-metadata';
import type { webcrypto } from 'node:crypto';
import { Crypto as WebCrypto } from '@peculiar/webcrypto';

export * as x509 from '@peculiar/x509';

/** A crypto of `@peculiar/webcrypto`, which is synchronous `node:crypto` underneath and holds no keys. */
export function newWebCrypto(): webcrypto.Crypto {
  return new WebCrypto();
}
