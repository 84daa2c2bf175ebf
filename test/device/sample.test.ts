/** Sampling against a plain f64 implementation of the documented order. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { availableIsas } from '../../src/device/cpu/index.js';
import { loadNative } from '../../src/device/cpu/native.js';
import type { StepSampling } from '../../src/device/device.js';
import { adjusted, distribution, logSoftmax } from '../reference/sample.js';
import { normal, Runner, type RunnerOptions, random, type TestModel, testLibrary, writeTensors } from './support.js';

const VOCAB = 1003;
const ROWS = 64;

/** A model whose logits for token t are row t of a table: what `sample` gets is known exactly. */
function table(rows: (t: number) => number[]): TestModel {
  const data = new Float32Array(VOCAB * VOCAB);
  for (let t = 0; t < ROWS; t++) data.set(rows(t), t * VOCAB);
  const bytes = new Uint8Array(data.buffer);
  const { reference, ...source } = writeTensors([{ name: 'embd', type: 'F32', shape: [VOCAB, VOCAB], bytes }]);
  const dims = { layers: 1, dim: VOCAB, heads: 1, kvHeads: 1, headDim: 16, ffDim: 1, vocab: VOCAB, contextLength: 512 };
  const buffers = [
    { name: 'x', width: VOCAB, perLogit: false },
    { name: 'logits', width: VOCAB, perLogit: true },
  ];
  const ops = [
    { op: 'embed' as const, weight: 'embd', out: 'x' },
    { op: 'gather' as const, in: 'x', out: 'logits' },
    { op: 'sample' as const, in: 'logits' },
  ];
  return { program: { dims, buffers, ops }, source, tensors: reference };
}

const r = random(5);
const logits = Array.from({ length: ROWS }, () => Array.from({ length: VOCAB }, () => Math.fround(3 * normal(r))));
const model = table((t) => logits[t]);

type Settings = (s: StepSampling, i: number) => void;

/** Runs rows 0 … n-1 of the table with these settings, each drawn at `position`. */
function draw(runner: Runner, settings: Settings, n = ROWS, position = 0) {
  const tokens = Array.from({ length: n }, (_, t) => t);
  const step = runner.fill([{ slot: 0, position, tokens, logits: 'all' }]);
  for (let i = 0; i < n; i++) settings(step, i);
  return runner.device.wait(runner.device.submit(step));
}

const reset: Settings = (s, i) => {
  s.temperature[i] = 0;
  s.topK[i] = 0;
  s.topP[i] = 1;
  s.minP[i] = 0;
  s.repetitionPenalty[i] = 1;
  s.presencePenalty[i] = 0;
  s.frequencyPenalty[i] = 0;
  s.seed[2 * i] = i;
  s.seed[2 * i + 1] = 0;
  s.topLogprobs[i] = -1;
  s.scoreToken[i] = -1;
  s.historyStart[i + 1] = 0;
  s.biasStart[i + 1] = 0;
  s.maskRow[i] = -1;
};

