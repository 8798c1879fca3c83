import { KedgeError } from '../pki/kedge-error.ts';
import { type FilesPresetName, type KeyFormat, presetOf } from './feed/files-preset.ts';
import type { Hook } from './feed/hook.ts';
import type { Owner } from './feed/snapshot-folder.ts';
import { checkKeyMode } from './key-mode.ts';
import type { SettingValue } from './setting-value.ts';
import type { AgentSettingKey } from './settings.ts';

/** The configuration of the files feed. */
export interface FilesConfig {
  /** Absolute. */
  readonly folder: string;
  readonly preset: FilesPresetName;
  readonly keyFormat: KeyFormat;
  readonly keyMode: number;
  readonly owner?: Owner;
  readonly bundleDocument: boolean;
  readonly hook?: Hook;
}

/** The part of the configuration that is about files; undefined = no files. Throws `config_invalid`. */
export function filesConfigOf(values: ReadonlyMap<AgentSettingKey, SettingValue>): FilesConfig | undefined {
  const folder = values.get('filesFolder') as string | undefined;
  const preset = values.get('filesPreset') as FilesPresetName;
  const hook = hookOf(values, preset);
  if (folder === undefined) {
    if (hook === undefined) return undefined;
    throw new KedgeError('config_invalid', 'a hook is set without filesFolder', {
      hint: 'give --files-folder, or leave the hook out: it tells of files that have changed',
    });
  }
  const keyMode = values.get('filesKeyMode') as number;
  const owner = values.get('filesOwner') as Owner | undefined;
  const { maxKeyMode } = presetOf(preset);
  checkKeyMode({
    modeKey: 'filesKeyMode',
    ownerKey: 'filesOwner',
    mode: keyMode,
    owner,
    ...(maxKeyMode === undefined ? {} : { server: { name: preset, maxMode: maxKeyMode } }),
  });
  return {
    folder,
    preset,
    keyFormat: values.get('filesKeyFormat') as KeyFormat,
    keyMode,
    bundleDocument: values.get('filesBundleDocument') === true,
    ...(owner === undefined ? {} : { owner }),
    ...(hook === undefined ? {} : { hook }),
  };
}

function hookOf(
  values: ReadonlyMap<AgentSettingKey, SettingValue>,
  preset: FilesPresetName,
): Hook | undefined {
  const argv = values.get('hook') as readonly [string, ...string[]] | undefined;
  const pidFile = values.get('hookPidFile') as string | undefined;
  if (argv !== undefined && pidFile !== undefined) {
    throw new KedgeError('config_invalid', 'both hook and hookPidFile are set', { hint: 'give one of them' });
  }
  if (argv !== undefined) return { type: 'command', argv, timeoutMs: values.get('hookTimeout') as number };
  if (pidFile === undefined) return undefined;
  const signal = (values.get('hookSignal') as NodeJS.Signals | undefined) ?? presetOf(preset).reloadSignal;
  if (signal === null) {
    throw new KedgeError('config_invalid', `hookPidFile is set, and the preset ${preset} has no signal`, {
      hint: 'give --hook-signal, or leave the pid file out: docs/feeds.md says how this server follows its files',
    });
  }
  return { type: 'signal', pidFile, signal };
}
