import { join, resolve } from 'node:path';
import { formatHead } from '../../ca/issue/audit-line.ts';
import { type AuditVerification, verifyAuditLog } from '../../ca/issue/audit-verify.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { type Command, OUTPUT_OPTION } from '../command.ts';
import { DATA_OPTION, dataFolder } from '../data-folder.ts';
import { jsonDocument } from '../json-document.ts';
import { printable, textFields } from '../text-table.ts';

const HEAD_FILES: Readonly<Record<AuditVerification['headFile'], string>> = {
  compared: 'agrees',
  absent: 'absent: the end of the log is not secured by it',
  unreadable: 'unreadable: the end of the log is not secured by it',
};

/** `kedge audit verify`. */
export const auditVerifyCommand: Command = {
  name: 'audit verify',
  summary: 'check that no line of an audit log was altered or removed',
  description: [
    'Reads the whole audit log, in constant memory and safely beside a running CA, and follows the chain of its lines. It finds any line that was altered, removed, repeated or moved by whoever did not also write every later line anew.',
    'The chain has no key. Whoever may write the folder could replace the log as a whole, so note the head that this command prints somewhere else, and give it to the next run with --expect: then nothing up to that line can have been touched.',
  ],
  positionals: [
    { name: 'folder', required: false, help: 'the folder of the log; default: audit in the data folder' },
  ],
  options: [
    DATA_OPTION,
    { name: 'expect', value: 'seq:hash', help: 'a head noted earlier: the log must hold that very line' },
    {
      name: 'after',
      value: 'seq:hash',
      help: 'the line before the first one, where older segments were archived',
    },
    OUTPUT_OPTION,
  ],
  examples: [
    ['kedge audit verify', 'the log of the CA with its data in ./.kedge'],
    ['kedge audit verify /backup/audit --expect "$(cat head)"', 'a copy, against a head noted earlier'],
  ],
  no: 'the log is not what was written; the first place is named',
  async run({ args, output, terminal }) {
    const folder = resolve(args.positionals[0] ?? join(dataFolder(args), 'audit'));
    const [expectedHead, after] = [args.value('expect'), args.value('after')];
    const verification = await verifyAuditLog(folder, {
      ...(expectedHead === undefined ? {} : { expectedHead }),
      ...(after === undefined ? {} : { after }),
    });
    if (verification.segments === 0) {
      throw new KedgeError('file_unreadable', `there is no audit log in ${quote(folder, 200)}`, {
        hint: 'name the folder of the log, or the data folder of the CA with --data',
      });
    }
    const good = verification.brokenAt === null;
    if (output === 'json') {
      terminal.stdout(jsonDocument({ good, ...verification, head: formatHead(verification.head) }));
    } else {
      terminal.stdout(`${report(verification).join('\n')}\n`);
    }
    return good ? 0 : 1;
  },
};

function report(verification: AuditVerification): string[] {
  const { records, segments, head, suppressedRefusals, tornBytes, headFile, brokenAt } = verification;
  const torn = tornBytes === 0 ? [] : [['unfinished', `${tornBytes} bytes after the last line`] as const];
  const counts = [
    ['lines', `${records} good, in ${segments} segments`] as const,
    ...(suppressedRefusals === 0
      ? []
      : [['summed up', `${suppressedRefusals} refusals without a line of their own`] as const]),
    ['head', formatHead(head)] as const,
  ];
  if (brokenAt === null) {
    return textFields([['verdict', 'good'], ...counts, ['head file', HEAD_FILES[headFile]], ...torn]);
  }
  const { segment, line, code, reason } = brokenAt;
  const place = segment === null ? 'the end of the log' : `${printable(segment)}, line ${line ?? 0}`;
  return textFields([
    ['verdict', 'BROKEN'],
    ['code', code],
    ['place', place],
    ['reason', printable(reason)],
    ...counts,
  ]);
}
