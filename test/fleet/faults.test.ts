/** What becomes of a turn when servers are killed or sleep, and when the store does not answer. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answers, startPostgres, startRedis } from '../../bench/store-servers.js';
import { ask, fleet, say, textOf } from '../support/fleet.js';
import { serve, withoutModel } from '../support/server-process.js';

const CHAT = '/v1/chat/completions';
const options = { skip: withoutModel };

const schema = { type: 'object', properties: { a: { type: 'string', minLength: 3000 } }, required: ['a'] };
const longResponse = {
  ...{ input: 'Say much.', max_output_tokens: 700, temperature: 0 },
  text: { format: { type: 'json_schema', name: 'much', schema } },
};

async function until(come: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await come()); tries++) {
    assert.ok(tries < 1000, 'it does not come');
    await sleep(10);
  }
}

async function processes(t: TestContext) {
  const store = await startRedis();
  t.after(() => store.close());
  const argv = ['--session-store', store.address, '--session-lease', '1', '--threads', '1'];
  return Promise.all([serve(t, { argv }), serve(t, { argv })]);
}

/** A turn that streams for a while: its first token is here when this returns. */
async function longTurn(url: string, id: string) {
  const response = await fetch(url + CHAT, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    // it says nothing that ends it
    body: JSON.stringify({
      ...{ session_id: id, session_append: true, stream: true, temperature: 0, max_tokens: 700, ignore_eos: true },
      messages: say('Tell me a story.'),
    }),
  });
  assert.equal(response.status, 200);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = (await reader.read()).value ?? '';
  return async (): Promise<string> => {
    for (let r = await reader.read(); !r.done; r = await reader.read()) text += r.value;
    return text;
  };
}

test('the same session on two servers at once: one answer stands, the other gets 409', options, async (t) => {
  const { replicas } = await fleet(t);
  const body = { session_id: 'anna', temperature: 0, max_tokens: 200, ignore_eos: true, messages: say('Hello.') };
  const both = await Promise.all(replicas.map((r) => r.ask(CHAT, body)));
  assert.deepEqual(both.map((r) => r.status).sort(), [200, 409]);
  const [won] = both.filter((r) => r.status === 200);
  const [lost] = both.filter((r) => r.status === 409);
  assert.equal(lost!.body.error.code, 'session_busy');
  assert.match(lost!.headers.get('retry-after')!, /^[1-9]\d*$/);
  const { total_tokens: total } = won!.body.usage;
  for (const r of replicas) assert.equal((await r.engine.sessions.tokens('anna')).length, total);
});

test('a server that slept through the end of its lease: one answer stands, its own is an error', options, async (t) => {
  const [paused, other] = await processes(t);
  const first = { session_id: 'anna', temperature: 0, messages: say('My locker code is 48213.') };
  assert.equal((await ask(paused!.url, CHAT, first)).status, 200);
  const rest = await longTurn(paused!.url, 'anna');
  paused!.child.kill('SIGSTOP');
  const question = { ...first, session_append: true, messages: say('What is my locker code?') };
  let answer = await ask(other!.url, CHAT, question);
  // until the lease has ended
  while (answer.status === 409) {
    assert.equal(answer.body.error.code, 'session_busy');
    await sleep(Number(answer.headers.get('retry-after-ms')));
    answer = await ask(other!.url, CHAT, question);
  }
  assert.match(textOf(answer), /48213/);
  const kept = (await other!.get('/v1/sessions/anna/tokens').then((r) => r.json())) as { count: number };
  paused!.child.kill('SIGCONT');
  assert.match(await rest(), /session_lease_lost/);
  const later = (await paused!.get('/v1/sessions/anna/tokens').then((r) => r.json())) as { count: number };
  assert.equal(later.count, kept.count);
  // the copy that it has is not what is gone on from
  const again = await ask(paused!.url, CHAT, question);
  assert.match(textOf(again), /48213/);
  assert.equal(again.body.usage.prompt_tokens > kept.count, true);
});

test('a server that is killed in the middle of a turn leaves the session as it was before', options, async (t) => {
  const [killed, other] = await processes(t);
  const first = { session_id: 'anna', temperature: 0, messages: say('My locker code is 48213.') };
  const { body } = await ask(killed!.url, CHAT, first);
  const { body: conversation } = await ask(killed!.url, '/v1/conversations', {});
  const respond = { ...longResponse, conversation: conversation.id };
  const responding = ask(killed!.url, '/v1/responses', respond).catch(() => null);
  await until(async () => /"route":"\/v1\/responses"/.test(await (await killed!.get('/v1/requests')).text()));
  const locked = await ask(other!.url, '/v1/responses', respond);
  assert.deepEqual([locked.status, locked.body.error?.code], [409, 'conversation_locked']);
  const left = Number(locked.headers.get('retry-after-ms'));
  assert.ok(left > 0 && left <= 1000, `${left} ms, of a lease of a second`);
  const rest = await longTurn(killed!.url, 'anna');
  killed!.child.kill('SIGKILL');
  await assert.rejects(rest());
  await responding;
  assert.equal(
    (await other!.get('/v1/sessions/anna').then((r) => r.json() as Promise<{ tokens: number }>)).tokens,
    body.usage.total_tokens,
  );
  const question = { ...first, session_append: true, messages: say('What is my locker code?') };
  let answer = await ask(other!.url, CHAT, question);
  while (answer.status === 409) {
    await sleep(Number(answer.headers.get('retry-after-ms')));
    answer = await ask(other!.url, CHAT, question);
  }
  assert.match(textOf(answer), /48213/);
});

