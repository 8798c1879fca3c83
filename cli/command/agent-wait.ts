import { backoffMs } from '../../host/backoff.ts';
import { parseDurationMs } from '../../host/duration.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { type Command, type Invocation, OUTPUT_OPTION } from '../command.ts';
import { socketTarget } from '../endpoint-socket.ts';
import { isServing } from '../health-client.ts';
import { TIMEOUT_OPTION, WORKLOAD_SOCKET_OPTION } from '../workload-socket.ts';

/** An agent is waited for at its start, which takes less than a second: asking often is cheap and short. */
const BACKOFF = { baseMs: 20, capMs: 1_000 } as const;

/** `kedge agent wait`. */
export const agentWaitCommand: Command = {
  name: 'agent wait',
  summary: 'wait until an agent serves an identity',
  description: [
    'Asks the health service on the Workload API socket of an agent again and again, with back-off, until the agent serves an identity and each of its feeds has put that where its consumers find it. The socket need not exist yet. For start-up order: as the post-start hook of a pod, or before a program that cannot wait itself.',
  ],
  positionals: [],
  options: [WORKLOAD_SOCKET_OPTION, { ...TIMEOUT_OPTION, default: '60s' }, OUTPUT_OPTION],
  examples: [['kedge agent wait --socket /run/kedge/workload.sock --timeout 30s', 'wait at most 30 seconds']],
  no: 'there was no identity in the time given; the error says what the agent answered last',
  async run(invocation) {
    const { args, output, terminal, clock } = invocation;
    const startMs = clock.monotonic();
    await waitUntilServing(
      socketTarget(args.value('socket')),
      parseDurationMs(args.value('timeout') ?? '60s'),
      invocation,
    );
    const waitedMs = Math.round(clock.monotonic() - startMs);
    if (output === 'json') terminal.stdout(`${JSON.stringify({ serving: true, waitedMs })}\n`);
    else terminal.stdout('the agent serves an identity\n');
    return 0;
  },
};

async function waitUntilServing(
  target: string,
  timeoutMs: number,
  { clock, random }: Pick<Invocation, 'clock' | 'random'>,
): Promise<void> {
  const endMs = clock.monotonic() + timeoutMs;
  for (let attempt = 1; ; attempt += 1) {
    const leftMs = Math.max(1, endMs - clock.monotonic());
    let last: KedgeError;
    try {
      if (await isServing(target, leftMs)) return;
      last = new KedgeError('identity_starting', 'the agent serves no identity');
    } catch (error) {
      if (!isKedgeError(error)) throw error;
      last = error;
    }
    const waitMs = backoffMs(attempt, BACKOFF, random);
    if (clock.monotonic() + waitMs >= endMs) {
      throw new KedgeError('deadline_exceeded', `no identity in ${timeoutMs} ms; last: ${last.message}`, {
        hint: 'look at the log of the agent: is the CA reachable, and is the token accepted',
        cause: last,
      });
    }
    await clock.sleep(waitMs);
  }
}
