/** Texts as vectors, by a real model on the CPU: the same bits whoever shares the step. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createEngine, type Engine, LongmindError, type Pooling } from '../../src/index.js';
import { modelPath, withoutModel } from '../support/server-process.js';

const long = Array.from({ length: 60 }, (_, i) => `line ${i} of a text`).join('\n');
const texts = ['My name is Anna.', 'My name is Bertha, and I live in Vilnius.', long];

describe('embeddings', { skip: withoutModel }, () => {
  let engine: Engine;
  before(async () => {
    engine = await createEngine({ model: modelPath!, cacheMaxEntryCount: 24, maxBatchSize: 8 });
  });
  after(() => engine?.close());

  const embed = async (prompt: string | number[], pooling: Pooling, on = engine) => [
    ...(await on.embed({ prompt, pooling })).embedding,
  ];

  for (const pooling of ['last', 'mean'] as const) {
    test(`${pooling}: the same bits alone, again, and in company`, async () => {
      const alone: number[][] = [];
      for (const t of texts) alone.push(await embed(t, pooling));
      assert.deepEqual(await embed(texts[2]!, pooling), alone[2]);
      const talk = engine.chat({ messages: [{ role: 'user', content: long }], maxTokens: 40, ignoreEos: true });
      const together = await Promise.all([...texts, ...texts].map((t) => embed(t, pooling)));
      await talk.result();
      assert.deepEqual(together, [...alone, ...alone]);
      assert.notDeepEqual(alone[0], alone[1]);
      assert.equal(alone[0]!.length, engine.info.dims.dim);
      assert.ok(alone.flat().every(Number.isFinite));
      await engine.check();
    });
  }

  test('the mean is that of the last states of all beginnings', async () => {
    const ids = [...(await engine.encode(texts[1]!))];
    const states: number[][] = [];
    for (let n = 1; n <= ids.length; n++) states.push(await embed(ids.slice(0, n), 'last'));
    const mean = Float32Array.from(states[0]!, (_, d) => states.reduce((sum, s) => sum + s[d]!, 0) / ids.length);
    assert.deepEqual(await embed(ids, 'mean'), [...mean]);
  });

  test('in small steps, and without fusing operations, the bits are the same', async () => {
    await using other = await createEngine({
      model: modelPath!,
      cacheMaxEntryCount: 24,
      maxPrefillTokenNum: 16,
      maxBatchSize: 2,
      debugOps: true,
    });
    for (const pooling of ['last', 'mean'] as const)
      for (const t of texts) assert.deepEqual(await embed(t, pooling, other), await embed(t, pooling));
  });

  test('an abort ends it, an empty text is refused', async () => {
    const controller = new AbortController();
    const asked = engine.embed({ prompt: long, pooling: 'mean', signal: controller.signal });
    controller.abort();
    await assert.rejects(asked, (e) => e instanceof LongmindError && e.code === 'request_aborted');
    await assert.rejects(engine.embed({ prompt: [] }), (e) => e instanceof LongmindError && e.status === 400);
    await engine.check();
  });

  test('a device without hidden states refuses by name', async () => {
    await using other = await createEngine({ model: modelPath!, device: 'null', cacheMaxEntryCount: 24 });
    await assert.rejects(other.embed({ prompt: 'a' }), (e) => {
      assert.ok(e instanceof LongmindError);
      assert.deepEqual([e.code, e.status], ['embeddings_unsupported', 400]);
      assert.match(e.message, /'null'/);
      return true;
    });
  });
});
