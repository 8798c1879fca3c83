import { parseDurationMs } from '../../host/duration.ts';
import { isDnsName } from '../../pki/dns-name.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';

/** How the value of an annotation is read: the text that it gives the agent, or null for one that is not allowed. */
export interface ValueForm {
  /** As a message and the documentation name what is allowed. */
  readonly allowed: string;
  readonly read: (text: string) => string | null;
}

/** One of these words. */
export function oneOf(...words: readonly string[]): ValueForm {
  return { allowed: words.join(', '), read: (text) => (words.includes(text) ? text : null) };
}

/** A text that matches as a whole. */
export function matching(allowed: string, pattern: RegExp): ValueForm {
  return { allowed, read: (text) => (pattern.test(text) ? text : null) };
}

/** A whole number in decimal. */
export function whole(min: number, max: number, word?: string): ValueForm {
  return {
    allowed: `${min} to ${max}${word === undefined ? '' : `, or ${word}`}`,
    read: (text) =>
      text === word || (/^(0|[1-9]\d{0,9})$/.test(text) && Number(text) >= min && Number(text) <= max)
        ? text
        : null,
  };
}

/** `host:port`, with an IPv6 host in brackets, as the agent takes it. */
export const ADDRESS: ValueForm = {
  allowed: 'host:port, with an IPv6 host in brackets',
  read: (text) => {
    const match = /^(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):([1-9]\d{0,4})$/.exec(text);
    return match !== null && Number(match[1]) <= 65_535 ? text : null;
  },
};

/** A quantity of Kubernetes: `100m`, `64Mi`. */
export const QUANTITY: ValueForm = matching(
  'a quantity, as in 100m or 64Mi',
  /^(?:0|[1-9]\d{0,14})(?:\.\d{1,9})?(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?$/,
);

/** A reference of an image: name, tag, digest. */
export const IMAGE: ValueForm = matching('an image', /^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$/);

const SOCKET = /^\/[A-Za-z0-9._/@+=-]{1,106}$/;

/** Where HAProxy's stats sockets are, as the agent takes them. */
export const LOCAL_ADDRESSES: ValueForm = {
  allowed: 'up to 8 different absolute paths or 127.0.0.1:port, separated by commas',
  read: (text) => {
    const addresses = text.split(',');
    const isLocal = (address: string): boolean =>
      SOCKET.test(address) || /^127\.0\.0\.1:([1-9]\d{0,4})$/.test(address);
    return addresses.length <= 8 && addresses.every(isLocal) && new Set(addresses).size === addresses.length
      ? text
      : null;
  },
};

/** DNS names, as the agent takes them. */
export const DNS_NAMES: ValueForm = {
  allowed: 'up to 16 different DNS names in lower case, separated by commas',
  read: (text) => {
    const names = text.split(',');
    return names.length <= 16 && names.every(isDnsName) && new Set(names).size === names.length ? text : null;
  },
};

/** A duration in whole seconds or more. */
export const DURATION: ValueForm = {
  allowed: 'a duration of 1s to 8760h, as in 30m',
  read: (text) => {
    try {
      const ms = parseDurationMs(text);
      return ms >= 1_000 && ms <= 31_536_000_000 ? text : null;
    } catch (error) {
      if (isKedgeError(error, 'config_invalid')) return null;
      throw error;
    }
  },
};

/** A path that the canary asks for. */
export const URL_PATH: ValueForm = matching(
  '/ and up to 1023 printable ASCII characters',
  /^\/[\x21-\x7e]{0,1023}$/,
);
