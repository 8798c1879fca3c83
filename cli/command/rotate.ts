import type { GetRotationResponse } from '../../proto/gen/kedge/v1/admin.ts';
import { RotationAct } from '../../proto/gen/kedge/v1/admin.ts';
import { parseDurationMs } from '../../host/duration.ts';
import { changeRotation, getRotation } from '../admin-client.ts';
import { ADMIN_SOCKET_OPTION, adminTarget } from '../admin-socket.ts';
import { type Command, type Invocation, OUTPUT_OPTION } from '../command.ts';
import { DATA_OPTION } from '../data-folder.ts';
import { jsonDocument } from '../json-document.ts';
import { operatorName, REASON_OPTION } from '../operator.ts';
import { historyReport, planReport, progressLine, rotationReport } from '../rotation-report.ts';

const OPTIONS = [DATA_OPTION, ADMIN_SOCKET_OPTION, OUTPUT_OPTION];
const UNREACHABLE = 'the CA does not answer, or what was asked cannot be done now';
const WATCH_MS = 1_000;

/** `kedge rotate start`. */
export const rotateStartCommand: Command = {
  name: 'rotate start',
  summary: 'begin to replace the trust anchor, while traffic flows',
  description: [
    'Begins a planned rotation to a new trust anchor of the configured upstream authority, and shows where it stands. The CA goes on by itself: the new trust anchor enters the bundle; once every live instance has acknowledged it, SVIDs come from it; once every live instance holds one, the old trust anchor leaves. No step is taken before the fleet has provably followed, so nothing breaks, however long it takes.',
    'With --deadline, a rotation that takes longer is called overdue; it forces nothing.',
  ],
  positionals: [],
  options: [
    ...OPTIONS,
    REASON_OPTION,
    {
      name: 'deadline',
      value: 'duration',
      default: 'none',
      help: 'after which time the rotation is called overdue, as in 8h',
    },
    { name: 'dry-run', help: 'only say what would happen' },
  ],
  examples: [
    ['kedge rotate start --reason "yearly rotation"', 'begin'],
    ['kedge rotate start --dry-run', 'see whether it could begin'],
  ],
  no: UNREACHABLE,
  run: (invocation) => act(invocation, RotationAct.ROTATION_ACT_START),
};

/** `kedge rotate status`. */
export const rotateStatusCommand: Command = {
  name: 'rotate status',
  summary: 'show where the rotation of the trust anchor stands, and for whom it waits',
  description: [
    'Shows the step of the rotation, how many instances have followed, and those that have not, by name, with what each still holds. With --watch it prints a line at each change until the rotation is over.',
  ],
  positionals: [],
  options: [...OPTIONS, { name: 'watch', help: 'go on until the rotation is over' }],
  examples: [
    ['kedge rotate status', 'once'],
    ['kedge rotate status --watch', 'until it is over'],
    ['kedge rotate status --watch --output json', 'one JSON document a line'],
  ],
  no: 'the CA does not answer, or the rotation that was watched was not completed',
  async run(invocation) {
    const { args } = invocation;
    if (args.has('watch')) return watch(invocation);
    print(await getRotation(adminTarget(args)), invocation, rotationReport);
    return 0;
  },
};

/** `kedge rotate plan`. */
export const rotatePlanCommand: Command = {
  name: 'rotate plan',
  summary: 'say which instances would fail if the next step of the rotation were taken now',
  description: [
    'Asks, before any step is taken, who would be left behind by it: the live instances that do not hold what the step takes for granted, by name. The CA takes the step only once there are none.',
  ],
  positionals: [],
  options: OPTIONS,
  examples: [['kedge rotate plan', 'who would fail now']],
  no: 'some instance would fail, or the CA does not answer',
  async run(invocation) {
    const answer = await getRotation(adminTarget(invocation.args));
    print(answer, invocation, planReport);
    return (answer.current?.gate?.stragglers ?? 0) === 0 ? 0 : 1;
  },
};

