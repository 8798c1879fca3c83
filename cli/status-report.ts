import type { AuthorityStatus, GetStatusResponse, InstanceStatus } from '../proto/gen/kedge/v1/admin.ts';
import type { FeedReport } from '../proto/gen/kedge/v1/identity.ts';
import { distanceText, printable, textFields, textTable, timeText } from './text-table.ts';

const SHORT_ID = 12;

/**
 * The status of a CA as an on-call engineer reads it at 3 a.m.: first what is wrong, then what is there. Times are
 * relative to the CA's own clock.
 */
export function statusReport(status: GetStatusResponse): string {
  const nowMs = Number(status.serverTimeMs);
  const lines = [
    ...textFields([
      ['trust domain', printable(status.trustDomain)],
      ['bundle', `sequence ${status.bundleSequence}`],
      ['instances', `${status.fleet?.instances ?? 0} live, ${status.fleet?.behind ?? 0} behind`],
      ['lifecycle', printable(status.lifecycle) || 'nothing to do'],
      ['policy', policyText(status)],
      ['trust store', storeText(status)],
      ['audit log', auditText(status)],
      ['kedge', `${printable(status.version)}, up since ${timeText(Number(status.startedAtMs))}`],
      ['clock', timeText(nowMs)],
    ]),
    '',
    ...warnings(status).flatMap((warning) => [`! ${warning}`]),
    ...(warnings(status).length > 0 ? [''] : []),
    'Trust anchors',
    ...indent(
      textTable(
        ['id', 'phase', 'expires', 'held by', 'upstream'],
        status.anchors.map((anchor) => [...authorityCells(anchor, nowMs), printable(anchor.upstream)]),
      ),
    ),
    '',
    'Issuers',
    ...indent(
      textTable(
        ['id', 'phase', 'expires', 'held by', 'anchor'],
        status.issuers.map((issuer) => [...authorityCells(issuer, nowMs), shortId(issuer.anchorId)]),
      ),
    ),
    '',
    'Workload instances',
    ...indent(instanceTable(status, nowMs)),
    ...indent(leftOutText(status)),
  ];
  return `${lines.join('\n')}\n`;
}

/** Why an instance lags behind the CA; undefined when it does not. */
export function laggingReason(instance: InstanceStatus, status: GetStatusResponse): string | undefined {
  const { report } = instance;
  if (report === undefined) return Number(instance.lastSeenMs) === 0 ? 'never reported' : 'has not reported';
  if (report.bundleSequence < status.bundleSequence) {
    return `holds bundle ${report.bundleSequence} of ${status.bundleSequence}`;
  }
  if (report.svid === undefined) return 'has no SVID';
  if (Number(report.svid.notAfterMs) <= Number(status.serverTimeMs)) return 'its SVID has expired';
  const keyId = Buffer.from(report.svid.authorityKeyId).toString('hex');
  const issuer = status.issuers.find(({ id }) => id === keyId);
  if (issuer === undefined) return `its SVID is from the unknown issuer ${shortId(keyId)}`;
  if (issuer.tainted) return `its SVID is from the tainted issuer ${shortId(keyId)}`;
  if (issuer.phase === 'retired') return `its SVID is from the retired issuer ${shortId(keyId)}`;
  const failed = report.feeds.find(({ errorCode }) => errorCode !== '');
  if (failed !== undefined) return feedReason(failed);
  return instance.connected ? undefined : 'is not connected';
}

/** Which feed fails, at which consumer where one is named, and why. */
function feedReason({ name, errorCode, consumers }: FeedReport): string {
  const refusing = consumers.filter((consumer) => consumer.errorCode !== '');
  const [first] = refusing;
  if (first === undefined) return `its feed ${printable(name)} fails: ${printable(errorCode)}`;
  const others = refusing.length === 1 ? '' : ` and ${refusing.length - 1} more`;
  return `its ${printable(name)} consumer ${printable(first.name)}${others}: ${printable(first.errorCode)}`;
}

