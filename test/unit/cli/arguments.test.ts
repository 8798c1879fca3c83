import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Arguments, optionForm, parseArguments } from '../../../cli/arguments.ts';
import type { Command } from '../../../cli/command.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';

const command: Command = {
  name: 'demo',
  summary: 'a demo',
  description: [],
  positionals: [
    { name: 'first', required: true, help: 'the first' },
    { name: 'second', required: false, help: 'the second' },
  ],
  options: [
    { name: 'file', short: 'f', value: 'path', help: 'a file' },
    { name: 'many', value: 'name', multiple: true, help: 'many' },
    { name: 'output', short: 'o', value: 'format', choices: ['text', 'json'], help: 'format' },
    { name: 'loud', help: 'a flag' },
    { name: 'socket', value: 'address', env: 'DEMO_SOCKET', help: 'a socket' },
  ],
  examples: [],
  run: () => Promise.resolve(0),
};

function parsed(argv: readonly string[], env = {}, of = command): Arguments {
  const result = parseArguments(of, argv, env);
  assert.equal(result.kind, 'run');
  return (result as { args: Arguments }).args;
}

describe('parseArguments', () => {
  it('takes values apart or with an equals sign, short or long', () => {
    for (const argv of [['--file', 'x'], ['--file=x'], ['-f', 'x'], ['-fx']]) {
      assert.equal(parsed(['a', ...argv]).value('file'), 'x', argv.join(' '));
    }
  });

  it('takes a value that begins with a dash when it stands behind an equals sign', () => {
    assert.equal(parsed(['a', '--file=--odd']).value('file'), '--odd');
  });

  it('takes a lone dash as a value and as an argument: standard input', () => {
    const args = parsed(['-', '--file', '-']);
    assert.deepEqual([args.positional(0), args.value('file')], ['-', '-']);
  });

  it('takes what stands behind two dashes as arguments', () => {
    assert.deepEqual(parsed(['--', '--file', '-x']).positionals, ['--file', '-x']);
  });

  it('keeps every value of an option that may be repeated, in order', () => {
    assert.deepEqual(parsed(['a', '--many', 'x', '--many=y']).values('many'), ['x', 'y']);
  });

  it('reads the environment where the option is not given, and passes over an empty variable', () => {
    assert.equal(parsed(['a'], { DEMO_SOCKET: 's' }).value('socket'), 's');
    assert.equal(parsed(['a', '--socket', 't'], { DEMO_SOCKET: 's' }).value('socket'), 't');
    assert.equal(parsed(['a'], { DEMO_SOCKET: '' }).has('socket'), false);
  });

  it('says that help is wanted, whatever else is missing', () => {
    assert.equal(parseArguments(command, ['--help'], {}).kind, 'help');
    assert.equal(parseArguments(command, ['-h'], {}).kind, 'help');
  });

  const refused = [
    {
      name: 'an unknown option, naming the allowed ones',
      argv: ['a', '--fiel', 'x'],
      message: /no option "--fiel"/,
      hint: /--file, --many, --output, --loud, --socket, --help/,
    },
    { name: 'an unknown short option', argv: ['a', '-x'], message: /no option "-x"/ },
    {
      name: 'the name of a property of every object',
      argv: ['a', '--constructor'],
      message: /no option "--constructor"/,
    },
    { name: 'the prototype', argv: ['a', '--__proto__=x'], message: /no option "--__proto__"/ },
    {
      name: 'a value that is missing at the end',
      argv: ['a', '--file'],
      message: /--file has no value/,
      hint: /--file <path>/,
    },
    {
      name: 'a value that is missing before the next option',
      argv: ['a', '--file', '--loud'],
      message: /--file has no value/,
    },
    { name: 'an empty value', argv: ['a', '--file='], message: /--file has an empty value/ },
    { name: 'a value for a flag', argv: ['a', '--loud=yes'], message: /--loud takes no value/ },
    {
      name: 'an option that is given twice',
      argv: ['a', '--file', 'x', '-f', 'y'],
      message: /-f is given twice/,
    },
    { name: 'a flag that is given twice', argv: ['a', '--loud', '--loud'], message: /--loud is given twice/ },
    {
      name: 'a value outside of the choices',
      argv: ['a', '--output', 'xml'],
      message: /--output does not take "xml"/,
      hint: /text, json/,
    },
    { name: 'an argument that is missing', argv: [], message: /<first> is missing/, hint: /the first/ },
    { name: 'an argument too many', argv: ['a', 'b', 'c'], message: /one argument too many: "c"/ },
  ];
  for (const { name, argv, message, hint } of refused) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => parseArguments(command, argv, {}),
        (error: unknown) => {
          assert.ok(error instanceof KedgeError);
          assert.equal(error.code, 'usage_invalid');
          assert.match(error.message, message);
          if (hint !== undefined) assert.match(error.hint ?? '', hint);
          return true;
        },
      );
    });
  }

  it('refuses a required option that is missing, and names its environment variable', () => {
    const strict: Command = {
      ...command,
      positionals: [],
      options: [{ name: 'socket', value: 'address', env: 'DEMO_SOCKET', required: true, help: 'a socket' }],
    };
    assert.throws(() => parseArguments(strict, [], {}), {
      code: 'usage_invalid',
      message: 'kedge demo: --socket is missing',
      hint: 'give --socket <address>, or set DEMO_SOCKET',
    });
    assert.equal(parsed([], { DEMO_SOCKET: 's' }, strict).required('socket'), 's');
  });

  it('refuses a choice from the environment that is none', () => {
    const chosen: Command = {
      ...command,
      positionals: [],
      options: [{ name: 'level', value: 'level', env: 'DEMO_LEVEL', choices: ['info'], help: 'level' }],
    };
    assert.throws(() => parseArguments(chosen, [], { DEMO_LEVEL: 'loud' }), {
      code: 'usage_invalid',
      message: 'DEMO_LEVEL does not take "loud"',
    });
  });
});

describe('Arguments.integer', () => {
  const bounds = { min: 1, max: 100 };
  const given = (text: string): Arguments => new Arguments(new Map([['n', [text]]]), []);

  it('reads a whole number within its bounds, or gives the fallback', () => {
    assert.equal(given('1').integer('n', bounds, 7), 1);
    assert.equal(given('100').integer('n', bounds, 7), 100);
    assert.equal(new Arguments(new Map(), []).integer('n', bounds, 7), 7);
  });

  for (const text of ['0', '101', '-1', '1.5', '01', '1e1', '0x1', ' 1', '', 'NaN', '9'.repeat(400)]) {
    it(`refuses ${JSON.stringify(text.slice(0, 20))}`, () => {
      assert.throws(() => given(text).integer('n', bounds, 7), {
        code: 'usage_invalid',
        hint: /from 1 to 100/,
      });
    });
  }
});

describe('optionForm', () => {
  it('shows the choices where there are some', () => {
    assert.equal(optionForm({ name: 'o', value: 'format', choices: ['a', 'b'], help: '' }), '--o <a|b>');
    assert.equal(optionForm({ name: 'o', value: 'file', help: '' }), '--o <file>');
    assert.equal(optionForm({ name: 'o', help: '' }), '--o');
  });
});
