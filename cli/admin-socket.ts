import { join, resolve } from 'node:path';
import type { Arguments } from './arguments.ts';
import type { OptionSpec } from './command.ts';
import { dataFolder } from './data-folder.ts';

const SOCKET_NAME = 'admin.sock';

/** The option that names a CA's admin socket. */
export const ADMIN_SOCKET_OPTION: OptionSpec = {
  name: 'admin-socket',
  value: 'path',
  env: 'KEDGE_ADMIN_SOCKET',
  default: `${SOCKET_NAME} in the data folder`,
  help: 'the admin socket of the CA',
};

/** The gRPC target of the admin socket that the command line names. */
export function adminTarget(args: Arguments): string {
  const path = args.value(ADMIN_SOCKET_OPTION.name) ?? join(dataFolder(args), SOCKET_NAME);
  return `unix://${resolve(path)}`;
}
