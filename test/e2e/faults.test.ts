/**
 * What may go wrong goes wrong, in the real server process with a real model; it goes on serving, nothing is left over,
 * and sessions continue with the answers that they would have had.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Chunk, errorOf, eventsOf } from '../support/http.js';
import { type ServerProcess, serve, withoutModel } from '../support/server-process.js';

const skip = withoutModel;
const long = { prompt: 'Once upon a time', max_tokens: 3000, ignore_eos: true, temperature: 0 };

interface Message {
  role: string;
  content: string;
}
const user = (content: string): Message => ({ role: 'user', content });

async function chat(server: ServerProcess, messages: Message[], more: Record<string, unknown> = {}): Promise<string> {
  const body = { messages, temperature: 0, max_tokens: 24, ...more };
  const response = await server.post('/v1/chat/completions', body);
  assert.equal(response.status, 200, `${server.stderr()}`);
  const answer = (await response.json()) as { choices: { message: { content: string } }[] };
  return answer.choices[0]!.message.content;
}

/** Resolves when the text of a stream has come so far. */
async function started(response: Response): Promise<() => Promise<string>> {
  assert.equal(response.status, 200);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader.read()).value ?? '';
  return async () => {
    for (let r = await reader.read(); !r.done; r = await reader.read()) text += r.value;
    return text;
  };
}

