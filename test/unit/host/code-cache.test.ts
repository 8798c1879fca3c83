import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';
import { type CodeCacheUse, compileProgram, openCodeCache, sealCodeCache } from '../../../host/code-cache.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const TEXT = '(function () { return "as it was"; })';
const UID = process.geteuid?.() ?? 0;
/** Nobody on this machine. */
const STRANGER = 54_321;

interface Program {
  readonly folder: string;
  readonly file: string;
  readonly cacheFile: string;
}

/** A program in a folder of its own, with its code cache. */
function program(t: TestContext): Program {
  const folder = join(temporaryFolder(t), 'program');
  mkdirSync(folder, { mode: 0o755 });
  chmodSync(folder, 0o755);
  const [file, cacheFile] = [join(folder, 'program.cjs'), join(folder, 'program.cache')];
  writeFileSync(file, TEXT);
  writeFileSync(cacheFile, cacheOf(TEXT));
  chmodSync(cacheFile, 0o644);
  return { folder, file, cacheFile };
}

function cacheOf(text: string): Buffer {
  return sealCodeCache(Buffer.from(text), new Script(text).createCachedData());
}

function run({ file, cacheFile }: Program, uid: number | undefined = UID): [CodeCacheUse, unknown] {
  const { script, cache } = compileProgram({ file, cacheFile, uid });
  return [cache, (script.runInThisContext() as () => unknown)()];
}

describe('the code cache of a program', () => {
  it('is used where only root and this user can have written it', (t) => {
    assert.deepEqual(run(program(t)), ['used', 'as it was']);
  });

  const rows: readonly {
    readonly name: string;
    readonly spoil: (program: Program) => void;
    readonly want: CodeCacheUse;
    readonly runs?: string;
  }[] = [
    {
      name: 'is not needed',
      spoil: ({ cacheFile }) => renameSync(cacheFile, `${cacheFile}.away`),
      want: 'absent',
    },
    {
      name: 'is not taken by a symbolic link',
      spoil: ({ cacheFile }) => {
        renameSync(cacheFile, `${cacheFile}.away`);
        symlinkSync(`${cacheFile}.away`, cacheFile);
      },
      want: 'absent',
    },
    {
      name: 'is not taken when it is a folder',
      spoil: ({ cacheFile }) => {
        renameSync(cacheFile, `${cacheFile}.away`);
        mkdirSync(cacheFile);
      },
      want: 'not_trusted',
    },
    {
      name: 'is not taken when its group may write it',
      spoil: ({ cacheFile }) => chmodSync(cacheFile, 0o664),
      want: 'not_trusted',
    },
    {
      name: 'is not taken when everybody may write it',
      spoil: ({ cacheFile }) => chmodSync(cacheFile, 0o646),
      want: 'not_trusted',
    },
    {
      name: 'is not taken from a folder that its group may write',
      spoil: ({ folder }) => chmodSync(folder, 0o775),
      want: 'not_trusted',
    },
    {
      name: 'is not taken from a folder that everybody may write, sticky or not',
      spoil: ({ folder }) => chmodSync(folder, 0o1777),
      want: 'not_trusted',
    },
    {
      name: 'does not run for a text that was changed, even to one of the same length',
      spoil: ({ file }) => writeFileSync(file, TEXT.replace('as it was', 'as it is.')),
      want: 'other_program',
      runs: 'as it is.',
    },
    {
      name: 'is not taken when it was cut off',
      spoil: ({ cacheFile }) => writeFileSync(cacheFile, cacheOf(TEXT).subarray(0, -1)),
      want: 'other_program',
    },
    {
      name: 'is not taken when it is no longer than its digest',
      spoil: ({ cacheFile }) => writeFileSync(cacheFile, cacheOf(TEXT).subarray(0, 32)),
      want: 'other_program',
    },
    {
      name: 'is not taken when it is empty',
      spoil: ({ cacheFile }) => writeFileSync(cacheFile, ''),
      want: 'other_program',
    },
    {
      name: 'is left to V8 to refuse when it was made under other flags',
      spoil: ({ cacheFile }) => {
        setFlagsFromString('--max-lazy');
        try {
          writeFileSync(cacheFile, cacheOf(TEXT));
        } finally {
          setFlagsFromString('--no-max-lazy');
        }
      },
      want: 'rejected',
    },
  ];
  for (const { name, spoil, want, runs = 'as it was' } of rows) {
    it(`${name}; the text runs`, (t) => {
      const spoiled = program(t);
      spoil(spoiled);
      assert.deepEqual(run(spoiled), [want, runs]);
    });
  }

  it('is not taken from somebody else', (t) => {
    for (const which of ['cacheFile', 'folder'] as const) {
      const foreign = program(t);
      // Root gives it away; anybody else takes the place of somebody whose file it is not.
      if (UID === 0) chownSync(foreign[which], STRANGER, STRANGER);
      const [use, ran] = run(foreign, UID === 0 ? UID : STRANGER);
      assert.deepEqual([use, ran], ['not_trusted', 'as it was'], which);
    }
  });

  it('is not used where no user owns a file', (t) => {
    const { file, cacheFile } = program(t);
    assert.equal(compileProgram({ file, cacheFile, uid: undefined }).cache, 'absent');
  });

  it('is held to each of its bits', () => {
    const text = Buffer.from(TEXT);
    const sealed = cacheOf(TEXT);
    assert.notEqual(openCodeCache(text, sealed), 'other_program');
    for (let at = 0; at < sealed.length; at += 1) {
      const flipped = Buffer.from(sealed);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
      assert.equal(openCodeCache(text, flipped), 'other_program', `byte ${at}`);
    }
  });
});
