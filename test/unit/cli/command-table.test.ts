import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { AGENT_COMMANDS } from '../../../cli/agent-command-table.ts';
import type { Command } from '../../../cli/command.ts';
import { COMMANDS } from '../../../cli/command-table.ts';
import { commandHelp } from '../../../cli/help.ts';
import { ERROR_TABLE } from '../../../pki/error-table.ts';

const DOC = readFileSync(join(import.meta.dirname, '../../../docs/cli.md'), 'utf8');

const commands: Command[] = await Promise.all(COMMANDS.map(({ load }) => load()));

describe('the command table', () => {
  it('names each command and its summary as the command itself does', () => {
    assert.deepEqual(
      COMMANDS.map(({ name, summary }) => ({ name, summary })),
      commands.map(({ name, summary }) => ({ name, summary })),
    );
  });

  it('has the commands that the project promises, those of the agent among them', () => {
    const names = COMMANDS.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const name of [
      'ca',
      'agent',
      'token',
      'svid fetch',
      'svid inspect',
      'svid verify',
      'bundle show',
      'status',
      'version',
    ]) {
      assert.ok(names.includes(name), name);
    }
    for (const { name } of AGENT_COMMANDS) assert.ok(names.includes(name), name);
  });

  for (const command of commands) {
    it(`describes kedge ${command.name} in the style of the others`, () => {
      const { options, positionals, summary, description, examples } = command;
      const names = options.map(({ name }) => name);
      assert.equal(new Set(names).size, names.length, 'an option comes twice');
      assert.ok(!names.includes('help'));
      for (const name of names) assert.match(name, /^[a-z]+(-[a-z]+)*$/);
      const lines = [summary, ...options.map(({ help }) => help), ...positionals.map(({ help }) => help)];
      for (const line of lines) assert.match(line, /^(?![A-Z][a-z]+ing\b).*[^.]$/);
      for (const paragraph of description) assert.match(paragraph, /^[A-Z].*\.$/s);
      for (const [line] of examples) assert.ok(line.startsWith(`kedge ${command.name}`), line);
    });

    it(`is told word for word in docs/cli.md: kedge ${command.name}`, () => {
      assert.ok(DOC.includes(`\n## kedge ${command.name}\n`), 'there is no section');
      const block = `\n\`\`\`text\n${commandHelp(command)}\`\`\`\n`;
      assert.ok(
        DOC.includes(block),
        'the help in docs/cli.md differs from what kedge help prints: paste it anew',
      );
    });
  }

  it('has no section in docs/cli.md for a command that does not exist', () => {
    const sections = [...DOC.matchAll(/^## kedge (.*)$/gm)].map((match) => match[1]);
    assert.deepEqual(
      sections,
      COMMANDS.map(({ name }) => name),
    );
  });

  it('shows only codes in docs/cli.md that exist', () => {
    const codes = [...DOC.matchAll(/^code: +([a-z_]+)$/gm)].map((match) => match[1] ?? '');
    assert.ok(codes.length > 0);
    for (const code of codes) assert.ok(Object.hasOwn(ERROR_TABLE, code), code);
  });
});
