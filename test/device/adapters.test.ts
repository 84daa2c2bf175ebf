/** Low-rank adapters on the CPU device: what they add, to which rows, and that no row knows of another. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildNativeLibrary } from '../../src/device/cpu/build.js';
import { availableIsas } from '../../src/device/cpu/index.js';
import { loadNative } from '../../src/device/cpu/native.js';
import type { Adapter } from '../../src/types.js';
import { Reference } from '../reference/forward.js';
import {
  MIXTURES,
  type ModelOptions,
  type Row,
  Runner,
  type RunnerOptions,
  random,
  randomModel,
  randomTensor,
  relativeError,
  sequence,
  type TestModel,
  writeTensors,
} from './support.js';

const isas = availableIsas(loadNative(buildNativeLibrary()));
const [Q, K, V, O, GATE, UP, DOWN] = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'];

interface Shape {
  targets: (string | undefined)[];
  ranks: number[];
  type?: string;
  layers?: number[];
}

/** An adapter with random values for some matrices of a model. */
function randomAdapter(model: TestModel, name: string, seed: number, o: Shape): Adapter {
  const r = random(seed);
  const matrices = [...model.source.tensors.values()].filter(({ name: n }) => {
    const [, layer, role] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(n) ?? [];
    return o.targets.includes(role) && (o.layers?.includes(Number(layer)) ?? true);
  });
  const { type = 'F32' } = o;
  const list = matrices.flatMap(({ name: weight, shape }, i) => {
    const rank = o.ranks[i % o.ranks.length]!;
    const make = (part: string, x: number, y: number) => ({
      name: `${weight}.${part}`,
      type,
      shape: [x, y],
      bytes: randomTensor(type, x * y, r, 1 / Math.sqrt(x)),
    });
    return [make('a', shape[0]!, rank), make('b', rank, shape[1]!)];
  });
  const { path, tensors } = writeTensors(list);
  const parts = matrices.map(({ name: weight }) => {
    const [a, b] = ['a', 'b'].map((p) => ({ ...tensors.get(`${weight}.${p}`)!, file: path }));
    return { weight, rank: a!.shape[1]!, scale: 0.5 + r(), a: a!, b: b!, rows: null };
  });
  return { name, path, rank: Math.max(...o.ranks), bytes: 0, parts };
}

/** A model without and with three adapters: of all matrices, of some, and of one in one layer. */
function adapted(options: ModelOptions): { alone: TestModel; model: TestModel } {
  const alone = randomModel(options);
  const adapters = [
    randomAdapter(alone, 'all', 11, { targets: [Q, K, V, O, GATE, UP, DOWN], ranks: [8, 3, 17, 16], type: 'BF16' }),
    randomAdapter(alone, 'some', 12, { targets: [V, DOWN], ranks: [5], type: 'F16' }),
    randomAdapter(alone, 'one', 13, { targets: [O], ranks: [33], layers: [1] }),
  ];
  return { alone, model: { ...alone, program: { ...alone.program, adapters } } };
}

const LENGTH = 26;
/** Each has tokens of its own; in pieces, so that a later one reads what an earlier one stored. */
const conversations: { adapter: number; tokens: number[] }[] = [-1, 0, 1, 2, 0, -1].map((adapter, i) => ({
  adapter,
  tokens: sequence(LENGTH, 50 + i),
}));
const CUTS = [1, 17, 18, LENGTH];

/** Logits of each of these conversations, all in the same steps. */
function together(model: TestModel, which: number[], o: RunnerOptions = {}, withAdapters = true): Float32Array[][] {
  const runner = new Runner(model, o);
  const out: Float32Array[][] = which.map(() => []);
  try {
    CUTS.forEach((end, i) => {
      const from = CUTS[i - 1] ?? 0;
      const rows = which.map((c, slot): Row => {
        const { adapter, tokens } = conversations[c]!;
        return {
          slot,
          position: from,
          tokens: tokens.slice(from, end),
          logits: 'all',
          adapter: withAdapters ? adapter : -1,
        };
      });
      const logits = runner.logits(rows);
      which.forEach((_, slot) => {
        out[slot]!.push(...logits.slice(slot * (end - from), (slot + 1) * (end - from)));
      });
    });
  } finally {
    runner.close();
  }
  return out;
}

