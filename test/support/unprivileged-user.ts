/**
 * Runs `use` as a user whom file permissions bind: tests run as root would walk through them. The effective user of
 * the whole process changes meanwhile, so run nothing beside it.
 */
export async function asUnprivilegedUser<T>(use: () => T | Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return use();
  process.seteuid?.(NOBODY);
  try {
    return await use();
  } finally {
    process.seteuid?.(0);
  }
}

/** The overflow user of Linux: owner of nothing. */
export const NOBODY = 65_534;
