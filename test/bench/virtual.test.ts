import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SMOLLM2_STEP, virtualComparison } from '../../src/bench/sessions/virtual.js';

const base = {
  sessions: 32,
  turns: 5,
  arrivals: 'zipf' as const,
  clients: 4,
  rate: 0,
  said: [60, 120] as [number, number],
  answered: 64,
  seed: 1,
  sessionLen: 2048,
  share: 0.25,
  policy: 'lru' as const,
  cost: SMOLLM2_STEP,
  budget: 384,
};

test('with KV for a quarter of 32 sessions, Zipf: 1.5 times the stateless throughput and 0.9 of the ceiling, by the cost of steps', () => {
  for (const seed of [1, 2, 3]) {
    const { rows, prefillShare, sameAnswers } = virtualComparison({ ...base, seed });
    const few = rows.at(-1)!;
    assert.ok(prefillShare > 0.5 && prefillShare < 1, String(prefillShare));
    assert.ok(few.speedup >= 1.5, `seed ${seed}: ${few.speedup}`);
    assert.ok(few.recomputedTokens > 0);
    for (const row of rows) assert.ok(row.shareOfCeiling >= 0.9, `seed ${seed}, ${row.name}: ${row.shareOfCeiling}`);
    assert.ok(sameAnswers);
  }
});

test('uniform and in turn: never slower than stateless, whatever is evicted', () => {
  for (const arrivals of ['uniform', 'round-robin'] as const) {
    const { rows, sameAnswers } = virtualComparison({ ...base, arrivals });
    for (const row of rows) assert.ok(row.speedup >= 0.99 && row.shareOfCeiling >= 0.9, `${arrivals}, ${row.name}`);
    assert.ok(sameAnswers);
  }
});
