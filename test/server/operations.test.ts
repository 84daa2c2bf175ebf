import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { type Chunk, errorOf, eventsOf, hello, rig, until } from '../support/http.js';

const WANTED = [
  'requests',
  'requests_total',
  'generations_total',
  'http_requests_total',
  'time_to_first_token_seconds',
  'inter_token_seconds',
  'request_seconds',
  'queue_seconds',
  'tokens_total',
  'kv_blocks',
  'sessions',
  'cache_blocks_evicted_total',
  'preemptions_total',
  'batch_size',
  'step_seconds',
];

test('/health lives and /ready follows the engine', async (t) => {
  const { get, engine } = await rig(t);
  assert.deepEqual(await (await get('/health')).json(), { status: 'ok' });
  assert.deepEqual(await (await get('/ready')).json(), { status: 'ready' });
  engine.broken = true;
  assert.equal((await get('/health')).status, 200);
  const sick = await get('/ready');
  assert.deepEqual([sick.status, (await errorOf(sick)).code], [500, 'engine_failed']);
});

test('a session store that fails shows in /health and in the metrics, without details; requests are served', async (t) => {
  const { get, post, engine } = await rig(t);
  assert.match(await (await get('/metrics')).text(), /^longmind_session_store_failed 0$/m);
  engine.storeFailure = "ENOSPC: no space left on device, open '/somewhere/secret'";
  const health = await get('/health');
  const body = (await health.json()) as { status: string; problems: string[] };
  assert.deepEqual([health.status, body.status, body.problems.length], [200, 'degraded', 1]);
  assert.doesNotMatch(body.problems[0]!, /secret/);
  assert.match(await (await get('/metrics')).text(), /^longmind_session_store_failed 1$/m);
  assert.equal((await get('/ready')).status, 200);
  assert.equal((await post('/v1/chat/completions', { messages: hello })).status, 200);
});

test('/metrics is Prometheus text: every sample has a type, histograms add up', async (t) => {
  const { get, post } = await rig(t);
  await post('/v1/chat/completions', { messages: hello, max_tokens: 5 });
  await (await post('/v1/chat/completions', { messages: hello, max_tokens: 5, stream: true })).text();
  const response = await get('/metrics');
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  const typed = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map((m) => m[1]!));
  for (const line of text.split('\n').filter((l) => l && !l.startsWith('#'))) {
    assert.match(line, /^[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? -?[\d.e+-]+$/);
    const name = /^[a-z_]+/.exec(line)![0];
    assert.ok(typed.has(name) || typed.has(name.replace(/_(bucket|sum|count)$/, '')), name);
    assert.ok(name.startsWith('longmind_') || name.startsWith('process_'), name);
  }
  assert.match(text, /^longmind_generations_total\{endpoint="\/v1\/chat\/completions",outcome="length"\} 2$/m);
  assert.match(text, /^longmind_time_to_first_token_seconds_count 2$/m);
  assert.match(text, /^longmind_inter_token_seconds_count 8$/m);
  assert.match(text, /^longmind_http_requests_total\{route="\/v1\/chat\/completions",method="POST",status="200"\} 2$/m);
  assert.match(text, /^longmind_kv_blocks\{state="free"\} 60$/m);
  assert.match(text, /^longmind_sessions\{state="cached"\} 1$/m);
  const bucket = (le: string) => text.includes(`longmind_step_seconds_bucket{le="${le}"} `);
  assert.ok(bucket('0.001') && bucket('0.01') && bucket('+Inf'));
  assert.match(text, /^longmind_step_seconds_sum 0.09$/m);
  assert.match(text, /^longmind_step_seconds_count 30$/m);
  // what whoever runs a server asks for
  for (const name of WANTED) assert.ok(typed.has(`longmind_${name}`), name);
});

test('/metrics still answers when the engine does not', async (t) => {
  const { get, engine } = await rig(t);
  engine.broken = true;
  const text = await (await get('/metrics')).text();
  assert.match(text, /^longmind_up 0$/m);
});

test('/openapi.json describes every route with the schemas that validate', async (t) => {
  const { get } = await rig(t);
  const document = (await (await get('/openapi.json')).json()) as {
    openapi: string;
    paths: Record<string, Record<string, { requestBody?: { content: Record<string, { schema: unknown }> } }>>;
    components: { schemas: Record<string, unknown> };
  };
  assert.equal(document.openapi, '3.1.0');
  const ours = [
    '/abort_request',
    '/detokenize',
    '/health',
    '/metrics',
    '/ready',
    '/tokenize',
    '/v1/chat/completions',
    '/v1/completions',
    '/v1/models',
    '/v1/models/{name}',
    '/v1/sessions',
    '/v1/sessions/{id}',
    '/v1/sessions/{id}/fork',
    '/v1/sessions/{id}/tokens',
    '/v1/sessions/{id}/truncate',
    '/v1/snapshot',
  ];
  for (const path of ours) assert.ok(path in document.paths, path);
  const refs = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map((m) => m[1]!);
  for (const name of refs) assert.ok(name in document.components.schemas, name);
  const chat = document.paths['/v1/chat/completions']!.post!.requestBody!.content['application/json']!.schema as {
    properties: Record<string, { anyOf: { maximum?: number }[]; description: string }>;
  };
  assert.equal(chat.properties.temperature!.anyOf[0]!.maximum, 100);
  assert.equal(chat.properties.temperature!.description, '0 = greedy');
});

