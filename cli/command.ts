import type { Clock } from '../host/clock.ts';
import type { Random } from '../host/random.ts';
import type { Arguments } from './arguments.ts';

/** One option of a command. Without `value` it is a flag: there or not. */
export interface OptionSpec {
  /** As on the command line, without the leading dashes. */
  readonly name: string;
  /** One letter, without the dash. */
  readonly short?: string;
  /** What the value is, as help shows it: `file`, `seconds`. */
  readonly value?: string;
  /** The only values that are taken. */
  readonly choices?: readonly string[];
  /** May be given more than once. */
  readonly multiple?: boolean;
  /** The command cannot do without it. */
  readonly required?: boolean;
  /** What holds where it is not given, as help shows it. */
  readonly default?: string;
  /** The environment variable that is read where the option is not given. */
  readonly env?: string;
  /** One line, lower case, no full stop. */
  readonly help: string;
}

/** One argument without dashes. */
export interface PositionalSpec {
  /** As help shows it: `chain.pem`. */
  readonly name: string;
  readonly required: boolean;
  readonly help: string;
}

/** What a command prints: for people, or one JSON document. */
export type OutputFormat = 'text' | 'json';

/** The process around a command, injected so that tests own it. */
export interface Terminal {
  /** Writes to standard output: the answer, and nothing else. */
  readonly stdout: (text: string) => void;
  /** Writes to standard error: refusals and logs. */
  readonly stderr: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** All that a command gets for one run. */
export interface Invocation {
  readonly args: Arguments;
  readonly output: OutputFormat;
  readonly terminal: Terminal;
  readonly clock: Clock;
  readonly random: Random;
}

/** How a command ends: 0 fine, 1 the answer is no, 2 bad usage or config. */
export type ExitCode = 0 | 1 | 2;

/** One command: its words, what it takes, and what it does. */
export interface Command {
  /** The words after `kedge`. */
  readonly name: string;
  /** One line, lower case, no full stop. */
  readonly summary: string;
  /** Whole sentences, one paragraph a string. */
  readonly description: readonly string[];
  readonly positionals: readonly PositionalSpec[];
  /** Without `--help`, which every command takes. */
  readonly options: readonly OptionSpec[];
  /** Command lines, each with what it is for. */
  readonly examples: readonly (readonly [line: string, purpose: string])[];
  /** What the exit code 1 means here; absent = the command has no such answer. */
  readonly no?: string;
  /** Runs it. A refusal is thrown as a KedgeError. */
  readonly run: (invocation: Invocation) => Promise<ExitCode>;
}

/** A command by name, loaded only when it is run or explained: start-up time is part of the contract. */
export interface CommandEntry {
  readonly name: string;
  /** Equal to the summary of the command, which a test holds. */
  readonly summary: string;
  readonly load: () => Promise<Command>;
}

/** The option that every command with an answer takes. */
export const OUTPUT_OPTION: OptionSpec = {
  name: 'output',
  short: 'o',
  value: 'format',
  choices: ['text', 'json'],
  default: 'text',
  help: 'how to print the answer',
};
