import { systemClock } from '../host/clock.ts';
import { systemRandom } from '../host/random.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import { parseArguments } from './arguments.ts';
import type { CommandEntry, ExitCode, OutputFormat, Terminal } from './command.ts';
import { exitCodeOf, formatFailure } from './failure.ts';
import { commandHelp, overviewHelp } from './help.ts';

/** What {@link runCli} is made of. */
export interface RunCliOptions {
  /** What was typed after the program. */
  readonly argv: readonly string[];
  /** The commands that this program has. */
  readonly entries: readonly CommandEntry[];
  readonly terminal: Terminal;
}

/** Runs one command line and gives the exit code. Never throws: an error is printed here. */
export async function runCli(options: RunCliOptions): Promise<ExitCode> {
  const { argv, entries, terminal } = options;
  try {
    return await dispatch(argv, entries, terminal);
  } catch (error) {
    terminal.stderr(formatFailure(error, wantedOutput(argv)));
    return exitCodeOf(error);
  }
}

async function dispatch(
  argv: readonly string[],
  entries: readonly CommandEntry[],
  terminal: Terminal,
): Promise<ExitCode> {
  const [first] = argv;
  if (first === undefined) {
    terminal.stderr(overviewHelp('kedge', entries));
    return 2;
  }
  if (first === 'help' || first === '--help' || first === '-h') {
    const words = argv.slice(1).filter((word) => word !== '--help' && word !== '-h');
    terminal.stdout(words.length === 0 ? overviewHelp('kedge', entries) : await explain(words, entries));
    return 0;
  }
  const group = groupOf(argv, entries);
  if (group !== undefined && (argv[1] === '--help' || argv[1] === '-h')) {
    terminal.stdout(overviewHelp('kedge', group));
    return 0;
  }
  const entry = findEntry(argv[0] === '--version' ? ['version'] : argv, entries);
  const command = await entry.load();
  const parsed = parseArguments(command, argv.slice(entry.name.split(' ').length), terminal.env);
  if (parsed.kind === 'help') {
    terminal.stdout(commandHelp(command));
    return 0;
  }
  const { args } = parsed;
  const output: OutputFormat = args.value('output') === 'json' ? 'json' : 'text';
  return await command.run({ args, output, terminal, clock: systemClock, random: systemRandom });
}

async function explain(words: readonly string[], entries: readonly CommandEntry[]): Promise<string> {
  const group = words.length === 1 ? groupOf(words, entries) : undefined;
  if (group !== undefined) return overviewHelp('kedge', group);
  const entry = findEntry(words, entries);
  if (entry.name.split(' ').length !== words.length) throw unknownCommand(words, entries);
  return commandHelp(await entry.load());
}

/** The commands that begin with the word, where the word alone is not a command: `svid`. */
function groupOf(argv: readonly string[], entries: readonly CommandEntry[]): CommandEntry[] | undefined {
  const [first = ''] = argv;
  if (entries.some(({ name }) => name === first)) return undefined;
  const group = entries.filter(({ name }) => name.startsWith(`${first} `));
  return group.length === 0 ? undefined : group;
}

/** The longest command that the words begin with. */
function findEntry(argv: readonly string[], entries: readonly CommandEntry[]): CommandEntry {
  const [first = '', second = ''] = argv;
  const entry =
    entries.find(({ name }) => name === `${first} ${second}`) ?? entries.find(({ name }) => name === first);
  if (entry === undefined) throw unknownCommand(argv, entries);
  return entry;
}

function unknownCommand(argv: readonly string[], entries: readonly CommandEntry[]): KedgeError {
  const group = groupOf(argv, entries);
  const words = argv.slice(0, group === undefined ? 1 : 2).filter((word) => !word.startsWith('-'));
  const typed = words.length === 0 ? argv.slice(0, 1) : words;
  return new KedgeError('usage_invalid', `no command ${quote(typed.join(' '))}`, {
    hint: `the commands are ${(group ?? entries).map(({ name }) => name).join(', ')}`,
  });
}

/** The output format that was asked for, read without the command's table: for errors of the command line itself. */
function wantedOutput(argv: readonly string[]): OutputFormat {
  const wantsJson = argv.some(
    (word, i) =>
      word === '--output=json' ||
      word === '-ojson' ||
      (word === 'json' && (argv[i - 1] === '--output' || argv[i - 1] === '-o')),
  );
  return wantsJson ? 'json' : 'text';
}
