import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { agentMetrics } from '../../../agent/agent-metrics.ts';
import {
  BUNDLE_DOCUMENT,
  type FileContent,
  FILES_PRESET_NAMES,
  isSecret,
  presetOf,
} from '../../../agent/feed/files-preset.ts';
import { registerEvidenceMetrics } from '../../../agent/evidence-metrics.ts';
import { registerApiGauges, registerApiMetrics } from '../../../ca/api/api-metrics.ts';
import { registerAttestationMetrics } from '../../../ca/attest/attestation-metrics.ts';
import { registerKubernetesMetrics } from '../../../ca/kubernetes/kubernetes-metrics.ts';
import { registerCaMetrics } from '../../../ca/ca-metrics.ts';
import { configOf } from '../../../ca/config.ts';
import { ISSUER_KEYS } from '../../../ca/attest/issuer-config-keys.ts';
import { CONFIG_KEYS } from '../../../ca/config-keys.ts';
import { readSettings } from '../../../ca/config-schema.ts';
import { ANNOTATIONS } from '../../../ca/inject/annotations.ts';
import { registerDistributionMetrics } from '../../../ca/distribution/distribution-metrics.ts';
import { registerIssuanceMetrics } from '../../../ca/issue/issuance-metrics.ts';
import { parsePolicy } from '../../../ca/issue/policy-file.ts';
import { registerVaultMetrics } from '../../../ca/upstream/vault/vault-metrics.ts';
import { registerWebhookMetrics } from '../../../ca/webhook/webhook-metrics.ts';
import { ObservedTrustStore } from '../../../ca/store/observed-trust-store.ts';
import { silentLog } from '../../../host/log.ts';
import { MetricsRegistry } from '../../../host/metrics.ts';
import { ERROR_TABLE } from '../../../pki/error-table.ts';

const read = (name: string): string => readFileSync(join(import.meta.dirname, '../../../docs', name), 'utf8');

const cellsOf = (line: string): string[] =>
  line
    .slice(1, -1)
    .split(/(?<!\\)\|/)
    .map((cell) => cell.replaceAll('\\|', '|').trim());

/** The rows of the table with this header, as cells. How the formatter pads them is of no interest. */
function tableAfter(text: string, header: readonly string[]): string[][] {
  const lines = text.split('\n');
  const start = lines.findIndex((line) => line.startsWith('|') && cellsOf(line).join() === header.join());
  assert.notEqual(start, -1, `there is no table of ${header.join(', ')}`);
  const rows = lines.slice(start + 2);
  return rows
    .slice(
      0,
      rows.findIndex((line) => !line.startsWith('|')),
    )
    .map(cellsOf);
}

