/** A small Prometheus registry: text format 0.0.4, counters and histograms with labels, gauges given at scrape time. */

type Labels = Readonly<Record<string, string>>;

const quoted = (v: string): string => v.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/"/g, '\\"');

const labelText = (labels: Labels): string => {
  const parts = Object.entries(labels).map(([k, v]) => `${k}="${quoted(v)}"`);
  return parts.length ? `{${parts.join(',')}}` : '';
};

export class Counter {
  readonly #values = new Map<string, number>();

  constructor(
    readonly name: string,
    readonly help: string,
  ) {}

  inc(labels: Labels = {}, by = 1): void {
    const key = labelText(labels);
    this.#values.set(key, (this.#values.get(key) ?? 0) + by);
  }

  render(): string {
    const lines = [...this.#values].map(([labels, v]) => `${this.name}${labels} ${v}`);
    return header(this.name, this.help, 'counter') + lines.join('\n') + (lines.length ? '\n' : '');
  }
}

export class Histogram {
  readonly #counts: Float64Array;
  #sum = 0;
  #count = 0;

  /** `bounds`: upper edges, ascending; +Inf is added. */
  constructor(
    readonly name: string,
    readonly help: string,
    readonly bounds: readonly number[],
  ) {
    this.#counts = new Float64Array(bounds.length + 1);
  }

  get count(): number {
    return this.#count;
  }

  get sum(): number {
    return this.#sum;
  }

  observe(value: number, times = 1): void {
    let i = 0;
    while (i < this.bounds.length && value > this.bounds[i]!) i++;
    this.#counts[i]! += times;
    this.#sum += value * times;
    this.#count += times;
  }

  render(): string {
    return histogramText(this.name, this.help, this.bounds, this.#counts, this.#sum);
  }
}

/** `counts`: of each bucket alone, the one beyond the last edge included. */
export function histogramText(
  name: string,
  help: string,
  bounds: readonly number[],
  counts: ArrayLike<number>,
  sum: number,
): string {
  let below = 0;
  let out = header(name, help, 'histogram');
  bounds.forEach((edge, i) => {
    below += counts[i]!;
    out += `${name}_bucket{le="${edge}"} ${below}\n`;
  });
  const all = below + counts[bounds.length]!;
  return `${out}${name}_bucket{le="+Inf"} ${all}\n${name}_sum ${sum}\n${name}_count ${all}\n`;
}

/** One value at scrape time. */
export function sample(
  name: string,
  help: string,
  type: 'gauge' | 'counter',
  values: readonly (readonly [Labels, number])[],
): string {
  return header(name, help, type) + values.map(([labels, v]) => `${name}${labelText(labels)} ${v}\n`).join('');
}

const header = (name: string, help: string, type: string): string => `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
