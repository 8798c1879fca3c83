import { rewrapKeys } from '../admin-client.ts';
import { ADMIN_SOCKET_OPTION, adminTarget } from '../admin-socket.ts';
import { type Command, OUTPUT_OPTION } from '../command.ts';
import { DATA_OPTION } from '../data-folder.ts';
import { jsonDocument } from '../json-document.ts';

/** `kedge keys rewrap`. */
export const keysRewrapCommand: Command = {
  name: 'keys rewrap',
  summary: 'seal the keys in the trust state of a running CA under its present sealing key',
  description: [
    'Asks a running CA over its admin socket to seal every CA key in its trust state anew, under the sealing key that it is configured with. The keys themselves do not change, nor does anything that was signed with them, and the CA signs on meanwhile.',
    'Before, every replica must have the present sealing key and the one before it in its configuration; afterwards the one before can be dropped. docs/keys.md has the steps.',
  ],
  positionals: [],
  options: [DATA_OPTION, ADMIN_SOCKET_OPTION, OUTPUT_OPTION],
  examples: [['kedge keys rewrap', 'the CA with its data in ./.kedge']],
  no: 'the CA does not answer, or has a key that it cannot unseal',
  async run({ args, output, terminal }) {
    const { keys, rewrapped } = await rewrapKeys(adminTarget(args));
    terminal.stdout(
      output === 'json'
        ? jsonDocument({ keys, rewrapped })
        : `${rewrapped} of ${keys} keys were sealed anew; no key needs another sealing key than the present one\n`,
    );
    return 0;
  },
};
