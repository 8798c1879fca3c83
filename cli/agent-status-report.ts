import type { GetAgentStatusResponse } from '../proto/gen/kedge/v1/agent.ts';
import { type ConsumerReport, Evidence } from '../proto/gen/kedge/v1/identity.ts';
import { canaryText, consumerReason, findingsOf, heldOf } from './agent-status-findings.ts';
import { distanceText, printable, textFields, textTable, timeText } from './text-table.ts';

const SHORT_ID = 12;
const GRADES: Readonly<Record<number, string>> = {
  [Evidence.EVIDENCE_DELIVERED]: 'delivered',
  [Evidence.EVIDENCE_LOADED]: 'loaded',
  [Evidence.EVIDENCE_PROVEN]: 'proven',
};

/**
 * The status of an agent as an on-call engineer reads it at 3 a.m.: first what is wrong and what to do, then who has
 * what. Times are relative to the agent's own clock.
 */
export function agentStatusReport(status: GetAgentStatusResponse): string {
  const nowMs = Number(status.timeMs);
  const findings = findingsOf(status);
  const lines = [
    ...findings.flatMap(({ what, todo }) => [`! ${what}`, `  ${todo}`]),
    ...(findings.length > 0 ? [''] : []),
    ...textFields(fieldsOf(status, nowMs)),
    '',
    'Trust anchors',
    ...indent(
      status.anchors.length === 0
        ? ['none']
        : textTable(
            ['id', 'expires'],
            status.anchors.map(({ subjectKeyId, notAfterMs }) => [
              shortHex(subjectKeyId),
              momentText(notAfterMs, nowMs),
            ]),
          ),
    ),
    '',
    'Consumers',
    ...indent(consumerTable(status)),
  ];
  return `${lines.join('\n')}\n`;
}

function fieldsOf(status: GetAgentStatusResponse, nowMs: number): (readonly [string, string])[] {
  const { svid, lastFailure, canary, clockSkewMs } = status;
  const failure =
    lastFailure === undefined
      ? 'none'
      : `${printable(lastFailure.code)}; next attempt ${distanceText(Number(lastFailure.retryAtMs), nowMs)}`;
  return [
    ['trust domain', printable(status.trustDomain)],
    ['phase', printable(status.phase)],
    ['SPIFFE ID', svid === undefined ? '-' : printable(svid.spiffeId)],
    ...(svid === undefined
      ? []
      : ([
          ['SVID', `${hex(svid.serialNumber)}, issuer ${shortHex(svid.authorityKeyId)}`],
          ['valid until', momentText(svid.notAfterMs, nowMs)],
          ['renewal', `${momentText(svid.renewAtMs, nowMs)}, by ${printable(svid.renewReason)}`],
        ] as const)),
    ['bundle', status.bundleSequence === 0n ? 'none yet' : `sequence ${status.bundleSequence}`],
    ['last failure', failure],
    ['clock', clockSkewMs === undefined ? 'skew not measured' : `${clockSkewMs} ms ahead of the CA's`],
    [
      'canary',
      canary === undefined
        ? 'none'
        : `${printable(canary.verdict)} ${distanceText(Number(canary.atMs), nowMs)}: ${canaryText(canary)}`,
    ],
    ['kedge', printable(status.version)],
  ];
}

function consumerTable(status: GetAgentStatusResponse): string[] {
  const rows = status.feeds.flatMap((feed) => {
    const name = printable(feed.name);
    if (feed.consumers.length === 0) return [[name, '-', '-', '-', '-', feedState(feed.errorCode)]];
    return feed.consumers.map((consumer) => [name, ...consumerCells(consumer, status)]);
  });
  return rows.length === 0
    ? ['none']
    : textTable(['feed', 'consumer', 'evidence', 'bundle', 'SVID', 'state'], rows);
}

function consumerCells(consumer: ConsumerReport, status: GetAgentStatusResponse): string[] {
  const held = heldOf(consumer);
  const reason = consumerReason(consumer, status);
  const state = status.svid === undefined ? '-' : 'newest';
  return [
    printable(consumer.name),
    GRADES[consumer.best] ?? '-',
    held === undefined ? '-' : String(held.bundleSequence),
    held === undefined ? '-' : shortHex(held.svidSerialNumber),
    reason === undefined ? state : `BEHIND: ${reason}`,
  ];
}

function feedState(errorCode: string): string {
  return errorCode === '' ? 'nobody reads it' : `FAILS: ${printable(errorCode)}`;
}

function momentText(ms: bigint, nowMs: number): string {
  return `${timeText(Number(ms))} (${distanceText(Number(ms), nowMs)})`;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function shortHex(bytes: Uint8Array): string {
  return hex(bytes).slice(0, SHORT_ID) || '-';
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}
