/** The bundled model `memo`: agrees with the PyTorch model it was made from, remembers, and forgets nothing when evicted. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import * as bench from '../../src/bench/index.js';
import { createEngine } from '../../src/index.js';
import { bundledModelPath, root } from '../support/model-file.js';
import { mean, share, teacherForced } from '../support/teacher-forced.js';

interface Fixture {
  conversations: {
    tokens: number[];
    argmax: number[];
    logprob: number[];
    /** Log-probability of the likeliest token less that of the second. */
    margin: number[];
    /** [first token, position of the end of turn + 1) of each answer. */
    answers: [number, number][];
  }[];
}

const fixtures = path.join(root, 'test/fixtures/memo');

test('teacher-forced over held-out conversations it agrees with PyTorch: 99% of all positions, every one of an answer', (t) => {
  const file = bundledModelPath();
  assert.ok(file, 'models/memo holds no model');
  const { conversations } = JSON.parse(readFileSync(path.join(fixtures, 'logits.json'), 'utf8')) as Fixture;
  const recorded = conversations.map((c) => ({ tokens: c.tokens, top: c.argmax, logprobs: c.logprob }));
  const results = teacherForced(file, recorded);
  const all = results.flatMap((r) => r.agrees);
  assert.ok(all.length >= 2000);
  const inAnswers = conversations.flatMap((c, i) =>
    // the token at p is predicted at p - 1
    c.answers.flatMap(([from, to]) => results[i]!.agrees.slice(from - 1, to - 1)),
  );
  const delta = mean(results.flatMap((r) => r.deltas));
  t.diagnostic(
    `${all.length} positions: ${(100 * share(all)).toFixed(2)}%, mean difference ${delta.toFixed(4)}; ${inAnswers.length} in answers: ${(100 * share(inAnswers)).toFixed(2)}%`,
  );
  assert.ok(inAnswers.length >= 500);
  assert.equal(share(inAnswers), 1);
  const margins = conversations.flatMap((c) => c.margin);
  assert.equal(share(all.filter((_, i) => margins[i]! >= 0.2)), 1, 'positions that are no near tie');
  assert.ok(share(all) >= 0.99, String(share(all)));
});

const NAMES = 'Zorvane Tibeska Marquel Ansolie Brenwick Calodur Delfane Estrimo Farnolt Gwendar'.split(' ');
const TOWNS = 'Kelmora Orlanth Dovrin Perwick Sarnath Ulmeria Vendrell Wexmore Yarrowby Zelanda'.split(' ');

/** Short ones, for CI; `longmind bench recall --model memo` plays the held-out ones that come with the model. */
const conversations: bench.RecallTurn[][] = Array.from({ length: 20 }, (_, i) => {
  const [name, town, code] = [NAMES[i % 10]!, TOWNS[(i * 3 + (i >= 10 ? 1 : 0)) % 10]!, String(4801 + 379 * i)];
  return [
    { user: `My name is ${name} and I live in ${town}.` },
    { user: `My locker code is ${code}.` },
    ...['How are you today?', 'The weather was fine.', 'What a day!', 'Every summer the clerk asked the baker.'].map(
      (user) => ({ user }),
    ),
    { user: 'What is my name?', expect: name, distance: 60 },
    { user: 'What is my locker code?', expect: code, distance: 60 },
    { user: 'Where do I live?', expect: town, distance: 90 },
  ];
});

describe('it recalls what it was told', () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-recall-'));
  const file = path.join(folder, 'short.jsonl');
  writeFileSync(file, conversations.map((turns, i) => JSON.stringify({ id: `c${i}`, turns })).join('\n'));
  after(() => rmSync(folder, { recursive: true }));

  interface Way {
    blocks: number;
    sessions: number;
    evict?: boolean;
    bits?: 8;
  }
  async function play({ blocks, sessions, evict = false, bits }: Way): Promise<bench.RecallResult> {
    const quantPolicy = bits ?? 0;
    await using engine = await createEngine({
      model: 'memo',
      cacheMaxEntryCount: blocks,
      sessionLen: 1024,
      quantPolicy,
    });
    return await bench.recall(engine, { file, sessions, limit: 0, evict, maxTokens: 48 });
  }
  const roomy = play({ blocks: 200, sessions: 20 });

  test('with room for all', async () => {
    const { questions, recall, tokensRecomputed } = await roomy;
    assert.equal(questions, 60);
    assert.ok(recall >= 0.95, `recall ${recall}`);
    assert.equal(tokensRecomputed, 0);
  });

  for (const [what, way] of [
    ['every session is evicted between turns', { blocks: 16, sessions: 20, evict: true }],
    ['all sessions compete for a sixth of the KV that they need', { blocks: 16, sessions: 20 }],
  ] as const) {
    test(`the same answers, and the same log-probabilities to the last bit, when ${what}`, async () => {
      const result = await play(way);
      assert.ok(result.tokensRecomputed > 0);
      assert.equal(result.answersSha256, (await roomy).answersSha256);
      assert.equal(result.meanLogprob, (await roomy).meanLogprob);
    });
  }

  test('a KV cache of 8 bits: other numbers, and as many right answers within a point', async () => {
    const result = await play({ blocks: 200, sessions: 20, bits: 8 });
    assert.notEqual(result.meanLogprob, (await roomy).meanLogprob);
    assert.ok(Math.abs(result.recall - (await roomy).recall) <= 0.01, `recall ${result.recall}`);
  });
});
