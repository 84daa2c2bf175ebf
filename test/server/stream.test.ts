import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import fastify from 'fastify';
import { errors } from '../../src/errors.js';
import { defaultTiming } from '../../src/server/context.js';
import { StreamWriter } from '../../src/server/sse.js';
import { type Chunk, errorOf, eventsOf, hello, rig, until } from '../support/http.js';

const streamed = (fields: Record<string, unknown> = {}) => ({ messages: hello, stream: true, ...fields });

test('a stream: role first, then text, one finish_reason, usage on request, [DONE]', async (t) => {
  const { post } = await rig(t, { answer: () => 'abc' });
  const response = await post('/v1/chat/completions', streamed({ stream_options: { include_usage: true } }));
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/);
  assert.match(response.headers.get('x-request-id') ?? '', /^req-/);
  const events = eventsOf(await response.text());
  assert.equal(events.pop(), '[DONE]');
  const chunks = events as Chunk[];
  const usage = chunks.pop()!;
  assert.deepEqual(usage.choices, []);
  assert.deepEqual([usage.usage!.prompt_tokens, usage.usage!.completion_tokens], [12, 3]);
  assert.ok(chunks.every((c) => c.usage === null && c.object === 'chat.completion.chunk' && c.id === usage.id));
  assert.deepEqual(chunks[0]!.choices[0]!.delta, { role: 'assistant', content: '' });
  assert.equal(chunks.map((c) => c.choices[0]!.delta!.content ?? '').join(''), 'abc');
  const reasons = chunks.map((c) => c.choices[0]!.finish_reason);
  assert.deepEqual([reasons.pop(), reasons.every((r) => r === null)], ['stop', true]);
});

test('a stream without include_usage has no usage, and an empty answer is still well formed', async (t) => {
  const { post } = await rig(t, { answer: () => '' });
  const events = eventsOf(await (await post('/v1/chat/completions', streamed())).text());
  assert.deepEqual(
    events.map((e) => (e === '[DONE]' ? e : [e.choices[0]!.delta, e.choices[0]!.finish_reason, e.usage])),
    [[{ role: 'assistant', content: '' }, null, undefined], [{}, 'stop', undefined], '[DONE]'],
  );
});

test('a streamed completion of two prompts keeps its choices apart', async (t) => {
  const { post } = await rig(t, { answer: (p) => p.repeat(3) });
  const response = await post('/v1/completions', { prompt: ['x', 'y'], stream: true, logprobs: 0 });
  const chunks = eventsOf(await response.text()).filter((e) => e !== '[DONE]') as Chunk[];
  for (const index of [0, 1]) {
    const mine = chunks.map((c) => c.choices[0]!).filter((c) => c.index === index);
    assert.equal(mine.map((c) => c.text).join(''), 'xy'[index]!.repeat(3));
    assert.equal(mine.at(-1)!.finish_reason, 'stop');
  }
});

test('an error before the first token is a plain HTTP error, also for a stream', async (t) => {
  const { post } = await rig(t, { failAt: 0 });
  const response = await post('/v1/chat/completions', streamed());
  assert.equal(response.status, 500);
  assert.equal((await errorOf(response)).code, 'engine_failed');
});

test('a choice that ends when another was refused does not begin a stream that nobody ends', async (t) => {
  const app = fastify();
  t.after(() => app.close());
  app.get('/', async (_, reply) => {
    const writer = new StreamWriter(reply, defaultTiming);
    writer.cancel();
    writer.write('late');
    throw Object.assign(new Error('refused'), { statusCode: 400 });
  });
  const url = await app.listen({ port: 0, host: '127.0.0.1' });
  const response = await fetch(url, { signal: AbortSignal.timeout(3_000) });
  assert.equal(response.status, 400);
  assert.match(await response.text(), /refused/);
});

test('an error in the middle of a stream is an event, and the stream ends', async (t) => {
  const { post } = await rig(t, { failAt: 2, failWith: errors.nanLogits(2) });
  const response = await post('/v1/chat/completions', streamed());
  assert.equal(response.status, 200);
  const events = eventsOf(await response.text());
  assert.equal(events.at(-1), '[DONE]');
  assert.equal((events.at(-2) as Chunk).error?.code, 'nan_logits');
  assert.ok(events.every((e) => e === '[DONE]' || !e.choices?.[0]?.finish_reason));
});

test('a client that goes away during a stream ends its generation', async (t) => {
  const { post, engine } = await rig(t, { answer: () => 'x'.repeat(1000), delayMs: 5 });
  const gone = new AbortController();
  const response = await post('/v1/chat/completions', streamed(), {}, gone.signal);
  await response.body!.getReader().read();
  gone.abort();
  await until('the generation is aborted', () => engine.calls[0]!.generation.aborted);
  await until('it has ended', () => engine.running === 0);
  assert.ok(engine.calls[0]!.generation.produced < 1000);
});

test('a client that goes away before the first token, streaming or not, ends its generation', async (t) => {
  const { post, engine } = await rig(t, { firstDelayMs: 10_000 });
  for (const [i, stream] of [true, false].entries()) {
    const gone = new AbortController();
    const answer = post('/v1/chat/completions', streamed({ stream }), {}, gone.signal);
    await until('the engine has it', () => engine.calls.length === i + 1);
    gone.abort();
    await assert.rejects(answer);
    await until('the generation is aborted', () => engine.calls[i]!.generation.aborted);
  }
  await until('both have ended', () => engine.running === 0);
});

