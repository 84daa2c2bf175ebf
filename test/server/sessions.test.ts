import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorOf, hello, rig } from '../support/http.js';

interface Completion {
  choices: { message: { content: string } }[];
  usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
}

const user = (content: string) => ({ role: 'user', content });

test('a session with the full history reports what was cached; session_append sends only the new turn', async (t) => {
  const { post, engine } = await rig(t, { answer: () => 'assistant: fine\n' });
  const chat = async (fields: Record<string, unknown>) =>
    (await (await post('/v1/chat/completions', { session_id: 's', ...fields })).json()) as Completion;
  const first = await chat({ messages: [user('one')] });
  assert.equal(first.usage.prompt_tokens_details.cached_tokens, 0);
  const second = await chat({ messages: [user('one'), { role: 'assistant', content: 'fine' }, user('two')] });
  assert.equal(second.usage.prompt_tokens_details.cached_tokens, 'user: one\nassistant: fine\n'.length);
  const third = await chat({ messages: [user('three')], session_append: true });
  assert.ok(third.usage.prompt_tokens_details.cached_tokens > second.usage.prompt_tokens);
  assert.equal(engine.calls[2]!.request.sessionAppend, true);
});

test('sessions: list, get, tokens, fork, truncate, delete', async (t) => {
  const { post, get, server } = await rig(t, { answer: () => 'ok' });
  await post('/v1/completions', { prompt: 'hello', session_id: 'a/b c' });
  const path = `/v1/sessions/${encodeURIComponent('a/b c')}`;
  const info = (await (await get(path)).json()) as Record<string, unknown>;
  assert.deepEqual(
    { ...info, last_used: 0 },
    { id: 'a/b c', object: 'session', state: 'cached', tokens: 7, cached_tokens: 7, last_used: 0, forked_from: null },
  );
  const tokens = (await (await get(`${path}/tokens`)).json()) as { tokens: number[] };
  assert.equal(String.fromCharCode(...tokens.tokens), 'hellook');
  const fork = (await (await post(`${path}/fork`, { id: 'copy', length: 5 })).json()) as { id: string; tokens: number };
  assert.deepEqual([fork.id, fork.tokens], ['copy', 5]);
  const cut = (await (await post('/v1/sessions/copy/truncate', { length: 2 })).json()) as { tokens: number };
  assert.equal(cut.tokens, 2);
  const list = (await (await get('/v1/sessions')).json()) as { data: { id: string }[] };
  assert.deepEqual(list.data.map((s) => s.id).sort(), ['a/b c', 'copy']);
  const gone = await fetch(server.url + path, { method: 'DELETE' });
  assert.deepEqual(await gone.json(), { id: 'a/b c', object: 'session', deleted: true });
  const missing = await get(path);
  assert.deepEqual([missing.status, (await errorOf(missing)).code], [404, 'session_not_found']);
});

test('bad session requests are refused by name', async (t) => {
  const { post } = await rig(t);
  await post('/v1/completions', { prompt: 'x', session_id: 's' });
  const cases: [string, unknown, string][] = [
    ['/v1/sessions/s/truncate', {}, 'length'],
    ['/v1/sessions/s/truncate', { length: -1 }, 'length'],
    ['/v1/sessions/s/truncate', { length: 1e6 }, 'length'],
    ['/v1/sessions/s/fork', { id: '' }, 'id'],
    ['/v1/sessions/s/fork', { id: 'x', other: 1 }, 'other'],
    ['/v1/completions', { prompt: ['a', 'b'], session_id: 's' }, 'session_id'],
    ['/v1/completions', { prompt: 'a', session_id: 'x'.repeat(257) }, 'session_id'],
  ];
  for (const [path, body, param] of cases) {
    const response = await post(path, body);
    assert.deepEqual([response.status, (await errorOf(response)).param], [400, param], path + JSON.stringify(body));
  }
});

test('a session is created by name, found, forked, emptied and deleted before it is used', async (t) => {
  const { post, get, url } = await rig(t, {}, { apiKeys: ['a', 'b'] });
  const as = (key: string) => ({ authorization: `Bearer ${key}` });
  const created = await post('/v1/sessions', { id: 'plan' }, as('a'));
  assert.equal(created.status, 200);
  const session = (await created.json()) as Record<string, unknown>;
  assert.deepEqual([session.id, session.object, session.state, session.tokens], ['plan', 'session', 'new', 0]);
  assert.deepEqual(await (await post('/v1/sessions', { id: 'plan' }, as('a'))).json(), session);
  assert.deepEqual(await (await get('/v1/sessions/plan', as('a'))).json(), session);
  assert.equal((await get('/v1/sessions/plan', as('b'))).status, 404);
  assert.deepEqual(await (await get('/v1/sessions/plan/tokens', as('a'))).json(), { tokens: [], count: 0 });
  assert.equal((await post('/v1/sessions/plan/truncate', { length: 0 }, as('a'))).status, 200);
  assert.equal((await post('/v1/sessions/plan/truncate', { length: 1 }, as('a'))).status, 400);
  assert.equal((await post('/v1/sessions/plan/fork', { id: 'copy' }, as('a'))).status, 200);
  const names = async (key: string) => {
    const list = (await (await get('/v1/sessions', as(key))).json()) as { data: { id: string }[] };
    return list.data.map((s) => s.id);
  };
  assert.deepEqual(await names('a'), ['plan', 'copy']);
  assert.deepEqual(await names('b'), []);
  await post('/v1/chat/completions', { messages: hello, session_id: 'plan' }, as('a'));
  const used = (await (await get('/v1/sessions/plan', as('a'))).json()) as { state: string; tokens: number };
  assert.ok(used.state === 'cached' && used.tokens > 0);
  // what is there stays as it is
  const again = (await (await post('/v1/sessions', { id: 'plan' }, as('a'))).json()) as { tokens: number };
  assert.equal(again.tokens, used.tokens);
  for (const id of ['plan', 'copy']) {
    const forget = () => fetch(`${url}/v1/sessions/${id}`, { method: 'DELETE', headers: as('a') });
    assert.equal((await forget()).status, 200);
    assert.equal((await forget()).status, 404);
  }
  const { id } = (await (await post('/v1/sessions', {}, as('a'))).json()) as { id: string };
  assert.match(id, /^sess-[0-9a-f-]{36}$/);
});

test('a name that is no well-formed text is refused wherever one is given', async (t) => {
  const { post } = await rig(t, { answer: () => 'ok' });
  await post('/v1/completions', { prompt: 'hello', session_id: 'good' });
  for (const name of ['\\ud800', 'a\\udc00b']) {
    for (const [path, body] of [
      ['/v1/sessions', `{"id":"${name}"}`],
      ['/v1/sessions/good/fork', `{"id":"${name}"}`],
      ['/v1/completions', `{"prompt":"x","session_id":"${name}"}`],
      ['/v1/chat/completions', `{"messages":[{"role":"user","content":"x"}],"session_id":"${name}"}`],
    ] as const) {
      const response = await post(path, body);
      assert.equal(response.status, 400, path);
      assert.match((await errorOf(response)).message, /well-formed/);
    }
  }
});
