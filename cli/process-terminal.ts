import type { CommandEntry, Terminal } from './command.ts';
import { runCli } from './run.ts';

/**
 * Runs the command line of this process to its end, then ends the process.
 *
 * Who reads standard output may go away early (`kedge help | head -1`): that is quiet and no failure. Standard
 * error that is gone silences what would go there; a CA does not die of a closed log pipe.
 */
export async function runProcess(entries: readonly CommandEntry[]): Promise<never> {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  process.stderr.on('error', () => {});
  const terminal: Terminal = {
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    env: process.env,
  };
  const code = await runCli({ argv: process.argv.slice(2), entries, terminal });
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  process.exit(code);
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.writableLength === 0 || stream.destroyed) resolve();
    else stream.write('', () => resolve());
  });
}