test('closing lets a running stream finish, answers new requests with 503, then closes every connection', async (t) => {
  const { post, get, server, engine, url } = await rig(t, { answer: () => 'x'.repeat(40), delayMs: 10 });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const health = request(`${url}/health`, { agent });
  health.end();
  (await once(health, 'response'))[0].resume();
  const stream = await post('/v1/chat/completions', { messages: hello, stream: true });
  const text = stream.text();
  await until('it is running', () => engine.calls.length === 1);
  const closed = server.close();
  for (const refused of [await post('/v1/chat/completions', { messages: hello }), await get('/ready')])
    assert.deepEqual([refused.status, (await errorOf(refused)).code], [503, 'engine_closed']);
  const alive = await get('/health');
  assert.deepEqual([alive.status, alive.headers.get('connection')], [200, 'close']);
  const events = eventsOf(await text);
  assert.equal((events.at(-2) as Chunk).choices[0]!.finish_reason, 'stop');
  await closed;
  assert.equal(engine.calls.length, 1);
  await assert.rejects(get('/health'), 'nobody listens any more');
});

test('when the drain time is over, streams end with an error and plain requests with 503', async (t) => {
  const { post, server, engine } = await rig(t, { answer: () => 'x'.repeat(4000), delayMs: 10 });
  const stream = await post('/v1/chat/completions', { messages: hello, stream: true });
  const plain = post('/v1/chat/completions', { messages: hello });
  await until('both are running', () => engine.calls.length === 2);
  const start = performance.now();
  const closed = server.close({ drainMs: 50 });
  const events = eventsOf(await stream.text());
  assert.equal((events.at(-2) as Chunk).error?.code, 'engine_closed');
  const response = await plain;
  assert.deepEqual([response.status, (await errorOf(response)).code], [503, 'engine_closed']);
  await closed;
  assert.ok(performance.now() - start < 2000);
  assert.equal(engine.running, 0);
});

test('a snapshot shows every block, and names only to their owner', async (t) => {
  const { get, post } = await rig(t, {}, { apiKeys: ['a', 'b'] });
  const as = (key: string) => ({ authorization: `Bearer ${key}` });
  await post('/v1/completions', { prompt: 'x', session_id: 'mine' }, as('a'));
  const names = async (key: string) => {
    const s = (await (await get('/v1/snapshot', as(key))).json()) as {
      state: number[];
      sequences: { sessionId: string | null }[];
    };
    assert.deepEqual(s.state, [3, 2, 1]);
    return s.sequences.map((q) => q.sessionId);
  };
  assert.deepEqual(await names('a'), ['mine']);
  assert.deepEqual(await names('b'), [null]);
});

test('closing twice is closing once', async (t) => {
  const { server } = await rig(t);
  await Promise.all([server.close(), server.close()]);
});

test('what is refused in a drain is no error in the log: no stack', async (t) => {
  const lines: string[] = [];
  const write = process.stderr.write;
  process.stderr.write = ((chunk: string | Uint8Array) => {
    lines.push(String(chunk));
    return true;
  }) as typeof write;
  try {
    const { post, get, server, engine } = await rig(
      t,
      { answer: () => 'x'.repeat(40), delayMs: 10 },
      { logLevel: 'warn' },
    );
    const stream = await post('/v1/chat/completions', { messages: hello, stream: true });
    await until('it is running', () => engine.calls.length === 1);
    const closed = server.close();
    for (const refused of [await get('/ready'), await post('/v1/chat/completions', { messages: hello })])
      assert.equal(refused.status, 503);
    await stream.text();
    await closed;
  } finally {
    process.stderr.write = write;
  }
  assert.deepEqual(
    lines.filter((line) => line.startsWith('{')),
    [],
  );
});

test('logs are JSON lines with the request id and without the prompt', async (t) => {
  const lines: string[] = [];
  const write = process.stderr.write;
  process.stderr.write = ((chunk: string | Uint8Array) => {
    lines.push(String(chunk));
    return true;
  }) as typeof write;
  try {
    const { post, engine } = await rig(t, { failAt: 1, failWith: new Error('boom') }, { logLevel: 'debug' });
    engine.problem('the session store: no space');
    const secret = [{ role: 'user', content: 'my-secret-prompt' }];
    const headers = { 'x-request-id': 'trace-7' };
    await (await post('/v1/chat/completions?key=in-url', { messages: secret, stream: true }, headers)).text();
    await (await post('/v1/chat/completions', { messages: secret, tools: [{ name: 'x' }] }, headers)).text();
    await until('both are logged', () => lines.join('').split('"msg":"request"').length === 3);
  } finally {
    process.stderr.write = write;
  }
  const all = lines.join('');
  const entries = all
    .split('\n')
    .filter((l) => l.startsWith('{'))
    .map((l) => JSON.parse(l) as Record<string, unknown>);
  assert.ok(entries.some((e) => e.reqId === 'trace-7' && e.path === '/v1/chat/completions' && e.status === 200));
  assert.ok(entries.some((e) => e.msg === 'a stream failed'));
  assert.ok(entries.some((e) => e.problem === 'the session store: no space'));
  assert.ok(!all.includes('my-secret-prompt') && !all.includes('in-url'), all);
});