function same(a: Float32Array[], b: Float32Array[], what: string): void {
  assert.equal(a.length, b.length);
  a.forEach((x, p) => {
    for (let i = 0; i < x.length; i++) assert.ok(x[i] === b[p]![i], `${what}, position ${p}, token ${i}`);
  });
}

const everybody = conversations.map((_, i) => i);
const flags = { norms: 'both', qkNorm: 'head', activation: 'geluTanh', residualScale: 0.3 } as const;
const biases = { qkv: true, output: true, gateUp: true, down: true };
const MODELS: Record<string, ModelOptions> = {
  Q8_0: { type: 'Q8_0' },
  'F32, norms before and after, scaled': { type: 'F32', ffDim: 80, flags },
  Q4_1: { type: 'Q4_1' },
  'BF16, norms after, biases': { type: 'BF16', flags: { norms: 'post', biases } },
  'experts beside attention': { type: 'Q8_0', flags: { experts: MIXTURES['two of eight']! } },
};

for (const [name, options] of Object.entries(MODELS)) {
  describe(`adapters of a model in ${name}`, () => {
    const { alone, model } = adapted(options);
    const mixed = together(model, everybody);
    const isFloat = options.type === 'F32' || options.type === 'BF16';
    const add = () => {
      const runner = new Runner(model, {});
      const reference = new Reference(model.program, model.tensors, { bits: 16 });
      for (const c of [1, 2, 3]) {
        const { adapter, tokens } = conversations[c]!;
        const want = reference.step(runner.fill([{ slot: c, position: 0, tokens, logits: 'all', adapter }]));
        want.forEach((x, p) => {
          const error = relativeError(mixed[c]![p]!, x);
          assert.ok(error < 3e-3, `adapter ${adapter}, position ${p}: ${error}`);
        });
      }
      runner.close();
    };
    // rounding to 8 bits hides small faults
    if (isFloat) it('add what the reference adds', add);
    it('change what the model says', () => {
      for (const c of [1, 2, 3]) {
        const without = together(alone, [c], {}, false);
        assert.ok(relativeError(mixed[c]!.at(-1)!, without[0]!.at(-1)!) > 0.01, `adapter ${conversations[c]!.adapter}`);
      }
    });
    it('leave rows without one the bits that they have without adapters loaded', () => {
      for (const [i, logits] of together(alone, [0, 5]).entries()) same(mixed[5 * i]!, logits, `conversation ${5 * i}`);
    });
    it('give a row the same bits alone and in company', () => {
      for (const c of [0, 1, 2, 3]) same(mixed[c]!, together(model, [c])[0]!, `conversation ${c}`);
      const back = together(model, [...everybody].reverse()).reverse();
      for (const c of everybody) same(mixed[c]!, back[c]!, `conversation ${c} at another place`);
    });
    it('give the same bits on one thread and on three, and operation by operation', () => {
      for (const o of [{ threads: 1 }, { threads: 3 }, { debug: true }]) {
        const other = together(model, everybody, o);
        for (const c of everybody) same(mixed[c]!, other[c]!, `${JSON.stringify(o)}, conversation ${c}`);
      }
    });
  });
}

describe('instruction sets', () => {
  const { model } = adapted({ type: 'F32' });
  const reference = together(model, everybody);
  for (const isa of isas)
    it(`${isa} adds the same up to rounding, with the same bits alone and in company`, () => {
      const mixed = together(model, everybody, { isa });
      mixed.forEach((logits, c) => {
        same(logits, together(model, [c], { isa })[0]!, `conversation ${c}`);
        logits.forEach((x, p) => {
          assert.ok(relativeError(x, reference[c]![p]!) < 3e-3, `conversation ${c}, position ${p}`);
        });
      });
    });
});

it('a row that names an adapter that is not loaded is refused', () => {
  for (const m of Object.values(adapted({ type: 'Q8_0' }))) {
    const runner = new Runner(m, {});
    const row = (adapter: number): Row => ({ slot: 0, position: 0, tokens: [1, 2], adapter });
    for (const adapter of [-2, 3, 2 ** 30])
      assert.throws(() => runner.run([row(adapter)]), { code: 'native_error', message: /adapter/ });
    runner.run([row(-1)]);
    runner.close();
  }
});
