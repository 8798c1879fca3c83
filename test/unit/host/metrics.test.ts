import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MetricsRegistry } from '../../../host/metrics.ts';

describe('the metrics registry', () => {
  it('renders counters, from zero where they have no label', () => {
    const registry = new MetricsRegistry();
    const plain = registry.counter({ name: 'a_total', help: 'A.', labels: [] });
    const labelled = registry.counter({ name: 'b_total', help: 'B.', labels: ['code', 'api'] });
    labelled.add({ code: 'x', api: 'y' });
    labelled.add({ code: 'x', api: 'y' }, 2);
    assert.equal(
      registry.render(),
      '# HELP a_total A.\n# TYPE a_total counter\na_total 0\n\n# HELP b_total B.\n# TYPE b_total counter\nb_total{code="x",api="y"} 3\n',
    );
    plain.add({});
    assert.match(registry.render(), /^a_total 1$/m);
  });

  it('counts one more of fixed labels with an adder, in the same series', () => {
    const registry = new MetricsRegistry();
    const counter = registry.counter({ name: 'b_total', help: 'B.', labels: ['code'] });
    const addX = counter.adder({ code: 'x' });
    assert.doesNotMatch(registry.render(), /code="x"/);
    addX();
    counter.add({ code: 'x' });
    addX();
    assert.match(registry.render(), /^b_total\{code="x"\} 3$/m);
  });

  it('renders gauges as set, and as read at the scrape', () => {
    const registry = new MetricsRegistry();
    const gauge = registry.gauge({ name: 'g', help: 'G.', labels: ['l'] });
    let value = 1;
    registry.gaugeFrom({ name: 'h', help: 'H.' }, () => value);
    gauge.set({ l: 'a' }, 1);
    gauge.set({ l: 'a' }, -0.5);
    value = 2;
    assert.match(registry.render(), /^g\{l="a"\} -0.5$/m);
    assert.match(registry.render(), /^h 2$/m);
  });

  it('counts observations in cumulative buckets, the bound itself included', () => {
    const registry = new MetricsRegistry();
    const histogram = registry.histogram({ name: 'd_seconds', help: 'D.', labels: ['m'], buckets: [1, 2] });
    for (const value of [0.5, 1, 1.5, 9]) histogram.observe({ m: 'x' }, value);
    const lines = registry.render().split('\n').slice(2, 7);
    assert.deepEqual(lines, [
      'd_seconds_bucket{m="x",le="1"} 2',
      'd_seconds_bucket{m="x",le="2"} 3',
      'd_seconds_bucket{m="x",le="+Inf"} 4',
      'd_seconds_sum{m="x"} 12',
      'd_seconds_count{m="x"} 4',
    ]);
  });

  it('renders a histogram without labels', () => {
    const registry = new MetricsRegistry();
    registry.histogram({ name: 'e', help: 'E.', labels: [], buckets: [1] }).observe({}, 2);
    assert.match(registry.render(), /^e_bucket\{le="1"\} 0\ne_bucket\{le="\+Inf"\} 1\ne_sum 2\ne_count 1$/m);
  });

  it('escapes label values', () => {
    const registry = new MetricsRegistry();
    registry.counter({ name: 'c', help: 'C.', labels: ['l'] }).add({ l: 'a"b\\c\nd' });
    assert.match(registry.render(), /^c\{l="a\\"b\\\\c\\nd"\} 1$/m);
  });

  it('refuses a name twice, and describes what it has', () => {
    const registry = new MetricsRegistry();
    registry.counter({ name: 'c', help: 'C.', labels: ['l'] });
    assert.throws(() => registry.gaugeFrom({ name: 'c', help: 'C.' }, () => 0), /registered twice/);
    assert.deepEqual(registry.describe(), [{ name: 'c', type: 'counter', labels: ['l'], help: 'C.' }]);
  });
});
