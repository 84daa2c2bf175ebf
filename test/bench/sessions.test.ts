import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { compareSessions, type OpenEngine } from '../../src/bench/sessions/compare.js';
import { compareDisk } from '../../src/bench/sessions/disk.js';
import { compareJournal } from '../../src/bench/sessions/journal.js';
import { blocksForAll, blocksForOne, type LoadOptions, planLoad } from '../../src/bench/sessions/load.js';
import { sweepSessions } from '../../src/bench/sessions/sweep.js';
import { createEngine, type Engine } from '../../src/index.js';

const load: LoadOptions = {
  sessions: 6,
  turns: 4,
  arrivals: 'zipf',
  clients: 2,
  rate: 0,
  said: [10, 30],
  answered: 12,
  seed: 3,
};
const text = Int32Array.from({ length: 500 }, (_, i) => i);
/** The bundled model's vocabulary, and everything of the engine but arithmetic. */
const open: OpenEngine = (own) => createEngine({ model: 'memo', device: 'null', cacheBlockSeqLen: 16, ...own });

test('a load is the same for the same seed, another for another, and no conversation outgrows its length', () => {
  for (const arrivals of ['zipf', 'uniform', 'round-robin'] as const) {
    const a = planLoad({ ...load, arrivals }, 120, text);
    assert.deepEqual(planLoad({ ...load, arrivals }, 120, text), a);
    assert.notDeepEqual(planLoad({ ...load, arrivals, seed: 4 }, 120, text).turns, a.turns);
    assert.equal(a.turns.length, 24);
    for (const t of a.turns) assert.ok(t.history + t.said.length + t.answered < 120);
    assert.ok(
      a.turns.some((t) => t.index > 0 && t.number === 1),
      'a conversation ended and another began',
    );
    assert.equal(Math.max(...a.peaks) <= 120, true);
  }
});

test('Zipf: the first session speaks about as often as all of the last half; round-robin: all equally', () => {
  const count = (arrivals: LoadOptions['arrivals']) => {
    const { turns } = planLoad({ ...load, arrivals, sessions: 32, turns: 100 }, 1000, text);
    return turns.reduce((n, t) => n.with(t.session, n[t.session]! + 1), new Array<number>(32).fill(0));
  };
  const zipf = count('zipf');
  const harmonic = Array.from({ length: 32 }, (_, i) => 1 / (i + 1)).reduce((a, b) => a + b);
  assert.ok(Math.abs(zipf[0]! / 3200 - 1 / harmonic) < 0.03, String(zipf[0]));
  assert.deepEqual(new Set(count('round-robin')), new Set([100]));
});

test('compared: sessions hit with room for all, recompute with less, and every mode gives the same answers', async () => {
  const o = { ...load, sessionLen: 256, share: 0.25, rounds: 1 };
  const result = await compareSessions(open, o);
  const [stateless, prefix, sessions, , few] = result.rows.map((r) => r.run);
  assert.equal(result.sameAnswers, true);
  assert.equal(stateless!.hitRate, 0);
  assert.equal(sessions!.recomputedTokens, 0);
  assert.equal(sessions!.ttftMiss.count, 0);
  assert.ok(sessions!.hitRate >= prefix!.hitRate);
  assert.ok(few!.recomputedTokens > 0 && few!.hitRate < sessions!.hitRate);
  // what is recomputed is what was not a hit: prompts are the same
  assert.equal(new Set(result.rows.map((r) => r.run.promptTokens)).size, 1);
  for (const r of result.rows)
    assert.ok(Math.abs(r.ceiling - 1 / (1 - r.run.hitRate * result.prefillShare)) < 1e-9, r.name);
});

test('compared: answers that differ between two modes are told', async () => {
  const lying: OpenEngine = async (own) => {
    const engine = await open(own);
    return own.enablePrefixCaching === false ? engine : withOtherAnswers(engine);
  };
  const result = await compareSessions(lying, { ...load, turns: 1, sessionLen: 256, share: 0.25, rounds: 1 });
  assert.equal(result.sameAnswers, false);
});

function withOtherAnswers(engine: Engine): Engine {
  return {
    ...engine,
    complete: (request) => engine.complete({ ...request, temperature: 1, seed: 5 }),
    [Symbol.asyncDispose]: () => engine.close(),
  };
}

test('sweep: less KV cache, fewer hits, the same answers; no capacity is below what one request needs', async () => {
  const result = await sweepSessions(open, { ...load, sessionLen: 256, capacities: [100, 40, 1], rounds: 2 });
  const planned = planLoad(load, 256, text);
  assert.equal(result.sameAnswers, true);
  assert.equal(result.blocksForAll, blocksForAll(planned, 16));
  assert.equal(result.points[2]!.blocks, blocksForOne(planned, 16));
  const hits = result.points.map((p) => p.run.hitRate);
  assert.ok(hits[0]! > hits[1]! && hits[1]! > hits[2]!, String(hits));
  assert.equal(result.points[0]!.run.recomputedTokens, 0);
});

test('journal: both sides answer the same, and what was said is in the file', async () => {
  const result = await compareJournal(open, { ...load, sessionLen: 256, rounds: 2, folder: '' });
  assert.equal(result.sameAnswers, true);
  assert.ok(result.journalBytes > 0);
  assert.equal(result.slices, 2 * Math.ceil(24 / 16));
  assert.ok(result.ratioSpread[0] <= result.medianRatio && result.medianRatio <= result.ratioSpread[1]);
  assert.ok(result.alone.cpuMicroseconds > 0 && result.alone.appendMicroseconds > 0 && result.alone.share > 0);
});

test('Poisson arrivals: every turn is answered, the answers are those of the closed loop', async () => {
  const o = { ...load, sessionLen: 256, capacities: [100], rounds: 1 };
  const closed = await sweepSessions(open, o);
  const poisson = await sweepSessions(open, { ...o, rate: 200 });
  assert.equal(poisson.points[0]!.run.turns, 24);
  assert.equal(poisson.answersSha256, closed.answersSha256);
});

test('with and without a disk: KV that left the device comes back instead of being computed, the same answers', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'longmind-disk-bench-'));
  try {
    const o = { ...load, sessionLen: 256, share: 0.25, rounds: 1, folder };
    const { rows, sameAnswers } = await compareDisk(open, o);
    const [without, disk] = rows.map((r) => r.run);
    assert.equal(sameAnswers, true);
    assert.ok(without!.recomputedTokens > 0 && without!.restoredTokens === 0);
    assert.ok(disk!.recomputedTokens + disk!.restoredTokens > 0);
    assert.equal(rows[0]!.speedup, 1);
    assert.deepEqual(readdirSync(folder), [], 'nothing is left');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
