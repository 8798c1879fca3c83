import type { Random } from '../../host/random.ts';
import { checkRequestedId, type Csr, parseCsr, verifyProofOfPossession } from '../../pki/csr.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { SpiffeId } from '../../pki/spiffe-id.ts';
import { lintSvidTbs } from '../../pki/x509-svid-lint.ts';
import { assembleCertificate, buildSvidTbs, svidSerialNumber } from '../../pki/x509-svid-profile.ts';
import type { WorkloadInstance } from '../attest/attestor.ts';
import type { AuditReceipt } from './audit-log.ts';
import { type AuditApi, type AuditEntry, issuedEntry } from './audit-record.ts';
import type { Grant, PolicyDecision } from './policy.ts';
import { SERIAL_RANDOM_BYTES } from './serial-pool.ts';
import type { SigningIssuer } from './signing-issuer.ts';
import { svidValidity, type Validity } from './svid-validity.ts';

/**
 * How one SVID comes to be. Each step is a method of what the step before gave, and of nothing else:
 *
 *  1. {@link PreparedSvid.prepare}: policy, CSR, key type, proof of possession, requested SPIFFE ID
 *  2. {@link PreparedSvid.ticket}: issuer, dates, serial number, TBS; the TBS is linted
 *  3. {@link SigningTicket.sign}: the signature; the certificate stays inside
 *  4. `AuditLog.append` of {@link SignedSvid.entry}: the receipt
 *  5. {@link SignedSvid.release}: against that receipt, the certificate
 *
 * Nothing can be signed that was not linted, and nothing can leave that is not durably on the audit log: only this
 * file makes these objects, and the bytes are private to them.
 */
const STEP: unique symbol = Symbol('issuance step');

/** Who asks, for what. */
export interface IssuanceRequest {
  readonly api: AuditApi;
  /** The attested instance; null when the CA issues to itself. */
  readonly instance: WorkloadInstance | null;
  readonly peerAddress: string | null;
  /** What attestation yielded: the only SPIFFE ID that the SVID can carry. */
  readonly spiffeId: SpiffeId;
  /** PKCS#10, DER, as it came. */
  readonly csr: Uint8Array;
}

/** What a ticket needs beside the prepared request. */
export interface TicketInputs {
  readonly issuer: SigningIssuer | null;
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly nowMs: number;
  readonly backdateMs: number;
  /** A cryptographic source. */
  readonly random: Pick<Random, 'bytes'>;
}

/** An SVID that is signed, on the audit log, and free to go. The caller owns none of the bytes. */
export interface IssuedSvid {
  /** DER: the SVID, the issuer, and what leads from there to the anchor, without the anchor. */
  readonly chain: readonly Uint8Array[];
  readonly spiffeId: SpiffeId;
  /** Big endian, as in the certificate. */
  readonly serialNumber: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Subject key identifier of the issuer, lower-case hex. */
  readonly authorityKeyId: string;
}

/** Step 1: a request that may be granted. */
export class PreparedSvid {
  readonly #request: IssuanceRequest;
  readonly #grant: Grant;
  readonly #csr: Csr;

  private constructor(request: IssuanceRequest, grant: Grant, csr: Csr) {
    this.#request = request;
    this.#grant = grant;
    this.#csr = csr;
  }

  /**
   * Checks a request, the cheapest check first. Throws `identity_denied`, `csr_*`, `key_type_denied`,
   * `csr_spiffe_id_mismatch`.
   */
  static prepare(request: IssuanceRequest, decision: PolicyDecision): PreparedSvid {
    if (decision.kind === 'denied') {
      throw new KedgeError('identity_denied', `the policy denies ${request.spiffeId.toString()}`, {
        hint: `the policy's reason: ${decision.reason}`,
      });
    }
    const { grant } = decision;
    const csr = parseCsr(request.csr);
    if (!grant.keyTypes.has(csr.keyType)) {
      throw new KedgeError('key_type_denied', `the policy does not allow a key of type ${csr.keyType}`, {
        hint: `allowed for ${request.spiffeId.toString()}: ${[...grant.keyTypes].join(', ')}`,
      });
    }
    checkRequestedId(csr, request.spiffeId);
    verifyProofOfPossession(csr);
    return new PreparedSvid(request, grant, csr);
  }

