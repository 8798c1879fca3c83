import { KedgeError } from '../pki/kedge-error.ts';
import type { Owner } from './feed/snapshot-folder.ts';

/** Permission bits. */
const GROUP_READ = 0o040;
const OTHERS = 0o007;

/** What {@link checkKeyMode} is given. */
export interface KeyModeSettings {
  /** The settings, as messages name them: `filesKeyMode`, `filesOwner`. */
  readonly modeKey: string;
  readonly ownerKey: string;
  readonly mode: number;
  readonly owner: Owner | undefined;
  /** What the server that reads the key accepts at most, and its name; absent = no rule of its own. */
  readonly server?: { readonly name: string; readonly maxMode: number };
}

/**
 * Permission bits that a private key may have: none for everybody, and for the group where the owner names a group.
 * Throws `config_invalid`.
 */
export function checkKeyMode({ modeKey, ownerKey, mode, owner, server }: KeyModeSettings): void {
  if ((mode & OTHERS) !== 0) {
    throw new KedgeError('config_invalid', `${modeKey} ${octal(mode)} lets everybody at the private key`, {
      hint: `give ${octal(mode & ~OTHERS)}, and who else needs it by ${ownerKey}`,
    });
  }
  if (server !== undefined && (mode & ~server.maxMode) !== 0) {
    throw new KedgeError('config_invalid', `${modeKey} ${octal(mode)} is more than ${server.name} accepts`, {
      hint: `allowed is at most ${octal(server.maxMode)}: the server does not start with a key that others can read`,
    });
  }
  if (owner !== undefined && owner.uid === null && (mode & GROUP_READ) === 0) {
    throw new KedgeError('config_invalid', `${ownerKey} names a group that could not read the key`, {
      hint: `give ${modeKey} ${octal(mode | GROUP_READ)}, or name the user too, as in 101:101`,
    });
  }
}

function octal(mode: number): string {
  return `0${mode.toString(8)}`;
}
