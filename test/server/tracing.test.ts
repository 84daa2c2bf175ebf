/** Traces: what a collector gets, and that no request minds a collector that is slow, broken or gone. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { errors } from '../../src/errors.js';
import { createServer } from '../../src/server/index.js';
import { checkTracing } from '../../src/server/tracing/tracing.js';
import { FakeEngine } from '../support/fake-engine.js';
import { hello, rig, until } from '../support/http.js';
import { type Collector, collector } from '../support/otlp-collector.js';

const loaded = () => Object.keys(createRequire(import.meta.url).cache).filter((f) => f.includes('@opentelemetry'));

const named = (c: Collector, name: string) => {
  const found = c.spans.find((s) => s.name === name);
  assert.ok(found, `${name} is not among ${c.spans.map((s) => s.name)}`);
  return found;
};

test('without --otlp-endpoint nothing of the SDK is loaded', async (t) => {
  const { post } = await rig(t);
  assert.equal((await post('/v1/chat/completions', { messages: hello })).status, 200);
  assert.deepEqual(loaded(), []);
});

test('a request is a span with GenAI attributes, under the trace of its caller; wait, prefill and decode lie inside', async (t) => {
  const c = await collector(t);
  const fake = {
    answer: () => 'four',
    firstDelayMs: 20,
    delayMs: 5,
    kv: { restoredTokens: 3, recomputedTokens: 2 },
  };
  const { post } = await rig(t, fake, { otlpEndpoint: c.url, version: '1.2.3' });
  const [traceId, parent] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'];
  const body = { messages: hello, session_id: 's', temperature: 0.5, max_tokens: 4, stream: true };
  const response = await post('/v1/chat/completions', body, { traceparent: `00-${traceId}-${parent}-01` });
  const id = /"id":"([^"]+)"/.exec(await response.text())![1];
  await until('four spans came', () => c.spans.length === 4);
  assert.deepEqual(new Set(c.paths), new Set(['/v1/traces']));
  const root = named(c, 'chat fake');
  assert.deepEqual(
    [root.traceId, root.parentSpanId, root.kind, root.status.code],
    [traceId, parent, 2 /* server */, 0],
  );
  assert.equal(root.resource['service.name'], 'longmind');
  assert.equal(root.resource['service.version'], '1.2.3');
  const prompt = 'user: hello\n'.length;
  assert.deepEqual(root.attributes, {
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'longmind',
    'gen_ai.request.model': 'fake',
    'gen_ai.response.model': 'fake',
    'gen_ai.response.id': id,
    'gen_ai.conversation.id': 's',
    'gen_ai.request.temperature': 0.5,
    'gen_ai.request.max_tokens': 4,
    'gen_ai.response.finish_reasons': ['stop'],
    'gen_ai.usage.input_tokens': prompt,
    'gen_ai.usage.output_tokens': 4,
    'gen_ai.usage.cache_read.input_tokens': 0,
    'http.route': '/v1/chat/completions',
    'longmind.stream': true,
  });
  const [queue, prefill, decode] = ['queue', 'prefill', 'decode'].map((name) => named(c, name));
  for (const child of [queue!, prefill!, decode!]) {
    assert.deepEqual([child.traceId, child.parentSpanId, child.kind], [traceId, root.spanId, 1]);
    assert.ok(child.from >= root.from && child.to <= root.to && child.from <= child.to, child.name);
  }
  assert.ok(queue!.to <= prefill!.from && prefill!.to <= decode!.from, 'one after the other');
  assert.ok(prefill!.to - prefill!.from >= 15, 'the delay before the first token');
  assert.deepEqual(prefill!.attributes, {
    'longmind.choice.index': 0,
    'longmind.tokens.prompt': prompt,
    'longmind.tokens.cached': 0,
    'longmind.tokens.restored': 3,
    'longmind.tokens.recomputed': 2,
    'longmind.tokens.computed': prompt,
  });
  assert.equal(decode!.attributes['longmind.tokens.generated'], 4);
});

