/**
 * Agreement with an independent implementation: llama.cpp's likeliest token and its log-probability, teacher-forced over mixed
 * text, recorded by bench/peers/agreement.mjs --fixture. The long form compares 2,048 positions, and llama.cpp with itself.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { smollmQ4Path } from '../support/model.js';
import { root } from '../support/model-file.js';
import { mean, share, teacherForced } from '../support/teacher-forced.js';

interface Fixture {
  chunks: number[][];
  top: number[];
  logprobs: number[];
}

test('the default model agrees with llama.cpp: likeliest token >= 96%, mean difference of log-probability <= 0.05', async (t) => {
  const file = await smollmQ4Path();
  if (!file) return t.skip('the model SmolLM2-135M-Instruct in Q4_1 cannot be had here');
  const fixture = JSON.parse(
    readFileSync(path.join(root, 'test/fixtures/agreement/smollm2-q4_1.json'), 'utf8'),
  ) as Fixture;
  let at = 0;
  const recorded = fixture.chunks.map((tokens) => {
    const from = at;
    at += tokens.length;
    return { tokens, top: fixture.top.slice(from, at), logprobs: fixture.logprobs.slice(from, at) };
  });
  const results = teacherForced(file, recorded);
  const agrees = results.flatMap((r) => r.agrees);
  const delta = mean(results.flatMap((r) => r.deltas));
  t.diagnostic(`likeliest token ${(100 * share(agrees)).toFixed(2)}%, mean difference ${delta.toFixed(4)}`);
  assert.equal(agrees.length, 640);
  assert.ok(share(agrees) >= 0.96, String(share(agrees)));
  assert.ok(delta <= 0.05, String(delta));
});
