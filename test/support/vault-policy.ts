import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The Vault policy that the documentation gives, for a PKI mount at `pki`. */
export function documentedPolicy(): string {
  const page = readFileSync(join(import.meta.dirname, '../../docs/vault.md'), 'utf8');
  const policy = /```hcl\n([^`]*)```/.exec(page)?.[1];
  if (policy === undefined) throw new TypeError('docs/vault.md has no policy');
  return policy;
}
