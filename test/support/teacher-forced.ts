/** Runs token ids through a model on the CPU device and compares each position's likeliest token with a recorded one. */
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { createStep } from '../../src/device/device.js';
import { openFile } from './model-file.js';

const CHUNK = 512;

interface Recorded {
  tokens: readonly number[];
  /** (tokens) the other implementation's likeliest next token, and its log-probability there. */
  top: readonly number[];
  logprobs: readonly number[];
}

/** By text and position: does the likeliest token agree; by how much differs the log-probability of the recorded one. */
export function teacherForced(file: string, texts: readonly Recorded[]): { agrees: boolean[]; deltas: number[] }[] {
  const { program, weights } = openFile(file);
  const { vocab, layers, kvHeads, headDim } = program.dims;
  const blocks = Math.ceil(Math.max(...texts.map((t) => t.tokens.length)) / 64);
  const limits = { maxTokens: CHUNK, maxRows: 1, maxBlocksPerRow: blocks, maxLogits: CHUNK, vocab };
  const device = createCpuDevice();
  try {
    const kv = { layers, kvHeads, headDim, blockLen: 64, bits: 16 as const };
    device.load(program, weights, { limits, kv, maxBlocks: blocks });
    device.growKv(blocks);
    const step = createStep(limits);
    for (let b = 0; b < blocks; b++) step.blockTables[b] = b;
    return texts.map(({ tokens, top, logprobs }) => {
      const out = { agrees: [] as boolean[], deltas: [] as number[] };
      for (let at = 0; at < tokens.length; at += CHUNK) {
        const n = Math.min(CHUNK, tokens.length - at);
        step.rowCount = 1;
        step.tokenCount = step.logitCount = n;
        step.rowStart.set([0, n]);
        for (let i = 0; i < n; i++) {
          step.tokens[i] = tokens[at + i]!;
          step.positions[i] = at + i;
          step.logitRows[i] = i;
          step.topLogprobs[i] = 0;
          step.scoreToken[i] = top[at + i]!;
        }
        const result = device.wait(device.submit(step));
        for (let i = 0; i < n; i++) {
          out.agrees.push(result.tokens[i] === top[at + i]);
          out.deltas.push(Math.abs(result.scoreLogprobs[i]! - logprobs[at + i]!));
        }
      }
      return out;
    });
  } finally {
    device.close();
  }
}

export const share = (list: readonly boolean[]): number => list.filter(Boolean).length / list.length;
export const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / list.length;
