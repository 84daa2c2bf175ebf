/** GET /v1/requests: what was asked for of late, by whom, and how it went. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errors } from '../../src/errors.js';
import { hello, rig, until } from '../support/http.js';

interface Listed {
  data: {
    id: string;
    route: string;
    session_id: string | null;
    state: string;
    error: string | null;
    duration_ms: number;
    choices: Record<string, number | string>[];
  }[];
}

test('requests are listed with times and tokens, newest first; one that runs is there, too', async (t) => {
  const { post, get } = await rig(t, { answer: () => 'abcd', kv: { restoredTokens: 3, recomputedTokens: 2 } });
  const list = async () => ((await (await get('/v1/requests')).json()) as Listed).data;
  assert.deepEqual(await list(), []);
  const first = (await (await post('/v1/chat/completions', { messages: hello, session_id: 's' })).json()) as {
    id: string;
  };
  await post('/v1/completions', { prompt: 'xy', n: 2 });
  const [second, one] = await list();
  assert.deepEqual(
    [one!.id, one!.route, one!.session_id, one!.state],
    [first.id, '/v1/chat/completions', 's', 'finished'],
  );
  const { queue_ms, first_token_ms, total_ms, ...counts } = one!.choices[0]!;
  assert.ok((queue_ms as number) <= (first_token_ms as number) && (first_token_ms as number) <= (total_ms as number));
  assert.ok(one!.duration_ms > 0);
  assert.deepEqual(counts, {
    index: 0,
    finish_reason: 'stop',
    prompt_tokens: 12,
    cached_tokens: 0,
    restored_tokens: 3,
    recomputed_tokens: 2,
    completion_tokens: 4,
    accepted_prediction_tokens: 0,
  });
  assert.deepEqual([second!.session_id, second!.choices.length], [null, 2]);
  assert.doesNotMatch(JSON.stringify(await list()), /hello|abcd/, 'nothing of what was said');
});

test('one that runs comes first, one that failed says with what', async (t) => {
  const slow = await rig(t, { firstDelayMs: 60_000 });
  const controller = new AbortController();
  const asked = slow.post('/v1/completions', { prompt: 'x' }, {}, controller.signal).catch(() => null);
  await until('it runs', () => slow.engine.running === 1);
  const list = async (get: typeof slow.get) => ((await (await get('/v1/requests')).json()) as Listed).data;
  assert.deepEqual(
    (await list(slow.get)).map((r) => [r.state, r.choices.length]),
    [['running', 0]],
  );
  controller.abort();
  await asked;
  await until('it ended', () => slow.engine.running === 0);
  assert.equal((await list(slow.get))[0]!.choices[0]!.finish_reason, 'abort');
  const failing = await rig(t, { failAt: 0, failWith: errors.nanLogits(7) });
  await failing.post('/v1/completions', { prompt: 'x' });
  assert.deepEqual(
    (await list(failing.get)).map((r) => [r.state, r.error]),
    [['failed', 'nan_logits']],
  );
});

test('a key sees its own requests only, and so many of the last ones', async (t) => {
  const { post, get } = await rig(t, {}, { apiKeys: ['alpha', 'beta'] });
  const key = (k: string) => ({ authorization: `Bearer ${k}` });
  await post('/v1/completions', { prompt: 'x', session_id: 'secret' }, key('alpha'));
  for (let i = 0; i < 203; i++) await post('/v1/completions', { prompt: 'x', session_id: `s${i}` }, key('beta'));
  const list = async (k: string) => ((await (await get('/v1/requests', key(k))).json()) as Listed).data;
  assert.deepEqual(
    (await list('alpha')).map((r) => r.session_id),
    ['secret'],
  );
  const beta = (await list('beta')).map((r) => r.session_id);
  assert.deepEqual([beta.length, beta[0], beta.at(-1)], [200, 's202', 's3']);
  assert.equal((await get('/v1/requests')).status, 401);
});
