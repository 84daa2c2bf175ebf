/** The bundled model `memo`: agrees with the PyTorch model it was made from, remembers, and forgets nothing when evicted. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { bench, createEngine } from '../../src/index.js';
import { bundledModelPath, root } from '../support/model-file.js';
import { mean, share, teacherForced } from '../support/teacher-forced.js';

interface Fixture {
  conversations: {
    tokens: number[];
    argmax: number[];
    logprob: number[];
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
  assert.ok(share(all) >= 0.99, String(share(all)));
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
