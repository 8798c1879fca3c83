/** Major, minor and patch level of a HAProxy; a patch level of -1 is a development version, older than any release. */
export type HaproxyVersion = readonly [major: number, minor: number, patch: number];

/** Reads `3.0.11-1+deb13u2`, `3.4.0-0d43eac` or `3.5-dev5`; null where it is no version of a HAProxy. */
export function parseHaproxyVersion(text: string): HaproxyVersion | null {
  const [, major, minor, patch] = /^(\d{1,3})\.(\d{1,3})(?:\.(\d{1,4})(?![.\d])|-dev)/.exec(text) ?? [];
  if (major === undefined || minor === undefined) return null;
  return [Number(major), Number(minor), patch === undefined ? -1 : Number(patch)];
}

/**
 * Whether a HAProxy goes on after it has replaced CAs or CRLs at run time.
 *
 * Until commit 7482b6ebf011 of HAProxy (issue 3165), `commit ssl ca-file` and `commit ssl crl-file` make new instances of
 * each certificate that depends on the file, and leave them out of the list by which `commit ssl cert` finds what it has
 * to replace. The next certificate then reaches no `bind` or `server` line, though it is shown as the one in use, and
 * the CA file after that is built from freed memory. No order of commands avoids it. Releases with the commit are 3.3.0
 * and all later series, and 3.2 from 3.2.8 on; those of 3.0 and 3.1 that have it are not known here.
 */
export function replacesTrustSafely(version: HaproxyVersion): boolean {
  const isOf32 = version[0] === 3 && version[1] === 2;
  return isOf32 ? version[2] >= 8 : !isBefore(version, [3, 3, 0]);
}

/**
 * Whether a `bind ... crt` forgets `verify required` and `ca-file` when its certificate, which has no DNS name, is
 * replaced: before 3.0. With an SNI filter, as in our crt-list, it does not.
 */
export function forgetsVerification(version: HaproxyVersion): boolean {
  return isBefore(version, [3, 0, 0]);
}

/** Whether it has `add ssl ca-file`: from 2.7 on. */
export function addsAuthorities(version: HaproxyVersion): boolean {
  return !isBefore(version, [2, 7, 0]);
}

function isBefore(version: HaproxyVersion, other: HaproxyVersion): boolean {
  const at = version.findIndex((value, index) => value !== other[index]);
  return at >= 0 && (version[at] ?? 0) < (other[at] ?? 0);
}