  /**
   * Step 2: everything of the certificate but its signature, linted. Throws `issuer_unavailable`, `lint_failed`.
   */
  ticket({ issuer, nowMs, backdateMs, random }: TicketInputs): SigningTicket {
    if (issuer === null || issuer.issuer.phase !== 'active' || issuer.issuer.taintedAtMs !== null) {
      throw new KedgeError('issuer_unavailable', 'the CA has no active issuer', {
        hint: 'wait for the next issuer; if none comes, the log of the CA says why',
        retryAfterMs: 5_000,
      });
    }
    const validity = svidValidity({ nowMs, ttlMs: this.#grant.ttlMs, backdateMs, issuer: issuer.issuer });
    const content = {
      spiffeId: this.#request.spiffeId,
      dnsNames: this.#grant.dnsNames,
      spki: this.#csr.spki,
      serialNumber: random.bytes(SERIAL_RANDOM_BYTES),
      ...validity,
    };
    const tbs = buildSvidTbs(issuer.template, content);
    const { issuerCertificate, algorithm } = issuer.template;
    lintSvidTbs(tbs, { ...content, issuerCertificate, algorithm });
    const serialNumber = svidSerialNumber(content.serialNumber);
    const entry = issuedEntry({
      timeMs: nowMs,
      api: this.#request.api,
      spiffeId: content.spiffeId.toString(),
      serialNumber,
      issuerId: issuer.issuer.id,
      ...validity,
      keyType: this.#csr.keyType,
      spki: content.spki,
      dnsNames: content.dnsNames,
      instance: this.#request.instance,
      peerAddress: this.#request.peerAddress,
    });
    return new SigningTicket(STEP, {
      issuer,
      tbs,
      entry,
      spiffeId: content.spiffeId,
      serialNumber,
      validity,
    });
  }
}

interface Ticket {
  readonly issuer: SigningIssuer;
  readonly tbs: Uint8Array;
  readonly entry: AuditEntry;
  readonly spiffeId: SpiffeId;
  readonly serialNumber: Uint8Array;
  readonly validity: Validity;
}

/** Step 3: the right to one signature over one linted TBS. */
export class SigningTicket {
  #ticket: Ticket | null;

  constructor(guard: typeof STEP, ticket: Ticket) {
    requireStep(guard);
    this.#ticket = ticket;
  }

  /** Signs, once. At once with a key in this process; later with one in an HSM. Rejects as the signer does. */
  sign(): SignedSvid | Promise<SignedSvid> {
    const ticket = this.#ticket;
    if (ticket === null) throw new TypeError('this ticket was used');
    this.#ticket = null;
    const { signer } = ticket.issuer;
    const signature = signer.sign(ticket.tbs);
    const signed = (bytes: Uint8Array): SignedSvid =>
      new SignedSvid(STEP, ticket, assembleCertificate(ticket.tbs, signer.algorithm, bytes));
    return signature instanceof Promise ? signature.then(signed) : signed(signature);
  }
}

/** Steps 4 and 5: a signed certificate that nobody sees before it is on the audit log. */
export class SignedSvid {
  readonly #ticket: Ticket;
  readonly #certificate: Uint8Array;

  constructor(guard: typeof STEP, ticket: Ticket, certificate: Uint8Array) {
    requireStep(guard);
    this.#ticket = ticket;
    this.#certificate = certificate;
  }

  /** What must be on the audit log first. */
  get entry(): AuditEntry {
    return this.#ticket.entry;
  }

  /** The certificate, for the receipt of this very SVID's entry. */
  release(receipt: AuditReceipt): IssuedSvid {
    const { issuer, entry, spiffeId, serialNumber, validity } = this.#ticket;
    if (!receipt.covers(entry)) throw new TypeError('this receipt is for another entry');
    return {
      chain: [this.#certificate, ...issuer.chain],
      spiffeId,
      serialNumber,
      notBeforeMs: validity.notBeforeMs,
      notAfterMs: validity.notAfterMs,
      authorityKeyId: issuer.issuer.id,
    };
  }
}

function requireStep(guard: typeof STEP): void {
  if (guard !== STEP) throw new TypeError('this object comes only from the step before');
}
