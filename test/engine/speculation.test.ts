import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { CacheManager } from '../../src/cache/types.js';
import { DrawCost } from '../../src/engine/draw-cost.js';
import type { LiveRequest } from '../../src/engine/request.js';
import { Lookup, MAX_MATCH, MIN_MATCH } from '../../src/engine/speculation/lookup.js';
import { MAX_DRAFT, Pace } from '../../src/engine/speculation/pace.js';
import { Repetition } from '../../src/engine/speculation/repetition.js';
import { shareGuesses } from '../../src/engine/speculation/share.js';
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
        assert.equal(lookup.at >= 0, found > 0);
        if (found === 0) return;
        // the guess continues some place where the last `found` tokens stood before
        const places = text.flatMap((_, at) =>
          at < text.length - 1 &&
          at + 1 >= found &&
          text.slice(at + 1 - found, at + 1).every((v, i) => v === text[text.length - found + i])
            ? [at + 1]
            : [],
        );
        const guess = Array.from({ length: count }, (_, k) => lookup.token(lookup.place(lookup.at, k)));
        const goOn = (from: number) => guess.every((v, i) => v === text[from + (i % (text.length - from))]);
        assert.ok(places.some(goOn), `${guess} after ${text}`);
      },
    ),
    { numRuns: 500 },
  );
});

/** What is guessed after a text, as many tokens as are asked for. */
function guessed(text: number[], count: number): number[] {
  const repetition = new Repetition();
  repetition.append(text, 0);
  const out = new Int32Array(count);
  return [...out.subarray(0, repetition.propose(count, out))];
}

test('a text that repeats itself is guessed to go on repeating', () => {
  assert.deepEqual(guessed([7, 1, 2, 3, 1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
});

test('a new text has no guess', () => {
  assert.deepEqual(
    guessed(
      Array.from({ length: 1000 }, (_, i) => i),
      5,
    ),
    [],
  );
});

test('a form is followed again from the first token behind a gap, whatever the gap held and however long it was', () => {
  const form = (gap: number[]) => [1, 2, 3, ...gap, 4, 5, 6, 7];
  const text = [...form([100]), ...form([101, 102]), ...form([103])];
  for (const gap of [[], [104], [105, 106, 107, 108, 109]])
    assert.deepEqual(guessed([...text, 1, 2, 3, ...gap, 4], 3), [5, 6, 7], `${gap.length} tokens`);
  // no guess inside the gap: the form says nothing of it
  assert.deepEqual(guessed([...text, 1, 2, 3, 110], 3), []);
});

test('tokens that were guessed wrongly last time are not trusted again, those of the form are', () => {
  const ms = (guesses: number) => 10 + 4 * guesses;
  const repetition = new Repetition();
  const form = [1, 2, 3, 4, 5, 6, 7, 8];
  for (let i = 0; i < 40; i++) repetition.append([...form, 100 + i], 0);
  // the gap is at 8: up to it the form is worth its rows, and no row is spent on the gap
  for (let i = 1; i <= 8; i++) {
    repetition.follow(form[i - 1]!);
    if (i > 1) assert.equal(repetition.worth(ms), 8 - i, `after ${i} tokens`);
  }
});

test('guesses go on in texts that grow in any pieces', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 1200 }), fc.nat(1200), (text, cut) => {
      const whole = new Repetition();
      whole.append(text, 0);
      const pieces = new Repetition();
      pieces.append(text.slice(0, cut), 0);
      for (const token of text.slice(cut)) pieces.follow(token);
      const out = [new Int32Array(MAX_DRAFT), new Int32Array(MAX_DRAFT)] as const;
      assert.equal(whole.propose(MAX_DRAFT, out[0]), pieces.propose(MAX_DRAFT, out[1]));
      assert.deepEqual(out[0], out[1]);
      assert.equal(whole.length, text.length);
    }),
  );
});

/** Milliseconds of a step with so many guesses, where a row more costs `row` and the step without `token`. */
const line = (row: number, token: number) => (guesses: number) => token + guesses * row;

const only = (c: number) => () => c;

