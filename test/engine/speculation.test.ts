import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { CacheManager } from '../../src/cache/types.js';
import { DrawCost } from '../../src/engine/draw-cost.js';
import type { LiveRequest } from '../../src/engine/request.js';
import { Lookup, MAX_MATCH, MIN_MATCH } from '../../src/engine/speculation/lookup.js';
import { MAX_DRAFT, Pace } from '../../src/engine/speculation/pace.js';
import { Speculator } from '../../src/engine/speculation/speculator.js';

/** The longest match among all earlier places, found by trying them all; the later one wins. */
function naive(text: number[]): { length: number; next: number } {
  let best = { length: 0, next: -1 };
  for (let at = text.length - 2; at >= 0; at--) {
    let n = 0;
    while (n < MAX_MATCH && n <= at && text[at - n] === text[text.length - 1 - n]) n++;
    if (n >= MIN_MATCH && n > best.length) best = { length: n, next: at + 1 };
  }
  return best;
}

test('a guess is what followed the longest earlier occurrence, as far as the latest candidates reach', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 700 }),
      fc.nat(9),
      (text, count) => {
        const lookup = new Lookup();
        let split = 0;
        for (const cut of [1, Math.floor(text.length / 2), text.length]) {
          lookup.append(text, split, Math.max(split, cut));
          split = Math.max(split, cut);
        }
        const found = lookup.find();
        const best = naive(text);
        assert.equal(found > 0, best.length > 0);
        assert.ok(found <= best.length);
        const out = new Int32Array(20).fill(-1);
        assert.equal(lookup.propose(count, out, 3), found > 0 ? count : 0);
        if (found === 0) return;
        // the guess continues some place where the last `found` tokens stood before
        const places = text.flatMap((_, at) =>
          at < text.length - 1 &&
          at + 1 >= found &&
          text.slice(at + 1 - found, at + 1).every((v, i) => v === text[text.length - found + i])
            ? [at + 1]
            : [],
        );
        const guess = [...out.subarray(3, 3 + count)];
        const goOn = (from: number) => guess.every((v, i) => v === text[from + (i % (text.length - from))]);
        assert.ok(places.some(goOn), `${guess} after ${text}`);
      },
    ),
    { numRuns: 500 },
  );
});

test('a text that repeats itself is guessed to go on repeating', () => {
  const lookup = new Lookup();
  lookup.append([7, 1, 2, 3, 1, 2, 3, 1, 2]);
  assert.equal(lookup.find(), 5);
  const out = new Int32Array(7);
  lookup.propose(7, out, 0);
  assert.deepEqual([...out], [3, 1, 2, 3, 1, 2, 3]);
});

test('a new text has no guess', () => {
  const lookup = new Lookup();
  lookup.append(Array.from({ length: 1000 }, (_, i) => i));
  assert.equal(lookup.find(), 0);
  assert.equal(lookup.propose(5, new Int32Array(5), 0), 0);
});

/** Milliseconds of a step with so many guesses, where a row more costs `row` and the step without `token`. */
const line = (row: number, token: number) => (guesses: number) => token + guesses * row;

test('rows are spent only where the chance that they are accepted is worth more than they cost', () => {
  const pace = new Pace();
  for (let i = 0; i < 50; i++) pace.learn(2, false);
  assert.equal(pace.length(2, line(1, 20)), 0, 'what is never right is never tried');
  for (const match of [2, 4, 8, 16]) for (let i = 0; i < 50; i++) pace.learn(match, true);
  assert.equal(pace.length(2, line(0.01, 20)), MAX_DRAFT);
  assert.ok(pace.length(2, line(1, 20)) > 8);
  assert.equal(pace.length(2, line(20, 20)), 0, 'a row that costs as much as a step saves nothing');
  assert.equal(pace.length(2, line(Number.NaN, 20)), 0);
  // one wrong guess after many right ones shortens the next
  for (let i = 0; i < 3; i++) pace.learn(16, false);
  const before = pace.length(20, line(2, 20));
  pace.learn(16, false);
  assert.ok(pace.length(20, line(2, 20)) < before);
});

test('no other number of guesses gives more tokens a millisecond, and long matches are trusted further than short ones', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.05, max: 0.99, noNaN: true }), { minLength: 4, maxLength: 4 }),
      fc.double({ min: 0.01, max: 0.9, noNaN: true }),
      fc.integer({ min: 2, max: 32 }),
      (chances, row, match) => {
        const prior = [...chances].sort((a, b) => b - a);
        const pace = new Pace(prior);
        const best = pace.length(match, line(row, 1));
        const rate = pace.rate(match, best, line(row, 1));
        for (let k = 0; k <= MAX_DRAFT; k++) assert.ok(pace.rate(match, k, line(row, 1)) <= rate * (1 + 1e-9), `${k}`);
      },
    ),
  );
  const pace = new Pace([0.3, 0.5, 0.7, 0.9]);
  const counts = [2, 5, 10, 20].map((match) => pace.length(match, line(0.2, 1)));
  assert.deepEqual(
    counts,
    [...counts].sort((a, b) => a - b),
  );
  assert.ok(counts[0]! < counts[3]!);
});

test('what steps of few rows cost is learned by their size, not from prefills', () => {
  const cost = new DrawCost();
  assert.ok(Number.isNaN(cost.ms(1, 3)));
  for (let i = 0; i < 30; i++) {
    cost.observe(1, 20);
    cost.observe(4, 20);
    cost.observe(8, 40);
  }
  assert.equal(cost.ms(1, 3), 20);
  assert.equal(cost.ms(2, 3), 20, 'two rows cost nothing where four cost nothing');
  assert.equal(cost.ms(6, 3), 30);
  assert.equal(cost.ms(10, 3), 46, 'beyond what was seen, as a prefill');
  cost.observe(8, 4000);
  assert.ok(cost.ms(8, 3) < 50, 'one step that was held up changes little');
  for (let i = 0; i < 300; i++) cost.observe(1, 20);
  assert.equal(cost.ms(8, 3), 41, 'what was measured long ago is measured again');
});

test('a prompt teaches how far its own repetitions can be trusted', () => {
  /** Guesses after this prompt where a row costs so much that a match of two tokens is not trusted unseen. */
  const guesses = (prompt: number[]): number[] => {
    const readTokens = (_: number, from: number, to: number, out: Int32Array) => out.set(prompt.slice(from, to));
    const speculator = new Speculator({ readTokens } as unknown as CacheManager, { drawMs: (rows) => 10 + 3 * rows });
    return [...speculator.guess({ known: prompt.length, sequence: 0 } as LiveRequest, 1, MAX_DRAFT)];
  };
  const records = Array.from({ length: 6 }, (_, i) => [1, 2, 3, 4, 100 + i, 5, 6, 7, 200 + i]).flat();
  assert.deepEqual(guesses([...records, 1, 2]).slice(0, 2), [3, 4]);
  const never = Array.from({ length: 6 }, (_, i) => [1, 2, 100 + i, 200 + i]).flat();
  assert.deepEqual(guesses([...never, 1, 2]), []);
});
