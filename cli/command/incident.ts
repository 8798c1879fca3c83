import { type GetRotationResponse, RotationAct } from '../../proto/gen/kedge/v1/admin.ts';
import { parseDurationMs } from '../../host/duration.ts';
import { changeRotation } from '../admin-client.ts';
import { ADMIN_SOCKET_OPTION, adminTarget } from '../admin-socket.ts';
import { type Command, type ExitCode, type Invocation, OUTPUT_OPTION } from '../command.ts';
import { DATA_OPTION } from '../data-folder.ts';
import { jsonDocument } from '../json-document.ts';
import { operatorName, REASON_OPTION } from '../operator.ts';
import { rotationReport } from '../rotation-report.ts';

const OPTIONS = [
  DATA_OPTION,
  ADMIN_SOCKET_OPTION,
  OUTPUT_OPTION,
  REASON_OPTION,
  { name: 'yes', help: 'do it; without it, the command only says what it would do' },
] as const;

/** `kedge incident anchor-compromised`. */
export const incidentAnchorCommand: Command = {
  name: 'incident anchor-compromised',
  summary: 'replace a trust anchor whose key is in wrong hands, by a deadline',
  description: [
    'Taints the trust anchor and rotates away from it, by the same steps as a planned rotation, so that whoever follows notices nothing. At the deadline the tainted trust anchor leaves the bundle whoever still needs it; those are named, and heal by themselves from their bootstrap bundle. It takes over a rotation under way, from any step. Without --yes it only says what it would do.',
  ],
  positionals: [
    {
      name: 'anchor',
      required: false,
      help: 'the beginning of its id, 8 digits or more; default, outside a rotation: the active one',
    },
  ],
  options: [
    ...OPTIONS,
    { name: 'deadline', value: 'duration', default: '1h', help: 'after which time it goes regardless' },
  ],
  examples: [
    ['kedge incident anchor-compromised', 'see what would happen'],
    ['kedge incident anchor-compromised --deadline 30m --reason INC-4711 --yes', 'do it'],
  ],
  no: 'without --yes; the CA does not answer, or there is no such trust anchor',
  run: (invocation) =>
    run(invocation, RotationAct.ROTATION_ACT_ANCHOR_COMPROMISED, (answer) => [
      'The trust anchor is tainted, and the fleet moves to another one:',
      ...rotationReport(answer).trimEnd().split('\n'),
    ]),
};

/** `kedge incident issuer-compromised`. */
export const incidentIssuerCommand: Command = {
  name: 'incident issuer-compromised',
  summary: 'replace an issuer whose key is in wrong hands, at once',
  description: [
    'Taints the issuer: it signs no more, another one takes its place at once, and every instance that holds an SVID of it is asked to renew. Peers go on accepting what it signed until that expires: its trust anchor is still trusted, and Kedge publishes no CRL yet. Where that is too long, replace the trust anchor as well: kedge incident anchor-compromised. Without --yes it only says what it would do.',
  ],
  positionals: [
    {
      name: 'issuer',
      required: false,
      help: 'the beginning of its id, 8 digits or more; default, outside a rotation: the active one',
    },
  ],
  options: OPTIONS,
  examples: [['kedge incident issuer-compromised --reason INC-4711 --yes', 'replace the active issuer']],
  no: 'without --yes; the CA does not answer, or there is no such issuer',
  run: (invocation) =>
    run(invocation, RotationAct.ROTATION_ACT_ISSUER_COMPROMISED, ({ issuers }) => [
      'The issuer is tainted; another one signs as soon as it is there. Issuers:',
      ...issuers.map(
        ({ id, phase, tainted }) => `  ${id.slice(0, 12)}  ${phase}${tainted ? ', TAINTED' : ''}`,
      ),
      'kedge status shows who still holds an SVID of it.',
    ]),
};

async function run(
  { args, output, terminal, clock }: Invocation,
  act: RotationAct,
  report: (answer: GetRotationResponse) => readonly string[],
): Promise<ExitCode> {
  const deadline = args.value('deadline');
  const isReal = args.has('yes');
  const answer = await changeRotation(adminTarget(args), {
    act,
    target: args.positionals[0] ?? '',
    deadlineMs: deadline === undefined ? undefined : BigInt(clock.now() + parseDurationMs(deadline)),
    by: operatorName(),
    reason: args.value('reason') ?? '',
    dryRun: !isReal,
  });
  if (output === 'json') {
    terminal.stdout(jsonDocument({ done: isReal, ...answer }));
  } else {
    const lead = isReal ? [] : ['NOTHING WAS DONE YET. With --yes this would be:', ''];
    terminal.stdout(`${[...lead, ...report(answer)].join('\n')}\n`);
  }
  return isReal ? 0 : 1;
}
