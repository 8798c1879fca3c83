/** Writes proto/gen from proto/**.proto: message types and codecs by ts-proto, run by buf. CI diffs the result. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const bin = (name: string): string => join(root, 'node_modules/.bin', name);
const template = {
  version: 'v2',
  plugins: [
    {
      local: bin('protoc-gen-ts_proto'),
      out: '.',
      opt: [
        'outputServices=none',
        'outputJsonMethods=false',
        'outputPartialMethods=false',
        'enumsAsLiterals=true',
        'forceLong=bigint',
        'oneof=unions-value',
        'useOptionals=none',
        'esModuleInterop=true',
        'importSuffix=.ts',
      ],
    },
  ],
};

rmSync(join(root, 'proto/gen'), { recursive: true, force: true });
execFileSync(
  bin('buf'),
  ['generate', 'proto', '--include-imports', '--template', JSON.stringify(template), '-o', 'proto/gen'],
  {
    cwd: root,
    stdio: 'inherit',
  },
);
