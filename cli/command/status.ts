import { getStatus } from '../admin-client.ts';
import { ADMIN_SOCKET_OPTION, adminTarget } from '../admin-socket.ts';
import { type Command, OUTPUT_OPTION } from '../command.ts';
import { DATA_OPTION } from '../data-folder.ts';
import { jsonDocument } from '../json-document.ts';
import { laggingReason, statusReport } from '../status-report.ts';

/** `kedge status`. */
export const statusCommand: Command = {
  name: 'status',
  summary: 'show the state of a running CA: anchors, issuers, and which workload instances follow',
  description: [
    'Asks a running CA over its admin socket. Shows the trust domain, the bundle sequence, each trust anchor and issuer with its phase and expiry, each live workload instance and whether it holds what the CA has published, the state of the policy file, and the head of the audit log. What is wrong stands first and is marked with an exclamation mark.',
  ],
  positionals: [],
  options: [DATA_OPTION, ADMIN_SOCKET_OPTION, OUTPUT_OPTION],
  examples: [
    ['kedge status', 'the CA with its data in ./.kedge'],
    ['kedge status --output json', 'for scripts; bytes are lower-case hex'],
  ],
  no: 'the CA does not answer',
  async run({ args, output, terminal }) {
    const status = await getStatus(adminTarget(args));
    if (output === 'json') {
      const instances = status.instances.map((instance) => ({
        ...instance,
        behind: laggingReason(instance, status) ?? null,
      }));
      terminal.stdout(jsonDocument({ ...status, instances }));
    } else {
      terminal.stdout(statusReport(status));
    }
    return 0;
  },
};
