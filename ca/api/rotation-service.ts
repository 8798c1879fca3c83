import type { Clock } from '../../host/clock.ts';
import { decodeMessage } from '../../host/grpc-service.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import {
  ChangeRotationRequest,
  GetRotationResponse,
  type PastRotationStatus,
  RotationAct,
  type RotationStatus,
} from '../../proto/gen/kedge/v1/admin.ts';
import type { Coverage } from '../authority/coverage.ts';
import type { AuthorityEngine } from '../authority/engine.ts';
import { type GateEvidence, gateOf, goalOf, lookAtGate } from '../authority/gates.ts';
import type { PastRotation, Rotation } from '../authority/rotation.ts';
import { type RotationRequest, requestedState } from '../authority/rotation-request.ts';
import type { TrustState } from '../authority/trust-state.ts';
import { activeIssuer } from '../authority/usable-authority.ts';
import { type AuditEntry, auditEntry } from '../issue/audit-record.ts';
import type { UpstreamKind } from '../upstream/upstream-authority.ts';
import { authorityStatus } from './admin-service.ts';
import type { UnaryMethod } from './unary-method.ts';

/** What the methods about the rotation work on. */
export interface RotationSources {
  readonly engine: Pick<AuthorityEngine, 'current' | 'change' | 'health'>;
  /** What the fleet holds now. */
  readonly coverage: () => Coverage;
  /** Which evidence gates take. */
  readonly evidence: GateEvidence;
  /** The upstream authority that is configured. */
  readonly upstream: UpstreamKind;
  /** Puts a line on the audit log. */
  readonly note: (entry: AuditEntry) => void;
  readonly clock: Clock;
}

/** Stragglers that an answer names. */
const NAMED = 100;

/** `kedge.v1.Admin/GetRotation` and `ChangeRotation`. */
export function rotationMethods(sources: RotationSources): {
  readonly rotation: UnaryMethod;
  readonly changeRotation: UnaryMethod;
} {
  const { engine, coverage, upstream, note, clock } = sources;
  const answer = (state: TrustState): Uint8Array =>
    GetRotationResponse.encode(rotationResponse(state, sources)).finish();
  return {
    rotation: () => answer(engine.current().state),
    changeRotation: async (bytes, { signal }) => {
      const message = decodeMessage(ChangeRotationRequest, bytes);
      const { by, reason, target, dryRun } = message;
      const asked = readRequest(message);
      const request = { by, reason, atMs: clock.now() };
      const context = { coverage: coverage(), upstream };
      const change = (state: TrustState): TrustState => requestedState(state, asked, request, context);
      if (dryRun) return answer(change(engine.current().state));
      const state = await engine.change(change, signal);
      const { sequence } = state;
      const number = state.rotation?.number ?? state.pastRotations.at(-1)?.number ?? 0;
      note(auditEntry(`rotation.${asked.act}`, clock.now(), { number, target, by, reason, sequence }));
      return answer(state);
    },
  };
}

/** Reads a request strictly. Throws `usage_invalid`. */
function readRequest({ act, target, deadlineMs }: ChangeRotationRequest): RotationRequest {
  const deadline = deadlineMs === undefined ? null : Number(deadlineMs);
  switch (act) {
    case RotationAct.ROTATION_ACT_START:
      return { act: 'start', deadlineMs: deadline };
    case RotationAct.ROTATION_ACT_PAUSE:
      return { act: 'pause' };
    case RotationAct.ROTATION_ACT_RESUME:
      return { act: 'resume' };
    case RotationAct.ROTATION_ACT_ABORT:
      return { act: 'abort' };
    case RotationAct.ROTATION_ACT_EXCUSE:
      return { act: 'excuse', target };
    case RotationAct.ROTATION_ACT_ANCHOR_COMPROMISED:
      return { act: 'anchor-compromised', target, deadlineMs: deadline };
    case RotationAct.ROTATION_ACT_ISSUER_COMPROMISED:
      return { act: 'issuer-compromised', target };
    case RotationAct.ROTATION_ACT_UNSPECIFIED:
    case RotationAct.UNRECOGNIZED:
    default:
      throw new KedgeError('usage_invalid', `${act} is nothing that can be asked of a rotation`, {
        hint: 'use the kedge of the version of the CA',
      });
  }
}

function rotationResponse(state: TrustState, sources: RotationSources): GetRotationResponse {
  const { engine, clock } = sources;
  const { rotation, pastRotations, anchors, issuers, sequence } = state;
  return {
    current: rotation === null ? undefined : rotationStatus(rotation, state, sources),
    past: pastRotations.map(pastStatus),
    lifecycle: engine.health().reason,
    serverTimeMs: BigInt(clock.now()),
    anchors: anchors.map((anchor) => ({ ...authorityStatus(anchor), upstream: anchor.upstream })),
    issuers: issuers.map((issuer) => ({ ...authorityStatus(issuer), anchorId: issuer.anchorId })),
    bundleSequence: BigInt(sequence),
  };
}

function rotationStatus(
  rotation: Rotation,
  state: TrustState,
  { coverage, evidence, clock }: RotationSources,
): RotationStatus {
  const optional = (ms: number | null): bigint | undefined => (ms === null ? undefined : BigInt(ms));
  const goal = gateOf(state);
  const gate = goal === null ? null : lookAtGate(goal, state, coverage(), evidence);
  return {
    number: rotation.number,
    kind: rotation.kind,
    upstream: rotation.upstream,
    fromAnchorId: rotation.fromAnchorId,
    goalAnchorId: rotation.goalAnchorId ?? '',
    step: stepOf(rotation, state, clock.now()),
    startedAtMs: BigInt(rotation.startedAtMs),
    deadlineMs: optional(rotation.deadlineMs),
    pausedAtMs: optional(rotation.pausedAtMs),
    abortedAtMs: optional(rotation.abortedAtMs),
    by: rotation.by,
    reason: rotation.reason,
    gate:
      gate === null
        ? undefined
        : {
            open: gate.open,
            reason: gate.reason,
            instances: gate.instances,
            stragglers: gate.stragglers.length,
            named: gate.stragglers.slice(0, NAMED).map((straggler) => ({
              id: straggler.id,
              name: straggler.name,
              bundleSequence: BigInt(straggler.bundleSequence),
              issuerId: straggler.authorityKeyId ?? '',
              svidNotAfterMs: BigInt(straggler.svidNotAfterMs),
            })),
          },
    excused: rotation.excused.map(({ name }) => name),
    cutOff: [...rotation.cutOff],
    cutOffCount: rotation.cutOffCount,
  };
}

/** Where a rotation stands, in one word. */
function stepOf(rotation: Rotation, state: TrustState, nowMs: number): string {
  const goal = goalOf(state, rotation);
  if (goal === undefined) return 'prepare';
  if (rotation.removedSequence !== null) return 'confirm';
  if (goal.phase === 'prepared') return 'acknowledge';
  return activeIssuer(state, nowMs)?.anchorId === goal.id ? 'renew' : 'activate';
}

function pastStatus(past: PastRotation): PastRotationStatus {
  return {
    number: past.number,
    kind: past.kind,
    upstream: past.upstream,
    fromAnchorId: past.fromAnchorId,
    goalAnchorId: past.goalAnchorId ?? '',
    startedAtMs: BigInt(past.startedAtMs),
    endedAtMs: BigInt(past.endedAtMs),
    outcome: past.outcome,
    by: past.by,
    reason: past.reason,
    excused: [...past.excused],
    cutOff: [...past.cutOff],
    cutOffCount: past.cutOffCount,
  };
}