const yamlBlocks = (text: string): string[] =>
  [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map((m) => m[1] ?? '');

describe('docs/errors.md', () => {
  it('lists exactly the error table', () => {
    const rows = tableAfter(read('errors.md'), ['code', 'gRPC status', 'exposure', 'means']);
    const want = Object.entries(ERROR_TABLE).map(([code, { status, exposure, means }]) => [
      `\`${code}\``,
      status,
      exposure,
      means,
    ]);
    assert.deepEqual(rows, want);
  });
});

describe('docs/metrics.md', () => {
  const HEADER = ['metric', 'type', 'labels', 'means'];
  const want = (registry: MetricsRegistry): string[][] =>
    registry
      .describe()
      .map(({ name, type, labels, help }) => [
        `\`${name}\``,
        type,
        labels.map((label) => `\`${label}\``).join(', '),
        help,
      ]);
  const [beforeAgent = '', agentPart = ''] = read('metrics.md').split('## Agent');

  it('lists exactly the metrics of the CA', () => {
    const registry = new MetricsRegistry();
    const issuance = registerIssuanceMetrics(registry);
    issuance.observeQueue(() => 0);
    issuance.observeAudit(() => true);
    registerApiMetrics(registry);
    registerApiGauges(registry, { connections: () => 0, watchStreams: () => 0 });
    const store = new ObservedTrustStore({ store: {} as never, registry, log: silentLog });
    assert.equal(store.fill.bytes, 0);
    registerCaMetrics(registry, {} as never);
    registerDistributionMetrics(registry, () => ({ current: 0, pending: 0, foreign: 0 }));
    registerKubernetesMetrics(registry);
    registerAttestationMetrics(registry, {} as never);
    assert.deepEqual(tableAfter(beforeAgent, HEADER), want(registry));
  });

  it('lists exactly the metrics of Vault', () => {
    const registry = new MetricsRegistry();
    registerVaultMetrics(registry, () => 0);
    assert.deepEqual(tableAfter(beforeAgent.split('### Vault')[1] ?? '', HEADER), want(registry));
  });

  it('lists exactly the metrics of the webhook', () => {
    const registry = new MetricsRegistry();
    registerWebhookMetrics(registry);
    assert.deepEqual(tableAfter(beforeAgent.split('### Webhook')[1] ?? '', HEADER), want(registry));
  });

  it('lists exactly the metrics of the agent', () => {
    const registry = new MetricsRegistry();
    agentMetrics(registry, () => 0);
    registerEvidenceMetrics(registry, () => ({ newest: 0, feeds: [], canary: null }));
    assert.deepEqual(tableAfter(agentPart, HEADER), want(registry));
  });
});

describe('docs/feeds.md', () => {
  const text = read('feeds.md');

  it('lists exactly the files of the presets', () => {
    const want = FILES_PRESET_NAMES.flatMap((preset) =>
      presetOf(preset).files.map(({ name, content }) => [preset, `\`${name}\``, content]),
    );
    assert.deepEqual(tableAfter(text, ['preset', 'file', 'content']), want);
  });

  it('says of each content with which mode it is written', () => {
    const rows = tableAfter(text, ['content', 'is', 'mode']);
    const contents = new Set(
      FILES_PRESET_NAMES.flatMap((name) => presetOf(name).files.map((f) => f.content)),
    );
    contents.add(BUNDLE_DOCUMENT.content);
    assert.deepEqual(new Set(rows.map(([content]) => content)), contents);
    for (const [content, , mode] of rows) {
      assert.equal(mode, isSecret(content as FileContent) ? '`--files-key-mode`' : '0644', content);
    }
  });

  it('lists exactly the signals and key modes of the presets', () => {
    const want = FILES_PRESET_NAMES.map((name) => {
      const { reloadSignal, maxKeyMode } = presetOf(name);
      return [name, reloadSignal ?? 'none', maxKeyMode === undefined ? 'any' : `0${maxKeyMode.toString(8)}`];
    });
    assert.deepEqual(tableAfter(text, ['preset', 'signal', 'key mode at most']), want);
  });

  it('has a section for each server', () => {
    const sections = [...text.matchAll(/^### (.*)$/gm)].map((match) => (match[1] ?? '').toLowerCase());
    for (const name of FILES_PRESET_NAMES) assert.ok(name === 'plain' || sections.includes(name), name);
  });
});

describe('docs/kubernetes.md', () => {
  it('lists exactly the annotations that injection reads', () => {
    const rows = tableAfter(read('kubernetes.md'), ['annotation', 'value', 'default', 'means']);
    const want = ANNOTATIONS.map(({ name, form, default: byDefault, means }) => [
      `\`kedge.io/${name}\``,
      form.allowed,
      byDefault,
      means,
    ]);
    assert.deepEqual(rows, want);
  });
});

describe('docs/configuration.md', () => {
  const text = read('configuration.md');

  it('lists exactly the keys of the configuration', () => {
    const rows = tableAfter(text, ['key', 'option', 'value', 'default', 'means']);
    const want = CONFIG_KEYS.map(({ key, flag, value, default: byDefault, means }) => [
      `\`${key}\``,
      flag === undefined ? '' : `\`--${flag}\``,
      value,
      byDefault,
      means,
    ]);
    assert.deepEqual(rows, want);
  });

  it('lists exactly the keys of one issuer', () => {
    const want = ISSUER_KEYS.map(({ key, value, default: byDefault, means }) => [
      `\`${key}\``,
      value,
      byDefault,
      means,
    ]);
    assert.deepEqual(tableAfter(text, ['key of an issuer', 'value', 'default', 'means']), want);
  });

  it('has examples that Kedge takes', () => {
    const [config = '', policy = '', clusters = ''] = yamlBlocks(text);
    const settings = readSettings(config, 'ca.yaml', {});
    const { issuers } = configOf(readSettings(clusters, 'ca.yaml', {}), '/').attest;
    assert.deepEqual(
      issuers.map(({ cluster, keys }) => `${cluster} ${keys.kind}`),
      ['east discovery', 'west file'],
    );
    assert.equal(configOf(settings, '/').svid.ttlMs, 12 * 3_600_000);
    const parsed = parsePolicy(policy, 'policy.yaml', { maxTtlMs: 12 * 3_600_000, backdateMs: 120_000 });
    assert.equal(parsed.decide({ namespace: 'sandbox', serviceAccount: 'x' }).kind, 'denied');
    const decision = parsed.decide({ namespace: 'payments', serviceAccount: 'api' });
    assert.deepEqual(decision.kind === 'granted' ? decision.grant.dnsNames : [], ['api.payments.svc']);
  });
});
