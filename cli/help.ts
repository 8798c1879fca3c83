import { optionForm } from './arguments.ts';
import type { Command, CommandEntry, OptionSpec } from './command.ts';

const WIDTH = 100;

/** The text of `kedge help`: every command with its summary. */
export function overviewHelp(program: string, entries: readonly CommandEntry[]): string {
  return [
    'Kedge is the identity plane of a service mesh: short-lived SPIFFE X.509-SVIDs, rotated while traffic flows.',
    '',
    `Usage: ${program} <command> [options]`,
    '',
    'Commands:',
    ...columns(entries.map(({ name, summary }) => [name, summary])),
    '',
    `${program} help <command> explains one command.`,
    '',
    ...EXIT_CODES,
    '',
  ].join('\n');
}

/** The text of `kedge help <command>` and of `kedge <command> --help`. */
export function commandHelp(command: Command): string {
  const positionals = command.positionals.map(({ name, required }) => (required ? `<${name}>` : `[${name}]`));
  const required = command.options.filter((option) => option.required === true).map(optionForm);
  const lines = [
    `kedge ${command.name}: ${command.summary}`,
    '',
    `Usage: ${['kedge', command.name, ...positionals, ...required, '[options]'].join(' ')}`,
    '',
    ...command.description.flatMap((paragraph) => [...wrap(paragraph, WIDTH), '']),
  ];
  if (command.positionals.length > 0) {
    lines.push(
      'Arguments:',
      ...columns(command.positionals.map(({ name, help }) => [`<${name}>`, help])),
      '',
    );
  }
  const options = [...command.options.map(optionRow), ['-h, --help', 'explain this command'] as const];
  lines.push('Options:', ...columns(options), '');
  if (command.examples.length > 0) {
    lines.push(
      'Examples:',
      ...command.examples.flatMap(([line, purpose]) => [`  # ${purpose}`, `  ${line}`]),
      '',
    );
  }
  lines.push(...exitCodes(command.no), '');
  return lines.join('\n');
}

const EXIT_CODES = exitCodes('the answer is no: not valid, not there, not reachable');

function exitCodes(no: string | undefined): string[] {
  return [
    'Exit codes:',
    ...columns([
      ['0', 'fine'],
      ['1', no ?? 'it could not be done; the error says why'],
      ['2', 'bad usage or configuration; nothing was started or changed'],
    ]),
  ];
}

function optionRow(option: OptionSpec): readonly [string, string] {
  const form = `${option.short === undefined ? '    ' : `-${option.short}, `}${optionForm(option)}`;
  const notes = [
    option.multiple === true ? 'may be repeated' : '',
    option.env === undefined ? '' : `or ${option.env}`,
    option.default === undefined ? '' : `default ${option.default}`,
  ].filter((note) => note !== '');
  return [form, notes.length === 0 ? option.help : `${option.help} (${notes.join('; ')})`];
}

/** Rows of two columns, indented by two, the second one wrapped. */
function columns(rows: readonly (readonly [string, string])[]): string[] {
  const longest = Math.max(...rows.map(([left]) => left.length));
  const gutter = Math.min(longest, 34) + 4;
  return rows.flatMap(([left, right]) => {
    const [first = '', ...rest] = wrap(right, WIDTH - gutter);
    const head =
      left.length + 4 > gutter
        ? [`  ${left}`, `${' '.repeat(gutter)}${first}`]
        : [`  ${left}`.padEnd(gutter) + first];
    return [...head, ...rest.map((line) => ' '.repeat(gutter) + line)];
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
