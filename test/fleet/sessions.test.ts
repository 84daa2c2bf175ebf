/** Two servers on one session store: a conversation goes on at either of them, and one answer stands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startPostgres, startRedis } from '../../bench/store-servers.js';
import { ask, fleet, say, textOf } from '../support/fleet.js';
import { memoServer } from '../support/memo-server.js';

const CHAT = '/v1/chat/completions';
const turns = [
  'My name is Anna and I live in Vilnius.',
  'My locker code is 48213.',
  'Where do I live?',
  'What is my locker code?',
];

for (const [name, start] of [
  ['Redis', startRedis],
  ['PostgreSQL', startPostgres],
] as const) {
  test(`a conversation that goes to and fro over ${name} is that of one server`, async (t) => {
    const { replicas } = await fleet(t, 2, start);
    await using alone = await memoServer({ threads: 1 });
    for (const [i, turn] of turns.entries()) {
      const body = { session_id: 'anna', session_append: i > 0, temperature: 0, messages: say(turn) };
      const answer = await replicas[i % 2]!.ask(CHAT, body);
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      const expected = await ask(alone.url, CHAT, body);
      assert.equal(textOf(answer), textOf(expected));
      assert.equal(answer.body.usage.prompt_tokens, expected.body.usage.prompt_tokens);
    }
    const tokens = await Promise.all(replicas.map((r) => r.engine.sessions.tokens('anna')));
    assert.deepEqual(tokens[0], tokens[1]);
    assert.deepEqual(tokens[0], await alone.engine.sessions.tokens('anna'));
    assert.deepEqual(
      (await replicas[0]!.get('/v1/sessions')).body.data.map((s: { id: string }) => s.id),
      ['anna'],
    );
    // KV of what came before is here, though the last turn was said elsewhere
    const again = await replicas[0]!.ask(CHAT, { session_id: 'anna', session_append: true, messages: say(turns[0]!) });
    assert.ok(again.body.usage.prompt_tokens_details.cached_tokens > 60, JSON.stringify(again.body.usage));
  });
}

test('an appended turn that is said again with the length before it stands once, on any server', async (t) => {
  const { replicas } = await fleet(t);
  await using alone = await memoServer({ threads: 1 });
  const one = { ask: (path: string, body: object) => ask(alone.url, path, body), engine: alone.engine };
  for (const servers of [replicas, [one, one]]) {
    const id = { session_id: 'anna', temperature: 0 };
    const say1 = (i: number, length: number, text: string) =>
      servers[i]!.ask(CHAT, { ...id, session_append: true, session_length: length, messages: say(text) });
    const first = await say1(0, 0, turns[0]!);
    const again = await say1(1, 0, turns[0]!);
    assert.deepEqual([textOf(again), again.body.usage.total_tokens], [textOf(first), first.body.usage.total_tokens]);
    const { total_tokens: length } = first.body.usage;
    const second = await say1(1, length, turns[1]!);
    const retried = await say1(0, length, turns[1]!);
    assert.deepEqual(
      [textOf(retried), retried.body.usage.total_tokens],
      [textOf(second), second.body.usage.total_tokens],
    );
    const { total_tokens: total } = retried.body.usage;
    assert.equal((await servers[1]!.engine.sessions.get('anna')).tokens, total);
    assert.match(textOf(await say1(1, total, turns[3]!)), /48213/);
    // a turn that is not there
    const tooFar = await say1(0, total + 1000, turns[3]!);
    assert.deepEqual([tooFar.status, tooFar.body.error.param], [400, 'session_length']);
    const none = await servers[0]!.ask(CHAT, {
      ...{ ...id, session_id: 'nobody', session_append: true, session_length: 1, messages: say('Hello.') },
    });
    assert.deepEqual([none.status, none.body.error.param], [400, 'session_length']);
  }
});

test('a response is gone on from, branched from, listed and deleted on another server', async (t) => {
  const { replicas } = await fleet(t);
  const [a, b] = replicas as [(typeof replicas)[0], (typeof replicas)[0]];
  const ask = (r: typeof a, input: string, previous?: string) =>
    r.ask('/v1/responses', { input, temperature: 0, previous_response_id: previous });
  const said = (r: { body: { output: { content: { text: string }[] }[] } }) => r.body.output[0]!.content[0]!.text;
  const first = await ask(a, 'My name is Anna and I live in Vilnius.');
  assert.equal(first.status, 200, JSON.stringify(first.body));
  const second = await ask(b, 'My locker code is 48213.', first.body.id);
  const other = await ask(a, 'My locker code is 99001.', first.body.id);
  assert.match(said(await ask(a, 'What is my locker code?', second.body.id)), /48213/);
  assert.match(said(await ask(b, 'What is my locker code?', other.body.id)), /99001/);
  assert.deepEqual((await b.get(`/v1/responses/${first.body.id}`)).body.output, first.body.output);
  const items = await b.get(`/v1/responses/${second.body.id}/input_items?order=asc`);
  assert.equal(items.body.data.length, 3);
  assert.equal((await b.delete(`/v1/responses/${second.body.id}`)).status, 200);
  assert.equal((await a.get(`/v1/responses/${second.body.id}`)).status, 404);
  assert.equal((await ask(a, 'Hello?', second.body.id)).status, 404);
  assert.match(said(await ask(a, 'Where do I live?', first.body.id)), /Vilnius/);
});

test('fork, truncate and delete are seen by every server', async (t) => {
  const { replicas } = await fleet(t);
  const [a, b] = replicas as [(typeof replicas)[0], (typeof replicas)[0]];
  await a.ask(CHAT, { session_id: 'anna', temperature: 0, messages: say('My locker code is 48213.') });
  const { tokens } = await b.engine.sessions.get('anna');
  const fork = await b.ask('/v1/sessions/anna/fork', { id: 'anna-2' });
  assert.deepEqual([fork.status, fork.body.tokens, fork.body.forked_from], [200, tokens, { id: 'anna', tokens }]);
  const ask = (r: typeof a, id: string, text: string) =>
    r.ask(CHAT, { session_id: id, session_append: true, temperature: 0, messages: say(text) });
  await ask(a, 'anna-2', 'Actually, my locker code is 99001.');
  assert.match(textOf(await ask(b, 'anna-2', 'What is my locker code?')), /99001/);
  assert.match(textOf(await ask(b, 'anna', 'What is my locker code?')), /48213/);
  assert.equal((await a.ask('/v1/sessions/anna/truncate', { length: tokens })).status, 200);
  assert.equal((await b.get('/v1/sessions/anna')).body.tokens, tokens);
  assert.equal((await a.delete('/v1/sessions/anna')).status, 200);
  assert.equal((await b.get('/v1/sessions/anna')).status, 404);
  // what b has a copy of is gone too
  assert.doesNotMatch(textOf(await ask(b, 'anna', 'What is my locker code?')), /48213/);
});

test('a conversation of the Responses API is that of every server, and is changed by one at a time', async (t) => {
  const { replicas } = await fleet(t);
  const [a, b] = replicas as [(typeof replicas)[0], (typeof replicas)[0]];
  const { body: made } = await a.ask('/v1/conversations', { metadata: { of: 'anna' } });
  const path = `/v1/conversations/${made.id}`;
  const respond = (r: typeof a, input: string, more = {}) =>
    r.ask('/v1/responses', { input, conversation: made.id, temperature: 0, ...more });
  const said = (r: { body: { output: { content: { text: string }[] }[] } }) => r.body.output[0]!.content[0]!.text;
  assert.equal((await respond(a, 'My name is Anna and I live in Vilnius.')).status, 200);
  await respond(b, 'My locker code is 48213.');
  const asked = await respond(a, 'What is my locker code?');
  assert.match(said(asked), /48213/);
  // not computed anew: it goes on from the response before
  assert.ok(asked.body.usage.input_tokens_details.cached_tokens > 20, JSON.stringify(asked.body.usage));
  const items = await b.get(`${path}/items?order=asc`);
  assert.equal(items.body.data.length, 6);
  assert.deepEqual((await b.get(path)).body.metadata, { of: 'anna' });

  const long = { max_output_tokens: 200 };
  const both = await Promise.all([respond(a, 'Hello.', long), respond(b, 'Hello.', long)]);
  assert.deepEqual(both.map((r) => r.status).sort(), [200, 409]);
  const locked = both.find((r) => r.status === 409)!;
  assert.equal(locked.body.error.code, 'conversation_locked');
  assert.match(locked.headers.get('retry-after')!, /^[1-9]\d*$/);
  assert.equal((await a.get(`${path}/items?limit=100`)).body.data.length, 8);

  const first = items.body.data[0].id;
  assert.equal((await b.delete(`${path}/items/${first}`)).status, 200);
  assert.equal((await a.get(`${path}/items/${first}`)).status, 404);
  assert.equal((await a.ask(path, { metadata: { of: 'ben' } })).status, 200);
  assert.deepEqual((await b.get(path)).body.metadata, { of: 'ben' });
  assert.equal((await b.delete(path)).status, 200);
  assert.equal((await a.get(path)).status, 404);
  assert.equal((await respond(a, 'Hello.')).status, 404);
});

test('as many formats at once as the engine does not keep are all there when their sessions are', async (t) => {
  const { replicas } = await fleet(t, 1);
  const all = await Promise.all(
    Array.from({ length: 24 }, (_, i) =>
      replicas[0]!.ask(CHAT, {
        ...{ session_id: `s${i}`, messages: say('Hello.'), max_tokens: 40, temperature: 0 },
        response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { const: `answer ${i}` } } },
      }),
    ),
  );
  all.forEach((answer, i) => {
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    assert.equal(textOf(answer), JSON.stringify(`answer ${i}`));
  });
});