async function until(what: string, probe: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 20_000;
  while (!(await probe())) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const idle = async (server: ServerProcess) =>
  (await server.metric('longmind_kv_blocks{state="active"}')) === 0 &&
  (await server.metric('longmind_requests{state="waiting"}')) === 0;

/** The session goes on with the answer that the whole history gets, in a request of its own. */
async function continues(server: ServerProcess, history: Message[], id: string): Promise<void> {
  const turn = [...history, user('And what then?')];
  assert.equal(await chat(server, turn, { session_id: id }), await chat(server, turn));
}

async function withHistory(t: TestContext): Promise<{ server: ServerProcess; history: Message[] }> {
  const server = await serve(t);
  const first = [user('Tell me of a boat on a river.')];
  const answer = await chat(server, first, { session_id: 'kept' });
  return { server, history: [...first, { role: 'assistant', content: answer }] };
}

/** A stream and a plain request are running; both fail with this code when `cause` happens, and the engine goes on. */
async function fails(t: TestContext, fault: string, code: string): Promise<void> {
  const { server, history } = await withHistory(t);
  const stream = await started(await server.post('/v1/completions', { ...long, stream: true }));
  const plain = server.post('/v1/completions', { ...long, prompt: 'Another story' });
  await until('both run', async () => (await server.metric('longmind_requests{state="running"}')) === 2);
  server.fault(fault);
  const response = await plain;
  assert.deepEqual([response.status, (await errorOf(response)).code], [500, code]);
  const events = eventsOf(await stream());
  assert.equal(events.at(-1), '[DONE]');
  assert.equal((events.at(-2) as Chunk).error?.code, code);
  assert.ok((events as Chunk[]).slice(0, -2).every((e) => !e.choices[0]!.finish_reason));
  assert.equal((await server.get('/ready')).status, 200);
  await continues(server, history, 'kept');
  await until('nothing is left', () => idle(server));
}

test(
  'the engine throws in the middle of a step: its requests fail with 500, it restarts, sessions continue',
  { skip },
  (t) => fails(t, 'commit-throws', 'engine_failed'),
);

/** Requests of which one is bad; of each the status and the text. */
async function together(server: ServerProcess, n: number): Promise<{ status: number; text: string; code: string }[]> {
  return Promise.all(
    Array.from({ length: n }, async (_, i) => {
      const response = await server.post('/v1/completions', {
        ...long,
        prompt: `Story ${i} of a boat`,
        max_tokens: 200,
      });
      const body = (await response.json()) as { choices?: { text: string }[]; error?: { code: string } };
      return { status: response.status, text: body.choices?.[0]?.text ?? '', code: body.error?.code ?? '' };
    }),
  );
}

test('the native device refuses a step once: it is run row by row, and nobody notices', { skip }, async (t) => {
  const server = await serve(t);
  const undisturbed = await together(server, 4);
  const answers = together(server, 4);
  await until('all run', async () => (await server.metric('longmind_requests{state="running"}')) === 4);
  server.fault('bad-step');
  assert.deepEqual(await answers, undisturbed);
  assert.equal(await server.metric('longmind_requests_total{outcome="failed"}'), 0);
  await until('nothing is left', () => idle(server));
});

test('one request makes the native device refuse every step it is in: it gets 500, the others their answers', {
  skip,
}, async (t) => {
  const { server, history } = await withHistory(t);
  const undisturbed = await together(server, 4);
  const answers = together(server, 4);
  await until('all run', async () => (await server.metric('longmind_requests{state="running"}')) === 4);
  server.fault('bad-row');
  const got = await answers;
  const bad = got.filter((a) => a.status !== 200);
  assert.deepEqual(
    bad.map((a) => [a.status, a.code]),
    [[500, 'native_error']],
  );
  got.forEach((a, i) => {
    if (a.status === 200) assert.deepEqual(a, undisturbed[i]);
  });
  await continues(server, history, 'kept');
  await until('nothing is left', () => idle(server));
});

test('an id beyond the vocabulary gets 400 with the name of its field, and other requests run on', {
  skip,
}, async (t) => {
  const server = await serve(t);
  const other = server.post('/v1/completions', { ...long, max_tokens: 300 });
  for (const [param, more] of [
    ['logit_bias', { logit_bias: { 999999: 5 } }],
    ['stop_token_ids', { stop_token_ids: [999999], min_tokens: 5 }],
  ] as const) {
    const response = await server.post('/v1/completions', { ...long, ...more });
    const error = await errorOf(response);
    assert.deepEqual([response.status, error.param, error.code], [400, param, 'invalid_request']);
    assert.match(error.message, /999999.*vocabulary/);
  }
  assert.equal((await other).status, 200);
});

test('the engine throws outside of a step: what runs fails, it restarts, sessions continue', { skip }, async (t) => {
  const { server, history } = await withHistory(t);
  const gone = new AbortController();
  await started(await server.post('/v1/completions', { ...long, stream: true }, gone.signal));
  const plain = server.post('/v1/completions', { ...long, prompt: 'Another story' });
  await until('both run', async () => (await server.metric('longmind_requests{state="running"}')) === 2);
  server.fault('abort-throws');
  gone.abort();
  const response = await plain;
  assert.deepEqual([response.status, (await errorOf(response)).code], [500, 'engine_failed']);
  assert.match(server.stderr(), /broken on purpose/);
  await continues(server, history, 'kept');
  await until('nothing is left', () => idle(server));
});

test('the engine throws and cannot be made anew: its thread is, and kept sessions come back', { skip }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'longmind-store-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const server = await serve(t, { argv: ['--session-store', dir] });
  const first = [user('Tell me of a boat on a river.')];
  const content = await chat(server, first, { session_id: 'kept' });
  server.fault('rebuild-throws');
  for (let i = 0; i < 3; i++) {
    const stream = await started(await server.post('/v1/completions', { ...long, stream: true }));
    server.fault('commit-throws');
    const events = eventsOf(await stream());
    assert.equal((events.at(-2) as Chunk).error?.code, 'engine_failed');
    assert.equal((await server.get('/ready')).status, 200);
  }
  await continues(server, [...first, { role: 'assistant', content }], 'kept');
  assert.match(server.stderr(), /started anew \(cannot be made anew\).*sessions come back/);
  await until('nothing is left', () => idle(server));

  // not without end: what fails again and again has failed
  const stream = await started(await server.post('/v1/completions', { ...long, stream: true }));
  server.fault('commit-throws');
  await stream();
  const refused = await server.post('/v1/completions', long);
  const error = await errorOf(refused);
  assert.deepEqual([refused.status, error.code], [500, 'engine_failed']);
  assert.match(error.message, /ended 4 times within a minute.*cannot be made anew/);
  assert.equal((await server.get('/ready')).status, 500);
  server.child.kill('SIGTERM');
  assert.equal(await server.ended, 0);
});

test('a client process dies in the middle of its stream: its blocks are free, others do not notice', {
  skip,
}, async (t) => {
  const server = await serve(t);
  const script = `
    const response = await fetch('${server.url}/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: ${JSON.stringify(JSON.stringify({ ...long, stream: true }))},
    });
    for await (const _ of response.body) process.stdout.write('.');`;
  const client = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => client.kill('SIGKILL'));
  await new Promise((resolve) => client.stdout.once('data', resolve));
  const other = server.post('/v1/completions', { ...long, max_tokens: 100 });
  client.kill('SIGKILL');
  assert.equal((await other).status, 200);
  await until('nothing is left', () => idle(server));
  assert.equal(await server.metric('longmind_requests_total{outcome="aborted"}'), 1);
  assert.equal(await server.metric('longmind_requests_total{outcome="finished"}'), 1);
});

