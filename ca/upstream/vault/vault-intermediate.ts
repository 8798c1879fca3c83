import type { Clock } from '../../../host/clock.ts';
import type { Log } from '../../../host/log.ts';
import { equalBytes, toHex } from '../../../pki/bytes.ts';
import { parseCertificate } from '../../../pki/certificate.ts';
import { parseCsr, verifyProofOfPossession } from '../../../pki/csr.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { encodePem } from '../../../pki/pem.ts';
import { subjectKeyId } from '../../../pki/public-key.ts';
import type { TrustDomain } from '../../../pki/spiffe-id.ts';
import type { MintedIssuer, MintIssuerRequest } from '../upstream-authority.ts';
import { answerInvalid, certificatesMember, dataOf, type JsonMembers } from './vault-answer.ts';
import { checkVaultPath } from './vault-certificate-check.ts';
import { chainTo, rootOf } from './vault-chain.ts';
import type { VaultClient } from './vault-client.ts';
import type { MountIssuer } from './vault-mount.ts';
import type { VaultSession } from './vault-session.ts';

/** What a {@link VaultIntermediate} is made of. */
export interface VaultIntermediateOptions {
  readonly trustDomain: TrustDomain;
  readonly client: Pick<VaultClient, 'clockSkewMs'>;
  readonly session: Pick<VaultSession, 'call'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Vault begins certificates this long before the call by itself, milliseconds. */
const DEFAULT_NOT_BEFORE_MS = 30_000;
/** Taken off what is asked for: Vault counts from when it signs, by its own clock. Milliseconds. */
const TTL_MARGIN_MS = 10_000;
/** A new issuer shorter than this is of no use, milliseconds. */
const MIN_TTL_MS = 15_000;
/** What Vault may give less than was asked before it is worth a word, milliseconds. */
const SHORTER_MS = 120_000;
const CN_CHARS = 64;

/**
 * Has Vault sign an issuer by `sign-intermediate`: the URI SAN, path length 0, a name of its own and the lifetime are
 * given as parameters and never taken from the CSR, so that a policy can hold them fast; the answer is believed
 * nothing: what of it is the issuer, and what leads from there to the anchor, is found by keys and signatures.
 */
export class VaultIntermediate {
  readonly #options: VaultIntermediateOptions;

  constructor(options: VaultIntermediateOptions) {
    this.#options = options;
  }

  /** Refuses a CSR that is not of an issuer of the trust domain. Throws the csr_ codes. */
  checkCsr(der: Uint8Array): void {
    const { trustDomain } = this.#options;
    const csr = parseCsr(der);
    verifyProofOfPossession(csr);
    const [uri, ...more] = csr.uriSans;
    if (uri === trustDomain.id && more.length === 0) return;
    throw new KedgeError(
      'csr_spiffe_id_mismatch',
      `the CSR of an issuer of ${quote(trustDomain.id)} asks for ${quote(csr.uriSans.join(' '))}`,
      { hint: 'give the trust domain ID as the only URI SAN' },
    );
  }

  /** An issuer below `issuer.certificate`, with its chain up to the anchor of `request`. */
  async mint(
    request: MintIssuerRequest,
    issuer: MountIssuer & { readonly path: string },
    signal: AbortSignal,
  ): Promise<MintedIssuer> {
    const { session } = this.#options;
    const { path } = issuer;
    const what = `the answer to ${quote(path, 200)}`;
    const untilMs = this.#lastMoment(request, issuer);
    const body = this.#parameters(request, untilMs);
    const call = { operation: 'write', path, body, mountKind: 'PKI secrets engine' } as const;
    const answer = await session.call(call, signal);
    const data = dataOf(answer, what);
    const [minted, ...bundled] = certificatesMember(data, 'certificate', what);
    if (minted === undefined) throw answerInvalid(what, 'has no certificate');
    const pool = [
      ...bundled,
      ...certificatesMember(data, 'issuing_ca', what),
      ...certificatesMember(data, 'ca_chain', what),
      issuer.certificate,
      ...issuer.pool,
    ];
    const chain = chainTo(request.anchor.certificate, minted, pool);
    if (chain === null) throw this.#foreign(minted, pool);
    this.#checkTimes(untilMs, minted, answer);
    checkVaultPath({
      trustDomain: this.#options.trustDomain,
      path: [...chain, request.anchor.certificate],
      spki: parseCsr(request.csr).spki,
      nowMs: this.#options.clock.now(),
    });
    return { chain };
  }

