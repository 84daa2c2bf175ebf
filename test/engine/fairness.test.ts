/** Keys share an engine: nobody can keep another one out, by many requests or by priority. In virtual time, step by step. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fairOrder, HEAD_START, Shares } from '../../src/engine/fairness.js';
import { TestBatch, tokens } from '../support/batch.js';

const at = (owner: number, priority = 0, cost = 100) => ({ owner, priority, cost });
const order = (queue: ReturnType<typeof at>[], had: Record<number, number> = {}) =>
  [
    ...fairOrder(
      queue,
      (r) => r,
      (o) => had[o] ?? 0,
    ),
  ].map((r) => queue.indexOf(r));

test('owners take turns by what they had; within an owner nothing changes places', () => {
  assert.deepEqual(order([at(1), at(1), at(1)]), [0, 1, 2]);
  assert.deepEqual(order([at(1), at(1), at(1), at(2), at(2)]), [0, 3, 1, 4, 2]);
  assert.deepEqual(order([at(1), at(1), at(2)], { 1: 1000 }), [2, 0, 1]);
  assert.deepEqual(order([at(1, 0, 300), at(1), at(2), at(2), at(2)]), [0, 2, 3, 4, 1]);
});

test('a priority is a head start and no more', () => {
  const queue = [at(2), ...Array.from({ length: 50 }, () => at(1, 2, 100))];
  assert.equal(order(queue)[0], 1);
  const turn = order(queue).indexOf(0);
  assert.ok(turn <= 1 + (2 * HEAD_START) / 100, `after ${turn} others`);
  assert.equal(order(queue, { 1: 2 * HEAD_START + 1 })[0], 0);
});

test('who comes back from a pause has no credit for it, and who left has no less', () => {
  const shares = new Shares();
  shares.enter(1);
  shares.served(1, 5000);
  shares.admitted(1, 0);
  shares.enter(2);
  assert.equal(shares.had(2), 5000);
  shares.served(2, 10);
  shares.leave(2);
  shares.enter(2);
  assert.equal(shares.had(2), 5010);
  // whose turn is only early does not take it from who comes
  shares.served(1, 5000);
  shares.admitted(1, 2);
  shares.enter(3);
  assert.equal(shares.had(3), 10_000 - 2 * HEAD_START);
});

/** Owner 1 keeps `clients` requests in the engine with this priority; owner 2 sends one after the other. */
function starved(clients: number, priority: number) {
  let clock = 0;
  const t = new TestBatch({ blocks: 64, maxRows: 4, budget: 64, now: () => clock });
  const flood = new Set<number>();
  const waits: number[] = [];
  let mine = -1;
  let since = 0;
  for (let step = 0; step < 4000 && waits.length < 12; step++) {
    clock += 10;
    for (const id of flood) if (t.outcomes.get(id)!.finished) flood.delete(id);
    while (flood.size < clients)
      flood.add(t.submit(tokens(40, step * 100 + flood.size), { owner: 1, priority, limits: { maxTokens: 20 } }));
    if (mine < 0) {
      mine = t.submit(tokens(40, 7 + step), { owner: 2, limits: { maxTokens: 20 } });
      since = step;
    }
    t.batch.step();
    if (t.outcomes.get(mine)!.finished) {
      waits.push(step - since);
      mine = -1;
    }
  }
  t.batch.check();
  return waits;
}

test('24 clients of one key, with the highest priority or without, do not starve another key', () => {
  for (const priority of [0, 2]) {
    const waits = starved(24, priority);
    assert.equal(waits.length, 12, `only ${waits.length} of 12 requests were answered`);
    // a request runs about 21 steps; a place among four is free every few
    const late = waits.slice(4);
    assert.ok(Math.max(...late) < 60, `it took ${waits} steps`);
  }
});
