import { KEDGE_VERSION } from '../host/version.ts';
import { parseCertificate } from '../pki/certificate.ts';
import type { TrustDomain } from '../pki/spiffe-id.ts';
import type {
  AgentAnchor,
  AgentSvid,
  CanaryStatus,
  GetAgentStatusResponse,
} from '../proto/gen/kedge/v1/agent.ts';
import type { CanaryResult } from './canary.ts';
import type { FeedStatus } from './evidence.ts';
import { MAX_CONSUMERS } from './feed/feed.ts';
import type { FailedAttempt } from './failed-attempt.ts';
import { feedReport } from './report.ts';
import type { BundleSnapshot } from './snapshot.ts';
import type { AgentState } from './state.ts';

/** What a status is made from. */
export interface AgentStatusSource {
  readonly trustDomain: TrustDomain;
  readonly state: AgentState;
  readonly feeds: readonly FeedStatus[];
  /** The newest attempt to get an SVID, where it failed. */
  readonly failure: FailedAttempt | null;
  readonly canary: CanaryResult | null;
  /** Milliseconds since the Unix epoch. */
  readonly nowMs: number;
}

/** The state of an agent as an operator may see it: no key. Pure. */
export function agentStatus(source: AgentStatusSource): GetAgentStatusResponse {
  const { trustDomain, state, feeds, failure, canary, nowMs } = source;
  return {
    version: KEDGE_VERSION,
    timeMs: BigInt(Math.round(nowMs)),
    trustDomain: trustDomain.name,
    phase: state.phase,
    svid: svidOf(state),
    bundleSequence: state.bundle?.sequence ?? 0n,
    anchors: anchorsOf(state.bundle),
    clockSkewMs: state.clockSkewMs === null ? undefined : BigInt(Math.round(state.clockSkewMs)),
    lastFailure:
      failure === null
        ? undefined
        : {
            code: failure.code,
            message: failure.message,
            retryAtMs: BigInt(Math.round(state.retryAt?.wallMs ?? 0)),
          },
    feeds: feeds.map((feed) => feedReport(feed, MAX_CONSUMERS)),
    canary: canary === null ? undefined : canaryStatus(canary),
  };
}

function svidOf(state: AgentState): AgentSvid | undefined {
  if (state.phase !== 'serving') return undefined;
  const { svid } = state.snapshot;
  return {
    spiffeId: svid.spiffeId.toString(),
    serialNumber: svid.serialNumber,
    authorityKeyId: svid.authorityKeyId,
    notBeforeMs: BigInt(svid.notBeforeMs),
    notAfterMs: BigInt(svid.notAfterMs),
    renewAtMs: BigInt(Math.round(state.renewal.at.wallMs)),
    renewReason: state.renewal.reason,
  };
}

function anchorsOf(bundle: BundleSnapshot | null): AgentAnchor[] {
  return (bundle?.x509Authorities ?? []).map((der) => {
    const { subjectKeyId, notAfterMs } = parseCertificate(der, 'bundle_malformed');
    return { subjectKeyId: subjectKeyId ?? new Uint8Array(0), notAfterMs: BigInt(notAfterMs) };
  });
}

function canaryStatus(result: CanaryResult): CanaryStatus {
  const { verdict, answer, detail, authorities } = result;
  return {
    atMs: BigInt(Math.round(result.atMs)),
    verdict,
    answer,
    detail,
    errorCode: result.errorCode ?? '',
    serialNumber: result.serialNumber ?? new Uint8Array(0),
    anchorKeyId: result.anchorKeyId ?? new Uint8Array(0),
    authorities,
  };
}
