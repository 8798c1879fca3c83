import type {
  GetRotationResponse,
  PastRotationStatus,
  RotationStatus,
  StragglerStatus,
} from '../proto/gen/kedge/v1/admin.ts';
import { distanceText, printable, spanText, textFields, textTable, timeText } from './text-table.ts';

const SHORT_ID = 12;
const BAR_WIDTH = 24;

/** What each step of a rotation is, for people. */
const STEPS: Readonly<Record<string, string>> = {
  prepare: '1 of 5, prepare: get the new trust anchor',
  acknowledge: '2 of 5, acknowledge: every instance is to acknowledge a bundle with the new trust anchor',
  activate: '3 of 5, activate: get an issuer under the new trust anchor',
  renew: '4 of 5, renew: every instance is to hold an SVID under the new trust anchor',
  confirm: '5 of 5, confirm: every instance is to acknowledge the bundle without the old trust anchor',
};

/** Where the rotation stands, as an on-call engineer reads it at 3 a.m. Times are relative to the CA's own clock. */
export function rotationReport(answer: GetRotationResponse): string {
  const nowMs = Number(answer.serverTimeMs);
  const { current } = answer;
  const lines =
    current === undefined
      ? ['no rotation is under way', '', `next: ${printable(answer.lifecycle)}`]
      : [...currentLines(current, nowMs), ...stragglerLines(answer, current, nowMs)];
  return `${[...lines, '', ...anchorLines(answer, nowMs)].join('\n')}\n`;
}

/** One line for each change, while the rotation is watched. */
export function progressLine({ current, past, serverTimeMs }: GetRotationResponse): string {
  const time = timeText(Number(serverTimeMs));
  if (current === undefined) {
    const last = past.at(-1);
    return last === undefined
      ? `${time}  no rotation`
      : `${time}  rotation ${last.number} is ${printable(last.outcome)}`;
  }
  const paused = current.pausedAtMs === undefined ? '' : ' PAUSED';
  const aborted = current.abortedAtMs === undefined ? '' : ' (going back)';
  const { gate } = current;
  const title = `${time}  rotation ${current.number}${aborted}${paused}  ${printable(current.step).padEnd(11)}`;
  if (gate === undefined) return title.trimEnd();
  const followed = gate.instances - gate.stragglers;
  const first = gate.named.slice(0, 3).map(({ name }) => printable(name));
  const waiting =
    first.length === 0 ? '' : `  waits for ${first.join(', ')}${gate.stragglers > 3 ? ', ...' : ''}`;
  return `${title}  ${bar(followed, gate.instances)} ${followed}/${gate.instances}${waiting}`;
}

/** What would break if the rotation went on at this moment, by name. */
export function planReport({ current, lifecycle }: GetRotationResponse): string {
  if (current === undefined) {
    return [
      'no rotation is under way: to begin one breaks nothing',
      'its first step adds a trust anchor to the bundle; each later step waits until every live instance has followed',
      `next: ${printable(lifecycle)}`,
      '',
    ].join('\n');
  }
  const { gate, step } = current;
  const title = `step ${STEPS[step] ?? printable(step)}`;
  if (gate === undefined || gate.stragglers === 0) {
    const rest = gate?.open === false ? [printable(gate.reason)] : [];
    return [title, 'nobody would fail if the next step were taken now', ...rest, ''].join('\n');
  }
  const names = gate.named.map((straggler) => `  ${stragglerText(straggler)}`);
  const more = gate.stragglers - gate.named.length;
  return [
    title,
    `${gate.stragglers} of ${gate.instances} instances would fail if the next step were taken now:`,
    ...names,
    ...(more > 0 ? [`  and ${more} more`] : []),
    '',
  ].join('\n');
}

/** The rotations that ended, the newest first. */
export function historyReport({ past, serverTimeMs }: GetRotationResponse): string {
  if (past.length === 0) return 'no rotation has ended yet\n';
  const nowMs = Number(serverTimeMs);
  const rows = past
    .toReversed()
    .map((one) => [
      `${one.number}`,
      printable(one.kind),
      printable(one.outcome),
      timeText(Number(one.startedAtMs)),
      spanText(Number(one.endedAtMs) - Number(one.startedAtMs)),
      anchorsText(one),
      printable(one.by),
      printable(one.reason) || '-',
      cutOffText(one),
    ]);
  const header = ['number', 'kind', 'outcome', 'began', 'took', 'trust anchors', 'by', 'reason', 'cut off'];
  return `${[...textTable(header, rows), '', `the CA's clock: ${timeText(nowMs)}`].join('\n')}\n`;
}

