import { createHash, timingSafeEqual } from 'node:crypto';
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import { Script } from 'node:vm';

/**
 * The compiled form of a program, kept beside its text so that V8 need not parse it at each start.
 *
 * V8 takes compiled code on trust: it compares its own version, its flags and the length of the text, and runs what
 * it is given. So what is read here counts only where nobody else could have written it, and where a digest ties it
 * to this very text on this very Node. Whatever is amiss, the text is compiled instead, which is slower and the same.
 */

/** Bytes of the digest that the file of a code cache begins with. */
const DIGEST_BYTES = 32;
/** A larger file is not one of ours. */
const MAX_BYTES = 32 * 1024 * 1024;
const WRITABLE_BY_OTHERS = 0o022;

/** What became of the code cache of a program. */
export type CodeCacheUse =
  /** It runs. */
  | 'used'
  /** There is none, or this machine has no notion of who owns a file. */
  | 'absent'
  /** Somebody else than root and this user could have written it. */
  | 'not_trusted'
  /** It belongs to another text, another Node, or is damaged. */
  | 'other_program'
  /** V8 took it for one of another version or of other flags. */
  | 'rejected';

/** A program, ready to run. */
export interface CompiledProgram {
  readonly script: Script;
  readonly cache: CodeCacheUse;
}

/** What {@link compileProgram} is given. */
export interface CompileProgramOptions {
  /** The text: a script, ASCII alone. */
  readonly file: string;
  /** Where its compiled form may be. */
  readonly cacheFile: string;
  /** The effective user of this process, who may own the compiled form beside root; undefined = it is not used. */
  readonly uid: number | undefined;
}

/** Compiles a program, by its code cache where that is of use. Throws what reading or compiling the text throws. */
export function compileProgram({ file, cacheFile, uid }: CompileProgramOptions): CompiledProgram {
  const text = readText(file);
  const found = uid === undefined ? 'absent' : readTrusted(cacheFile, uid);
  const data = typeof found === 'string' ? found : openCodeCache(text, found);
  const cachedData = typeof data === 'string' ? undefined : data;
  const script = new Script(text.toString('latin1'), {
    filename: file,
    ...(cachedData === undefined ? {} : { cachedData }),
  });
  const accepted = script.cachedDataRejected === true ? 'rejected' : 'used';
  return { script, cache: typeof data === 'string' ? data : accepted };
}

/** The content of the file of a code cache: the digest that ties `data` of V8 to the text and to this Node, then `data`. */
export function sealCodeCache(text: Uint8Array, data: Uint8Array): Buffer {
  return Buffer.concat([digestOf(text, data), data]);
}

/** V8's data of what {@link sealCodeCache} made of the same text on the same Node. */
export function openCodeCache(text: Uint8Array, sealed: Buffer): Buffer | 'other_program' {
  const data = sealed.subarray(DIGEST_BYTES);
  if (data.length === 0) return 'other_program';
  return timingSafeEqual(sealed.subarray(0, DIGEST_BYTES), digestOf(text, data)) ? data : 'other_program';
}

/** V8 compares neither the text nor the data: one changed character would run as it was before. */
function digestOf(text: Uint8Array, data: Uint8Array): Buffer {
  const { version, platform, arch, versions } = process;
  const node = `${version} ${versions.v8} ${platform} ${arch} ${text.length}\n`;
  return createHash('sha256').update(node).update(text).update(data).digest();
}

/** The bytes of a file that only root or `uid` can have written: the file and its folder are theirs alone to change. */
function readTrusted(path: string, uid: number): Buffer | 'absent' | 'not_trusted' {
  let fd: number;
  try {
    // Not by a symbolic link: the folder that was looked at must be the one that the file is in.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return 'absent';
  }
  try {
    const file = fstatSync(fd);
    if (!file.isFile() || !isOnlyOf(file, uid) || !isOnlyOf(lstatSync(dirname(path)), uid))
      return 'not_trusted';
    return file.size > MAX_BYTES ? 'not_trusted' : readOutsideOfHeap(fd, file.size);
  } catch {
    return 'absent';
  } finally {
    closeSync(fd);
  }
}

function readText(path: string): Buffer {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    return readOutsideOfHeap(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}

/**
 * The first `size` bytes of a file, in pages of their own: V8 maps what may be resized. The buffers of `readFile` come
 * from malloc(3), and glibc, once a block of megabytes was freed, keeps that much of free memory at the end of its heap
 * for good (mallopt(3), M_MMAP_THRESHOLD): a megabyte of the agent's.
 */
function readOutsideOfHeap(fd: number, size: number): Buffer {
  const bytes = Buffer.from(new ArrayBuffer(size, { maxByteLength: Math.max(size, 1) }));
  let at = 0;
  while (at < size) {
    const read = readSync(fd, bytes, at, size - at, at);
    if (read === 0) break;
    at += read;
  }
  return bytes.subarray(0, at);
}

function isOnlyOf({ uid: owner, mode }: Stats, uid: number): boolean {
  return (owner === 0 || owner === uid) && (mode & WRITABLE_BY_OTHERS) === 0;
}
