import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';

const ROOT = join(import.meta.dirname, '../../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** The series of docs/metrics.md, which a test of its own holds to the code. */
const SERIES = new Set(
  [...read('docs/metrics.md').matchAll(/^\| `(kedge_\w+)` +\| (\w+)/gm)].flatMap(([, name = '', type]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((suffix) => name + suffix) : [name],
  ),
);
const unknownSeries = (expr: string): string[] =>
  [...expr.matchAll(/\bkedge_\w+/g)].map(([name]) => name).filter((name) => !SERIES.has(name));

describe('deploy/prometheus-alerts.yaml', () => {
  interface Rule {
    readonly alert: string;
    readonly expr: string;
    readonly labels: { readonly severity: string };
    readonly annotations: Readonly<Record<string, string>>;
  }
  const { groups } = parse(read('deploy/prometheus-alerts.yaml')) as {
    readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
  };
  const rules = groups.flatMap((group) => group.rules);

  it('has alerts for issuing, latency, expiry, coverage and the store', () => {
    const text = rules.map(({ expr }) => expr).join('\n');
    for (const part of [
      'kedge_svid_refused_total',
      'kedge_svid_issuance_duration_seconds',
      'kedge_issuer_expiry',
      'kedge_anchor_expiry',
      'kedge_fleet_stragglers',
      'kedge_trust_store_operations_total',
    ]) {
      assert.ok(text.includes(part), part);
    }
  });

  it('has alerts for what keeps new pods from their identity in a cluster', () => {
    const text = rules.map(({ expr }) => expr).join('\n');
    for (const part of [
      'kedge_attestation_available',
      'kedge_webhook_configuration_current',
      'kedge_webhook_certificate_expiry_timestamp_seconds',
      'kedge_webhook_admissions_total',
      'kedge_fleet_complete',
      'kedge_trust_bundle_namespaces',
    ]) {
      assert.ok(text.includes(part), part);
    }
  });

  for (const { alert, expr, labels, annotations } of rules) {
    it(`${alert} asks for metrics that exist, and says what to do`, () => {
      assert.deepEqual(unknownSeries(expr), []);
      assert.match(labels.severity, /^(critical|warning)$/);
      assert.ok((annotations['summary'] ?? '').length > 0);
      assert.ok((annotations['description'] ?? '').length > 0);
    });
  }

  it('names each alert once', () => {
    assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
  });
});

describe('deploy/grafana-dashboard.json', () => {
  interface Panel {
    readonly id: number;
    readonly title: string;
    readonly type: string;
    readonly targets?: readonly { readonly expr: string }[];
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  }
  const { panels } = JSON.parse(read('deploy/grafana-dashboard.json')) as {
    readonly panels: readonly Panel[];
  };

  for (const { title, targets = [] } of panels.filter(({ type }) => type !== 'row')) {
    it(`panel "${title}" asks for metrics that exist`, () => {
      assert.ok(targets.length > 0);
      assert.deepEqual(
        targets.flatMap(({ expr }) => unknownSeries(expr)),
        [],
      );
    });
  }

  it('gives each panel an id and a place of its own', () => {
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    const taken = panels.flatMap(({ gridPos: { x, y, w } }) =>
      Array.from({ length: w }, (_, column) => `${x + column}/${y}`),
    );
    assert.equal(new Set(taken).size, taken.length);
  });
});
