/** A test for one name. */
export type NamePattern = (name: string) => boolean;

/**
 * Compiles a glob over Kubernetes names, in which `*` stands for any characters, none included. Returns null when
 * the pattern holds a character that no such name has: it could never match, so it is a slip.
 */
export function compileNamePattern(pattern: string): NamePattern | null {
  if (!/^[a-z0-9.*-]{1,253}$/.test(pattern)) return null;
  if (/^\*+$/.test(pattern)) return () => true;
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return (name) => name === first;
  if (rest.length === 0) {
    return (name) =>
      name.length >= first.length + last.length && name.startsWith(first) && name.endsWith(last);
  }
  return (name) => matchesParts(name, first, rest, last);
}

/** Leftmost fit for each middle part is as good as any other, so one pass decides: no backtracking. */
function matchesParts(name: string, first: string, middle: readonly string[], last: string): boolean {
  if (!name.startsWith(first)) return false;
  let at = first.length;
  for (const part of middle) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return name.length - last.length >= at && name.endsWith(last);
}