test('rows are spent only where the chance that they are accepted is worth more than they cost', () => {
  const pace = new Pace([0.15, 0.8]);
  for (let i = 0; i < 50; i++) pace.learn(0, false);
  assert.equal(pace.length(only(0), line(1, 20)), 0, 'what is never right is never tried');
  for (let i = 0; i < 80; i++) pace.learn(1, true);
  assert.equal(pace.length(only(1), line(0.01, 20)), MAX_DRAFT);
  assert.ok(pace.length(only(1), line(1, 20)) > 8);
  assert.equal(pace.length(only(1), line(20, 20)), 0, 'a row that costs as much as a step saves nothing');
  assert.equal(pace.length(only(1), line(Number.NaN, 20)), 0);
  // a guess ends where a token of a class begins that is not trusted
  assert.equal(
    pace.length((k) => (k < 5 ? 1 : 0), line(0.1, 20)),
    5,
  );
  // one wrong guess after many right ones shortens the next
  for (let i = 0; i < 3; i++) pace.learn(1, false);
  const before = pace.length(only(1), line(1, 20));
  pace.learn(1, false);
  assert.ok(pace.length(only(1), line(1, 20)) < before);
});

test('no other number of guesses gives more tokens a millisecond', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.05, max: 0.99, noNaN: true }), { minLength: 4, maxLength: 4 }),
      fc.double({ min: 0.01, max: 0.9, noNaN: true }),
      (chances, row) => {
        // what comes later in a guess is no likelier than what comes before it
        const pace = new Pace([...chances].sort((a, b) => b - a));
        const classOf = (k: number) => Math.min(3, k >> 2);
        const best = pace.length(classOf, line(row, 1));
        const rate = pace.rate(classOf, best, line(row, 1));
        for (let k = 0; k <= MAX_DRAFT; k++)
          assert.ok(pace.rate(classOf, k, line(row, 1)) <= rate * (1 + 1e-9), `${k}`);
      },
    ),
  );
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
    const known = prompt.length;
    const r = { known, length: known, scheduled: known - 1, drawing: 0, maxTokens: 99, generated: 1 } as LiveRequest;
    speculator.prepare([r], MAX_DRAFT);
    return [...speculator.guess(r, 1, MAX_DRAFT)];
  };
  const records = Array.from({ length: 6 }, (_, i) => [1, 2, 3, 4, 100 + i, 5, 6, 7, 200 + i]).flat();
  assert.deepEqual(guesses([...records, 1, 2]).slice(0, 2), [3, 4]);
  const never = Array.from({ length: 6 }, (_, i) => [1, 2, 100 + i, 200 + i]).flat();
  assert.deepEqual(guesses([...never, 1, 2]), []);
});

/** Chains whose tokens are all as likely. */
const chains = (...chances: number[]) => chances.map((p) => ({ most: MAX_DRAFT, chance: () => p }));

test('rows go to the sequences whose guesses are likelier, also where most of the batch cannot be guessed', () => {
  // eight rows cost 8, each one more 1: a guess pays where it is likelier than a token costs
  const counts = shareGuesses(chains(0.1, 0.99, 0.1, 0.1, 0, 0.1, 0.1, 0.1), 32, 8, (n) => 30 + n);
  assert.ok(counts[1]! > 10, `${counts}`);
  assert.deepEqual([...counts.slice(0, 1), ...counts.slice(2)], [0, 0, 0, 0, 0, 0, 0]);
});

test('a step whose time goes up by jumps is filled up to the next one, or not begun', () => {
  /** Tiles of four rows, eight sequences. */
  const tiles = (n: number) => 10 * Math.ceil((8 + n) / 4);
  const [a, b] = shareGuesses(chains(0.9, 0.9), 32, 8, (n) => (n === 0 ? 30 : tiles(n)));
  assert.equal(a! + b!, 4);
  assert.deepEqual(shareGuesses(chains(0.5, 0.5), 32, 8, tiles), [0, 0]);
});

test('where a guess promises no more than costs are uncertain, or nothing is known of costs, nothing is guessed', () => {
  assert.deepEqual(
    shareGuesses(chains(0.52), 32, 1, (n) => 10 + 5 * n),
    [0],
  );
  assert.deepEqual(shareGuesses(chains(0.9), 32, 1, (n) => 10 + 5 * n).map(Math.sign), [1]);
  assert.deepEqual(
    shareGuesses(chains(0.9), 32, 1, () => Number.NaN),
    [0],
  );
  assert.deepEqual(
    shareGuesses(chains(0.9), 0, 1, () => 10),
    [0],
  );
  assert.deepEqual(
    shareGuesses([{ most: 3, chance: () => 1 }], 32, 1, () => 10),
    [3],
  );
});
