import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Command, type CommandEntry, OUTPUT_OPTION } from '../../../cli/command.ts';
import { runCli } from '../../../cli/run.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';

function entry(name: string, run: Command['run'] = () => Promise.resolve(0)): CommandEntry {
  const command: Command = {
    name,
    summary: `does ${name}`,
    description: [`This does ${name}.`],
    positionals: [],
    options: [OUTPUT_OPTION],
    examples: [],
    run,
  };
  return { name, summary: command.summary, load: () => Promise.resolve(command) };
}

const refusal = new KedgeError('svid_expired', 'the leaf has expired', { hint: 'fetch a new one' });
const entries = [
  entry('agent', ({ terminal }) => {
    terminal.stdout('agent ran');
    return Promise.resolve(0);
  }),
  entry('agent wait', ({ terminal, output }) => {
    terminal.stdout(`agent wait ran in ${output}`);
    return Promise.resolve(1);
  }),
  entry('svid fetch', () => Promise.reject(refusal)),
  entry('svid verify', () => Promise.reject(new KedgeError('config_invalid', 'a bad key'))),
  entry('version', () => Promise.reject(new TypeError('a mistake'))),
];

async function run(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ['', ''];
  const terminal = {
    stdout: (text: string) => void (stdout += text),
    stderr: (text: string) => void (stderr += text),
    env: {},
  };
  const code = await runCli({ argv, entries, terminal });
  return { code, stdout, stderr };
}

describe('runCli', () => {
  it('runs the longest command that the words name, and gives its exit code', async () => {
    assert.deepEqual(await run('agent'), { code: 0, stdout: 'agent ran', stderr: '' });
    assert.deepEqual(await run('agent', 'wait'), { code: 1, stdout: 'agent wait ran in text', stderr: '' });
    assert.equal((await run('agent', 'wait', '-o', 'json')).stdout, 'agent wait ran in json');
  });

  it('without a command prints the overview to standard error, and exits with 2', async () => {
    const { code, stdout, stderr } = await run();
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /^ {2}svid fetch {2,}does svid fetch$/m);
  });

  for (const argv of [['help'], ['--help'], ['-h'], ['help', '--help']]) {
    it(`prints the overview to standard output for ${argv.join(' ')}`, async () => {
      const { code, stdout } = await run(...argv);
      assert.equal(code, 0);
      assert.match(stdout, /^Usage: kedge <command>/m);
    });
  }

  it('explains a command by help and by --help alike', async () => {
    const byHelp = await run('help', 'svid', 'fetch');
    assert.equal(byHelp.code, 0);
    assert.match(byHelp.stdout, /^kedge svid fetch: does svid fetch\n/);
    assert.deepEqual(await run('svid', 'fetch', '--help'), byHelp);
    assert.deepEqual(await run('help', 'agent'), await run('agent', '--help'));
  });

  it('explains a group of commands', async () => {
    const { code, stdout } = await run('help', 'svid');
    assert.equal(code, 0);
    assert.match(stdout, /svid verify/);
    assert.doesNotMatch(stdout, /version/);
    assert.deepEqual(await run('svid', '--help'), { code, stdout, stderr: '' });
  });

  const unknown = [
    { argv: ['svit'], message: 'no command "svit"', hint: /agent, agent wait, svid fetch/ },
    { argv: ['svid', 'fecth'], message: 'no command "svid fecth"', hint: /are svid fetch, svid verify$/m },
    { argv: ['svid'], message: 'no command "svid"', hint: /are svid fetch, svid verify$/m },
    { argv: ['help', 'nonsense'], message: 'no command "nonsense"', hint: /version/ },
    { argv: ['help', 'version', 'more'], message: 'no command "version"', hint: /version/ },
    { argv: ['--frobnicate'], message: 'no command "--frobnicate"', hint: /version/ },
    { argv: [''], message: 'no command ""', hint: /version/ },
    { argv: ['\u001b[31m'], message: 'no command "\\u001b[31m"', hint: /version/ },
  ];
  for (const { argv, message, hint } of unknown) {
    it(`refuses ${JSON.stringify(argv)} and names the commands`, async () => {
      const { code, stdout, stderr } = await run(...argv);
      assert.deepEqual([code, stdout], [2, '']);
      assert.equal(stderr.split('\n')[0], `error: ${message}`);
      assert.match(stderr, hint);
      assert.match(stderr, /^code: usage_invalid$/m);
    });
  }

  it('prints a refusal in three lines without a stack, and exits with 1', async () => {
    assert.deepEqual(await run('svid', 'fetch'), {
      code: 1,
      stdout: '',
      stderr: 'error: the leaf has expired\nhint: fetch a new one\ncode: svid_expired\n',
    });
  });

  it('prints a refusal as JSON where JSON is wanted, that of the command line too', async () => {
    for (const flags of [['--output', 'json'], ['--output=json'], ['-o', 'json'], ['-ojson']]) {
      const { code, stderr } = await run('svid', 'fetch', ...flags);
      assert.equal(code, 1);
      assert.deepEqual(JSON.parse(stderr), {
        error: { code: 'svid_expired', message: 'the leaf has expired', hint: 'fetch a new one' },
      });
    }
    const { code, stderr } = await run('svid', 'fetch', '--nonsense', '--output', 'json');
    assert.equal(code, 2);
    assert.equal((JSON.parse(stderr) as { error: { code: string } }).error.code, 'usage_invalid');
  });

  it('exits with 2 for a configuration that is not taken', async () => {
    assert.equal((await run('svid', 'verify')).code, 2);
  });

  it('shows the stack of a mistake in Kedge, and exits with 1', async () => {
    const { code, stderr } = await run('version');
    assert.equal(code, 1);
    assert.match(stderr, /^error: a mistake\n/);
    assert.match(stderr, /^code: internal\n/m);
    assert.match(stderr, /^ {4}at /m);
  });
});
