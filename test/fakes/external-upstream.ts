import type { KeyHandle } from '../../ca/keys/key-manager.ts';
import type {
  GivenIssuer,
  GivenIssuerRequest,
  MintedIssuer,
  MintIssuerRequest,
  NewAnchorRequest,
  UpstreamAnchor,
  UpstreamAuthority,
  UpstreamKind,
} from '../../ca/upstream/upstream-authority.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { mintIssuer } from '../../pki/authority-profile.ts';
import { equalBytes } from '../../pki/bytes.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { randomSerial, type TestCa } from '../support/certificates.ts';

/** An upstream authority whose anchors' keys are not ours, as Vault or a folder of files is one. */
export class ExternalUpstream implements UpstreamAuthority {
  readonly kind: UpstreamKind;
  /** The anchor that it would sign under now; setting it is what somebody does there. */
  #anchor: TestCa;
  readonly #changes = new Wakeup();
  /** While set, whatever it is asked fails with it. */
  fault: KedgeError | null = null;
  /** Anchors that it can sign under, beside the newest. */
  readonly held: TestCa[] = [];
  minted = 0;
  looks = 0;

  constructor(kind: UpstreamKind, anchor: TestCa) {
    this.kind = kind;
    this.#anchor = anchor;
  }

  /** Another root, from now on. */
  replace(anchor: TestCa): void {
    this.#anchor = anchor;
    this.#changes.wake();
  }

  async newAnchor({ known }: NewAnchorRequest, signal: AbortSignal): Promise<UpstreamAnchor | null> {
    signal.throwIfAborted();
    this.looks += 1;
    if (this.fault !== null) throw this.fault;
    const { der } = this.#anchor;
    return known.some((certificate) => equalBytes(certificate, der)) ? null : { certificate: der, key: null };
  }

  async mintIssuer(request: MintIssuerRequest, signal: AbortSignal): Promise<MintedIssuer> {
    signal.throwIfAborted();
    if (this.fault !== null) throw this.fault;
    const { csr, anchor, notBeforeMs, notAfterMs } = request;
    const holder = [this.#anchor, ...this.held].find(({ der }) => equalBytes(der, anchor.certificate));
    if (holder === undefined) {
      throw new KedgeError('upstream_refused', 'it signs under another trust anchor now');
    }
    this.minted += 1;
    const certificate = await mintIssuer({
      csr,
      trustDomain: TrustDomain.parse('example.org'),
      anchor: holder.der,
      signer: holder.signer,
      notBeforeMs,
      notAfterMs,
      serialNumber: randomSerial(),
    });
    return { chain: [certificate] };
  }

  async *watch(signal: AbortSignal): AsyncGenerator<void> {
    let seen = 0;
    while (!signal.aborted) {
      const woken = await this.#changes.sleep(seen, aborted, signal).catch(() => false);
      seen = this.#changes.generation;
      if (woken) yield;
    }
  }
}

/** Rejects once the signal aborts. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

/** One that gives issuers with their keys, as files do. */
export class GivingUpstream extends ExternalUpstream {
  /** What it gives now. */
  issuer: TestCa;
  readonly #takeKey: (ca: TestCa) => Promise<KeyHandle>;

  constructor(anchor: TestCa, issuer: TestCa, takeKey: (ca: TestCa) => Promise<KeyHandle>) {
    super('disk', anchor);
    this.issuer = issuer;
    this.#takeKey = takeKey;
  }

  async givenIssuer({ anchor, known }: GivenIssuerRequest): Promise<GivenIssuer | null> {
    const { der } = this.issuer;
    const isBelow = equalBytes(
      parseCertificate(der).authorityKeyId ?? new Uint8Array(),
      parseCertificate(anchor.certificate).subjectKeyId ?? new Uint8Array(1),
    );
    if (!isBelow || known.some((certificate) => equalBytes(certificate, der))) return null;
    return { chain: [der], takeKey: () => this.#takeKey(this.issuer) };
  }
}
