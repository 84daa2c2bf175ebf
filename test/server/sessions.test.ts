import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorOf, rig } from '../support/http.js';

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
    { id: 'a/b c', object: 'session', state: 'cached', tokens: 7, cached_tokens: 7, last_used: 0 },
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