test('a caller that samples a trace away gets none; a trace context that is none begins a new trace', async (t) => {
  const c = await collector(t);
  const { post } = await rig(t, {}, { otlpEndpoint: `${c.url}/v1/traces` });
  const ask = async (traceparent: string) =>
    (await post('/v1/completions', { prompt: 'x' }, { traceparent })).arrayBuffer();
  await ask('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00');
  await ask('nonsense');
  await until('spans came', () => c.spans.some((s) => s.name === 'text_completion fake'));
  assert.equal(c.spans.length, 4, 'of one request alone');
  assert.ok(c.spans.every((s) => s.traceId !== '0af7651916cd43dd8448eb211c80319c'));
  assert.deepEqual(new Set(c.paths), new Set(['/v1/traces']), 'an address that is whole already is taken as it is');
});

test('a request that fails is a span with its error; each of several choices has spans of its own', async (t) => {
  const c = await collector(t);
  const failing = await rig(t, { failAt: 1, failWith: errors.nanLogits(7) }, { otlpEndpoint: c.url });
  assert.equal((await failing.post('/v1/chat/completions', { messages: hello })).status, 500);
  await until('a span came', () => c.spans.length > 0);
  const [span] = c.spans;
  assert.deepEqual([span!.status.code, span!.attributes['error.type']], [2, 'nan_logits']);
  const two = await rig(t, {}, { otlpEndpoint: c.url });
  await two.post('/v1/chat/completions', { messages: hello, n: 2 });
  await until('all came', () => c.spans.length === 1 + 1 + 2 * 3);
  assert.deepEqual(
    c.spans.filter((s) => s.name === 'decode').map((s) => s.attributes['longmind.choice.index']),
    [0, 1],
  );
});

for (const [name, answer] of [
  ['hangs', () => {}],
  ['answers 500', (response: import('node:http').ServerResponse) => response.writeHead(500).end()],
] as const)
  test(`a collector that ${name}: requests are answered as ever, and the server closes`, async (t) => {
    const c = await collector(t, answer);
    const engine = new FakeEngine();
    const server = await createServer(engine, { serverPort: 0, logLevel: 'silent', otlpEndpoint: c.url });
    const ask = () =>
      fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ prompt: 'x', max_tokens: 2 }),
      });
    assert.equal((await ask()).status, 200);
    await until('the collector was asked', () => c.paths.length > 0);
    const answers = await Promise.all(Array.from({ length: 50 }, ask));
    assert.ok(answers.every((a) => a.status === 200));
    const started = performance.now();
    await server.close({ drainMs: 0 });
    assert.ok(performance.now() - started < 6_000, 'it does not wait for the collector');
    await engine.close();
  });

test('nobody listens where the collector should be: requests are answered, and /metrics counts what is lost', async (t) => {
  const { post, get } = await rig(t, {}, { otlpEndpoint: 'http://127.0.0.1:9' });
  assert.equal((await post('/v1/completions', { prompt: 'x' })).status, 200);
  let text = '';
  for (let i = 0; i < 150 && !/spans_total\{outcome="failed"\} [1-9]/.test(text); i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    text = await (await get('/metrics')).text();
  }
  assert.match(text, /longmind_trace_spans_total\{outcome="failed"\} 4/);
  assert.match(text, /longmind_trace_spans_total\{outcome="exported"\} 0/);
});

test('where the SDK is not installed, the error says what to install; an address that is none is refused', async () => {
  const missing = () => Promise.reject(Object.assign(new Error('no'), { code: 'ERR_MODULE_NOT_FOUND' }));
  await assert.rejects(checkTracing(missing), (e: Error & { code: string }) => {
    assert.equal(e.code, 'otlp_packages_missing');
    assert.match(e.message, /npm install @opentelemetry\/api @opentelemetry\/core .*sdk-trace/);
    return true;
  });
  const engine = new FakeEngine();
  for (const otlpEndpoint of ['localhost:4318', 'ftp://x', 'http://'])
    await assert.rejects(createServer(engine, { serverPort: 0, otlpEndpoint }), { code: 'invalid_option' });
});
