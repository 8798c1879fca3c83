import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';

import type { WorkloadInstance } from '../../ca/attest/attestor.ts';
import { DEFAULT_SPIFFE_ID_TEMPLATE, SpiffeIdTemplate } from '../../ca/attest/spiffe-id-template.ts';
import { AuditLog } from '../../ca/issue/audit-log.ts';
import type { IssuanceMetrics } from '../../ca/issue/issuance-metrics.ts';
import { IssuingService, type IssuingServiceOptions } from '../../ca/issue/issuing-service.ts';
import { RefusalLog } from '../../ca/issue/refusal.ts';
import { parsePolicy } from '../../ca/issue/policy-file.ts';
import type { SigningIssuer } from '../../ca/issue/signing-issuer.ts';
import type { Signer } from '../../ca/keys/key-manager.ts';
import { silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import { issuerCsr, mintAnchor, mintIssuer } from '../../pki/authority-profile.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { svidTemplate } from '../../pki/x509-svid-profile.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryAuditFolder } from './memory-audit-folder.ts';

export const TRUST_DOMAIN = TrustDomain.parse('example.org');
export const START_MS = Date.UTC(2026, 5, 1, 12);
const DAY_MS = 86_400_000;

/** A key in this process that signs at once. */
export function localSigner(): Signer {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = new Uint8Array(createPublicKey(privateKey).export({ type: 'spki', format: 'der' }));
  return {
    algorithm: 'ecdsa-p256-sha256',
    spki,
    sign: (data) => new Uint8Array(sign('sha256', data, privateKey)),
  };
}

/** An active issuer below an anchor of its own, valid from a day ago for 30 days. */
export async function testIssuer(
  signer: Signer = localSigner(),
): Promise<{ signing: SigningIssuer; anchor: Uint8Array }> {
  const anchorSigner = localSigner();
  const dates = { notBeforeMs: START_MS - DAY_MS, notAfterMs: START_MS + 29 * DAY_MS };
  const trustDomain = TRUST_DOMAIN;
  const anchor = await mintAnchor({
    trustDomain,
    signer: anchorSigner,
    ...dates,
    serialNumber: systemRandom.bytes(16),
  });
  const der = await mintIssuer({
    csr: await issuerCsr({ trustDomain, signer }),
    trustDomain,
    anchor,
    signer: anchorSigner,
    ...dates,
    serialNumber: systemRandom.bytes(16),
  });
  const issuerCertificate = parseCertificate(der);
  const id = Buffer.from(issuerCertificate.subjectKeyId ?? []).toString('hex');
  return {
    anchor,
    signing: {
      issuer: {
        id,
        phase: 'active',
        phaseSinceMs: START_MS,
        taintedAtMs: null,
        certificate: der,
        ...dates,
        anchorId: 'anchor',
        intermediates: [],
        key: {
          id: 'k',
          manager: 'store',
          algorithm: 'ec-p256',
          spki: signer.spki,
          reference: new Uint8Array(),
        },
      },
      signer,
      template: svidTemplate({ issuerCertificate, algorithm: signer.algorithm }),
      chain: [der],
    },
  };
}

/** A workload instance; `number` makes it another pod. */
export function instanceOf(number: number, change: Partial<WorkloadInstance> = {}): WorkloadInstance {
  return {
    cluster: 'local',
    namespace: 'pay',
    serviceAccount: 'web',
    podName: `web-${number}`,
    podUid: `uid-${number}`,
    nodeName: undefined,
    tokenExpiresAtMs: START_MS + 3_600_000,
    ...change,
  };
}

/** Metrics as plain counts. */
export interface CountedMetrics extends IssuanceMetrics {
  readonly refusals: ErrorCode[];
  issuedCount: number;
  suppressedCount: number;
}

export function countedMetrics(): CountedMetrics {
  const counted: CountedMetrics = {
    refusals: [],
    issuedCount: 0,
    issued: () => {
      counted.issuedCount += 1;
    },
    refused: (_event, code) => void counted.refusals.push(code),
    suppressedCount: 0,
    refusalSuppressed: () => {
      counted.suppressedCount += 1;
    },
    auditCommitted: () => undefined,
    observeQueue: () => undefined,
    observeAudit: () => undefined,
  };
  return counted;
}

/** A whole issuing path over an audit log in memory, and the means to look into it. */
export async function issuingPath(
  change: Partial<IssuingServiceOptions> & { policyText?: string } = {},
): Promise<{
  service: IssuingService;
  folder: MemoryAuditFolder;
  audit: AuditLog;
  clock: ManualClock;
  metrics: CountedMetrics;
  signing: SigningIssuer;
  anchor: Uint8Array;
}> {
  const clock = new ManualClock(START_MS);
  const folder = new MemoryAuditFolder();
  const audit = await AuditLog.open({ folder, clock, log: silentLog });
  const metrics = countedMetrics();
  const { signing, anchor } = await testIssuer();
  const policy = parsePolicy(change.policyText ?? '', 'policy.yaml', {
    maxTtlMs: 30 * DAY_MS,
    backdateMs: 120_000,
  });
  const service = new IssuingService({
    trustDomain: TRUST_DOMAIN,
    template: SpiffeIdTemplate.parse(DEFAULT_SPIFFE_ID_TEMPLATE),
    policy: () => policy,
    signingIssuer: () => signing,
    audit,
    refusals: new RefusalLog({ audit, metrics, clock, log: silentLog }),
    clock,
    random: systemRandom,
    metrics,
    backdateMs: 120_000,
    ...change,
  });
  return { service, folder, audit, clock, metrics, signing, anchor };
}
