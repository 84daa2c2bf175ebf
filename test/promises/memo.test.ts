/** The bundled model `memo`: agrees with the PyTorch model it was made from, remembers, and forgets nothing when evicted. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { createStep } from '../../src/device/device.js';
import { bench, createEngine } from '../../src/index.js';
import { bundledModelPath, openFile, root } from '../support/model-file.js';

interface Fixture {
  conversations: { id: string; tokens: number[]; argmax: number[]; logprob: number[]; margin: number[] }[];
}

const fixtures = path.join(root, 'test/fixtures/memo');

test('teacher-forced over held-out conversations, its likeliest token is that of PyTorch in 99% of the positions', (t) => {
  const file = bundledModelPath();
  assert.ok(file, 'models/memo holds no model');
  const { conversations } = JSON.parse(readFileSync(path.join(fixtures, 'logits.json'), 'utf8')) as Fixture;
  const { program, weights } = openFile(file);
  const { vocab, layers, kvHeads, headDim } = program.dims;
  const limits = { maxTokens: 512, maxRows: 1, maxBlocksPerRow: 64, maxLogits: 512, vocab };
  const device = createCpuDevice();
  try {
    device.load(program, weights, { limits, kv: { layers, kvHeads, headDim, blockLen: 64, bits: 16 }, maxBlocks: 64 });
    device.growKv(64);
    const step = createStep(limits);
    for (let b = 0; b < 64; b++) step.blockTables[b] = b;
    let positions = 0;
    let agree = 0;
    let delta = 0;
    for (const c of conversations) {
      for (let at = 0; at < c.tokens.length; at += 512) {
        const n = Math.min(512, c.tokens.length - at);
        step.rowCount = 1;
        step.tokenCount = step.logitCount = n;
        step.rowStart.set([0, n]);
        for (let i = 0; i < n; i++) {
          step.tokens[i] = c.tokens[at + i]!;
          step.positions[i] = at + i;
          step.logitRows[i] = i;
          step.sampling.topLogprobs[i] = 0;
          step.sampling.scoreToken[i] = c.argmax[at + i]!;
        }
        device.submit(step);
        const result = device.wait();
        for (let i = 0; i < n; i++) {
          agree += result.tokens[i] === c.argmax[at + i] ? 1 : 0;
          delta += Math.abs(result.scoreLogprobs[i]! - c.logprob[at + i]!);
        }
        positions += n;
      }
    }
    assert.ok(positions >= 2000);
    t.diagnostic(
      `${positions} positions: ${((100 * agree) / positions).toFixed(2)}%, mean difference ${(delta / positions).toFixed(4)}`,
    );
    assert.ok(agree / positions >= 0.99, `${agree} of ${positions}`);
  } finally {
    device.close();
  }
});

/** Short ones, for CI; `longmind bench recall --model memo` plays the held-out ones of the fixture. */
const conversations: bench.RecallTurn[][] = [
  ['Zorvane', 'Kelmora', '48213'],
  ['Tibeska', 'Orlanth', '7065'],
  ['Marquel', 'Dovrin', '91157'],
  ['Ansolie', 'Perwick', '3340'],
].map(([name, town, code]) => [
  { user: `My name is ${name} and I live in ${town}.` },
  { user: `My locker code is ${code}.` },
  ...['How are you today?', 'The weather was fine.', 'What a day!', 'Every summer the clerk asked the baker.'].map(
    (user) => ({ user }),
  ),
  { user: 'What is my name?', expect: name!, distance: 60 },
  { user: 'What is my locker code?', expect: code!, distance: 60 },
  { user: 'Where do I live?', expect: town!, distance: 90 },
]);

test('it recalls what it was told, with the same answers when every session is evicted between turns', async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-recall-'));
  const file = path.join(folder, 'short.jsonl');
  writeFileSync(file, conversations.map((turns, i) => JSON.stringify({ id: `c${i}`, turns })).join('\n'));
  const options = { file, sessions: 3, limit: 0, evict: false, maxTokens: 48 };
  try {
    const run = async (cacheMaxEntryCount: number, evict: boolean) => {
      await using engine = await createEngine({ model: 'memo', cacheMaxEntryCount, sessionLen: 1024 });
      return await bench.recall(engine, { ...options, evict, sessions: evict ? 1 : 3 });
    };
    const roomy = await run(100, false);
    assert.equal(roomy.questions, 12);
    assert.ok(roomy.recall >= 0.9, `recall ${roomy.recall}`);
    const evicted = await run(16, true);
    assert.ok(evicted.tokensRecomputed > 0);
    assert.equal(evicted.answersSha256, roomy.answersSha256);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
