/**
 * Imports run one way (design.md): cli -> {ca, agent} -> {host, proto} -> pki.
 *
 * Lint says the same at the editor; this test reads the tree by itself, so that a rule lost from the lint
 * configuration is noticed.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, it } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');

/** Folder -> the folders of ours that it may import, itself always included. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  pki: [],
  proto: ['proto'],
  host: ['pki', 'proto'],
  ca: ['host', 'proto', 'pki'],
  agent: ['host', 'proto', 'pki'],
  cli: ['ca', 'agent', 'host', 'proto', 'pki'],
  demo: ['cli', 'host', 'proto', 'pki'],
  scripts: ['host', 'pki', 'cli'],
};

/** Folder -> what of Node and npm it may load; undefined = anything that package.json names. */
const MAY_LOAD: Readonly<Record<string, RegExp>> = {
  pki: /^(node:(crypto|net)|@peculiar\/|reflect-metadata$|pkijs$|asn1js$)/,
  agent: /^(node:|@grpc\/grpc-js$|@bufbuild\/protobuf)/,
  host: /^(node:|@grpc\/grpc-js$|@bufbuild\/protobuf)/,
};

interface Import {
  readonly from: string;
  readonly specifier: string;
  readonly target: string | null;
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const specifiers = [
    ...text.matchAll(/^\s*(?:import|export)\b[^'";]*?from\s*['"]([^'"]+)['"]/gm),
    ...text.matchAll(/^\s*import\s*['"]([^'"]+)['"]/gm),
    ...text.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g),
  ].map((match) => match[1] ?? '');
  return specifiers.map((specifier) => ({
    from: file,
    specifier,
    target: specifier.startsWith('.') ? relative(ROOT, resolve(ROOT, dirname(file), specifier)) : null,
  }));
}

const files = Object.keys(MAY_IMPORT).flatMap((folder) => globSync(`${folder}/**/*.ts`, { cwd: ROOT }));
const imports = files.flatMap(importsOf);
const folderOf = (path: string): string => path.split('/')[0] ?? '';

describe('the architecture', () => {
  it('has source files in every folder of the design', () => {
    for (const folder of Object.keys(MAY_IMPORT)) {
      assert.ok(
        files.some((file) => folderOf(file) === folder),
        `${folder}/ holds no source`,
      );
    }
    assert.ok(imports.length > files.length, 'the reader of imports finds next to nothing: it is broken');
  });

  it('lets imports run one way only', () => {
    const wrong = imports.filter(({ from, target }) => {
      if (target === null) return false;
      const [own, other] = [folderOf(from), folderOf(target)];
      return own !== other && !(MAY_IMPORT[own] ?? []).includes(other);
    });
    assert.deepEqual(
      wrong.map(({ from, specifier }) => `${from} imports ${specifier}`),
      [],
    );
  });

  it('keeps pki pure, and the agent and host lean', () => {
    const wrong = imports.filter(({ from, specifier, target }) => {
      const allowed = MAY_LOAD[folderOf(from)];
      return target === null && allowed !== undefined && !allowed.test(specifier);
    });
    assert.deepEqual(
      wrong.map(({ from, specifier }) => `${from} loads ${specifier}`),
      [],
    );
  });

  it('lets only main.ts of ca, and what it composes with, know the concrete backends', () => {
    const backend =
      /^ca\/(store\/(sqlite|kubernetes)-|keys\/(sealed-key-manager|kubernetes-|pkcs11\/pkcs11-key-manager)|upstream\/(self-signed-|disk\/disk-upstream|kedge\/kedge-upstream)|attest\/(development|token-review|oidc)-attestor|kubernetes\/kubernetes-client)/;
    const wrong = imports.filter(
      ({ from, target }) =>
        target !== null &&
        from.startsWith('ca/') &&
        ![
          'ca/main.ts',
          'ca/trust-backend.ts',
          'ca/key-backend.ts',
          'ca/upstream-backend.ts',
          'ca/cluster.ts',
        ].includes(from) &&
        backend.test(target) &&
        dirname(from) !== dirname(target),
    );
    assert.deepEqual(
      wrong.map(({ from, specifier }) => `${from} imports ${specifier}`),
      [],
    );
  });

  it('keeps the @peculiar stack out of what the agent loads', () => {
    const bySource = new Map<string, Import[]>();
    for (const entry of imports) bySource.set(entry.from, [...(bySource.get(entry.from) ?? []), entry]);
    const seen = new Set<string>();
    const heavy: string[] = [];
    const visit = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      for (const { specifier, target } of bySource.get(file) ?? []) {
        if (target !== null) visit(target);
        else if (/^(@peculiar\/|pkijs|asn1js|zod|yaml)/.test(specifier))
          heavy.push(`${file} loads ${specifier}`);
      }
    };
    visit('agent/main.ts');
    assert.ok(seen.size > 10, 'the walk from agent/main.ts finds next to nothing: it is broken');
    assert.deepEqual(heavy, []);
  });

  it('has no barrel, and no file named utils', () => {
    // Generated files are named by the protos of others.
    const own = files.filter((file) => !file.startsWith('proto/gen/'));
    assert.deepEqual(
      own.filter((file) => /(^|\/)(index|utils?|helpers?|common)\.ts$/.test(file)),
      [],
    );
  });
});