/** `kedge rotate history`. */
export const rotateHistoryCommand: Command = {
  name: 'rotate history',
  summary: 'list the rotations that ended, with who began them, why, and who was cut off',
  description: ['Lists the newest 16 rotations that ended, the newest first.'],
  positionals: [],
  options: OPTIONS,
  examples: [['kedge rotate history', 'what was']],
  no: 'the CA does not answer',
  async run(invocation) {
    print(await getRotation(adminTarget(invocation.args)), invocation, historyReport);
    return 0;
  },
};

/** `kedge rotate pause`. */
export const rotatePauseCommand: Command = simple(
  'pause',
  'stop the rotation where it stands, until it is resumed',
  'No step is taken while it is paused, also not at the deadline of a compromise. Issuers are renewed all the same, and the fleet goes on following.',
  RotationAct.ROTATION_ACT_PAUSE,
);

/** `kedge rotate resume`. */
export const rotateResumeCommand: Command = simple(
  'resume',
  'let a paused rotation go on',
  'Steps are taken again, the next one at once where the fleet has followed.',
  RotationAct.ROTATION_ACT_RESUME,
);

/** `kedge rotate abort`. */
export const rotateAbortCommand: Command = simple(
  'abort',
  'go back to the trust anchor that the rotation began with',
  'Possible from any step until the old trust anchor has left the bundle, and not in a compromise. It goes back by the same gates, so nothing breaks: SVIDs come from the old trust anchor again, and the new one leaves once every live instance holds such an SVID.',
  RotationAct.ROTATION_ACT_ABORT,
);

/** `kedge rotate excuse`. */
export const rotateExcuseCommand: Command = {
  ...simple(
    'excuse',
    'do not wait for one instance, by name',
    'No gate of the rotation waits for that instance any more. It may be cut off by the next step; it heals by itself from its bootstrap bundle. Every live instance cannot be excused.',
    RotationAct.ROTATION_ACT_EXCUSE,
  ),
  positionals: [{ name: 'instance', required: true, help: 'namespace/pod, or the UID of the pod' }],
  examples: [['kedge rotate excuse shop/cart-7d4b9 --reason "its node is lost"', 'wait no longer for it']],
};

function simple(word: string, summary: string, description: string, which: RotationAct): Command {
  return {
    name: `rotate ${word}`,
    summary,
    description: [description],
    positionals: [],
    options: [...OPTIONS, REASON_OPTION],
    examples: [[`kedge rotate ${word} --reason "a release goes out"`, 'with the reason on the audit log']],
    no: UNREACHABLE,
    run: (invocation) => act(invocation, which),
  };
}

async function act(invocation: Invocation, which: RotationAct): Promise<0> {
  const { args, clock } = invocation;
  const deadline = args.value('deadline');
  const answer = await changeRotation(adminTarget(args), {
    act: which,
    target: args.positionals[0] ?? '',
    deadlineMs: deadline === undefined ? undefined : BigInt(clock.now() + parseDurationMs(deadline)),
    by: operatorName(),
    reason: args.value('reason') ?? '',
    dryRun: args.has('dry-run'),
  });
  print(answer, invocation, rotationReport);
  return 0;
}

async function watch({ args, output, terminal, clock }: Invocation): Promise<0 | 1> {
  let last = '';
  for (;;) {
    const answer = await getRotation(adminTarget(args));
    const line = progressLine(answer);
    // Without its time, which always changes.
    const text = line.slice(line.indexOf('  '));
    if (text !== last) {
      terminal.stdout(
        output === 'json' ? `${JSON.stringify(JSON.parse(jsonDocument(answer)))}\n` : `${line}\n`,
      );
    }
    last = text;
    if (answer.current === undefined) return answer.past.at(-1)?.outcome === 'aborted' ? 1 : 0;
    await clock.sleep(WATCH_MS);
  }
}

function print(
  answer: GetRotationResponse,
  { output, terminal }: Invocation,
  report: (answer: GetRotationResponse) => string,
): void {
  terminal.stdout(output === 'json' ? jsonDocument(answer) : report(answer));
}
