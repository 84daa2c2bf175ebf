/**
 * The engine one step ahead gives what it gives in step: thousands of random requests with stops, aborts, grammars, penalties,
 * forks, preemptions, NaN, cancelled and refused steps, compared id by id and bit by bit.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonSchema } from 'longmind-grammar';
import { greedySampling } from '../../src/config.js';
import type { Step } from '../../src/device/device.js';
import { LongmindError } from '../../src/errors.js';
import { EOS, random, TestBatch, type TestBatchOptions, tokens } from '../support/batch.js';

/** A row that draws it fails. */
const SPOILT = 500;
const grammars = [
  compileJsonSchema({ type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }),
  compileJsonSchema({ type: 'array', items: { type: 'boolean' } }),
];

interface Ask {
  prompt: number[];
  options: NonNullable<Parameters<TestBatch['submit']>[1]>;
  /** Aborted when so many tokens came; -1: never. */
  abortAt: number;
}

/** Who asks one thing after the other; what is asked depends on its number and on what was answered, not on time. */
class Client {
  history: number[] = [];
  turn = 0;
  live: { id: number; ask: Ask; seen: number }[] = [];

  constructor(readonly number: number) {}

  next(): Ask[] {
    const r = random(this.number * 1009 + this.turn++);
    const kind = r(10);
    const session = this.number % 2 === 0 ? `s${this.number}` : null;
    // clients of a group begin alike: their prompts are shared, and waited for
    const said = tokens(3 + r(60), this.turn === 1 ? this.number % 5 : r(1e6));
    if (this.history.length > 250) this.history = this.history.slice(0, r(100));
    const prompt = [...this.history, ...said];
    const base: Ask['options'] = {
      sessionId: session,
      priority: r(2),
      limits: { maxTokens: 1 + r(25), minTokens: r(4) === 0 ? r(8) : 0, stop: r(4) === 0 ? ['e', 'fg'] : [] },
      stopTokens: r(3) === 0 ? [EOS, 3 + r(997)] : [],
      sampling: {
        ...greedySampling,
        temperature: r(2),
        seed: r(1000),
        logprobs: 2,
        logitBias: r(5) === 0 ? { [r(1000)]: -100 } : {},
      },
    };
    if (kind < 2) base.sampling = { ...base.sampling!, repetitionPenalty: 1.1, frequencyPenalty: 0.2 };
    if (kind === 2) Object.assign(base, { grammar: grammars[r(2)], stopTokens: [EOS] });
    const ask = (options: Ask['options']): Ask => ({ prompt, options, abortAt: r(6) === 0 ? 1 + r(6) : -1 });
    if (session !== null || kind < 7) return [ask(base)];
    return [0, 1, 2].map((k) => ask({ ...base, sampling: { ...base.sampling!, seed: k, temperature: 1 } }));
  }
}

function play(o: TestBatchOptions, clients: number, turns: number) {
  const r = random(99);
  const count = { cancelled: 0, refused: 0, requests: 0, ahead: 0 };
  const onStep = (step: Step) => {
    const n = r(25);
    for (let i = 0; i < step.tokenCount; i++) if (step.tokens[i]! < 0) count.ahead++;
    if (n === 0) {
      count.cancelled++;
      Atomics.store(t.device.cancel, 0, 1);
    }
    // a row alone runs, so nobody fails
    if (n === 1 && step.rowCount > 1) {
      count.refused++;
      throw new LongmindError('native_error', 500, 'refused on purpose');
    }
  };
  const t: TestBatch = new TestBatch({
    blocks: 60,
    budget: 40,
    maxRows: 7,
    ...o,
    onStep,
    onResult: (step, result) => {
      for (let i = 0; i < step.logitCount; i++) if (result.tokens[i] === SPOILT) result.status[i] = 1;
    },
  });
  const all = Array.from({ length: clients }, (_, i) => new Client(i));
  const record: unknown[] = [];
  for (let steps = 0; all.some((c) => c.turn < turns || c.live.length > 0); steps++) {
    for (const c of all) {
      if (c.live.length > 0 || c.turn >= turns || r(3) === 0) continue;
      for (const ask of c.next()) {
        const forkOf = c.live[0]?.id ?? null;
        c.live.push({ id: t.submit(ask.prompt, { ...ask.options, forkOf }), ask, seen: 0 });
        count.requests++;
      }
    }
    t.batch.step();
    if (steps % 16 === 0) t.batch.check();
    for (const c of all) settle(t, c, record);
    assert.ok(steps < 200_000, 'no end');
  }
  while (t.batch.step());
  t.batch.check();
  assert.equal(t.cache.stats().blocks.active, 0);
  return { record, count, counters: t.batch.counters, stats: t.cache.stats() };
}

/** Aborts when it is time; writes down what ended. */
function settle(t: TestBatch, c: Client, record: unknown[]): void {
  for (const l of c.live) {
    const o = t.outcomes.get(l.id)!;
    if (l.ask.abortAt >= 0 && o.tokens.length >= l.ask.abortAt) t.batch.abort(l.id);
  }
  if (c.live.length === 0 || !c.live.every((l) => t.outcomes.get(l.id)!.finished || t.outcomes.get(l.id)!.error))
    return;
  c.live.forEach((l, k) => {
    const { tokens: ids, logprobs, finished, error } = t.outcomes.get(l.id)!;
    const { reason, stopString, promptTokens, completionTokens } = finished ?? {};
    const end = { reason, stopString, promptTokens, completionTokens, error: error?.code };
    record[c.number * 100_000 + c.turn * 10 + k] = { ids, logprobs, end };
    if (k === 0 && !error) c.history = [...l.ask.prompt, ...ids];
  });
  c.live = [];
}

const variants: [string, TestBatchOptions][] = [
  ['', { blocks: 48 }],
  [', without prefix cache', { prefixCaching: false, blocks: 40 }],
  [', memory by and by', { chunkSize: 7, blocks: 36, budget: 17 }],
];
for (const [name, options] of variants) {
  test(`thousands of random requests: the same ids, log-probabilities and ends one step ahead${name}`, () => {
    const one = play({ ...options, vocab: 'bytes', depth: 1 }, 40, 25);
    const two = play({ ...options, vocab: 'bytes', depth: 2 }, 40, 25);
    const keys = Object.keys(one.record);
    assert.ok(keys.length >= 1000, `${keys.length} requests`);
    assert.deepEqual(Object.keys(two.record), keys);
    for (const key of keys) assert.deepEqual(two.record[Number(key)], one.record[Number(key)], `request ${key}`);
    assert.equal(one.count.ahead, 0);
    assert.ok(two.count.ahead > 1000, `${two.count.ahead} tokens were computed while they were drawn`);
    for (const run of [one, two]) {
      const { counters, count, stats } = run;
      assert.ok(counters.aborted > 50 && counters.failed > 5, JSON.stringify(counters));
      assert.ok(counters.preemptions >= 3, `${counters.preemptions} preemptions`);
      assert.ok(count.cancelled > 50 && count.refused > 20, JSON.stringify(count));
      assert.ok(stats.forks > 50 && stats.tokensRecomputed > 0, `${stats.forks} forks`);
    }
    const reasons = keys.map((k) => (one.record[Number(k)] as { end: { reason?: string } }).end.reason);
    for (const reason of ['stop', 'length', 'abort']) assert.ok(reasons.includes(reason), `nobody ended by ${reason}`);
  });
}
