/** What deploy/ asks of Prometheus is what /metrics says: names, labels and their values, in queries that parse. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parser } from '@prometheus-io/lezer-promql';
import { parse, parseAllDocuments } from 'yaml';
import { hello, rig } from '../support/http.js';
import { collector } from '../support/otlp-collector.js';
import { root } from '../support/spawn.js';

const read = (file: string): string => readFileSync(`${root}deploy/${file}`, 'utf8');

interface Selector {
  name: string;
  /** label, operator, value */
  labels: [string, string, string][];
}

/** Series that an expression selects; throws where it is no PromQL. */
function selectors(expression: string): Selector[] {
  const out: Selector[] = [];
  const text = ({ from, to }: { from: number; to: number }) => expression.slice(from, to);
  parser.parse(expression).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`not PromQL at ${node.from}: ${expression}`);
      if (node.name !== 'VectorSelector') return;
      const name = node.node.getChild('Identifier');
      const matchers = node.node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? [];
      const labels = matchers.map((m): [string, string, string] => {
        const parts = ['LabelName', 'MatchOp', 'StringLiteral'].map((kind) => text(m.getChild(kind)!));
        return [parts[0]!, parts[1]!, JSON.parse(parts[2]!) as string];
      });
      out.push({ name: name ? text(name) : '', labels });
    },
  });
  return out;
}

type Series = Map<string, Map<string, Set<string>>>;

let asked: Promise<Series> | null = null;
/** Name → label → values, as a server that was asked for this and that says them; once for all tests. */
const exposed = (t: Parameters<typeof rig>[0]): Promise<Series> => (asked ??= ask(t));

async function ask(t: Parameters<typeof rig>[0]): Promise<Series> {
  const { post, get } = await rig(t, {}, { otlpEndpoint: (await collector(t)).url });
  for (const stream of [true, false])
    await (await post('/v1/chat/completions', { messages: hello, stream })).arrayBuffer();
  const failing = await rig(t, { failAt: 0 });
  await failing.post('/v1/completions', { prompt: 'x' });
  const series: Series = new Map();
  for (const text of [await (await get('/metrics')).text(), await (await failing.get('/metrics')).text()])
    for (const [, name, labels = ''] of text.matchAll(/^([a-z_]+)(?:\{(.*)\})? \S+$/gm)) {
      const known = series.get(name!) ?? new Map<string, Set<string>>();
      series.set(name!, known);
      for (const [, label, value] of labels.matchAll(/(\w+)="([^"]*)"/g))
        known.set(label!, (known.get(label!) ?? new Set()).add(value!));
    }
  return series;
}

/** Labels that Prometheus itself adds. */
const SCRAPED = ['job', 'instance'];

function check({ name, labels }: Selector, series: Series, where: string): void {
  if (name === 'up') return;
  const known = series.get(name);
  assert.ok(known, `${where}: /metrics has no ${name}`);
  for (const [label, operator, value] of labels) {
    if (SCRAPED.includes(label)) continue;
    assert.ok(known.has(label), `${where}: ${name} has no label ${label}`);
    // a code of HTTP may be any
    if (operator === '=' && label !== 'status')
      assert.ok(known.get(label)!.has(value), `${where}: ${name} has no ${label}="${value}"`);
  }
}

interface Dashboard {
  panels: {
    id: number;
    title: string;
    type: string;
    gridPos: { x: number; y: number; w: number; h: number };
    targets?: { expr: string; legendFormat: string }[];
  }[];
  templating: { list: { name: string; definition?: string }[] };
}