test('a conversation that another server took: the response that was being made in it stops, and is an error', {
  skip: withoutModel,
}, async (t) => {
  const { store, replicas } = await fleet(t, 1);
  const [a] = replicas;
  // as if this server had slept through the end of its lease
  const take = (id: string) =>
    execFileSync('redis-cli', ['-u', store.address, 'hset', `{longmind:conversations}:s:0:${id}`, 'token', '1']);
  for (const stream of [false, true]) {
    const { body: made } = await a!.ask('/v1/conversations', {});
    const response = fetch(`${a!.url}/v1/responses`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...longResponse, conversation: made.id, stream }),
    });
    await until(async () => (await a!.engine.stats()).requests.running > 0);
    take(made.id);
    const said = await (await response).text();
    assert.match(said, /"conversation_locked"/);
    assert.match(said, new RegExp(`conversation '${made.id}' was taken over`));
    if (!stream) assert.equal((await response).status, 409);
    assert.ok(!said.includes('response.completed'));
    assert.deepEqual((await a!.get(`/v1/conversations/${made.id}/items`)).body.data, []);
    // before it would have ended
    const [last] = (await a!.get('/v1/requests')).body.data;
    assert.equal(last.choices[0].finish_reason, 'abort');
  }
});

for (const [name, start] of [
  ['Redis', startRedis],
  ['PostgreSQL', startPostgres],
] as const) {
  test(
    `${name} is away: what needs it says 503, what does not is answered, and nothing acknowledged is lost`,
    options,
    async (t) => {
      const { store, replicas } = await fleet(t, 2, start);
      const [a, b] = replicas;
      const kept = { session_id: 'anna', temperature: 0, messages: say('My locker code is 48213.') };
      assert.equal((await a!.ask(CHAT, kept)).status, 200);
      const response = await a!.ask('/v1/responses', { input: 'My locker code is 99001.' });
      await store.crash();

      const append = { ...kept, session_append: true, messages: say('What is my locker code?') };
      for (const [path, body] of [
        [CHAT, append],
        [CHAT, kept],
        ['/v1/responses', { input: 'What is my locker code?', previous_response_id: response.body.id }],
      ] as const) {
        const refused = await a!.ask(path, body);
        assert.deepEqual([refused.status, refused.body.error.code], [503, 'session_store_unavailable']);
        assert.equal(refused.headers.get('retry-after'), '1');
      }
      assert.equal((await a!.get(`/v1/responses/${response.body.id}`)).status, 503);
      assert.equal((await a!.ask(CHAT, { messages: say('Hello.') })).headers.get('x-session-kept'), null);
      const unkept = await a!.ask(CHAT, { ...kept, session_id: 'new' });
      assert.deepEqual([unkept.status, unkept.headers.get('x-session-kept')], [200, 'false']);
      const stream = await fetch(`${a!.url}${CHAT}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ...kept, session_id: 'new', stream: true }),
      });
      assert.deepEqual([stream.status, stream.headers.get('x-session-kept')], [200, 'false']);
      assert.match(await stream.text(), /\[DONE\]/);
      const said = await a!.ask('/v1/responses', { input: 'Hello.' });
      assert.deepEqual([said.status, said.body.store], [200, false]);
      assert.equal((await a!.get('/ready')).status, 200);
      assert.equal((await a!.get('/health')).body.status, 'degraded');

      store.start();
      await answers(() => b!.engine.sessions.list());
      assert.match(textOf(await b!.ask(CHAT, append)), /48213/);
      assert.equal((await b!.get('/v1/sessions/new')).status, 404);
      assert.equal((await b!.get(`/v1/responses/${response.body.id}`)).status, 200);
    },
  );
}

test('a turn that ends while the store is away is acknowledged when the store has it', options, async (t) => {
  const { store, replicas } = await fleet(t);
  const [a, b] = replicas;
  const before = await a!.ask(CHAT, { session_id: 'anna', temperature: 0, messages: say('Hello.') });
  const finish = await longTurn(a!.url, 'anna');
  await store.crash();
  let ended = false;
  const text = finish().finally(() => {
    ended = true;
  });
  // its last token is long drawn
  while ((await a!.engine.stats()).requests.running > 0) await sleep(20);
  await sleep(100);
  assert.equal(ended, false);
  store.start();
  assert.match(await text, /\[DONE\]/);
  await answers(() => b!.engine.sessions.list());
  const { tokens } = await b!.engine.sessions.get('anna');
  assert.ok(tokens > before.body.usage.total_tokens + 700, `${tokens} tokens`);
});
