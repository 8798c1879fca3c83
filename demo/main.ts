/**
 * The demo, `npm start`: a CA, two agents and two workloads on this machine, with lifetimes so short that every
 * rotation can be watched. Its options are in `demo/options.ts`.
 */
import { constants } from 'node:os';
import { formatFailure } from '../cli/failure.ts';
import { isKedgeError } from '../pki/kedge-error.ts';
import { ChildDied, Children } from './children.ts';
import { demoFolder, writeShortcut } from './demo-folder.ts';
import { DEMO_HELP, type DemoOptions, parseDemoOptions } from './options.ts';
import { setStage, type Stage, WORKLOADS } from './stage.ts';
import { Story, summary } from './story.ts';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** The first signal ends the demo in order; the second at once. */
function endBySignal(children: Children, folder: Disposable): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let ending = false;
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(name, () => {
        if (ending) {
          children.kill();
          folder[Symbol.dispose]();
          process.exit(128 + constants.signals[name]);
        }
        ending = true;
        resolve(name);
      });
    }
  });
}

function whereToLook(kedge: string, { ca, sockets }: Stage): string[] {
  return [
    '',
    'Look around, from another terminal:',
    `  ${kedge} status`,
    `  ${kedge} svid fetch --socket unix://${sockets.web}`,
    `  ${kedge} bundle show`,
    `  ${kedge} audit verify`,
    `  curl -s http://${ca.httpAddress}/metrics`,
    '',
    'Each line from here on is one rotation. Ctrl-C ends the demo.',
    '',
  ];
}

async function run({ rotations }: DemoOptions): Promise<number> {
  using folder = demoFolder();
  const children = new Children();
  const story = new Story(WORKLOADS);
  const enough = Promise.withResolvers<'enough'>();
  const ending = new AbortController();
  const signalled = endBySignal(children, folder);
  say('Kedge demo: an identity CA, two agents, and two workloads that talk mTLS. All of it on this machine.');
  say('');
  const acted = async (): Promise<'enough'> => {
    const stage = await setStage({
      children,
      folder: folder.path,
      signal: ending.signal,
      onStarted: (part, where) => say(`started  ${part.padEnd(19)}  ${where}`),
      onMessage: (workload, message) => {
        // What breaks because it is being ended is no failure.
        if (ending.signal.aborted) return;
        const line = story.line(workload, message, Date.now());
        if (line !== undefined) say(line);
        if (rotations !== undefined && story.totals.fewestRotations >= rotations) enough.resolve('enough');
      },
    });
    const kedge = writeShortcut(folder.path, stage.ca.dataFolder);
    for (const line of whereToLook(kedge, stage)) say(line);
    return await enough.promise;
  };
  let code = 0;
  try {
    const ended = await Promise.race([acted(), signalled, children.died]);
    ending.abort(new Error('the demo ends'));
    say('');
    say(ended === 'enough' ? 'That is enough. Ending.' : `${ended}: ending.`);
    code = ended === 'enough' && story.totals.failures > 0 ? 1 : 0;
  } catch (error) {
    code = 1;
    ending.abort(new Error('the demo ends'));
    tellFailure(error);
  }
  const killed = await children.stop();
  for (const name of killed) say(`${name} did not end in time and was killed.`);
  say(`${summary(story.totals)}.`);
  return killed.length > 0 ? 1 : code;
}

function tellFailure(error: unknown): void {
  if (error instanceof ChildDied) {
    process.stderr.write(`\nerror: ${error.message}\n`);
    if (error.lines.length > 0)
      process.stderr.write(`its last lines:\n${error.lines.map((l) => `  ${l}\n`).join('')}`);
  } else {
    process.stderr.write(`\n${formatFailure(error, 'text')}`);
  }
}

async function main(): Promise<number> {
  process.stdout.on('error', () => process.kill(process.pid, 'SIGTERM'));
  try {
    const options = parseDemoOptions(process.argv.slice(2));
    if (!options.help) return await run(options);
    say(DEMO_HELP.trimEnd());
    return 0;
  } catch (error) {
    process.stderr.write(formatFailure(error, 'text'));
    return isKedgeError(error, 'usage_invalid') ? 2 : 1;
  }
}

process.exit(await main());
