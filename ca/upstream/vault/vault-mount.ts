import { readSmallFile } from '../../../host/small-file.ts';
import { isKedgeError, KedgeError, quote } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { decodePem } from '../../../pki/pem.ts';
import {
  answerInvalid,
  certificatesMember,
  dataOf,
  isMembers,
  type JsonMembers,
  textMember,
} from './vault-answer.ts';
import type { VaultClient } from './vault-client.ts';
import type { VaultSession } from './vault-session.ts';
import type { VaultPkiSettings } from './vault-settings.ts';

/** A CA certificate of a PKI mount, with what Vault has above it. */
export interface MountIssuer {
  /** Vault's id for it; null where the version knows but one CA per mount (before 1.11). */
  readonly id: string | null;
  readonly certificate: Uint8Array;
  /** As Vault gives it, perhaps with the certificate itself, perhaps without the root; then the anchors file. */
  readonly pool: readonly Uint8Array[];
}

/** What a {@link VaultMount} is made of. */
export interface VaultMountOptions {
  readonly settings: Pick<VaultPkiSettings, 'mount' | 'issuerRef' | 'anchorsFile'>;
  readonly client: Pick<VaultClient, 'callPublic'>;
  readonly session: Pick<VaultSession, 'call'>;
}

const ANCHORS_FILE_BYTES = 256 * 1024;
const ID = /^[\w-]{1,128}$/;

/**
 * The CA certificates of a PKI mount, read from its public paths, for which no policy is needed. Vault before 1.11 has
 * one CA per mount, later ones and OpenBao have issuers.
 *
 * Throws what {@link VaultClient} does; `vault_root_missing` for a mount without a CA, `vault_issuer_missing`,
 * `vault_mount_missing`, `file_unreadable`, `pem_invalid` of the anchors file.
 */
export class VaultMount {
  readonly #options: VaultMountOptions;

  constructor(options: VaultMountOptions) {
    this.#options = options;
  }

  /** The issuer that signs now: the one that is pinned, else the mount's default. */
  async signing(signal: AbortSignal): Promise<MountIssuer> {
    const { issuerRef, mount } = this.#options.settings;
    const found = await this.#issuer(issuerRef ?? 'default', signal);
    if (found !== null) return found;
    if (issuerRef === null) return this.#onlyCa(signal);
    throw new KedgeError(
      'vault_issuer_missing',
      `Vault has no issuers at ${quote(mount)}, so none of the name ${quote(issuerRef)}`,
      {
        hint: 'Vault before 1.11 has one CA per mount: leave out upstream.vault.issuerRef; or correct upstream.vault.mount',
      },
    );
  }

  /** The issuers of the mount that can sign; empty where the version has none. */
  async all(signal: AbortSignal): Promise<readonly MountIssuer[]> {
    const { client, settings } = this.#options;
    const path = `${settings.mount}/issuers`;
    const answer = await client.callPublic(`${path}?list=true`, signal);
    if (answer === null) return [];
    const what = `the answer to ${quote(path, 200)}`;
    const data = dataOf(answer, what);
    const { keys } = data;
    if (!Array.isArray(keys) || keys.length > LIMITS.vaultIssuers) {
      throw answerInvalid(what, `has no keys, or more than ${LIMITS.vaultIssuers}`);
    }
    const issuers: MountIssuer[] = [];
    for (const id of keys as readonly unknown[]) {
      if (typeof id !== 'string' || !ID.test(id)) throw answerInvalid(what, 'has a key that is no id');
      if (lacksKey(data, id)) continue;
      const issuer = await this.#issuer(id, signal);
      if (issuer !== null) issuers.push(issuer);
    }
    return issuers;
  }

