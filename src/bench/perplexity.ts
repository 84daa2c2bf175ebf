/**
 * Perplexity of a text, teacher-forced: windows of token ids go through the model as one sequence each, and every position's
 * log-probability of the token that really follows is read, with KV caches of 16, 8 and 4 bits in turn. The device is called
 * directly, with the Steps that the engine makes of a prefill; logits of all positions are wanted instead of the last one.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type CpuDeviceOptions, createCpuDevice } from '../device/cpu/index.js';
import { createStep, type Device, type Program, type Step } from '../device/device.js';
import { errors } from '../errors.js';
import { llama } from '../model/llama.js';
import { createTokenizerClient } from '../tokenizer/index.js';
import type { TensorSource } from '../types.js';
import { openModel } from '../weights/index.js';

export interface PerplexityOptions {
  /** Path of the model's file or folder. */
  model: string;
  /** Text file; '' = this project's own documentation. */
  file: string;
  /** Tokens a window. Each window starts with the model's start token, if it wants one, and knows nothing of the others. */
  window: number;
  /** Tokens of the text that are used at most; 0 = all. A rest that fills no window is left out. */
  limit: number;
  /** Bits of the KV cache. */
  bits: (16 | 8 | 4)[];
  threads?: number;
  isa?: CpuDeviceOptions['isa'];
  onProgress?: (done: number, total: number) => void;
}

export interface PerplexityRow {
  bits: 16 | 8 | 4;
  perplexity: number;
  /** Mean of -log p, natural logarithm. */
  meanNll: number;
  /** Perplexity over that of the first row, and its standard error, from the differences of the windows' means. */
  ratio: number;
  ratioError: number;
  /** Prompt tokens a second, logits of every position included. */
  tokensPerSecond: number;
}

export interface PerplexityResult {
  textSha256: string;
  window: number;
  windows: number;
  /** Tokens whose log-probability was read: all but the first of each window. */
  scored: number;
  rows: PerplexityRow[];
}

/** Tokens of one step. */
const CHUNK = 256;

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** The documentation that comes with this package; a checkout has more of it. */
function ownProse(): string {
  const docs = path.join(ROOT, 'docs');
  const more = existsSync(docs) ? readdirSync(docs).sort() : [];
  return ['README.md', 'ARCHITECTURE.md', ...more.filter((f) => f.endsWith('.md')).map((f) => path.join('docs', f))]
    .map((f) => readFileSync(path.join(ROOT, f), 'utf8'))
    .join('\n');
}

function readText(file: string): string {
  try {
    return file === '' ? ownProse() : readFileSync(file, 'utf8');
  } catch (e) {
    throw errors.io(`could not read '${file}'`, e instanceof Error ? e.message : String(e));
  }
}

/** The text's token ids, cut into windows. */
export function cutWindows(
  ids: ArrayLike<number>,
  start: readonly number[],
  window: number,
  limit: number,
): number[][] {
  const fresh = window - start.length;
  const all = Array.from(ids).slice(0, limit > 0 ? limit : undefined);
  const out: number[][] = [];
  for (let at = 0; at + fresh <= all.length; at += fresh) out.push([...start, ...all.slice(at, at + fresh)]);
  if (out.length === 0) throw errors.invalidRequest(`the text has ${all.length} tokens, fewer than one window`);
  return out;
}

interface ScoredModel {
  program: Program;
  weights: TensorSource;
}

interface PerplexityInput extends ScoredModel {
  windows: number[][];
  textSha256: string;
}

/** The model's program and weights, and what tokenizers read. */
export function readScored(model: string): ScoredModel & { metadata: ReadonlyMap<string, unknown> } {
  const { config, source, metadata } = openModel(model, { sessionLen: 0, weights: 'file' });
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  return { program: llama({ ...dims, rmsEps, rope, tiedOutput, flags }), weights: source, metadata };
}

/** The model, and the text in windows of its token ids. */
export async function readInput(
  o: Pick<PerplexityOptions, 'model' | 'file' | 'window' | 'limit'>,
): Promise<PerplexityInput> {
  const { program, weights, metadata } = readScored(o.model);
  const { contextLength, vocab } = program.dims;
  if (o.window < 2 || o.window > contextLength)
    throw errors.invalidOption('window', o.window, `from 2 to ${contextLength}, the model's context length`);
  const text = readText(o.file);
  const tokenizer = await createTokenizerClient(metadata, { modelVocab: vocab });
  try {
    const ids = await tokenizer.encode(text, { special: false });
    return {
      program,
      weights,
      windows: cutWindows(ids, tokenizer.startTokens, o.window, o.limit),
      textSha256: createHash('sha256').update(text).digest('hex'),
    };
  } finally {
    await tokenizer.close();
  }
}

