import type { Clock } from '../../host/clock.ts';
import { decodeMessage } from '../../host/grpc-service.ts';
import { checkAuthority } from '../../pki/authority-check.ts';
import { equalBytes, toHex } from '../../pki/bytes.ts';
import { parseCsr } from '../../pki/csr.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { TrustDomain } from '../../pki/spiffe-id.ts';
import {
  MintIssuerRequest,
  MintIssuerResponse,
  SyncRequest,
  SyncResponse,
} from '../../proto/gen/kedge/v1/downstream.ts';
import { goalOf } from '../authority/gates.ts';
import type { Anchor, TrustState } from '../authority/trust-state.ts';
import { isUsable, signingAnchor } from '../authority/usable-authority.ts';
import type { AuditLog } from '../issue/audit-log.ts';
import { auditEntry } from '../issue/audit-record.ts';
import type { MintedIssuer, MintIssuerRequest as MintRequest } from '../upstream/upstream-authority.ts';
import type { NestedCas } from './nested-cas.ts';

/** What a {@link DownstreamService} is made of. */
export interface DownstreamServiceOptions {
  readonly trustDomain: TrustDomain;
  readonly nested: NestedCas;
  readonly state: () => TrustState;
  /** Mints an issuer under one of our anchors, at whoever holds its key. */
  readonly mint: (anchor: Anchor, request: MintRequest, signal: AbortSignal) => Promise<MintedIssuer>;
  /** The longest that an issuer of a nested CA may live, milliseconds. */
  readonly maxLifetimeMs: number;
  readonly audit: Pick<AuditLog, 'append'>;
  readonly clock: Clock;
}

/** When a nested CA that came too early may ask again, milliseconds. */
const RETRY_MS = 5_000;
/** How far an issuer of a nested CA may be backdated, milliseconds. */
const MAX_BACKDATE_MS = 86_400_000;
/** How long a nested CA that has gone silent may hold up a rotation, whatever it said, milliseconds. */
const MAX_HOLD_MS = 366 * 86_400_000;
/** Anchors that a report may name; a bundle has no more. */
const REPORT_ANCHORS = 64;

/**
 * `kedge.v1.Downstream`: this CA as the upstream authority of nested ones. Who asks has been told from others before:
 * see `nested-caller.ts`.
 */
export class DownstreamService {
  readonly #options: DownstreamServiceOptions;

  constructor(options: DownstreamServiceOptions) {
    this.#options = options;
  }

  /** `Sync`. Throws `report_invalid`, `issuer_unavailable`. */
  sync(caller: string, bytes: Buffer): Uint8Array {
    const { nested, state, clock } = this.#options;
    const request = decodeMessage(SyncRequest, bytes);
    const { complete, bundleAnchors, heldAnchors, svidAnchor, issuersEndMs } = request;
    for (const id of [...bundleAnchors, ...heldAnchors, ...(svidAnchor === '' ? [] : [svidAnchor])]) {
      if (!/^(?:[0-9a-f]{2}){1,64}$/.test(id))
        throw invalid('names a trust anchor by no subject key identifier');
    }
    if (Math.max(bundleAnchors.length, heldAnchors.length) > REPORT_ANCHORS) {
      throw invalid(`names over ${REPORT_ANCHORS} trust anchors`);
    }
    nested.heard(caller, {
      complete,
      bundleAnchors,
      heldAnchors,
      svidAnchor: svidAnchor === '' ? null : svidAnchor,
      issuersEndMs: within(issuersEndMs, 0, clock.now() + MAX_HOLD_MS),
    });
    const anchor = anchorToStandUnder(state(), clock.now());
    return SyncResponse.encode({ anchor: anchor.certificate }).finish();
  }

  /**
   * `MintIssuer`:
   *
   * 1. only under the active anchor: under one that is only prepared our own fleet may not know it yet
   * 2. minted by whoever holds that anchor's key, and checked as our own issuers are
   * 3. on the audit log, durable
   * 4. answered
   *
   * Throws `upstream_refused`, the csr_* codes, `authority_unusable`, `audit_unavailable`.
   */
  async mintIssuer(caller: string, bytes: Buffer, signal: AbortSignal): Promise<Uint8Array> {
    const { trustDomain, state, mint, maxLifetimeMs, audit, clock } = this.#options;
    const request = decodeMessage(MintIssuerRequest, bytes);
    const nowMs = clock.now();
    const anchor = state().anchors.find(({ certificate }) => equalBytes(certificate, request.anchor));
    if (anchor === undefined || anchor.phase !== 'active' || !isUsable(anchor, nowMs)) throw tooEarly(anchor);
    const { spki } = parseCsr(request.csr);
    const minted = await mint(
      anchor,
      {
        csr: request.csr,
        anchor,
        notBeforeMs: within(request.notBeforeMs, nowMs - MAX_BACKDATE_MS, nowMs),
        notAfterMs: within(request.notAfterMs, nowMs, nowMs + maxLifetimeMs),
      },
      signal,
    );
    const issuer = checkAuthority({
      trustDomain,
      chain: minted.chain,
      anchor: anchor.certificate,
      spki,
      nowMs: clock.now(),
    });
    await audit.append([
      auditEntry('downstream.issuer_minted', clock.now(), {
        caller,
        issuer: toHex(issuer.subjectKeyId ?? new Uint8Array()),
        anchor: anchor.id,
        serial: toHex(issuer.serialNumber),
        not_after: new Date(issuer.notAfterMs).toISOString(),
      }),
    ]);
    return MintIssuerResponse.encode({ chain: [...minted.chain] }).finish();
  }
}

/** Where a rotation goes, from its first step on, so that fleets below hear of the new anchor as early as our own. */
function anchorToStandUnder(state: TrustState, nowMs: number): Anchor {
  const goal = goalOf(state, state.rotation);
  const anchor = goal !== undefined && isUsable(goal, nowMs) ? goal : signingAnchor(state, nowMs);
  if (anchor !== undefined) return anchor;
  throw new KedgeError('issuer_unavailable', 'the CA above has no trust anchor that may sign', {
    retryAfterMs: RETRY_MS,
  });
}

function tooEarly(anchor: Anchor | undefined): KedgeError {
  const isGivenUp = anchor === undefined || anchor.phase === 'retired';
  const what = anchor === undefined ? 'is not ours' : `is ${anchor.phase}`;
  return new KedgeError(
    'upstream_refused',
    `the trust anchor ${what}: issuers are minted under the active one`,
    {
      hint: isGivenUp
        ? 'where the CA above has aborted its rotation, abort the one of this CA too: kedge rotate abort'
        : 'it is tried again; during a rotation of the CA above its own fleet must follow first',
      retryAfterMs: RETRY_MS,
    },
  );
}

/** A time of a message, which may say anything at all, as one that dates can be made of. */
function within(timeMs: bigint, fromMs: number, toMs: number): number {
  return Math.min(Math.max(Number(timeMs), fromMs), toMs);
}

function invalid(what: string): KedgeError {
  return new KedgeError('report_invalid', `the report of a nested CA ${what}`);
}