function anchorsText({ fromAnchorId, goalAnchorId }: PastRotationStatus): string {
  return `${shortId(fromAnchorId)} to ${goalAnchorId === '' ? 'none' : shortId(goalAnchorId)}`;
}

function cutOffText({ cutOff, cutOffCount, excused }: PastRotationStatus): string {
  const names = cutOff.map(printable).join(', ');
  const cut = cutOffCount === 0 ? 'nobody' : `${cutOffCount}: ${names}`;
  return excused.length === 0 ? cut : `${cut}; excused ${excused.map(printable).join(', ')}`;
}

function currentLines(current: RotationStatus, nowMs: number): readonly string[] {
  const { number, kind, upstream, step, deadlineMs, pausedAtMs, abortedAtMs, excused, cutOff } = current;
  const at = (ms: bigint): string => `${timeText(Number(ms))} (${distanceText(Number(ms), nowMs)})`;
  return [
    ...(pausedAtMs === undefined ? [] : [`! paused since ${at(pausedAtMs)}: kedge rotate resume`, '']),
    ...(current.cutOffCount === 0
      ? []
      : [`! ${current.cutOffCount} instances were cut off: ${cutOff.map(printable).join(', ')}`, '']),
    ...textFields([
      ['rotation', `${number}, ${printable(kind)}${abortedAtMs === undefined ? '' : ', going back'}`],
      ['step', STEPS[step] ?? printable(step)],
      ['begun', `${at(current.startedAtMs)} by ${printable(current.by)}`],
      ['reason', printable(current.reason) || 'none given'],
      ['from', shortId(current.fromAnchorId)],
      [
        'to',
        current.goalAnchorId === '' ? `an anchor of ${printable(upstream)}` : shortId(current.goalAnchorId),
      ],
      ['deadline', deadlineMs === undefined ? 'none' : at(deadlineMs)],
      ['excused', excused.length === 0 ? 'nobody' : excused.map(printable).join(', ')],
    ]),
  ];
}

function stragglerLines(
  { lifecycle }: GetRotationResponse,
  { gate }: RotationStatus,
  nowMs: number,
): readonly string[] {
  if (gate === undefined) return lifecycle.startsWith('rotation') ? ['', printable(lifecycle)] : [];
  const followed = gate.instances - gate.stragglers;
  const more = gate.stragglers - gate.named.length;
  return [
    '',
    `${bar(followed, gate.instances)} ${followed} of ${gate.instances} instances have followed`,
    ...(gate.stragglers === 0 && !gate.open ? [printable(gate.reason)] : []),
    ...(gate.named.length === 0 ? [] : ['', 'Waits for']),
    ...gate.named.map((straggler) => `  ${stragglerText(straggler, nowMs)}`),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ];
}

function stragglerText(straggler: StragglerStatus, nowMs?: number): string {
  const { name, id, bundleSequence, issuerId, svidNotAfterMs } = straggler;
  const ends = nowMs === undefined ? '' : `, which ends ${distanceText(Number(svidNotAfterMs), nowMs)}`;
  const svid = issuerId === '' ? 'no SVID that it reported' : `an SVID of issuer ${shortId(issuerId)}${ends}`;
  const bundle = bundleSequence === 0n ? 'no bundle' : `bundle ${bundleSequence}`;
  return `${printable(name)} (${printable(id)}): holds ${bundle}, ${svid}`;
}

function anchorLines({ anchors, bundleSequence }: GetRotationResponse, nowMs: number): readonly string[] {
  const rows = anchors.map(({ id, phase, tainted, upstream, notAfterMs }) => [
    shortId(id),
    tainted ? `${printable(phase)}, TAINTED` : printable(phase),
    printable(upstream),
    distanceText(Number(notAfterMs), nowMs),
  ]);
  const table = textTable(['id', 'phase', 'upstream', 'expires'], rows);
  return [`Trust anchors of bundle ${bundleSequence}`, ...table.map((line) => `  ${line}`)];
}

function bar(done: number, all: number): string {
  const filled = all === 0 ? BAR_WIDTH : Math.floor((done / all) * BAR_WIDTH);
  return `[${'#'.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}]`;
}

function shortId(id: string): string {
  return printable(id).slice(0, SHORT_ID);
}
