/**
 * Agreement with an independent implementation: llama.cpp's likeliest token and its log-probability, teacher-forced over mixed
 * text, recorded by bench/peers/agreement.mjs --fixture. The long form compares 2,048 positions, and llama.cpp with itself.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { createStep } from '../../src/device/device.js';
import { smollmQ4Path } from '../support/model.js';
import { openFile, root } from '../support/model-file.js';

interface Fixture {
  chunks: number[][];
  top: number[];
  logprobs: number[];
}

test('the default model agrees with llama.cpp: likeliest token >= 96%, mean difference of log-probability <= 0.05', async (t) => {
  const file = await smollmQ4Path();
  if (!file) return t.skip('the default model cannot be had here');
  const fixture = JSON.parse(
    readFileSync(path.join(root, 'test/fixtures/agreement/smollm2-q4_1.json'), 'utf8'),
  ) as Fixture;
  const { program, weights } = openFile(file);
  const { vocab, layers, kvHeads, headDim } = program.dims;
  const limits = { maxTokens: 512, maxRows: 1, maxBlocksPerRow: 8, maxLogits: 512, vocab };
  const device = createCpuDevice();
  try {
    device.load(program, weights, { limits, kv: { layers, kvHeads, headDim, blockLen: 64, bits: 16 }, maxBlocks: 8 });
    device.growKv(8);
    const step = createStep(limits);
    for (let b = 0; b < 8; b++) step.blockTables[b] = b;
    let at = 0;
    let agree = 0;
    let delta = 0;
    for (const ids of fixture.chunks) {
      step.rowCount = 1;
      step.tokenCount = step.logitCount = ids.length;
      step.tokens.set(ids);
      step.rowStart.set([0, ids.length]);
      for (let i = 0; i < ids.length; i++) {
        step.positions[i] = step.logitRows[i] = i;
        step.sampling.topLogprobs[i] = 0;
        step.sampling.scoreToken[i] = fixture.top[at + i]!;
      }
      device.submit(step);
      const result = device.wait();
      for (let i = 0; i < ids.length; i++) {
        agree += result.tokens[i] === fixture.top[at + i] ? 1 : 0;
        delta += Math.abs(result.scoreLogprobs[i]! - fixture.logprobs[at + i]!);
      }
      at += ids.length;
    }
    assert.equal(at, 640);
    t.diagnostic(`likeliest token ${((100 * agree) / at).toFixed(2)}%, mean difference ${(delta / at).toFixed(4)}`);
    assert.ok(agree / at >= 0.96, `${agree} of ${at}`);
    assert.ok(delta / at <= 0.05, String(delta / at));
  } finally {
    device.close();
  }
});
