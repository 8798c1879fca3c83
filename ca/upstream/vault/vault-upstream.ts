import { backoffMs } from '../../../host/backoff.ts';
import type { Clock } from '../../../host/clock.ts';
import { errorFields, type Log } from '../../../host/log.ts';
import type { Random } from '../../../host/random.ts';
import { Wakeup } from '../../../host/wakeup.ts';
import { equalBytes, toHex } from '../../../pki/bytes.ts';
import { parseCertificate } from '../../../pki/certificate.ts';
import { isKedgeError, KedgeError, quote } from '../../../pki/kedge-error.ts';
import type { TrustDomain } from '../../../pki/spiffe-id.ts';
import type {
  MintedIssuer,
  MintIssuerRequest,
  NewAnchorRequest,
  UpstreamAnchor,
  UpstreamAuthority,
} from '../upstream-authority.ts';
import { checkVaultPath } from './vault-certificate-check.ts';
import { chainTo, rootOf } from './vault-chain.ts';
import type { VaultClient } from './vault-client.ts';
import { VaultIntermediate } from './vault-intermediate.ts';
import { type MountIssuer, VaultMount } from './vault-mount.ts';
import type { VaultSession } from './vault-session.ts';
import type { VaultPkiSettings } from './vault-settings.ts';

/** What a {@link VaultUpstream} is made of. The upstream closes none of it. */
export interface VaultUpstreamOptions {
  readonly settings: VaultPkiSettings;
  readonly trustDomain: TrustDomain;
  readonly client: VaultClient;
  readonly session: VaultSession;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * The {@link UpstreamAuthority} whose anchors are the roots of a PKI mount of Vault or OpenBao.
 *
 * The anchor is the self-signed root above the issuer that signs now: the pinned one, or the mount's default. Before
 * each mint the mount is looked at: an issuer is asked for under exactly the anchor that the trust domain uses, and
 * when the mount would sign under another root, nothing is signed until the lifecycle has made that one known.
 */
export class VaultUpstream implements UpstreamAuthority {
  readonly kind = 'vault';
  readonly #options: VaultUpstreamOptions;
  readonly #mount: VaultMount;
  readonly #intermediate: VaultIntermediate;
  /** Wakes the watch when a mint has met another root. */
  readonly #changes = new Wakeup();
  #problem: string | null = null;

  constructor(options: VaultUpstreamOptions) {
    this.#options = options;
    this.#mount = new VaultMount(options);
    this.#intermediate = new VaultIntermediate(options);
  }

  /** What is wrong at Vault since the last call of it went well; null = nothing. */
  problem(): string | null {
    return this.#problem;
  }