export async function runPerplexity(o: PerplexityOptions): Promise<PerplexityResult> {
  const input = await readInput(o);
  const scores = scoreWindows(input, input.windows, o);
  return {
    textSha256: input.textSha256,
    window: o.window,
    windows: input.windows.length,
    scored: input.windows.length * (o.window - 1),
    rows: scores.map((s) => rowOf(s, scores[0]!)),
  };
}

interface WindowScores {
  bits: 16 | 8 | 4;
  /** (windows, window - 1) log-probability of each token but the first, given those before it. */
  logprobs: Float32Array[];
  seconds: number;
}

/** Every window with each width of the KV cache, taking turns. */
export function scoreWindows(
  model: ScoredModel,
  windows: readonly (readonly number[])[],
  o: Pick<PerplexityOptions, 'bits' | 'threads' | 'isa' | 'onProgress'>,
): WindowScores[] {
  const longest = Math.max(...windows.map((w) => w.length));
  const runs: { reader: WindowReader; scores: WindowScores }[] = [];
  try {
    for (const bits of o.bits) {
      const reader = new WindowReader(model, longest, bits, o);
      runs.push({ reader, scores: { bits, logprobs: [], seconds: 0 } });
    }
    let done = 0;
    for (const window of windows) {
      for (const { reader, scores } of runs) {
        const started = performance.now();
        scores.logprobs.push(reader.read(window));
        scores.seconds += (performance.now() - started) / 1e3;
      }
      o.onProgress?.(++done, windows.length);
    }
    return runs.map((r) => r.scores);
  } finally {
    for (const { reader } of runs) reader.close();
  }
}

/** A loaded model that reads one sequence at a time. */
class WindowReader {
  readonly #device: Device;
  readonly #step: Step;

  constructor(
    { program, weights }: ScoredModel,
    longest: number,
    bits: 16 | 8 | 4,
    o: Pick<PerplexityOptions, 'threads' | 'isa'>,
  ) {
    const { vocab, layers, kvHeads, headDim } = program.dims;
    const blockLen = 64;
    const blocks = Math.ceil(longest / blockLen);
    const limits = { maxTokens: CHUNK, maxRows: 1, maxBlocksPerRow: blocks, maxLogits: CHUNK, vocab };
    this.#device = createCpuDevice({ threads: o.threads || undefined, isa: o.isa });
    try {
      const kv = { layers, kvHeads, headDim, blockLen, bits };
      this.#device.load(program, weights, { limits, kv, maxBlocks: blocks });
      if (!this.#device.growKv(blocks)) throw errors.notEnoughMemory('the KV cache of one window', blocks, 0);
    } catch (e) {
      this.#device.close();
      throw e;
    }
    this.#step = createStep(limits);
    for (let b = 0; b < blocks; b++) this.#step.blockTables[b] = b;
  }

  /** Log-probability of each token but the first. */
  read(ids: readonly number[]): Float32Array {
    const out = new Float32Array(ids.length - 1);
    const step = this.#step;
    step.rowCount = 1;
    for (let at = 0; at < out.length; at += CHUNK) {
      const n = Math.min(CHUNK, out.length - at);
      step.tokenCount = step.logitCount = n;
      step.rowStart[1] = n;
      for (let i = 0; i < n; i++) {
        step.tokens[i] = ids[at + i]!;
        step.positions[i] = at + i;
        step.logitRows[i] = i;
        step.topLogprobs[i] = 0;
        step.scoreToken[i] = ids[at + i + 1]!;
      }
      out.set(this.#device.wait(this.#device.submit(step)).scoreLogprobs.subarray(0, n), at);
    }
    return out;
  }

  close(): void {
    this.#device.close();
  }
}

const mean = (a: ArrayLike<number>) => Array.from(a).reduce((x, y) => x + y, 0) / a.length;

/** Mean -log p over all, and the standard error of its difference to another's from the differences of the windows. */
export function compareScores(a: readonly Float32Array[], b: readonly Float32Array[]) {
  const nll = (s: readonly Float32Array[]) => -mean(s.map(mean));
  const differences = a.map((x, i) => mean(b[i]!) - mean(x));
  const center = mean(differences);
  const variance = differences.reduce((s, d) => s + (d - center) ** 2, 0) / Math.max(1, differences.length - 1);
  const ratio = Math.exp(center);
  return { meanNll: nll(a), ratio, ratioError: ratio * Math.sqrt(variance / differences.length) };
}

function rowOf(s: WindowScores, first: WindowScores): PerplexityRow {
  const { meanNll, ratio, ratioError } = compareScores(s.logprobs, first.logprobs);
  const tokens = s.logprobs.reduce((n, w) => n + w.length, 0);
  const tokensPerSecond = tokens / s.seconds;
  return { bits: s.bits, perplexity: Math.exp(meanNll), meanNll, ratio, ratioError, tokensPerSecond };
}
