import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../host/errno.ts';

/**
 * Makes a folder, and those above it, where they are missing; what exists is left as it is. Throws the system's
 * error, but takes a file at `path` for a folder: whoever uses it finds out.
 *
 * Not `mkdir` with `recursive`: that never returns on a file system that answers ENOENT below an existing folder,
 * as procfs does.
 */
export async function makeFolder(path: string, mode: number): Promise<void> {
  const code = await tryMake(path, mode);
  if (code !== 'ENOENT') return;
  const parent = dirname(path);
  if (parent !== path) await makeFolder(parent, mode);
  await mkdir(path, { mode });
}

async function tryMake(path: string, mode: number): Promise<string | null> {
  try {
    await mkdir(path, { mode });
    return null;
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EEXIST' || code === 'ENOENT') return code;
    throw error;
  }
}
