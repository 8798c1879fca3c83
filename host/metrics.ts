/**
 * Metrics in Prometheus' text exposition format (version 0.0.4).
 *
 * Our own, and small, because the agent runs once per pod: `prom-client` alone costs it a third of what it may
 * weigh. Label values come from closed sets in the code, never from input; `docs/metrics.md` lists every metric and
 * a test holds it against the registries.
 */
type Labels<L extends string> = Readonly<Record<L, string>>;

/** A number that only grows. */
export interface Counter<L extends string> {
  add(labels: Labels<L>, by?: number): void;
  /** Adds one to the series of these labels, which are written out only now: for what is counted on each call. */
  adder(labels: Labels<L>): () => void;
}

/** A number that moves, or is read when scraped. */
export interface Gauge<L extends string> {
  set(labels: Labels<L>, value: number): void;
}

/** Observations counted in buckets. */
export interface Histogram<L extends string> {
  observe(labels: Labels<L>, value: number): void;
}

/** What is the same for each metric: its name with unit suffix, one sentence, and its label names. */
export interface MetricOptions<L extends string> {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly L[];
}

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  render(): string[];
}

/** A set of metrics, and their text. One per process, made by its composition root. */
export class MetricsRegistry {
  readonly #families: Family[] = [];

  counter<L extends string>(options: MetricOptions<L>): Counter<L> {
    const values = new Map<string, number>();
    this.#register({ ...options, type: 'counter', render: () => renderValues(options.name, values) });
    if (options.labels.length === 0) values.set('', 0);
    const add = (key: string, by: number): void => void values.set(key, (values.get(key) ?? 0) + by);
    return {
      add: (labels, by = 1) => add(labelText(options.labels, labels), by),
      adder(labels) {
        const key = labelText(options.labels, labels);
        return () => add(key, 1);
      },
    };
  }

  gauge<L extends string>(options: MetricOptions<L>): Gauge<L> {
    const values = new Map<string, number>();
    this.#register({ ...options, type: 'gauge', render: () => renderValues(options.name, values) });
    return {
      set(labels, value) {
        values.set(labelText(options.labels, labels), value);
      },
    };
  }

  /** A gauge without labels whose value is read at each scrape. */
  gaugeFrom(options: Omit<MetricOptions<never>, 'labels'>, read: () => number): void {
    this.#register({ ...options, labels: [], type: 'gauge', render: () => [`${options.name} ${read()}`] });
  }

  /** A gauge whose labels and values are read at each scrape: what is no longer there is no longer shown. */
  gaugesFrom<L extends string>(
    options: MetricOptions<L>,
    read: () => Iterable<readonly [labels: Labels<L>, value: number]>,
  ): void {
    const render = (): string[] =>
      renderValues(
        options.name,
        new Map([...read()].map(([labels, value]) => [labelText(options.labels, labels), value])),
      );
    this.#register({ ...options, type: 'gauge', render });
  }

  /** `buckets` are upper bounds, ascending, without infinity. */
  histogram<L extends string>(
    options: MetricOptions<L> & { readonly buckets: readonly number[] },
  ): Histogram<L> {
    const series = new Map<string, { counts: number[]; sum: number; count: number }>();
    const { name, buckets } = options;
    this.#register({
      ...options,
      type: 'histogram',
      render: () =>
        [...series].flatMap(([key, { counts, sum, count }]) => {
          const separator = key === '' ? '' : ',';
          let cumulative = 0;
          const lines = buckets.map((bound, i) => {
            cumulative += counts[i] ?? 0;
            return `${name}_bucket{${key}${separator}le="${bound}"} ${cumulative}`;
          });
          return [
            ...lines,
            `${name}_bucket{${key}${separator}le="+Inf"} ${count}`,
            `${name}_sum${braces(key)} ${sum}`,
            `${name}_count${braces(key)} ${count}`,
          ];
        }),
    });
    return {
      observe(labels, value) {
        const key = labelText(options.labels, labels);
        let entry = series.get(key);
        if (entry === undefined) {
          entry = { counts: buckets.map(() => 0), sum: 0, count: 0 };
          series.set(key, entry);
        }
        const index = buckets.findIndex((bound) => value <= bound);
        if (index >= 0) entry.counts[index] = (entry.counts[index] ?? 0) + 1;
        entry.sum += value;
        entry.count += 1;
      },
    };
  }

  /** Name, type, labels and help of each metric, in order of registration. */
  describe(): readonly Readonly<Pick<Family, 'name' | 'type' | 'labels' | 'help'>>[] {
    return this.#families.map(({ name, type, labels, help }) => ({ name, type, labels, help }));
  }

  /** The text exposition of everything. */
  render(): string {
    return this.#families
      .flatMap((f) => [`# HELP ${f.name} ${f.help}`, `# TYPE ${f.name} ${f.type}`, ...f.render(), ''])
      .join('\n');
  }

  #register(family: Family): void {
    if (this.#families.some((f) => f.name === family.name))
      throw new TypeError(`metric ${family.name} registered twice`);
    this.#families.push(family);
  }
}

function renderValues(name: string, values: ReadonlyMap<string, number>): string[] {
  return [...values].map(([key, value]) => `${name}${braces(key)} ${value}`);
}

function braces(key: string): string {
  return key === '' ? '' : `{${key}}`;
}

function labelText<L extends string>(names: readonly L[], labels: Labels<L>): string {
  if (names.length === 0) return '';
  return names.map((name) => `${name}="${escapeLabel(labels[name])}"`).join(',');
}

function escapeLabel(value: string): string {
  return value.replace(/[\\"\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`));
}
