import { resolve } from 'node:path';
import type { Arguments } from './arguments.ts';
import type { OptionSpec } from './command.ts';

const DEFAULT_FOLDER = './.kedge';

/** The option that names the data folder of a CA. */
export const DATA_OPTION: OptionSpec = {
  name: 'data',
  value: 'folder',
  env: 'KEDGE_DATA',
  default: DEFAULT_FOLDER,
  help: 'the data folder of the CA',
};

/** The absolute path of the data folder that the command line names. */
export function dataFolder(args: Arguments): string {
  return resolve(args.value(DATA_OPTION.name) ?? DEFAULT_FOLDER);
}
