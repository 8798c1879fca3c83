import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { DURATION_FORMAT, parseDurationMs } from '../host/duration.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import type { AgentSetting } from './settings.ts';

/** A setting once read: a duration in milliseconds, a mode as a number, an owner, an argv, a flag, or text. */
export type SettingValue =
  | string
  | number
  | boolean
  | readonly string[]
  | { readonly uid: number | null; readonly gid: number | null };

/** Where a value was found, as an error names it: `--ca-address`, `KEDGE_AGENT_CA_ADDRESS`, `agent.json line 3`. */
export type SettingSource = string;

const MAX_UID = 2 ** 32 - 2;
const MAX_ARGV = 64;
const MAX_TEXT = 4096;
const MAX_ADDRESSES = 8;

/** Reads one value. Throws `config_invalid`, which names the source, the value and what is allowed. */
export function readSettingValue(setting: AgentSetting, text: string, source: SettingSource): SettingValue {
  const refuse = (allowed: string): KedgeError =>
    new KedgeError('config_invalid', `${source}: ${setting.key} does not take ${quote(text)}`, {
      hint: `allowed is ${allowed}`,
    });
  if (text.length > MAX_TEXT || text.includes('\0')) throw refuse(`text of at most ${MAX_TEXT} characters`);
  switch (setting.type) {
    case 'text':
      if (text === '') throw refuse('text that is not empty');
      return text;
    case 'path':
      if (text === '') throw refuse('a path');
      return resolve(text.replace(/^unix:(\/\/)?(?=\/)/, ''));
    case 'address':
      if (!isAddress(text)) throw refuse('host:port, with an IPv6 address in brackets');
      return text;
    case 'duration': {
      const allowed = `from ${setting.min ?? 0} ms to ${setting.max} ms; ${DURATION_FORMAT}`;
      return within(setting, durationOrNaN(text), () => refuse(allowed));
    }
    case 'integer': {
      const number = /^(0|[1-9]\d{0,9})$/.test(text) ? Number(text) : Number.NaN;
      return within(setting, number, () => refuse(`a whole number from ${setting.min} to ${setting.max}`));
    }
    case 'flag':
      if (text !== 'true' && text !== 'false') throw refuse('true or false');
      return text === 'true';
    case 'mode':
      if (!/^0?[0-7]{3}$/.test(text)) throw refuse('three octal digits, as in 0660');
      return Number.parseInt(text, 8);
    case 'owner': {
      const [, uid, gid] = /^(\d{1,10})?(?::(\d{1,10}))?$/.exec(text) ?? [];
      const isGiven = uid !== undefined || gid !== undefined;
      if (!isGiven || Number(uid ?? 0) > MAX_UID || Number(gid ?? 0) > MAX_UID) {
        throw refuse('numeric uid:gid, uid, or :gid, as in 101:101');
      }
      return { uid: uid === undefined ? null : Number(uid), gid: gid === undefined ? null : Number(gid) };
    }
    case 'argv': {
      const argv = argvOf(text);
      if (argv === null) throw refuse('a JSON array of strings, as in ["nginx","-s","reload"]');
      return argv;
    }
    case 'choice': {
      const choices = setting.choices ?? [];
      if (!choices.includes(text)) throw refuse(`one of ${choices.join(', ')}`);
      return text;
    }
    case 'local addresses': {
      const addresses = text.startsWith('[') ? argvOf(text) : text.split(',');
      const isGood = addresses?.every(isLocalAddress) === true && addresses.length <= MAX_ADDRESSES;
      if (!isGood || new Set(addresses).size !== addresses.length) {
        throw refuse(
          `up to ${MAX_ADDRESSES} different paths of sockets (ASCII without blanks, at most 107 bytes) or 127.0.0.1:port, separated by commas`,
        );
      }
      return addresses;
    }
  }
  setting.type satisfies never;
  throw refuse('nothing');
}

function within(
  { min = 0, max = Number.MAX_SAFE_INTEGER }: AgentSetting,
  value: number,
  refuse: () => KedgeError,
): number {
  if (!(value >= min && value <= max)) throw refuse();
  return value;
}

function durationOrNaN(text: string): number {
  try {
    return parseDurationMs(text);
  } catch {
    return Number.NaN;
  }
}

function isAddress(text: string): boolean {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  if (match === null) return false;
  const [, ipv6, , port] = match;
  return (ipv6 === undefined || isIP(ipv6) === 6) && Number(port) <= 65_535;
}

/** A path that fits into the address of a Unix socket (unix(7): 108 bytes with the NUL), or a port of loopback. */
function isLocalAddress(address: string): boolean {
  const port = /^127\.0\.0\.1:([1-9]\d{0,4})$/.exec(address)?.[1];
  return port === undefined ? /^\/[\x21-\x7e]{1,106}$/.test(address) : Number(port) <= 65_535;
}

function argvOf(text: string): readonly string[] | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_ARGV) return null;
  const argv: readonly unknown[] = value;
  return argv.every((item) => typeof item === 'string' && !item.includes('\0')) && argv[0] !== ''
    ? (argv as readonly string[])
    : null;
}
