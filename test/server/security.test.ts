import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import { createServer } from '../../src/server/index.js';
import { FakeEngine } from '../support/fake-engine.js';
import { errorOf, hello, rig } from '../support/http.js';

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const code = (expected: string) => (e: unknown) => e instanceof LongmindError && e.code === expected;

test('other addresses than loopback need API keys, or the explicit option', async (t) => {
  const engine = new FakeEngine();
  for (const serverName of ['0.0.0.0', '::', '10.0.0.1', 'example.org'])
    await assert.rejects(createServer(engine, { serverName, serverPort: 0 }), code('remote_without_key'));
  for (const more of [{ apiKeys: ['k'] }, { allowRemoteWithoutKey: true }]) {
    const { get } = await rig(t, {}, { serverName: '0.0.0.0', ...more });
    assert.equal((await get('/health')).status, 200);
  }
});

test('a port in use and unknown options are typed errors', async (t) => {
  const { server } = await rig(t);
  const engine = new FakeEngine();
  await assert.rejects(createServer(engine, { serverPort: server.port }), code('port_in_use'));
  const misspelt = { serverprt: 1 } as Record<string, number>;
  await assert.rejects(createServer(engine, misspelt), /unknown option 'serverprt'; did you mean 'serverPort'/);
  await assert.rejects(createServer(engine, { serverPort: 70_000 }), code('invalid_option'));
  await assert.rejects(createServer(engine, { serverPort: 0, apiKeys: ['a', 'a'] }), code('invalid_option'));
});

test('with keys, everything but health, readiness and the API document needs one', async (t) => {
  const { get, post } = await rig(t, {}, { apiKeys: ['alpha', 'beta'] });
  for (const path of ['/v1/models', '/v1/sessions', '/metrics', '/nowhere']) {
    const response = await get(path);
    assert.equal(response.status, 401, path);
    assert.equal(response.headers.get('www-authenticate'), 'Bearer');
    assert.equal((await errorOf(response)).code, 'invalid_api_key');
  }
  for (const bad of ['gamma', 'alph', 'alphaa', '']) assert.equal((await get('/v1/models', bearer(bad))).status, 401);
  for (const good of ['alpha', 'beta']) assert.equal((await get('/v1/models', bearer(good))).status, 200);
  for (const open of ['/health', '/ready', '/openapi.json']) assert.equal((await get(open)).status, 200);
  assert.equal((await post('/v1/chat/completions', { messages: hello })).status, 401);
});

test('sessions and running requests belong to the key that made them', async (t) => {
  const { get, post, server, engine } = await rig(
    t,
    { answer: () => 'x'.repeat(200), delayMs: 5 },
    { apiKeys: ['alpha', 'beta'] },
  );
  const make = { messages: hello, session_id: 's', max_tokens: 2 };
  assert.equal((await post('/v1/chat/completions', make, bearer('alpha'))).status, 200);
  assert.equal((await get('/v1/sessions/s', bearer('alpha'))).status, 200);
  assert.equal((await get('/v1/sessions/s', bearer('beta'))).status, 404);
  assert.deepEqual(((await (await get('/v1/sessions', bearer('beta'))).json()) as { data: unknown[] }).data, []);
  for (const [path, body] of [
    ['/v1/sessions/s/fork', { id: 'mine' }],
    ['/v1/sessions/s/truncate', { length: 1 }],
  ] as const)
    assert.equal((await post(path, body, bearer('beta'))).status, 404);
  const deleted = await fetch(`${server.url}/v1/sessions/s`, { method: 'DELETE', headers: bearer('beta') });
  assert.equal(deleted.status, 404);

  const stream = await post('/v1/chat/completions', { messages: hello, stream: true }, bearer('alpha'));
  const reader = stream.body!.getReader();
  const id = /"id":"([^"]+)"/.exec(new TextDecoder().decode((await reader.read()).value))![1]!;
  assert.equal((await post('/abort_request', { id }, bearer('beta'))).status, 404);
  assert.equal(engine.calls.at(-1)!.generation.aborted, false);
  await reader.cancel();
});

test('the owner of a session follows from its key, not from the order of the keys', async (t) => {
  const ownerOf = async (apiKeys: string[]) => {
    const { post, engine } = await rig(t, {}, { apiKeys });
    await post('/v1/chat/completions', { messages: hello }, bearer('beta'));
    return engine.calls[0]!.request.owner;
  };
  const owner = await ownerOf(['alpha', 'beta']);
  assert.ok(owner! > 0);
  assert.equal(await ownerOf(['beta']), owner);
});

/** fetch() does not let a Host header be set. */
async function statusFor(port: number, headers: Record<string, string>): Promise<number> {
  const r = request({ port, host: '127.0.0.1', path: '/v1/models', headers });
  r.end();
  const [response] = (await once(r, 'response')) as [import('node:http').IncomingMessage];
  response.resume();
  return response.statusCode!;
}

test('a loopback server without keys does not answer to foreign host names (DNS rebinding)', async (t) => {
  const { server } = await rig(t);
  assert.equal(await statusFor(server.port, { host: `evil.example:${server.port}` }), 403);
  for (const host of ['localhost', `127.0.0.1:${server.port}`, `[::1]:${server.port}`])
    assert.equal(await statusFor(server.port, { host }), 200, host);
});

