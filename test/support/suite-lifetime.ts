import { after } from 'node:test';

/** What ends with a suite: to be called in its body. Stands where helpers take a test's context. */
export function suiteLifetime(): { readonly after: (end: () => unknown) => void } {
  const ends: (() => unknown)[] = [];
  after(async () => {
    for (const end of ends) await end();
  });
  return { after: (end) => void ends.push(end) };
}
