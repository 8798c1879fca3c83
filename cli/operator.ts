import { userInfo } from 'node:os';
import type { OptionSpec } from './command.ts';

/** The option that says why an operator does something. */
export const REASON_OPTION: OptionSpec = {
  name: 'reason',
  value: 'text',
  default: 'none',
  help: 'why, for the audit log: at most 200 characters',
};

/**
 * Who runs this command, as the audit log names them: `alice (uid 1000)`. The CA takes the word of whoever can open its
 * admin socket, which is the user that it runs as.
 */
export function operatorName(): string {
  try {
    const { username, uid } = userInfo();
    return `${username} (uid ${uid})`;
  } catch {
    // A container may run as a user that its /etc/passwd does not know.
    return `uid ${process.getuid?.() ?? 'unknown'}`;
  }
}