for (const isa of availableIsas(loadNative(testLibrary()))) {
  describe(`sampling on ${isa}`, () => {
    const options: RunnerOptions = { isa, session: 1 << 16, blockLen: 256, maxRows: 1 };
    const runner = new Runner(model, options);
    after(() => runner.close());

    it('greedy takes the largest logit', () => {
      const result = draw(runner, reset);
      for (let i = 0; i < ROWS; i++) assert.equal(result.tokens[i], logits[i].indexOf(Math.max(...logits[i])));
    });

    it('raw log-probabilities, the best alternatives, and that of a given token', () => {
      const result = draw(runner, (s, i) => {
        reset(s, i);
        s.temperature[i] = 0.7;
        s.topLogprobs[i] = i % 21;
        s.scoreToken[i] = (i * 37) % VOCAB;
      });
      for (let i = 0; i < ROWS; i++) {
        const want = logSoftmax(logits[i]);
        const order = [...want.keys()].sort((a, b) => want[b] - want[a] || a - b);
        assert.ok(Math.abs(result.logprobs[i] - want[result.tokens[i]]) < 1e-5);
        assert.ok(Math.abs(result.scoreLogprobs[i] - want[(i * 37) % VOCAB]) < 1e-5);
        for (let k = 0; k < i % 21; k++) {
          assert.equal(result.topTokens[20 * i + k], order[k]);
          assert.ok(Math.abs(result.topLogprobs[20 * i + k] - want[order[k]]) < 1e-5);
        }
      }
    });

    it('log-probabilities that were not asked for are NaN', () => {
      const result = draw(runner, reset, 3);
      assert.deepEqual(
        [...result.logprobs.slice(0, 3), ...result.scoreLogprobs.slice(0, 3)],
        new Array(6).fill(Number.NaN),
      );
    });

    it('bias, mask and penalties, then the largest', () => {
      const step = runner.step;
      const words = Math.ceil(VOCAB / 32);
      step.reserve('masks', 2 * words);
      step.masks.set(Int32Array.from({ length: 2 * words }, () => (r() * 2 ** 32) | 0));
      const result = draw(runner, (s, i) => {
        reset(s, i);
        s.repetitionPenalty[i] = 1.3;
        s.presencePenalty[i] = 0.4;
        s.frequencyPenalty[i] = 0.2;
        s.maskRow[i] = i % 3 === 2 ? -1 : i % 3;
        s.historyStart[i + 1] = 8 * (i + 1);
        s.biasStart[i + 1] = 3 * (i + 1);
        const best = [...logits[i].keys()].sort((a, b) => logits[i][b] - logits[i][a]);
        for (let k = 0; k < 8; k++) {
          s.historyTokens[8 * i + k] = best[k];
          s.historyCounts[8 * i + k] = 1 + (k % 3);
        }
        for (let k = 0; k < 3; k++) {
          s.biasTokens[3 * i + k] = best[k];
          s.biasValues[3 * i + k] = [Number.NEGATIVE_INFINITY, 2, -1][k];
        }
      });
      for (let i = 0; i < ROWS; i++) {
        const y = adjusted(logits[i], step, i);
        assert.ok(y[result.tokens[i]] >= y.reduce((a, b) => Math.max(a, b)) - 1e-5, `row ${i}`);
      }
    });

    it('presence and frequency penalties by the formula of the OpenAI documentation, prompt tokens not counted', () => {
      // mu[j] -> mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, c = how often j was *generated*
      const documented = (mu: number, c: number, presence: number, frequency: number) =>
        mu - c * frequency - (c > 0 ? 1 : 0) * presence;
      for (const [presence, frequency] of [
        [2, 0],
        [-2, 0],
        [0, 1.5],
        [1.7, -0.4],
      ] as const) {
        for (const counts of [
          [0, 0, 0, 0],
          [0, 1, 0, 2],
          [1, 0, 3, 0],
          [2, 2, 0, 0],
        ]) {
          const best = logits.map((row) => [...row.keys()].sort((a, b) => row[b] - row[a]));
          const result = draw(runner, (s, i) => {
            reset(s, i);
            s.presencePenalty[i] = presence;
            s.frequencyPenalty[i] = frequency;
            s.historyStart[i + 1] = 4 * (i + 1);
            s.historyTokens.set(best[i].slice(0, 4), 4 * i);
            s.historyCounts.set(counts, 4 * i);
          });
          for (let i = 0; i < ROWS; i++) {
            const want = Float64Array.from(logits[i]);
            counts.forEach((c, k) => {
              want[best[i][k]] = documented(want[best[i][k]], c, presence, frequency);
            });
            const top = want.reduce((a, b) => Math.max(a, b));
            assert.ok(want[result.tokens[i]] >= top - 1e-5, `row ${i}, ${presence} and ${frequency}, counts ${counts}`);
          }
        }
      }
    });

    const cases: Record<string, Settings> = {
      'temperature 0.8': (s, i) => {
        s.temperature[i] = 0.8;
      },
      'top-k 40': (s, i) => {
        s.temperature[i] = 1;
        s.topK[i] = 40;
      },
      'top-k 1': (s, i) => {
        s.temperature[i] = 2;
        s.topK[i] = 1;
      },
      'top-p 0.9': (s, i) => {
        s.temperature[i] = 1.2;
        s.topP[i] = 0.9;
      },
      'top-p 0': (s, i) => {
        s.temperature[i] = 1;
        s.topP[i] = 0;
      },
      'min-p 0.1': (s, i) => {
        s.temperature[i] = 1.5;
        s.minP[i] = 0.1;
      },
      'top-k 50, top-p 0.8, min-p 0.05': (s, i) => {
        s.temperature[i] = 1;
        s.topK[i] = 50;
        s.topP[i] = 0.8;
        s.minP[i] = 0.05;
      },
    };
    for (const [name, settings] of Object.entries(cases)) {
      it(`${name}: drawn as often as it should be`, () => {
        let statistic = 0;
        let cells = 0;
        const seen = new Map<number, number>();
        const draws = 250;
        let p = new Float64Array(0);
        for (let k = 0; k < draws; k++) {
          // all rows have the same logits (row 3 of the table), other seeds
          const step = runner.fill([
            { slot: 0, position: 64 * k, tokens: new Array<number>(ROWS).fill(3), logits: 'all' },
          ]);
          for (let i = 0; i < ROWS; i++) {
            reset(step, i);
            settings(step, i);
          }
          if (k === 0) p = Float64Array.from(distribution(logits[3], step, 0));
          for (const t of runner.device.wait(runner.device.submit(step)).tokens.subarray(0, ROWS))
            seen.set(t, (seen.get(t) ?? 0) + 1);
        }
        const total = draws * ROWS;
        for (const t of seen.keys()) assert.ok(p[t] > 0, `token ${t} was drawn but is excluded`);
        let rest = 0;
        let restSeen = 0;
        p.forEach((q, t) => {
          const n = seen.get(t) ?? 0;
          if (q * total < 10) {
            rest += q * total;
            restSeen += n;
            return;
          }
          statistic += (n - q * total) ** 2 / (q * total);
          cells++;
        });
        if (rest >= 10) {
          statistic += (restSeen - rest) ** 2 / rest;
          cells++;
        }
        // chi-square: mean cells - 1, deviation √(2 · cells)
        assert.ok(statistic < cells + 5 * Math.sqrt(2 * cells) + 5, `χ² = ${statistic} with ${cells} cells`);
      });
    }

    it('the same seed at the same position draws the same token, in any company', () => {
      const hot: Settings = (s, i) => {
        reset(s, i);
        s.temperature[i] = 1;
        s.seed[2 * i] = 77;
      };
      const all = draw(runner, hot, ROWS, 100).tokens.slice(0, ROWS);
      const again = draw(runner, hot, ROWS, 100).tokens.slice(0, ROWS);
      assert.deepEqual(again, all);
      const step = runner.fill([{ slot: 0, position: 100 + 9, tokens: [9], logits: 'all' }]);
      hot(step, 0);
      assert.equal(runner.device.wait(runner.device.submit(step)).tokens[0], all[9]);
      const elsewhere = draw(runner, hot, ROWS, 5000).tokens.slice(0, ROWS);
      assert.notDeepEqual(elsewhere, all);
    });
  });
}