  /** When the issuer is to end: Vault may sign beyond the end of its own CA, and whoever verifies would refuse that. */
  #lastMoment({ anchor, notAfterMs }: MintIssuerRequest, issuer: MountIssuer): number {
    const above = chainTo(anchor.certificate, issuer.certificate, issuer.pool) ?? [];
    const ends = [anchor.certificate, ...above].map((der) => parseCertificate(der).notAfterMs);
    const untilMs = Math.min(notAfterMs, ...ends) - TTL_MARGIN_MS;
    if (untilMs - this.#options.clock.now() >= MIN_TTL_MS) return untilMs;
    throw new KedgeError(
      'authority_unusable',
      `an issuer could live until ${new Date(untilMs).toISOString()} at most, which is too short`,
      { hint: 'the root, or a CA between, ends soon: replace it in Vault first, or ask for longer issuers' },
    );
  }

  #parameters({ csr, notBeforeMs }: MintIssuerRequest, untilMs: number): object {
    const { clock, trustDomain } = this.#options;
    const nowMs = clock.now();
    const backdateMs = Math.max(nowMs - notBeforeMs, DEFAULT_NOT_BEFORE_MS);
    const id = toHex(subjectKeyId(parseCsr(csr).spki)).slice(0, 16);
    return {
      csr: encodePem('CERTIFICATE REQUEST', csr),
      // Vault names the issuer by nothing else, and no two keys may share a name.
      common_name: `Kedge issuer ${id}`.slice(0, CN_CHARS),
      organization: trustDomain.name.slice(0, CN_CHARS),
      exclude_cn_from_sans: true,
      uri_sans: trustDomain.id,
      max_path_length: 0,
      ttl: `${Math.floor((untilMs - nowMs) / 1_000)}s`,
      not_before_duration: `${Math.floor(backdateMs / 1_000)}s`,
      format: 'pem',
    };
  }

  /** Signed, but not under the anchor: what was asked for is thrown away. */
  #foreign(minted: Uint8Array, pool: readonly Uint8Array[]): KedgeError {
    const root = rootOf(minted, pool);
    if (root === null || equalBytes(root, minted)) {
      return new KedgeError(
        'authority_unusable',
        'Vault gave an issuer that no chain connects with the trust anchor',
        {
          hint: 'the chain lacks a CA: import it into the mount, or name it by upstream.vault.anchorsFile',
        },
      );
    }
    return new KedgeError(
      'vault_root_changed',
      'Vault signed an issuer under another root than the trust anchor in use; it was thrown away',
      { hint: 'the new root enters the bundle first, then issuers follow: see kedge status' },
    );
  }

  #checkTimes(untilMs: number, minted: Uint8Array, answer: JsonMembers): void {
    const { client, clock, log } = this.#options;
    const { notBeforeMs, notAfterMs } = parseCertificate(minted, 'vault_answer_invalid');
    const nowMs = clock.now();
    const skewMs = client.clockSkewMs;
    const isEarly = nowMs < notBeforeMs && skewMs > 0;
    const isLate = nowMs >= notAfterMs && skewMs < 0;
    if (isEarly || isLate) {
      const seconds = Math.round(Math.abs(skewMs) / 1_000);
      throw new KedgeError(
        'vault_clock_skewed',
        `Vault's clock is ${seconds} s ${isEarly ? 'ahead of' : 'behind'} ours: its issuer is not valid now`,
        { hint: 'have both clocks set by NTP' },
      );
    }
    if (notAfterMs < untilMs - SHORTER_MS) {
      const { warnings } = answer;
      const said = Array.isArray(warnings) ? warnings.filter((text) => /ttl/i.test(String(text))) : [];
      log.warn('vault.issuer_shorter', {
        askedUntil: new Date(untilMs).toISOString(),
        givenUntil: new Date(notAfterMs).toISOString(),
        warnings: said.map((text) => quote(String(text), 200)).slice(0, 4),
        hint: 'raise max_lease_ttl of the mount: vault secrets tune -max-lease-ttl=...',
      });
    }
  }
}