  async newAnchor({ known }: NewAnchorRequest, signal: AbortSignal): Promise<UpstreamAnchor | null> {
    return this.#noting(signal, async () => {
      const certificate = this.#rootOf(await this.#mount.signing(signal));
      if (known.some((other) => equalBytes(other, certificate))) return null;
      const { clock, trustDomain } = this.#options;
      checkVaultPath({ trustDomain, path: [certificate], spki: null, nowMs: clock.now() });
      return { certificate, key: null };
    });
  }

  async mintIssuer(request: MintIssuerRequest, signal: AbortSignal): Promise<MintedIssuer> {
    return this.#noting(signal, async () => {
      this.#intermediate.checkCsr(request.csr);
      const issuer = await this.#issuerUnder(request.anchor.certificate, signal);
      return this.#intermediate.mint(request, issuer, signal);
    });
  }

  /** Looks at the mount every `pollMs`, and more often while it cannot be read; yields when its root is another. */
  async *watch(signal: AbortSignal): AsyncGenerator<void, void> {
    const { clock, log, random, settings } = this.#options;
    let known: string | null = null;
    let failures = 0;
    while (!signal.aborted) {
      const { generation } = this.#changes;
      const wasAway = failures > 0;
      try {
        const root = toHex(
          await this.#noting(signal, async () => this.#rootOf(await this.#mount.signing(signal))),
        );
        failures = 0;
        const isOther = known !== null && known !== root;
        known = root;
        if (isOther || wasAway) yield;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        if (!wasAway) log.warn('vault.poll_failed', errorFields(error));
      }
      // Spread over replicas; after a failure sooner, with full jitter.
      const waitMs =
        failures > 0
          ? backoffMs(failures, { baseMs: 1_000, capMs: settings.pollMs }, random)
          : settings.pollMs * (0.9 + random.fraction() / 5);
      const sleep = (end: AbortSignal): Promise<void> => clock.sleep(Math.ceil(waitMs), end);
      await this.#changes.sleep(generation, sleep, signal).catch(() => undefined);
    }
  }

  /**
   * The issuer of the mount to ask under `anchor`, with the path to ask at. The one that signs now where it can;
   * else, while nothing is pinned, the one that still leads to the anchor: so issuers are renewed under the old root
   * while the new one is on its way to the fleet.
   */
  async #issuerUnder(
    anchor: Uint8Array,
    signal: AbortSignal,
  ): Promise<MountIssuer & { readonly path: string }> {
    const { mount, issuerRef, signPath } = this.#options.settings;
    const signing = await this.#mount.signing(signal);
    if (leadsTo(signing, anchor)) {
      const own = issuerRef === null ? `${mount}/root/sign-intermediate` : signPathOf(mount, issuerRef);
      return { ...signing, path: signPath ?? own };
    }
    this.#changes.wake();
    if (issuerRef === null && signPath === null && signing.id !== null) {
      const fitting = (await this.#mount.all(signal))
        .map((issuer) => ({ issuer, above: chainTo(anchor, issuer.certificate, issuer.pool) }))
        .flatMap(({ issuer, above }) => (above === null ? [] : [{ issuer, length: above.length }]))
        .toSorted((a, b) => a.length - b.length);
      // Of a cross-signed pair both may fit: the one with less between it and the anchor.
      const best = fitting[0]?.issuer;
      if (best !== undefined && best.id !== null) return { ...best, path: signPathOf(mount, best.id) };
    }
    const wanted = subjectText(anchor);
    throw new KedgeError(
      'vault_root_changed',
      `Vault signs at ${quote(mount)} under another root than the trust anchor ${wanted}`,
      {
        hint:
          issuerRef === null
            ? 'the new root enters the bundle first, then issuers follow: see kedge status'
            : 'upstream.vault.issuerRef pins an issuer of another root: rotate to that one, or change the pin',
      },
    );
  }

  #rootOf(issuer: MountIssuer): Uint8Array {
    const root = rootOf(issuer.certificate, issuer.pool);
    if (root !== null) return root;
    const { mount } = this.#options.settings;
    throw new KedgeError(
      'vault_root_missing',
      `the PKI mount ${quote(mount)} of Vault does not hold the root that its CA hangs under`,
      {
        hint: 'put the root, PEM, into a file and name it by upstream.vault.anchorsFile; or import it into the mount',
      },
    );
  }

  async #noting<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      const result = await work();
      if (this.#problem !== null) this.#options.log.info('vault.recovered');
      this.#problem = null;
      return result;
    } catch (error) {
      signal.throwIfAborted();
      if (isKedgeError(error)) {
        this.#problem = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
      }
      throw error;
    }
  }
}

function signPathOf(mount: string, ref: string): string {
  return `${mount}/issuer/${ref}/sign-intermediate`;
}

function leadsTo({ certificate, pool }: MountIssuer, anchor: Uint8Array): boolean {
  return chainTo(anchor, certificate, pool) !== null;
}

/** Enough of an anchor for people to tell a few apart: the beginning of its key identifier. */
function subjectText(anchor: Uint8Array): string {
  const { subjectKeyId } = parseCertificate(anchor, 'authority_unusable');
  return toHex(subjectKeyId ?? new Uint8Array()).slice(0, 8);
}
