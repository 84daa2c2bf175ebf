import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunningGeneration } from '../../src/engine/generation.js';
import { errors } from '../../src/errors.js';
import type { TokenEvent } from '../../src/types.js';

/** A token spells its number; the flush spells '!'. */
const decoder = { push: (id: number) => `${id} `, flush: () => '!' };
const end = {
  id: 1,
  reason: 'length' as const,
  promptTokens: 3,
  cachedTokens: 0,
  acceptedDraftTokens: 0,
  completionTokens: 3,
};
const finished = { ...end, stopString: null, queueMs: 0, restoredTokens: 0, recomputedTokens: 0 };

function open(): { generation: RunningGeneration; aborts: () => number } {
  let aborts = 0;
  const generation = new RunningGeneration(1, { stop: [], minTokens: 0 }, decoder, {
    abort: () => {
      aborts++;
    },
    fork: () => generation,
  });
  return { generation, aborts: () => aborts };
}

test('a listener gets every token once, those before it and the end of the text included', async () => {
  const { generation } = open();
  const seen: TokenEvent[] = [];
  generation.token(4, null);
  generation.onToken((e) => seen.push(e));
  generation.token(5, null);
  generation.token(6, null);
  generation.finish(finished);
  const { text } = await generation.result();
  assert.equal(text, '4 5 6 !');
  assert.equal(seen.map((e) => e.text).join(''), text);
  assert.deepEqual(
    seen.map((e) => e.tokenId),
    [4, 5, 6, 6],
  );
});

test('a listener that throws ends its own generation and nothing else', async () => {
  const { generation, aborts } = open();
  generation.onToken(() => {
    throw new Error('as the test asked');
  });
  generation.token(4, null);
  generation.token(5, null);
  assert.equal(aborts(), 1);
  await assert.rejects(generation.result(), /as the test asked/);
});

test('iterating gives the same, and an error after the tokens before it', async () => {
  const { generation } = open();
  generation.token(4, null);
  generation.fail(errors.engineFailed('broken'));
  const seen: string[] = [];
  await assert.rejects(
    (async () => {
      for await (const e of generation) seen.push(e.text);
    })(),
    { code: 'engine_failed' },
  );
  assert.deepEqual(seen, ['4 ']);
});
