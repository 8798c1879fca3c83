import { parseArgs } from 'node:util';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import type { Command, OptionSpec } from './command.ts';

const HELP: OptionSpec = { name: 'help', short: 'h', help: 'explain this command' };

/** The arguments of one command line, checked against what the command takes. */
export class Arguments {
  readonly #values: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];

  /** `values` holds the flags that were given with an empty list. */
  constructor(values: ReadonlyMap<string, readonly string[]>, positionals: readonly string[]) {
    this.#values = values;
    this.positionals = positionals;
  }

  /** Whether the option was given, by flag or by environment. */
  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The value of an option that takes one; undefined where it was not given. */
  value(name: string): string | undefined {
    return this.#values.get(name)?.[0];
  }

  /** Every value of an option that may be given more than once. */
  values(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** The value of an option that is required. */
  required(name: string): string {
    const value = this.value(name);
    if (value === undefined) throw new TypeError(`option ${name} is not required`);
    return value;
  }

  /** The positional at `index`, which is required. */
  positional(index: number): string {
    const value = this.positionals[index];
    if (value === undefined) throw new TypeError(`positional ${index} is not required`);
    return value;
  }

  /** An option as a whole number in [min, max]; `fallback` where it was not given. Throws `usage_invalid`. */
  integer(name: string, bounds: { readonly min: number; readonly max: number }, fallback: number): number {
    const text = this.value(name);
    if (text === undefined) return fallback;
    const value = /^(0|[1-9][0-9]{0,14})$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= bounds.min && value <= bounds.max)) {
      throw new KedgeError('usage_invalid', `--${name} does not take ${quote(text)}`, {
        hint: `give a whole number from ${bounds.min} to ${bounds.max}`,
      });
    }
    return value;
  }
}

/** What {@link parseArguments} found: what to run with, or that help was asked for. */
export type ParsedArguments = { readonly kind: 'run'; readonly args: Arguments } | { readonly kind: 'help' };

/**
 * Reads `argv` (after the words of the command) by the command's own table.
 *
 * Throws `usage_invalid`, naming the offending argument and what is allowed: an unknown option, a value missing,
 * a value too many, an option given twice, a positional too few or too many.
 */
export function parseArguments(
  command: Command,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedArguments {
  const options = [...command.options, HELP];
  const values = new Map<string, string[]>();
  const positionals: string[] = [];
  for (const token of tokensOf(options, argv)) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const option = options.find(({ name }) => name === token.name);
    if (option === undefined) throw unknownOption(command, options, token.rawName);
    if (option === HELP) return { kind: 'help' };
    addOption(values, option, token);
  }
  for (const option of command.options) {
    const fromEnv = option.env === undefined ? undefined : env[option.env];
    if (!values.has(option.name) && fromEnv !== undefined && fromEnv !== '') {
      checkChoice(option, fromEnv, option.env ?? '');
      values.set(option.name, [fromEnv]);
    }
    if (option.required === true && !values.has(option.name)) {
      const orEnv = option.env === undefined ? '' : `, or set ${option.env}`;
      throw usage(command, `--${option.name} is missing`, `give ${optionForm(option)}${orEnv}`);
    }
  }
  checkPositionals(command, positionals);
  return { kind: 'run', args: new Arguments(values, positionals) };
}

/** An option as it is written: `--output <text|json>`. */
export function optionForm(option: OptionSpec): string {
  if (option.value === undefined) return `--${option.name}`;
  return `--${option.name} <${option.choices?.join('|') ?? option.value}>`;
}

interface OptionToken {
  readonly kind: 'option';
  readonly name: string;
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inline: boolean;
}
type Token = OptionToken | { readonly kind: 'positional'; readonly value: string } | { readonly kind: 'end' };

function tokensOf(options: readonly OptionSpec[], argv: readonly string[]): Token[] {
  // Not strict: the refusals are ours, with the allowed names, instead of those of Node.
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: Object.fromEntries(
      options.map(({ name, short, value }) => [
        name,
        {
          type: value === undefined ? ('boolean' as const) : ('string' as const),
          ...(short === undefined ? {} : { short }),
        },
      ]),
    ),
  });
  return tokens.map((token): Token => {
    if (token.kind === 'positional') return { kind: 'positional', value: token.value };
    if (token.kind === 'option-terminator') return { kind: 'end' };
    const { name, rawName, value, inlineValue } = token;
    return { kind: 'option', name, rawName, value, inline: inlineValue === true };
  });
}

function addOption(values: Map<string, string[]>, option: OptionSpec, token: OptionToken): void {
  const given = values.get(option.name);
  if (given !== undefined && option.multiple !== true) {
    throw new KedgeError('usage_invalid', `${token.rawName} is given twice`, { hint: 'give it once' });
  }
  if (option.value === undefined) {
    if (token.value !== undefined) {
      throw new KedgeError('usage_invalid', `${token.rawName} takes no value, not ${quote(token.value)}`, {
        hint: `write ${token.rawName} alone`,
      });
    }
    values.set(option.name, []);
    return;
  }
  if (token.value === undefined || (token.value.startsWith('-') && token.value !== '-' && !token.inline)) {
    throw new KedgeError('usage_invalid', `${token.rawName} has no value`, {
      hint: `write ${optionForm(option)}; a value that begins with a dash goes as --${option.name}=<value>`,
    });
  }
  if (token.value === '') {
    throw new KedgeError('usage_invalid', `${token.rawName} has an empty value`, {
      hint: `write ${optionForm(option)}`,
    });
  }
  checkChoice(option, token.value, token.rawName);
  values.set(option.name, [...(given ?? []), token.value]);
}

function checkChoice(option: OptionSpec, value: string, source: string): void {
  if (option.choices === undefined || option.choices.includes(value)) return;
  throw new KedgeError('usage_invalid', `${source} does not take ${quote(value)}`, {
    hint: `it takes ${option.choices.join(', ')}`,
  });
}

function checkPositionals(command: Command, positionals: readonly string[]): void {
  const missing = command.positionals.find((spec, i) => spec.required && positionals[i] === undefined);
  if (missing !== undefined) {
    throw usage(command, `<${missing.name}> is missing`, `${missing.name} is ${missing.help}`);
  }
  const extra = positionals[command.positionals.length];
  if (extra === undefined) return;
  const takes = command.positionals.map(({ name }) => `<${name}>`).join(' ') || 'no argument without dashes';
  throw usage(command, `there is one argument too many: ${quote(extra)}`, `it takes ${takes}`);
}

function unknownOption(command: Command, options: readonly OptionSpec[], rawName: string): KedgeError {
  const allowed = options.map(({ name }) => `--${name}`).join(', ');
  return usage(command, `no option ${quote(rawName)}`, `the options are ${allowed}`);
}

function usage(command: Command, message: string, hint: string): KedgeError {
  return new KedgeError('usage_invalid', `kedge ${command.name}: ${message}`, { hint });
}
