import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { Turns } from '../../src/server/turns.js';

test('a burst of work keeps its order, all of it is done, and the event loop goes round in between', async () => {
  const turns = new Turns();
  const done: number[] = [];
  const busy = (ms: number) => {
    const end = performance.now() + ms;
    while (performance.now() < end);
  };
  for (let i = 0; i < 100; i++)
    turns.add(() => {
      busy(0.5);
      done.push(i);
      // what work adds comes after what was there
      if (i === 0) turns.add(() => done.push(100));
    });
  assert.deepEqual(done, []);
  let rounds = 0;
  while (done.length < 101) {
    await immediate();
    rounds++;
  }
  assert.deepEqual(
    done,
    Array.from({ length: 101 }, (_, i) => i),
  );
  assert.ok(rounds >= 8, `${rounds} rounds`);
  let again = false;
  turns.add(() => {
    again = true;
  });
  await immediate();
  assert.ok(again, 'and it starts again');
});

test('chains of promises get the event loop one at a time, in their order', async () => {
  const turns = new Turns();
  let round = 0;
  let counting = true;
  const count = () => {
    round++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  const seen: [number, number][] = [];
  await Promise.all(
    Array.from({ length: 30 }, async (_, i) => {
      await turns.own();
      await null;
      seen.push([i, round]);
    }),
  );
  counting = false;
  assert.deepEqual(
    seen.map(([i]) => i),
    Array.from({ length: 30 }, (_, i) => i),
  );
  assert.equal(new Set(seen.map(([, r]) => r)).size, 30, 'no two in one round');
});
