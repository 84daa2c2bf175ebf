import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareScores, cutWindows, readScored, runPerplexity, scoreWindows } from '../../src/bench/perplexity.js';
import { createEngine, LongmindError } from '../../src/index.js';
import { readFixture, writeFolder } from '../models/tiny.js';
import { bundledModelPath, openFile } from '../support/model-file.js';

const model = bundledModelPath();

test('windows: full ones only, each with the start tokens, together the text', () => {
  assert.deepEqual(cutWindows([1, 2, 3, 4, 5, 6, 7], [], 3, 0), [
    [1, 2, 3],
    [4, 5, 6],
  ]);
  assert.deepEqual(cutWindows([1, 2, 3, 4, 5], [9], 3, 4), [
    [9, 1, 2],
    [9, 3, 4],
  ]);
  assert.throws(() => cutWindows([1, 2], [], 3, 0), LongmindError);
});

test('the ratio of two perplexities, and its error from the windows', () => {
  const score = (...windows: number[][]) => windows.map((w) => Float32Array.from(w));
  const worse = compareScores(score([-2, -4], [-3, -5]), score([-1, -3], [-2, -4]));
  assert.ok(Math.abs(worse.meanNll - 3.5) < 1e-9);
  assert.ok(Math.abs(worse.ratio - Math.E) < 1e-6);
  assert.ok(worse.ratioError < 1e-6, 'every window differs by the same');
  const unsure = compareScores(score([-1], [-3]), score([-2], [-2]));
  assert.ok(Math.abs(unsure.ratio - 1) < 1e-6);
  assert.ok(Math.abs(unsure.ratioError - 1) < 1e-6);
});

test('log-probabilities are those that the engine gives for the same tokens, to the bit, with KV of 16, 8 and 4 bits', async (t) => {
  if (!model) return t.skip('no bundled model');
  const prompt = Array.from({ length: 40 }, (_, i) => 5 + 3 * i);
  for (const bits of [16, 8, 4] as const) {
    await using engine = await createEngine({
      model,
      cacheMaxEntryCount: 16,
      sessionLen: 512,
      quantPolicy: bits === 16 ? 0 : bits,
    });
    const request = { prompt, maxTokens: 300, temperature: 0, ignoreEos: true, logprobs: 0 };
    const { tokenIds, logprobs } = await engine.complete(request).result();
    const [scores] = scoreWindows(openFile(model), [[...prompt, ...tokenIds]], { bits: [bits] });
    assert.deepEqual(
      [...scores!.logprobs[0]!.subarray(prompt.length - 1)],
      logprobs!.map((x) => x.logprob),
    );
  }
});

for (const name of ['gemma3', 'granite', 'qwen3-moe'])
  test(`${name}: a folder of a family that is no plain LLaMA is scored as what it is`, () => {
    const f = readFixture(name);
    const [scores] = scoreWindows(readScored(writeFolder(f)), [f.ids.slice(0, -1)], { bits: [16], threads: 1 });
    let compared = 0;
    f.watched.forEach((p, i) => {
      if (p + 1 >= f.ids.length - 1) return;
      const logits = f.logits[i]!;
      const most = Math.max(...logits);
      const wanted = logits[f.ids[p + 1]!]! - most - Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0));
      assert.ok(
        Math.abs(scores!.logprobs[0]![p]! - wanted) < 0.05,
        `position ${p}: ${scores!.logprobs[0]![p]}, ${wanted}`,
      );
      compared++;
    });
    assert.ok(compared >= 3);
  });

test('the documentation that comes along has a perplexity, and fewer bits change it', async (t) => {
  if (!model) return t.skip('no bundled model');
  const result = await runPerplexity({ model, file: '', window: 128, limit: 1024, bits: [16, 8, 4] });
  const [f16, int8, int4] = result.rows;
  assert.equal(result.scored, result.windows * 127);
  assert.equal(f16!.ratio, 1);
  assert.ok(f16!.perplexity > 1 && f16!.perplexity < 1e5);
  assert.ok(int8!.ratio !== 1 && Math.abs(int8!.ratio - 1) < 0.05, String(int8!.ratio));
  assert.ok(int4!.ratio !== int8!.ratio);
});

test('a file that is not there and a window longer than the context are typed errors', async (t) => {
  if (!model) return t.skip('no bundled model');
  const o = { model, file: '/no/such/file', window: 64, limit: 0, bits: [16 as const] };
  await assert.rejects(runPerplexity(o), { code: 'io_error' });
  await assert.rejects(runPerplexity({ ...o, file: '', window: 1e6 }), { code: 'invalid_option' });
});
