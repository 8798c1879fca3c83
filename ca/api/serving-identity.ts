import { generateKeyPairSync } from 'node:crypto';
import { backoffMs } from '../../host/backoff.ts';
import { type Clock, sleepUntil } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { buildCsr } from '../../pki/csr-builder.ts';
import { encodePem } from '../../pki/pem.ts';
import type { IssuedSvid } from '../issue/issuance.ts';
import type { ServingCertificate } from './tls-listener.ts';

/** The path of the CA's own SPIFFE ID: `spiffe://<trust domain>/kedge/ca`. */
export const CA_PATH = '/kedge/ca';

/** What a {@link ServingIdentity} is made of. */
export interface ServingIdentityOptions {
  /** Issues the CA's own SVID for a CSR. */
  readonly issue: (csr: Uint8Array) => Promise<IssuedSvid>;
  /** The issuer that signs now: subject key identifier, lower-case hex; null while there is none. */
  readonly issuerId: () => string | null;
  /** Takes each new certificate, and when it expires. */
  readonly onCertificate: (certificate: ServingCertificate, notAfterMs: number) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const BACKOFF = { baseMs: 500, capMs: 30_000 } as const;

/**
 * The CA's own SVID: issued by the CA itself, replaced when half of its time is over and whenever another issuer
 * signs, each time with a new key.
 */
export class ServingIdentity {
  readonly #options: ServingIdentityOptions;
  readonly #changes = new Wakeup();
  #svid: IssuedSvid | null = null;
  #renewAtMs = 0;

  constructor(options: ServingIdentityOptions) {
    this.#options = options;
  }

  /** The newest; null until there is one. */
  get svid(): IssuedSvid | null {
    return this.#svid;
  }

  /** Obtains an SVID now. Rejects with the refusal; the one before goes on serving. */
  async renew(): Promise<ServingCertificate> {
    const { issue, onCertificate, clock, log } = this.#options;
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const svid = await issue(buildCsr({ privateKey }));
    const nowMs = clock.now();
    this.#svid = svid;
    this.#renewAtMs = nowMs + (svid.notAfterMs - nowMs) / 2;
    const certificate = {
      chainPem: svid.chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
      keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
    onCertificate(certificate, svid.notAfterMs);
    log.info('serving_certificate.renewed', {
      spiffeId: svid.spiffeId.toString(),
      issuer: svid.authorityKeyId,
      notAfterMs: svid.notAfterMs,
    });
    return certificate;
  }

  /** Another issuer may sign now. */
  issuerChanged(): void {
    this.#changes.wake();
  }

  /** Replaces the SVID when it is time, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const generation = this.#changes.generation;
      try {
        if (this.#isDue()) await this.renew();
        failures = 0;
      } catch (error) {
        failures += 1;
        log.error('serving_certificate.renewal_failed', { error: errorFields(error), failures });
      }
      const untilMs = failures === 0 ? this.#renewAtMs : clock.now() + backoffMs(failures, BACKOFF, random);
      await this.#changes
        .sleep(generation, (signal) => sleepUntil(clock, untilMs, signal), signal)
        .catch((error: unknown) => {
          if (!signal.aborted) throw error;
        });
    }
  }

  #isDue(): boolean {
    const issuerId = this.#options.issuerId();
    if (this.#svid === null || this.#options.clock.now() >= this.#renewAtMs) return true;
    return issuerId !== null && issuerId !== this.#svid.authorityKeyId;
  }
}
