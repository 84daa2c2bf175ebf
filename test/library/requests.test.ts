/** The library as its documentation has it: what is wrong with a request is how its generation ends, never thrown. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type ChatMessage, createEngine, type Engine, type Generation, LongmindError } from 'longmind';

let engine: Engine;
before(async () => {
  engine = await createEngine({ model: 'memo', device: 'null', cacheMaxEntryCount: 32 });
});
after(() => engine.close());

const user: ChatMessage[] = [{ role: 'user', content: 'hello' }];

const wrong: [string, () => Generation, string, string | null][] = [
  ['a value out of range', () => engine.complete({ prompt: 'x', temperature: -1 }), 'invalid_option', 'temperature'],
  [
    'an option that does not exist',
    () => engine.chat({ messages: user, ...{ temprature: 1 } }),
    'unknown_option',
    'temprature',
  ],
  ['no prompt', () => engine.complete({} as never), 'invalid_request', 'prompt'],
  ['a prompt of no integers', () => engine.complete({ prompt: [1.5] }), 'invalid_request', 'prompt'],
  ['no messages', () => engine.chat({} as never), 'invalid_request', 'messages'],
  ['messages that are none', () => engine.chat({ messages: ['hello'] as never }), 'invalid_request', 'messages'],
  [
    'a role that is none',
    () => engine.chat({ messages: [{ role: 'usr' as 'user', content: '' }] }),
    'invalid_request',
    null,
  ],
  [
    'a second answer of a session',
    () => engine.chat({ messages: user, sessionId: 'a', maxTokens: 1 }).fork(),
    'invalid_request',
    'session_id',
  ],
];

for (const [what, start, code, param] of wrong) {
  test(`the result and the iteration of a request reject: ${what}`, async () => {
    const expected = (e: unknown) => {
      assert.ok(e instanceof LongmindError, String(e));
      assert.equal(e.code, code, e.message);
      if (param !== null) assert.equal(e.param, param);
      return true;
    };
    const generation = start();
    await assert.rejects(generation.result(), expected);
    await assert.rejects(async () => {
      for await (const _ of generation);
    }, expected);
    await assert.rejects(start().fork().result(), (e) => e instanceof LongmindError);
    generation.abort();
  });
}

test('options of createEngine reject too', async () => {
  await assert.rejects(createEngine({ model: 'memo', threads: -1 }), { code: 'invalid_option', param: 'threads' });
  await assert.rejects(createEngine({ model: 'memo', ...{ thread: 1 } }), { code: 'unknown_option' });
});

test('a role that is none does not compile', () => {
  // @ts-expect-error: 'usr'
  const message: ChatMessage = { role: 'usr', content: '' };
  assert.equal(message.role, 'usr');
});
