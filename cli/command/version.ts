import { type Command, OUTPUT_OPTION } from '../command.ts';
import { KEDGE_VERSION } from '../../host/version.ts';

/** `kedge version`. */
export const versionCommand: Command = {
  name: 'version',
  summary: 'print the version of kedge and of the Node that runs it',
  description: ['Prints the version of kedge and of the Node that runs it.'],
  positionals: [],
  options: [OUTPUT_OPTION],
  examples: [['kedge version --output json', 'as JSON']],
  run({ output, terminal }) {
    const node = process.versions.node;
    terminal.stdout(
      output === 'json'
        ? `${JSON.stringify({ version: KEDGE_VERSION, node })}\n`
        : `kedge ${KEDGE_VERSION} (node ${node})\n`,
    );
    return Promise.resolve(0);
  },
};
