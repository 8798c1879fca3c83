import { parseDurationMs } from '../../host/duration.ts';
import { getAgentStatus } from '../agent-status-client.ts';
import { consumerReason, findingsOf } from '../agent-status-findings.ts';
import { agentStatusReport } from '../agent-status-report.ts';
import { type Command, OUTPUT_OPTION } from '../command.ts';
import { socketTarget } from '../endpoint-socket.ts';
import { jsonDocument } from '../json-document.ts';
import { TIMEOUT_OPTION, WORKLOAD_SOCKET_OPTION } from '../workload-socket.ts';

/** `kedge agent status`. */
export const agentStatusCommand: Command = {
  name: 'agent status',
  summary: 'show the state of an agent: its SVID and bundle, and which consumers have them',
  description: [
    'Asks a running agent over its Workload API socket. Shows the phase, the SVID with its renewal, the trust anchors, the newest failure, what the canary saw, and for each consumer of each feed what it has: delivered (written to it) or loaded (acknowledged by it), the best that it can give. What is wrong stands first, marked with an exclamation mark, and what to do below it.',
  ],
  positionals: [],
  options: [WORKLOAD_SOCKET_OPTION, { ...TIMEOUT_OPTION, default: '5s' }, OUTPUT_OPTION],
  examples: [
    ['kedge agent status --socket /run/kedge/workload.sock', 'who has what'],
    [
      'kedge agent status --output json',
      'for scripts, from SPIFFE_ENDPOINT_SOCKET; bytes are lower-case hex',
    ],
  ],
  no: 'a consumer lacks the newest, the canary found it not in use, there is no SVID, or nobody answers',
  async run({ args, output, terminal }) {
    const timeoutMs = parseDurationMs(args.value('timeout') ?? '5s');
    const status = await getAgentStatus(socketTarget(args.value('socket')), timeoutMs);
    const findings = findingsOf(status);
    if (output === 'json') {
      const feeds = status.feeds.map((feed) => ({
        ...feed,
        consumers: feed.consumers.map((consumer) => ({
          ...consumer,
          behind: consumerReason(consumer, status) ?? null,
        })),
      }));
      terminal.stdout(jsonDocument({ ...status, feeds, findings }));
    } else {
      terminal.stdout(agentStatusReport(status));
    }
    return findings.some(({ isBehind }) => isBehind) ? 1 : 0;
  },
};
