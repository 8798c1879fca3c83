import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { buildCsr } from '../../pki/csr-builder.ts';

/** What the load process sends: CSRs with fresh P-256 keys, and one token for each workload instance. */
export interface Workload {
  readonly csrs: readonly Uint8Array[];
  readonly tokens: readonly string[];
}

export function freshCsrs(count: number): Uint8Array[] {
  return Array.from({ length: count }, () =>
    buildCsr({ privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey }),
  );
}

export function writeWorkload(path: string, workload: Workload): void {
  const csrs = workload.csrs.map((csr) => Buffer.from(csr).toString('base64'));
  writeFileSync(path, JSON.stringify({ csrs, tokens: workload.tokens }), { mode: 0o600 });
}

export function readWorkload(path: string): Workload {
  const raw = JSON.parse(readFileSync(path, 'utf8')) as { csrs: string[]; tokens: string[] };
  return { csrs: raw.csrs.map((csr) => Buffer.from(csr, 'base64')), tokens: raw.tokens };
}
