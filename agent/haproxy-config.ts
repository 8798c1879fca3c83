import { KedgeError, quote } from '../pki/kedge-error.ts';
import { isHaproxyPath } from './feed/haproxy-commands.ts';
import type { HaproxyAddress } from './feed/haproxy-connection.ts';
import type { Owner } from './feed/snapshot-folder.ts';
import { checkKeyMode } from './key-mode.ts';
import type { SettingValue } from './setting-value.ts';
import type { AgentSettingKey } from './settings.ts';

/** The settings of the HAProxy feed. */
export interface HaproxyConfig {
  /** Absolute; HAProxy takes it in a command as it is. */
  readonly folder: string;
  readonly keyMode: number;
  readonly owner?: Owner;
  readonly addresses: readonly HaproxyAddress[];
  readonly crls: boolean;
  readonly serverLinesOnly: boolean;
  readonly timeoutMs: number;
  readonly maxCommandBytes: number;
}

/** Reads them from the values of all settings; undefined = no HAProxy. Throws `config_invalid`. */
export function haproxyConfigOf(
  values: ReadonlyMap<AgentSettingKey, SettingValue>,
): HaproxyConfig | undefined {
  const addresses = values.get('haproxySockets') as readonly string[] | undefined;
  const folder = values.get('haproxyFolder') as string | undefined;
  if (addresses === undefined && folder === undefined) return undefined;
  if (addresses === undefined || folder === undefined) {
    throw new KedgeError('config_invalid', 'only one of haproxySockets and haproxyFolder is set', {
      hint: 'give both: HAProxy must start from the files that it is later given by its socket',
    });
  }
  if (!isHaproxyPath(folder)) {
    throw new KedgeError('config_invalid', `haproxyFolder does not take ${quote(folder)}`, {
      hint: 'allowed are letters, digits and . _ / @ + = , - : HAProxy takes no other path in a command',
    });
  }
  const filesFolder = values.get('filesFolder') as string | undefined;
  if (filesFolder !== undefined && (isWithin(folder, filesFolder) || isWithin(filesFolder, folder))) {
    throw new KedgeError(
      'config_invalid',
      'haproxyFolder and filesFolder are the same, or one is in the other',
      {
        hint: 'give each feed a folder of its own, beside the other',
      },
    );
  }
  const keyMode = values.get('haproxyKeyMode') as number;
  const owner = values.get('haproxyOwner') as Owner | undefined;
  checkKeyMode({ modeKey: 'haproxyKeyMode', ownerKey: 'haproxyOwner', mode: keyMode, owner });
  return {
    folder,
    keyMode,
    ...(owner === undefined ? {} : { owner }),
    addresses: addresses.map(addressOf),
    crls: values.get('haproxyCrl') === true,
    serverLinesOnly: values.get('haproxyServerLinesOnly') === true,
    timeoutMs: values.get('haproxyTimeout') as number,
    maxCommandBytes: values.get('haproxyMaxCommand') as number,
  };
}

/** Whether an absolute path is that of a folder, or lies in it. */
function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`);
}

function addressOf(text: string): HaproxyAddress {
  if (text.startsWith('/')) return { path: text };
  const [host = '', port = ''] = text.split(':');
  return { host, port: Number(port) };
}
