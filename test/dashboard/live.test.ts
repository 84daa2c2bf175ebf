/** The event stream behind the live view: who sees what, how often, and at what cost. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SseParser } from '../../src/dashboard/ui/sse.js';
import type { EngineAbout, LiveMessage } from '../../src/dashboard/wire.js';
import { createServer, type ServerOptions } from '../../src/server/index.js';
import { FakeEngine } from '../support/fake-engine.js';
import { errorOf, until } from '../support/http.js';

class CountingEngine extends FakeEngine {
  snapshots = 0;
  override async snapshot() {
    this.snapshots++;
    return super.snapshot();
  }
}

async function start(t: TestContext, options: ServerOptions = {}) {
  const engine = new CountingEngine();
  const server = await createServer(engine, { serverPort: 0, logLevel: 'silent', ...options });
  t.after(async () => {
    await server.close({ drainMs: 0 });
    await engine.close();
  });
  return { engine, server };
}

/** Events until `enough` says so. */
async function listen(
  url: string,
  enough: (events: { event: string; data: string }[]) => boolean,
  headers: Record<string, string> = {},
): Promise<{ event: string; data: string }[]> {
  const stop = new AbortController();
  const response = await fetch(`${url}/v1/engine/events`, { headers, signal: stop.signal });
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  const parser = new SseParser();
  const decoder = new TextDecoder();
  const events: { event: string; data: string }[] = [];
  for await (const bytes of response.body!) {
    events.push(...parser.push(decoder.decode(bytes, { stream: true })));
    if (enough(events)) break;
  }
  stop.abort();
  return events;
}

const engineEvents = (events: { event: string; data: string }[]): LiveMessage[] =>
  events.filter((e) => e.event === 'engine').map((e) => JSON.parse(e.data) as LiveMessage);

test('a listener gets the whole picture, then ticks while nothing changes, then the change', async (t) => {
  const { engine, server } = await start(t);
  const events = await listen(server.url, (so_far) => {
    if (so_far.length === 3) void engine.chat({ messages: [{ role: 'user', content: 'x' }], sessionId: 's' });
    return engineEvents(so_far).some((m) => m.kind === 'change' && m.sequences.length > 0);
  });
  assert.equal(events[0]!.event, 'engine');
  assert.deepEqual(
    events.slice(1, 3).map((e) => e.event),
    ['tick', 'tick'],
  );
  const [whole, ...changes] = engineEvents(events);
  assert.equal(whole!.kind, 'whole');
  assert.equal(whole!.blocks, 3);
  assert.ok(changes.some((m) => m.sequences.some((q) => q[1] === 's' && q[2] === 1)));
});

test('all listeners share one poller, about four pictures a second; without listeners it rests', async (t) => {
  const { engine, server } = await start(t);
  await sleep(400);
  assert.equal(engine.snapshots, 0);
  const begun = performance.now();
  await Promise.all([1, 2, 3, 4].map(() => listen(server.url, (e) => e.length >= 5)));
  const seconds = (performance.now() - begun) / 1000;
  assert.ok(engine.snapshots <= 4 * seconds + 3, `${engine.snapshots} snapshots in ${seconds} s`);
  await sleep(100);
  const after = engine.snapshots;
  await sleep(600);
  assert.ok(engine.snapshots <= after + 1);
});

test('names of sessions belong to their key; that there are sessions does not', async (t) => {
  const { engine, server } = await start(t, { apiKeys: ['anna', 'ben'] });
  const anna = { authorization: 'Bearer anna' };
  const messages = [{ role: 'user', content: 'x' }];
  await fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...anna },
    body: JSON.stringify({ messages, session_id: 'diary' }),
  });
  assert.equal(engine.kept.size, 1);
  const seen = async (headers: Record<string, string>) =>
    engineEvents(await listen(server.url, (e) => e.length > 0, headers))[0]!.sequences;
  const [hers] = await seen(anna);
  const [his] = await seen({ authorization: 'Bearer ben' });
  assert.deepEqual(hers!.slice(1, 3), ['diary', 1]);
  assert.deepEqual(his!.slice(1, 3), [null, 0]);
  assert.equal(hers![4], his![4], 'the counts are the same');
  for (const path of ['/v1/engine', '/v1/engine/events']) {
    assert.equal((await fetch(server.url + path)).status, 401, `${path} needs a key`);
  }
  assert.equal((await fetch(server.url)).status, 200, 'the page itself does not: it asks for the key');
});

test('the listeners are bounded', async (t) => {
  const { server } = await start(t);
  const stop = new AbortController();
  t.after(() => stop.abort());
  // who lets go of a response has his connection closed when it is collected
  const listening: Response[] = [];
  while (listening.length < 32) listening.push(await fetch(`${server.url}/v1/engine/events`, { signal: stop.signal }));
  const refused = await fetch(`${server.url}/v1/engine/events`);
  assert.deepEqual([refused.status, ...new Set(listening.map((r) => r.status))], [429, 200]);
  assert.equal((await errorOf(refused)).code, 'too_many_listeners');
});

test('a reader who takes nothing is cut off and holds up nobody', async (t) => {
  const { engine, server } = await start(t, { timing: { stallMs: 2_000 } });
  // a picture that no socket buffer holds
  const text = 'x'.repeat(200);
  for (let i = 0; i < 1000; i++) {
    void engine.chat({ messages: [{ role: 'user', content: text }], sessionId: `${i}-${'long name '.repeat(400)}` });
  }
  await until('all have been answered', () => engine.kept.size === 1000, 30_000);
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write('GET /v1/engine/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
  socket.pause();
  let closed = false;
  socket.on('close', () => {
    closed = true;
  });
  const events = await listen(server.url, (e) => e.length >= 4);
  assert.equal(events.length, 4, 'another listener is served meanwhile');
  await sleep(3_000);
  socket.resume();
  await until('the stalled one is closed', () => closed);
});

test('streams end when the server drains', async (t) => {
  const { server } = await start(t);
  const response = await fetch(`${server.url}/v1/engine/events`);
  const text = response.text();
  const begun = performance.now();
  await server.close({ drainMs: 10_000 });
  assert.match(await text, /^event: engine/);
  assert.ok(performance.now() - begun < 3_000, 'a page that watches does not hold up a drain');
});

test('an engine that fails is reported, and followed again when it recovers', async (t) => {
  const { engine, server } = await start(t);
  engine.broken = true;
  const events = await listen(server.url, (e) => {
    engine.broken = false;
    return e.some((x) => x.event === 'engine');
  });
  assert.equal(events[0]!.event, 'problem');
  assert.match(events[0]!.data, /the worker is gone/);
});

test('GET /v1/engine says what is running, and nothing about the machine’s folders', async (t) => {
  const { engine, server } = await start(t, { servedModelName: 'called-so' });
  const about = (await (await fetch(`${server.url}/v1/engine`)).json()) as EngineAbout;
  assert.equal(about.servedModelName, 'called-so');
  assert.deepEqual(about.memory, engine.info.memory);
  assert.ok(!JSON.stringify(about).includes('/nowhere'));
});
