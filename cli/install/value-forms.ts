import { isIP } from 'node:net';
import { SYSTEM_NAMESPACES } from '../../ca/inject/injection-settings.ts';

/*
 * What a value of the installation may be. Each function answers what is wrong with a text, to stand behind it in a
 * message; null = nothing. Pure.
 */

/** RFC 1123 label, which the names of namespaces are. */
export function dnsLabel(text: string): string | null {
  return /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text)
    ? null
    : 'is not a name of lower-case letters, digits and dashes, at most 63 long';
}

/** Its Pod Security Standard and its NetworkPolicies, made for the CA alone, would hold for all that runs there. */
export function sharedNamespace(text: string): string | null {
  return [...SYSTEM_NAMESPACES, 'default'].includes(text)
    ? 'is a namespace that others need: what Kedge allows nobody but itself there would stop them'
    : null;
}

/** Several values in one text. */
export function listed(text: string): readonly string[] {
  return text.split(',');
}

/** Ports, separated by commas. */
export function ports(text: string): string | null {
  const all = listed(text);
  return all.length <= 8 && all.every((port) => /^[1-9]\d{0,4}$/.test(port) && Number(port) <= 65_535)
    ? null
    : 'is not up to 8 ports, separated by commas';
}

/** Blocks of addresses as a NetworkPolicy takes them (networking.k8s.io/v1 IPBlock). */
export function cidrs(text: string): string | null {
  const isBlock = (block: string): boolean => {
    const [, address = '', bits = ''] = /^([0-9A-Fa-f.:]{2,45})\/(\d{1,3})$/.exec(block) ?? [];
    const family = isIP(address);
    return family !== 0 && Number(bits) <= (family === 4 ? 32 : 128);
  };
  const all = listed(text);
  return all.length <= 32 && all.every(isBlock) ? null : 'is not up to 32 CIDRs, separated by commas';
}

/** A resource quantity in the forms that people write: `100m`, `2`, `512Mi`. */
export function quantity(text: string): string | null {
  return /^[1-9]\d{0,8}(m|k|M|G|T|Ki|Mi|Gi|Ti)?$/.test(text)
    ? null
    : 'is not a quantity such as 100m, 2 or 512Mi';
}

/** One of these words. */
export function oneOf(...choices: readonly string[]): (text: string) => string | null {
  return (text) => (choices.includes(text) ? null : `is not one of ${choices.join(', ')}`);
}

/** A whole number in decimal. */
export function whole(min: number, max: number): (text: string) => string | null {
  return (text) =>
    /^[1-9]\d{0,3}$/.test(text) && Number(text) >= min && Number(text) <= max
      ? null
      : `is not a whole number from ${min} to ${max}`;
}
