import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The Vault policy that README and docs/vault.md give, for a PKI mount at `pki`. */
export function documentedPolicy(): string {
  const [readme, page] = ['README.md', 'docs/vault.md'].map((name) => {
    const text = readFileSync(join(import.meta.dirname, '../..', name), 'utf8');
    return /```hcl\n([^`]*)```/.exec(text)?.[1];
  });
  if (page === undefined || readme !== page)
    throw new TypeError('README and docs/vault.md give no policy, or two');
  return page;
}