function warnings(status: GetStatusResponse): string[] {
  const tainted = [...status.anchors, ...status.issuers].filter((authority) => authority.tainted);
  const signing = status.issuers.some(({ phase, tainted }) => phase === 'active' && !tainted);
  return [
    ...(isStoreNearlyFull(status)
      ? [
          'the trust state is nearly as large as it may be: let retired authorities be removed before new ones come',
        ]
      : []),
    ...(status.fleet?.complete === false
      ? ['the fleet is not known whole: pods or the reports of other replicas cannot be read']
      : []),
    ...(signing ? [] : ['no active issuer: nothing can be issued']),
    ...tainted.map(({ id }) => `authority ${shortId(id)} is tainted (compromised)`),
    ...(status.policy?.error
      ? [`the newest policy edit was not taken: ${printable(status.policy.error)}`]
      : []),
  ];
}

function policyText({ policy }: GetStatusResponse): string {
  if (policy === undefined || policy.file === '') return 'built in (no policy file)';
  const loaded = `${printable(policy.file)}, loaded ${timeText(Number(policy.loadedAtMs))}`;
  return policy.error === '' ? loaded : `${loaded}; THE NEWEST EDIT WAS NOT TAKEN`;
}

/** From this share of its limit on, as the CA's log has it. */
const NEARLY_FULL = 0.8;

function isStoreNearlyFull({ store }: GetStatusResponse): boolean {
  return (
    store !== undefined && Number(store.bytes) >= Number(store.limitBytes) * NEARLY_FULL && store.bytes > 0n
  );
}

function storeText({ store }: GetStatusResponse): string {
  if (store === undefined) return 'not known';
  return `${printable(store.kind)}, ${store.bytes} of ${store.limitBytes} bytes`;
}

function auditText({ audit }: GetStatusResponse): string {
  if (audit === undefined) return 'none';
  // As `kedge audit verify` prints it and takes it.
  const head = `${String(audit.records).padStart(16, '0')}:${printable(audit.head)}`;
  return `${audit.records} lines${audit.head === '' ? '' : `, head ${head}`}`;
}

function authorityCells(authority: AuthorityStatus, nowMs: number): string[] {
  return [
    shortId(authority.id),
    authority.tainted ? `${printable(authority.phase)}, TAINTED` : printable(authority.phase),
    `${timeText(Number(authority.notAfterMs))} (${distanceText(Number(authority.notAfterMs), nowMs)})`,
    `${authority.instances} instances`,
  ];
}

function instanceTable(status: GetStatusResponse, nowMs: number): string[] {
  if (status.instances.length === 0) return ['none'];
  const rows = status.instances.map((instance) => ({
    reason: laggingReason(instance, status),
    cells: [
      printable(instance.spiffeId),
      printable(`${instance.namespace}/${instance.podName}`),
      instance.report === undefined ? '-' : String(instance.report.bundleSequence),
      instance.report?.svid === undefined
        ? '-'
        : distanceText(Number(instance.report.svid.notAfterMs), nowMs),
      seenText(instance, nowMs),
    ],
  }));
  // Who lags stands first: that is what is looked for.
  const sorted = [
    ...rows.filter(({ reason }) => reason !== undefined),
    ...rows.filter(({ reason }) => reason === undefined),
  ];
  return textTable(
    ['SPIFFE ID', 'pod', 'bundle', 'SVID expires', 'seen', 'state'],
    sorted.map(({ cells, reason }) => [...cells, reason === undefined ? 'follows' : `BEHIND: ${reason}`]),
  );
}

function seenText({ connected, lastSeenMs }: InstanceStatus, nowMs: number): string {
  if (connected) return 'now';
  return lastSeenMs === 0n ? 'never' : distanceText(Number(lastSeenMs), nowMs);
}

/** An answer holds only so much. */
function leftOutText({ instances, fleet }: GetStatusResponse): string[] {
  const left = (fleet?.instances ?? 0) - instances.length;
  if (left <= 0) return [];
  const behind = Math.max(0, (fleet?.behind ?? 0) - instances.length);
  return [`and ${left} more, ${behind === 0 ? 'which follow' : `${behind} of them behind`}`];
}

function shortId(id: string): string {
  return id === '' ? '-' : printable(id.slice(0, SHORT_ID));
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}