test('the disk of the session store is full: it is told, and serving goes on', { skip }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'longmind-store-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const server = await serve(t, { argv: ['--session-store', dir], fileLimit: 16 * 1024 });
  const health = async () => (await (await server.get('/health')).json()) as { status: string; problems?: string[] };
  assert.deepEqual(await health(), { status: 'ok' });
  const text = user('A long story of a river, a boat and a town. '.repeat(60));
  let turns = 0;
  await until('the disk is full', async () => {
    await chat(server, [text, user(`Part ${turns}`)], { session_id: `s${turns++}`, max_tokens: 2 });
    return (await health()).status === 'degraded';
  });
  assert.equal(await server.metric('longmind_session_store_failed'), 1);
  assert.equal((await server.get('/ready')).status, 200);
  assert.equal((await health()).problems!.length, 1);
  assert.match(server.stderr(), /session store.*(EFBIG|too large|only a part).*serving goes on/);
  // the sessions of this process are as good as ever
  const history = [text, user('Part 0')];
  const answer = await chat(server, history, { session_id: 's0', max_tokens: 8 });
  await continues(server, [...history, { role: 'assistant', content: answer }], 's0');
  server.child.kill('SIGTERM');
  assert.equal(await server.ended, 0);
});

test('SIGTERM during a generation: it finishes, what is new gets 503, the process ends with 0', { skip }, async (t) => {
  const server = await serve(t, { argv: ['--drain-seconds', '120'] });
  const stream = await started(await server.post('/v1/completions', { ...long, max_tokens: 3500, stream: true }));
  const plain = server.post('/v1/completions', { ...long, max_tokens: 3000 });
  await until('both run', async () => (await server.metric('longmind_requests{state="running"}')) === 2);
  server.child.kill('SIGTERM');
  await until('it drains', async () => (await server.get('/ready')).status === 503);
  const refused = await server.post('/v1/completions', long);
  assert.deepEqual([refused.status, (await errorOf(refused)).code], [503, 'engine_closed']);
  assert.equal((await server.get('/health')).status, 200);
  assert.match(await stream(), /"finish_reason":"length"\}\]\}\n\ndata: \[DONE\]\n\n$/);
  const { usage } = (await (await plain).json()) as { usage: { completion_tokens: number } };
  assert.equal(usage.completion_tokens, 3000);
  assert.equal(await server.ended, 0);
});

test('SIGTERM during a generation that takes too long: it ends with an error when the time is over', {
  skip,
}, async (t) => {
  const server = await serve(t, { argv: ['--drain-seconds', '1'] });
  // slow, since there are many
  const many = { ...long, max_tokens: 3000, n: 16, stream: true };
  const stream = await started(await server.post('/v1/completions', many));
  server.child.kill('SIGTERM');
  const events = eventsOf(await stream());
  assert.equal((events.at(-2) as Chunk).error?.code, 'engine_closed');
  assert.equal(await server.ended, 0);
});

test('kill -9 during a turn, and a restart: the session continues with the answer of a server that was never killed', {
  skip,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'longmind-store-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const argv = ['--session-store', dir];
  const turns = ['Tell me of a boat.', 'Who was in it?', 'And what then?'].map(user);
  const ask = async (server: ServerProcess, turn: Message) =>
    chat(server, [turn], { session_id: 'story', session_append: true });

  const killed = await serve(t, { argv });
  const heard = [await ask(killed, turns[0]!), await ask(killed, turns[1]!)];
  const other = { ...long, session_id: 'other', stream: true };
  await started(await killed.post('/v1/completions', other));
  killed.child.kill('SIGKILL');
  assert.equal(await killed.ended, 'SIGKILL');

  const restarted = await serve(t, { argv });
  const session = (await (await restarted.get('/v1/sessions/story')).json()) as {
    state: string;
    cached_tokens: number;
  };
  assert.deepEqual([session.state, session.cached_tokens], ['evicted', 0]);
  heard.push(await ask(restarted, turns[2]!));

  const undisturbed = await serve(t);
  const whole: string[] = [];
  for (const turn of turns) whole.push(await ask(undisturbed, turn));
  assert.deepEqual(heard, whole);
});