test('a stream that is silent for long sends its headers and comments', async (t) => {
  const { post } = await rig(
    t,
    { firstDelayMs: 200, answer: () => 'x' },
    { timing: { headersAfterMs: 10, pingMs: 30 } },
  );
  const response = await post('/v1/chat/completions', streamed());
  const text = await response.text();
  assert.match(text, /^(: ping\n\n)+data: /);
  assert.equal(eventsOf(text).at(-1), '[DONE]');
});

test('a failure after early headers is an event', async (t) => {
  const { post } = await rig(t, { firstDelayMs: 100, failAt: 0 }, { timing: { headersAfterMs: 10 } });
  const response = await post('/v1/chat/completions', streamed());
  assert.equal(response.status, 200);
  assert.equal((eventsOf(await response.text())[0] as Chunk).error?.code, 'engine_failed');
});

const rawRequest = (body: unknown, port: number): string => {
  const text = JSON.stringify(body);
  return `POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
};

test('a reader that takes nothing is cut off, and its generation ends', async (t) => {
  const { engine, server } = await rig(t, { answer: () => '\u20ac'.repeat(2_000_000) }, { timing: { stallMs: 200 } });
  const socket = connect(server.port, '127.0.0.1');
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  socket.pause();
  socket.write(rawRequest(streamed({ logprobs: true, top_logprobs: 20 }), server.port));
  await until('the engine has it', () => engine.calls.length === 1);
  await until('the generation is aborted', () => engine.calls[0]!.generation.aborted, 20_000);
});

test('a slow reader gets every character: what waits is joined into fewer chunks', async (t) => {
  const text = 'z'.repeat(80_000);
  const { server, engine } = await rig(t, { answer: () => text });
  const socket = connect(server.port, '127.0.0.1');
  t.after(() => socket.destroy());
  socket.pause();
  socket.write(rawRequest(streamed({ max_tokens: 80_000 }), server.port));
  await until('the engine is done', () => engine.calls.length === 1 && engine.running === 0, 20_000);
  let got = '';
  socket.setEncoding('utf8').on('data', (d) => {
    got += d;
  });
  socket.resume();
  await until('the stream is complete', () => got.includes('[DONE]'), 10_000);
  const data = got
    .split('\r\n')
    .filter((l) => l.includes('data: '))
    .join('');
  const contents = [...data.matchAll(/"content":"(z*)"/g)].map((m) => m[1]!);
  assert.equal(contents.join('').length, text.length);
  assert.ok(contents.length < text.length, `${contents.length} chunks`);
});

/** Everything that comes until the other side closes the connection. */
async function exchange(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let got = '';
  socket.setEncoding('utf8').on('data', (d) => {
    got += d;
  });
  socket.write(text);
  await once(socket, 'close');
  return got;
}

test('chunks are framed as HTTP wants them, whatever they hold, and the connection serves again', async (t) => {
  const answer = 'a\u00e9\u20ac\u{1f600}"\\\n'.repeat(40);
  const { server } = await rig(t, { answer: () => answer, delayMs: 1 });
  const request = rawRequest(streamed(), server.port);
  const last = `GET /health HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\nconnection: close\r\n\r\n`;
  const got = Buffer.from(await exchange(server.port, request + request + last));
  const bodies: string[] = [];
  let at = 0;
  for (let i = 0; i < 2; i++) {
    const head = got.indexOf('\r\n\r\n', at);
    assert.match(got.toString('utf8', at, head), /^HTTP\/1\.1 200 OK\r\n.*transfer-encoding: chunked/is);
    at = head + 4;
    let body = '';
    for (let size = -1; size !== 0; ) {
      const line = got.indexOf('\r\n', at);
      size = Number.parseInt(got.toString('latin1', at, line), 16);
      body += got.toString('utf8', line + 2, line + 2 + size);
      assert.equal(got.toString('latin1', line + 2 + size, line + 4 + size), '\r\n');
      at = line + 4 + size;
    }
    bodies.push(body);
  }
  for (const body of bodies) {
    const events = eventsOf(body);
    assert.equal(events.pop(), '[DONE]');
    assert.equal((events as Chunk[]).map((c) => c.choices[0]!.delta!.content ?? '').join(''), answer);
  }
  assert.match(got.toString('utf8', at), /^HTTP\/1\.1 200 OK.*"status":"ok"/s);
});

test('a client of HTTP/1.0 gets the bare events and the end of the connection', async (t) => {
  const { server } = await rig(t, { answer: () => 'abc' });
  const got = await exchange(server.port, rawRequest(streamed(), server.port).replace('HTTP/1.1', 'HTTP/1.0'));
  const [head, body] = [got.slice(0, got.indexOf('\r\n\r\n')), got.slice(got.indexOf('\r\n\r\n') + 4)];
  assert.doesNotMatch(head, /transfer-encoding/i);
  assert.match(body, /^data: \{/);
  assert.equal(eventsOf(body).at(-1), '[DONE]');
});

test('/abort_request ends a running request of its owner; the stream says so', async (t) => {
  const { post, engine } = await rig(t, { answer: () => 'x'.repeat(10_000), delayMs: 5 });
  const response = await post('/v1/chat/completions', streamed());
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader.read()).value ?? '';
  const id = /"id":"([^"]+)"/.exec(text)![1]!;
  assert.equal((await post('/abort_request', { id: 'chatcmpl-other' })).status, 404);
  assert.equal((await post('/abort_request', { id })).status, 200);
  for (let r = await reader.read(); !r.done; r = await reader.read()) text += r.value;
  const events = eventsOf(text);
  assert.equal((events.at(-2) as Chunk).choices[0]!.finish_reason, 'abort');
  assert.equal(engine.running, 0);
});