  /** Null where Vault has no issuers. */
  async #issuer(ref: string, signal: AbortSignal): Promise<MountIssuer | null> {
    const { client, settings } = this.#options;
    const path = `${settings.mount}/issuer/${ref}/json`;
    let answer: JsonMembers | null;
    try {
      answer = await client.callPublic(path, signal);
    } catch (error) {
      throw this.#withoutIssuer(error, ref);
    }
    if (answer === null) return null;
    const what = `the answer to ${quote(path, 200)}`;
    const data = dataOf(answer, what);
    const [certificate] = certificatesMember(data, 'certificate', what);
    if (certificate === undefined) throw answerInvalid(what, 'has no certificate');
    const chain = certificatesMember(data, 'ca_chain', what);
    const id = textMember(data, 'issuer_id', what);
    if (id !== '' && !ID.test(id)) throw answerInvalid(what, 'has an issuer_id that is no id');
    return { id: id === '' ? ref : id, certificate, pool: [...chain, ...(await this.#anchors())] };
  }

  /** Vault answers 500 for an issuer that is not there, 400 for a default that is not set. */
  #withoutIssuer(error: unknown, ref: string): unknown {
    if (!isKedgeError(error, 'vault_unavailable', 'vault_refused')) return error;
    const { mount } = this.#options.settings;
    if (/no default issuer/.test(error.message)) return rootMissing(mount, error);
    if (!/unable to find PKI issuer/.test(error.message)) return error;
    return new KedgeError('vault_issuer_missing', error.message, {
      hint: `correct upstream.vault.issuerRef, ${quote(ref)}: vault list ${mount}/issuers`,
      cause: error,
    });
  }

  /** The CA of a mount of Vault before 1.11. Its `ca_chain` is empty under a root, and lacks what was not uploaded. */
  async #onlyCa(signal: AbortSignal): Promise<MountIssuer> {
    const { mount } = this.#options.settings;
    const [certificate] = await this.#certificates('cert/ca', signal);
    if (certificate === undefined) throw rootMissing(mount);
    const chain = await this.#certificates('cert/ca_chain', signal);
    return { id: null, certificate, pool: [...chain, ...(await this.#anchors())] };
  }

  async #certificates(name: string, signal: AbortSignal): Promise<readonly Uint8Array[]> {
    const { client, session, settings } = this.#options;
    const path = `${settings.mount}/${name}`;
    try {
      const call = { operation: 'read', path, mountKind: 'PKI secrets engine' } as const;
      // Every PKI mount has this path, and to everyone: that it is refused says that there is none.
      const answer = (await client.callPublic(path, signal)) ?? (await session.call(call, signal));
      const what = `the answer to ${quote(path, 200)}`;
      return certificatesMember(dataOf(answer, what), 'certificate', what);
    } catch (error) {
      throw this.#withoutCa(error);
    }
  }

  #withoutCa(error: unknown): unknown {
    const { mount } = this.#options.settings;
    if (isKedgeError(error, 'vault_forbidden')) {
      return new KedgeError('vault_mount_missing', `Vault shows no CA certificate at ${quote(mount)}`, {
        hint: `there is most likely no PKI secrets engine there: vault secrets list (upstream.vault.mount, upstream.vault.namespace)`,
        cause: error,
      });
    }
    if (!isKedgeError(error, 'vault_refused')) return error;
    return rootMissing(mount, error);
  }

  async #anchors(): Promise<readonly Uint8Array[]> {
    const { anchorsFile } = this.#options.settings;
    if (anchorsFile === null) return [];
    const bytes = await readSmallFile(anchorsFile, ANCHORS_FILE_BYTES, 'the file of roots for Vault');
    return decodePem(Buffer.from(bytes).toString('latin1'), 'CERTIFICATE').slice(0, LIMITS.vaultCertificates);
  }
}

/** Whether a list of issuers says of one that it is a certificate without its key. */
function lacksKey(data: JsonMembers, id: string): boolean {
  const { key_info: info } = data;
  const entry = isMembers(info) ? info[id] : undefined;
  return isMembers(entry) && entry['key_id'] === '';
}

function rootMissing(mount: string, cause?: unknown): KedgeError {
  return new KedgeError('vault_root_missing', `the PKI mount ${quote(mount)} of Vault has no CA`, {
    hint: `make one: vault write ${mount}/root/generate/internal common_name="..." ttl=87600h`,
    cause,
  });
}
