import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge, type Target } from '../../bench/targets.js';

/** What `judge` says and sets. */
function judged(targets: Target[], noFail = false) {
  const said: string[] = [];
  const { error } = console;
  console.error = (line: string) => said.push(line);
  try {
    const kept = judge(targets, noFail);
    return { kept, said, status: process.exitCode };
  } finally {
    console.error = error;
    process.exitCode = undefined;
  }
}

const fast: Target = { name: 'fast enough', value: 250, target: 250, better: 'less', unit: 'µs' };
const slow: Target = { name: 'too slow', value: 250.04, target: 250, better: 'less', unit: 'µs' };
const ratio: Target = { name: 'ratio', value: 1.999, target: 2, better: 'more' };

test('a missed target is named with its numbers, and the status is 1', () => {
  assert.deepEqual(judged([fast]), { kept: true, said: [], status: undefined });
  assert.deepEqual(judged([fast, slow, ratio]), {
    kept: false,
    said: ['missed: too slow: 250.04 µs, target ≤ 250 µs', 'missed: ratio: 1.999, target ≥ 2'],
    status: 1,
  });
});

test('what cannot be measured and what gave another answer are missed as well', () => {
  assert.equal(judged([{ ...fast, value: Number.NaN }]).status, 1);
  assert.match(judged([{ ...fast, wrong: 'another answer' }]).said[0]!, /another answer$/);
});

test('--no-fail says what was missed and leaves the status alone', () => {
  const { kept, said, status } = judged([slow], true);
  assert.deepEqual([kept, said.length, status], [false, 1, undefined]);
});