test('every query of the Grafana dashboard parses, and asks for what /metrics has', async (t) => {
  const series = await exposed(t);
  const { panels, templating } = JSON.parse(read('grafana/longmind.json')) as Dashboard;
  let queries = 0;
  for (const { title, targets = [] } of panels)
    for (const { expr, legendFormat } of targets) {
      const found = selectors(expr.replaceAll('$__rate_interval', '5m'));
      assert.ok(found.length > 0, title);
      for (const s of found) check(s, series, title);
      queries++;
      // {{label}} of a legend is one that the query keeps
      for (const [, label] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
        assert.match(expr, new RegExp(`by \\([^)]*\\b${label}\\b`), `${title}: ${legendFormat}`);
    }
  assert.ok(queries >= 30, `${queries} queries`);
  for (const { definition } of templating.list)
    if (definition) assert.ok(series.has(/label_values\((\w+),/.exec(definition)![1]!), definition);
});

test('panels of the dashboard have their own ids and places', () => {
  const { panels } = JSON.parse(read('grafana/longmind.json')) as Dashboard;
  assert.equal(new Set(panels.map((p) => p.id)).size, panels.length);
  const cells = new Set<string>();
  for (const { title, gridPos: g } of panels) {
    assert.ok(g.x + g.w <= 24, title);
    for (let x = g.x; x < g.x + g.w; x++)
      for (let y = g.y; y < g.y + g.h; y++) {
        assert.ok(!cells.has(`${x} ${y}`), `${title} lies over another panel`);
        cells.add(`${x} ${y}`);
      }
  }
});

test('every alert asks for what /metrics has; the rules for the operator are the same ones', async (t) => {
  const series = await exposed(t);
  const { groups } = parse(read('prometheus/longmind.rules.yml')) as {
    groups: { rules: { alert: string; expr: string; annotations: { summary: string; description: string } }[] }[];
  };
  const rules = groups.flatMap((g) => g.rules);
  assert.ok(rules.length >= 9);
  for (const { alert, expr, annotations } of rules) {
    for (const s of selectors(expr)) check(s, series, alert);
    assert.ok(annotations.summary && annotations.description, alert);
  }
  const { spec } = parse(read('kubernetes/rules.yaml')) as { spec: { groups: unknown } };
  assert.deepEqual(spec.groups, groups);
});

test('the autoscaler counts what /metrics has', async (t) => {
  const series = await exposed(t);
  const { spec } = parse(read('kubernetes/autoscaler.yaml')) as {
    spec: { metrics: { pods: { metric: { name: string; selector: { matchLabels: Record<string, string> } } } }[] };
  };
  for (const { pods } of spec.metrics) {
    const labels = Object.entries(pods.metric.selector.matchLabels).map(([l, v]): [string, string, string] => [
      l,
      '=',
      v,
    ]);
    check({ name: pods.metric.name, labels }, series, 'autoscaler');
  }
});

test('what is asked of a query is really looked at', async (t) => {
  const series = await exposed(t);
  const bad = ['longmind_nothing', 'longmind_requests{state="sleeping"}', 'longmind_requests{mood="good"}'];
  const look = (expr: string): void => {
    for (const s of selectors(expr)) check(s, series, expr);
  };
  look('longmind_requests{state="waiting"}');
  for (const expr of bad) assert.throws(() => look(expr), expr);
  assert.throws(() => selectors('sum(rate('));
  assert.throws(() => selectors('longmind_requests{{state="x"}}'));
});

// biome-ignore lint/suspicious/noExplicitAny: objects of YAML files
type Manifest = Record<string, any>;

test('replicas, services, budgets and the autoscaler find each other by their labels and names', () => {
  const objects = ['statefulset', 'services', 'haproxy', 'disruption', 'autoscaler', 'servicemonitor'].flatMap((file) =>
    parseAllDocuments(read(`kubernetes/${file}.yaml`)).map((d) => d.toJS() as Manifest),
  );
  const components = new Set(
    objects.flatMap((o) => o.spec?.template?.metadata?.labels?.['app.kubernetes.io/component'] ?? []),
  );
  for (const o of objects) {
    const selector = o.spec?.selector?.matchLabels ?? (o.kind === 'Service' ? o.spec.selector : null);
    if (selector) assert.ok(components.has(selector['app.kubernetes.io/component']), `${o.kind} ${o.metadata.name}`);
  }
  const named = (kind: string, name: string) => objects.find((o) => o.kind === kind && o.metadata.name === name)!;
  const set = named('StatefulSet', 'longmind');
  const autoscaler = named('HorizontalPodAutoscaler', 'longmind');
  assert.deepEqual(autoscaler.spec.scaleTargetRef, { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'longmind' });
  assert.ok(named('Service', set.spec.serviceName));
  const haproxy = named('ConfigMap', 'longmind-haproxy').data['haproxy.cfg'] as string;
  const servers = [...haproxy.matchAll(/^ *server (\S+) (\S+):(\d+)$/gm)];
  assert.equal(servers.length, autoscaler.spec.maxReplicas, 'as many as the autoscaler may start');
  servers.forEach(([, name, host], i) => {
    assert.equal(name, `longmind-${i}`);
    assert.equal(host, `longmind-${i}.${set.spec.serviceName}`);
  });
  assert.ok(set.spec.template.spec.terminationGracePeriodSeconds > 30, 'longer than the drain');
});
