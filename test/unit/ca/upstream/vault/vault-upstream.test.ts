import { upstreamAuthorityConformance } from '../../../../conformance/upstream-authority.ts';
import { documentedPolicy } from '../../../../support/vault-policy.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { vaultUpstream } from '../../../../support/vault.ts';
import { VAULT_KINDS, vaultBed } from '../../../../support/vault-bed.ts';

for (const kind of VAULT_KINDS) {
  upstreamAuthorityConformance(`Vault (${kind})`, async (t) => {
    const bed = await vaultBed(kind, documentedPolicy(), temporaryFolder(t));
    t.after(() => bed.close());
    const access = vaultUpstream({ ...bed, settings: { mount: bed.mount } });
    t.after(() => access.close());
    return { upstream: access.upstream, nowMs: bed.clock.now() };
  });
}