test('CORS is off unless an origin is listed', async (t) => {
  const closed = await rig(t);
  const origin = 'https://app.example';
  assert.equal((await closed.get('/v1/models', { origin })).headers.get('access-control-allow-origin'), null);
  const preflight = {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'content-type',
  };
  const ask = (url: string, headers: Record<string, string>) =>
    fetch(`${url}/v1/chat/completions`, { method: 'OPTIONS', headers });
  assert.equal((await ask(closed.url, preflight)).headers.get('access-control-allow-origin'), null);
  const open = await rig(t, {}, { allowOrigins: [origin], apiKeys: ['k'] });
  const allowed = await ask(open.url, preflight);
  assert.equal(allowed.status, 204);
  assert.equal(allowed.headers.get('access-control-allow-origin'), origin);
  assert.equal(allowed.headers.get('access-control-allow-headers'), 'content-type');
  const other = await ask(open.url, { ...preflight, origin: 'https://evil.example' });
  assert.equal(other.headers.get('access-control-allow-origin'), null);
});

test('a browser form cannot reach the API: bodies other than JSON are refused', async (t) => {
  const { post, engine } = await rig(t);
  const body = JSON.stringify({ messages: hello });
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
    const response = await post('/v1/chat/completions', body, { 'content-type': type });
    assert.deepEqual([response.status, (await errorOf(response)).code], [415, 'unsupported_media_type']);
  }
  assert.equal(engine.calls.length, 0);
});

test('a body over the limit is 413', async (t) => {
  const { post } = await rig(t, {}, { maxBodyBytes: 1024 });
  const response = await post('/v1/completions', { prompt: 'x'.repeat(2000) });
  assert.deepEqual([response.status, (await errorOf(response)).code], [413, 'body_too_large']);
});

async function exchange(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let got = '';
  socket.setEncoding('utf8').on('data', (d) => {
    got += d;
  });
  socket.write(bytes);
  await once(socket, 'close');
  return got;
}

test('bytes that are not HTTP and headers that are too long get a short answer and a closed connection', async (t) => {
  const { server, get } = await rig(t);
  const junk = await exchange(server.port, 'hello?\r\n\r\n');
  assert.match(junk, /^HTTP\/1\.1 400 /);
  assert.equal((JSON.parse(junk.split('\r\n\r\n')[1]!) as { error: { code: string } }).error.code, 'invalid_request');
  const long = await exchange(
    server.port,
    `GET /health HTTP/1.1\r\nhost: localhost\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`,
  );
  assert.match(long, /^HTTP\/1\.1 431 /);
  assert.equal((await get('/health')).status, 200);
});

test('connections over the limit are not served', async (t) => {
  const { server, get } = await rig(t, {}, { maxConnections: 1 });
  const held = connect(server.port, '127.0.0.1');
  t.after(() => held.destroy());
  await once(held, 'connect');
  held.write('GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n');
  await once(held, 'data');
  await assert.rejects(get('/health'));
});

test('a request id from the client is kept if it is harmless', async (t) => {
  const { get } = await rig(t);
  const idFor = async (given: string) => (await get('/health', { 'x-request-id': given })).headers.get('x-request-id');
  assert.equal(await idFor('trace-42'), 'trace-42');
  assert.match((await idFor('a b"c')) ?? '', /^req-/);
});

test('who sends his headers or his body too slowly is answered and closed, also if he never ends his half', async (t) => {
  const { server } = await rig(t, {}, { timing: { headersMs: 1_500, requestMs: 2_500 } });
  const begin = 'POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n';
  for (const [what, start, drop] of [
    ['headers', begin, 'x-more: y\r\n'],
    ['a body', `${begin}content-type: application/json\r\ncontent-length: 1000000\r\n\r\n{`, ' '],
    ['nothing more', `${begin}content-type: application/json\r\ncontent-length: 1000000\r\n\r\n{`, ''],
  ] as const) {
    const socket = connect({ port: server.port, host: '127.0.0.1', allowHalfOpen: true });
    let answer = '';
    socket.on('data', (d) => {
      answer += String(d);
    });
    socket.on('error', () => {});
    const closed = new Promise((resolve) => socket.on('close', resolve));
    const end = new Promise((resolve) => socket.on('end', resolve));
    socket.write(start);
    const drip = setInterval(() => socket.write(drop || ''), 100);
    const ended = await Promise.race([
      (drop ? closed : end).then(() => true),
      new Promise((resolve) => setTimeout(resolve, 15_000, false)),
    ]);
    clearInterval(drip);
    socket.destroy();
    assert.ok(ended, `${what}: the connection stays`);
    assert.match(answer, /^HTTP\/1\.1 408 /, what);
  }
});

test('a priority beyond --max-priority is refused, in both directions', async (t) => {
  const { post, engine } = await rig(t, { answer: () => 'ok' }, { maxPriority: 3 });
  for (const [priority, status] of [
    [3, 200],
    [-3, 200],
    [4, 400],
    [-4, 400],
    [1000, 400],
  ] as const) {
    const response = await post('/v1/completions', { prompt: 'x', priority });
    assert.equal(response.status, status, String(priority));
    if (status === 400) assert.match((await errorOf(response)).message, /from -3 to 3/);
  }
  assert.deepEqual(
    engine.calls.map((c) => c.request.priority),
    [3, -3],
  );
});