describe('awkward logits', () => {
  const rows: number[][] = [
    Array.from({ length: VOCAB }, () => 1.5), // all equal
    Array.from({ length: VOCAB }, (_, i) => (i === 700 ? Number.NaN : 0)),
    Array.from({ length: VOCAB }, () => Number.NEGATIVE_INFINITY),
    Array.from({ length: VOCAB }, (_, i) => (i === 10 || i === 900 ? 4 : -4)),
    Array.from({ length: VOCAB }, (_, i) => (i === VOCAB - 1 ? Number.NaN : 0)),
    Array.from({ length: VOCAB }, (_, i) => (i === VOCAB - 1 ? 80 : -80)),
  ];
  const runner = new Runner(
    table((t) => rows[t] ?? rows[0]),
    { maxRows: 1 },
  );
  after(() => runner.close());
  it('ties go to the lowest id', () => {
    const result = draw(runner, reset, 6);
    assert.equal(result.tokens[0], 0);
    assert.equal(result.tokens[3], 10);
    assert.equal(result.tokens[5], VOCAB - 1);
  });
  it('top-k with ties keeps the lowest ids', () => {
    for (let k = 0; k < 40; k++) {
      const result = draw(
        runner,
        (s, i) => {
          reset(s, i);
          s.temperature[i] = 1;
          s.topK[i] = 2;
          s.seed[2 * i] = k;
        },
        1,
      );
      assert.ok(result.tokens[0] < 2);
    }
  });
  it('NaN and nothing finite give status 1, and only to their own row', () => {
    const result = draw(runner, reset, 6);
    assert.deepEqual([...result.status.subarray(0, 6)], [0, 1, 1, 0, 1, 0]);
  });
  it('everything banned gives status 1', () => {
    runner.step.masks.fill(0);
    const banned = draw(
      runner,
      (s, i) => {
        reset(s, i);
        s.maskRow[i] = 0;
      },
      1,
    );
    assert.equal(banned.status[0], 1);
  });
});
