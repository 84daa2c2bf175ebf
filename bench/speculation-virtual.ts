/**
 * What guesses gain by the cost of a step instead of the clock: the real batch, scheduler, cache manager and speculation over a
 * device that only counts what its steps would take. The same result on any machine, in a moment for each text.
 */
import { createCacheManager } from '../src/cache/index.js';
import type { Program, Step } from '../src/device/device.js';
import { createNullDevice } from '../src/device/null/index.js';
import { PersistentBatch } from '../src/engine/batch.js';
import { StepBudget } from '../src/engine/step-budget.js';
import { requestSaying } from './speculation-texts.js';

export interface Tokens {
  prompt: Int32Array;
  answer: Int32Array;
}

interface Virtual {
  /** Milliseconds that the steps would take; processor time of a step of this process beside (µs). */
  ms: number;
  hostUs: number;
  steps: number;
  /** Guesses that were verified, and those that were right. */
  verified: number;
  accepted: number;
}

/** Steps by their rows that draw: [rows, ms], in order; straight lines between and beyond. */
type StepTable = readonly (readonly [rows: number, ms: number])[];

/** Two cores of an EPYC (Zen 3, AVX2), 512 tokens of context, as bench:rows measured them; by thread: processor time. */
export const STEPS: readonly { model: string; table: StepTable }[] = [
  { model: '135M, 2 threads', table: [[1, 6.02], [2, 6.56], [4, 8.1], [8, 14.7], [16, 26.1]] }, // biome-ignore format: a table
  { model: '135M, 1 thread', table: [[1, 6.65], [2, 6.6], [3, 7.9], [4, 9.5], [6, 13.6], [8, 18.0], [16, 34.7]] }, // biome-ignore format: a table
  { model: '1 B, 2 threads', table: [[1, 61.6], [2, 61.6], [4, 62], [8, 106], [16, 201]] }, // biome-ignore format: a table
];

const VOCAB = 50_000;
const BLOCK_LEN = 64;

/**
 * Times that a step takes on a machine with other work: from time to time everything is slower, by up to a factor of 2, for some
 * dozen steps. The same each time. What is counted is the cost without; such times only mislead.
 */
export function busyMachine(): () => number {
  let x = 1;
  const random = () => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return x / 2 ** 32;
  };
  let left = 0;
  let slow = 1;
  return () => {
    if (left-- <= 0) {
      left = 10 + 60 * random();
      slow = random() < 0.5 ? 1 : 1 + random();
    }
    return slow * (0.95 + 0.1 * random());
  };
}

/** `slow`: how many times its cost a step seems to take. */
export function virtualRun(
  tokens: Tokens,
  sequences: number,
  table: StepTable,
  speculation: 'auto' | 'off',
  slow: () => number,
): Virtual {
  const sessionLen = 8192;
  const limits = {
    maxTokens: 1024,
    maxRows: sequences,
    maxBlocksPerRow: sessionLen / BLOCK_LEN,
    maxLogits: sequences + 32,
    vocab: VOCAB,
  };
  const texts = new Map<number, Int32Array>();
  const textOf = (slot: number) => texts.get(batch.view().running.find((r) => r.slot === slot)!.request.id)!;
  let clock = 0;
  let decodeMs = 0;
  let decodeSteps = 0;
  const device = createNullDevice({
    thorough: false,
    onStep: (step) => {
      const drawn = step.logitCount === step.tokenCount;
      const ms = drawn ? at(table, step.tokenCount) : prefillMs(table, step);
      clock += ms * slow();
      if (!drawn) return;
      decodeMs += ms;
      decodeSteps++;
    },
    onResult: (step, result) => {
      let row = 0;
      for (let i = 0; i < step.logitCount; i++) {
        const t = step.logitRows[i]!;
        while (step.rowStart[row + 1]! <= t) row++;
        result.tokens[i] = textOf(step.rowSlot[row]!)[step.positions[t]! + 1] ?? 0;
      }
    },
  });
  const blocks = sequences * limits.maxBlocksPerRow;
  const kv = { layers: 1, kvHeads: 1, headDim: 16, blockLen: BLOCK_LEN, bits: 16 as const };
  const shape = { layers: 1, dim: 16, heads: 1, kvHeads: 1, headDim: 16, ffDim: 16, vocab: VOCAB };
  const program: Program = { dims: { ...shape, contextLength: sessionLen }, buffers: [], ops: [] };
  device.load(program, { path: '', tensors: new Map() }, { limits, kv, maxBlocks: blocks });
  const cache = createCacheManager({
    blocks,
    blockLen: BLOCK_LEN,
    sessionLen,
    chunkSize: -1,
    policy: 'lru',
    prefixCaching: true,
    maxSequences: 100,
    maxTokens: 1_000_000,
    grow: (total) => device.growKv(total),
  });
  const batch: PersistentBatch = new PersistentBatch(
    device,
    cache,
    {
      limits,
      maxQueue: 100,
      sessions: { max: 100, shareAcrossOwners: true },
      budget: new StepBudget(limits.maxTokens, 250, 1),
      speculation,
      admission: {
        vocab: VOCAB,
        tokenBytes: { bytes: new Uint8Array(0), offsets: new Int32Array(VOCAB + 1), special: new Uint8Array(VOCAB) },
        endOfTurn: new Set(),
      },
      now: () => clock,
    },
    {
      token: () => {},
      finished: () => {},
      failed: (_, e) => {
        throw e;
      },
    },
  );
  for (let id = 1; id <= sequences; id++) {
    const text = Int32Array.of(300 + id, ...tokens.prompt, ...tokens.answer);
    texts.set(id, text);
    batch.submit(requestSaying(id, text, 1 + tokens.prompt.length));
  }
  const begun = process.cpuUsage();
  while (batch.step());
  const { user, system } = process.cpuUsage(begun);
  const hostUs = (user + system) / decodeSteps;
  const counts = batch.speculator?.counts() ?? { verified: 0, accepted: 0 };
  device.close();
  return { ms: decodeMs, hostUs, steps: decodeSteps, verified: counts.verified, accepted: counts.accepted };
}

function at(table: StepTable, rows: number): number {
  const above = table.findIndex(([n]) => n >= rows);
  if (table[above]?.[0] === rows) return table[above]![1];
  const hi = Math.max(1, above < 0 ? table.length - 1 : above);
  const [x0, y0] = table[hi - 1]!;
  const [x1, y1] = table[hi]!;
  return y0 + ((rows - x0) / (x1 - x0)) * (y1 - y0);
}

/** Rows of a prefill cost what many rows cost each. */
function prefillMs(table: StepTable, step: Step): number {
  const [n0, m0] = table.at(-2)!;
  const [n1, m1] = table.at(-1)!;
  return table[0]![1] + (0.6 * step.tokenCount * (m1 - m0)) / (n1 - n0);
}
