import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Lookup, MAX_MATCH, MIN_MATCH } from '../../src/engine/speculation/lookup.js';
import { MAX_DRAFT, Pace } from '../../src/engine/speculation/pace.js';

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

test('rows are spent only where the chance that they are accepted is worth more than they cost', () => {
  const pace = new Pace();
  for (let i = 0; i < 50; i++) pace.learn(2, false);
  assert.equal(pace.length(2, 1, 20), 0, 'what is never right is never tried');
  for (let i = 0; i < 50; i++) pace.learn(2, true);
  assert.equal(pace.length(2, 0.01, 20), MAX_DRAFT);
  assert.ok(pace.length(2, 1, 20) > 8);
  assert.equal(pace.length(2, 20, 20), 0, 'a row that costs as much as a step saves nothing');
  assert.equal(pace.length(2, Number.NaN, 20), 0);
  // one wrong guess after many right ones shortens the next
  const before = pace.length(2, 2, 20);
  pace.learn(2, false);
  assert.ok(pace.length(2, 2, 20) < before);
});
