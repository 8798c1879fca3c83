#!/usr/bin/env node
// The launcher of `kedge`. Plain JavaScript that Node 12 can read, so that an older Node is told what it lacks
// instead of failing on syntax that it does not know; nothing newer is imported before the check.
// From a source checkout it runs cli/main.ts by type stripping, else the bundle in dist/.
import { existsSync } from 'node:fs';

const NEEDED = 24;

if (Number(process.versions.node.split('.')[0]) < NEEDED) {
  process.stderr.write(`error: kedge needs Node ${NEEDED} or newer, this is Node ${process.versions.node}\n`);
  process.exit(2);
} else {
  // Node strips no types below node_modules, so that an installed package always runs its bundle.
  const source = new URL('../cli/main.ts', import.meta.url);
  const bundle = new URL('../dist/kedge.mjs', import.meta.url);
  const fromSource = !source.pathname.includes('/node_modules/') && existsSync(source);
  import((fromSource ? source : bundle).href).catch((error) => {
    process.stderr.write(`error: kedge cannot start: ${error.stack}\n`);
    process.exit(1);
  });
}
