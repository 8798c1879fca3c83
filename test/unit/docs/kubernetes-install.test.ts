import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { INSTALL_VALUES, type InstallValueSpec } from '../../../cli/install/install-values.ts';
import { CLUSTER_RULES, NAMESPACE_RULES, type RbacRule } from '../../../cli/install/rbac.ts';

const LINES = new Set(
  readFileSync(join(import.meta.dirname, '../../../docs/kubernetes.md'), 'utf8')
    .split('\n')
    .map((line) => line.replace(/\s+/g, ' ')),
);
const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`.replace(/\s+/g, ' ');

it('docs/kubernetes.md has each value of kedge install --set, as it is', () => {
  for (const {
    key,
    value,
    default: byDefault,
    ha = '',
    means,
  } of INSTALL_VALUES as readonly InstallValueSpec[]) {
    const want = row(`\`${key}\``, value, byDefault, ha, means);
    assert.ok(LINES.has(want), want);
  }
});

it('docs/kubernetes.md has each right of the CA, as it is', () => {
  const check = (where: string, rules: readonly RbacRule[]): void => {
    for (const { apiGroups, resources, resourceNames, verbs, why } of rules) {
      const names = resourceNames === undefined ? '' : `: ${resourceNames.join(', ')}`;
      const groups = apiGroups.map((group) => group || 'core').join(', ');
      const want = row(where, groups, `${resources.join(', ')}${names}`, verbs.join(', '), why);
      assert.ok(LINES.has(want), want);
    }
  };
  check('cluster', CLUSTER_RULES);
  check('own namespace', NAMESPACE_RULES);
});
