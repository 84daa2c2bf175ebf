/**
 * What goes up for a step: only what it has, packed, in one copy. Where an array lies follows from a few sizes, so that a graph,
 * in which addresses are fixed, serves every step of the same rounded sizes. Block tables are by row here, not by slot.
 */
import type { Step, StepLimits } from '../device.js';
import { checkBlock } from './check-step.js';
import type { TaskLists, Tasks } from './tasks.js';

export interface UploadSizes {
  tokens: number;
  logits: number;
  /** Rows and columns of the block tables. */
  rows: number;
  columns: number;
  /** Tasks of both attention kernels. */
  decode: number;
  prefill: number;
  copies: number;
  /** Elements of the lists. */
  bias: number;
  history: number;
  masks: number;
}

/** One element a logit row. */
const SAMPLING = [
  ...(['temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'presencePenalty', 'frequencyPenalty'] as const),
  ...(['topLogprobs', 'scoreToken', 'maskRow'] as const),
];
type StepArray =
  | (typeof SAMPLING)[number]
  | ('tokens' | 'positions' | 'logitRows' | 'copies' | 'seed' | 'historyStart' | 'biasStart')
  | ('biasTokens' | 'biasValues' | 'historyTokens' | 'historyCounts' | 'masks');
export type UploadName = StepArray | 'blockTables' | 'slots' | 'decodeTasks' | 'prefillTasks';

/** Words of the step's header that go up as they are: kernels read the counts there. */
const HEADER = 16;
/** Arrays begin at multiples of so many words. */
const ALIGN = 16;
/** Lists have room for so many elements at least, if there are any. */
const LEAST = 64;

export class UploadLayout {
  readonly #at = new Map<UploadName, number>();
  readonly bytes: number;

  constructor(readonly sizes: UploadSizes) {
    let words = HEADER;
    for (const [name, length] of lengthsOf(sizes)) {
      this.#at.set(name, words);
      // an address is needed also where there is nothing
      words += Math.max(ALIGN, Math.ceil(length / ALIGN) * ALIGN);
    }
    this.bytes = 4 * words;
  }

  /** Words before an array. */
  at(name: UploadName): number {
    return this.#at.get(name)!;
  }
}

function lengthsOf(s: UploadSizes): [UploadName, number][] {
  return [
    ['slots', s.tokens],
    ['decodeTasks', 4 * s.decode],
    ['prefillTasks', 4 * s.prefill],
    ['tokens', s.tokens],
    ['positions', s.tokens],
    ['blockTables', s.rows * s.columns],
    ['copies', 3 * s.copies],
    ['logitRows', s.logits],
    ...SAMPLING.map((name): [UploadName, number] => [name, s.logits]),
    ['seed', 2 * s.logits],
    ['historyStart', s.logits + 1],
    ['biasStart', s.logits + 1],
    ['biasTokens', s.bias],
    ['biasValues', s.bias],
    ['historyTokens', s.history],
    ['historyCounts', s.history],
    ['masks', s.masks],
  ];
}

/** What the step has, lists rounded up so that they grow seldom. */
export function sizesOf(s: Step, tasks: Tasks, limits: StepLimits): UploadSizes {
  const n = s.logitCount;
  let maskRows = 0;
  for (let i = 0; i < n; i++) maskRows = Math.max(maskRows, s.maskRow[i]! + 1);
  return {
    tokens: s.tokenCount,
    logits: n,
    rows: s.rowCount,
    columns: limits.maxBlocksPerRow,
    decode: tasks.decode,
    prefill: tasks.prefill,
    copies: s.copyCount,
    bias: n > 0 ? room(s.biasStart[n]!, LEAST) : 0,
    history: n > 0 ? room(s.historyStart[n]!, LEAST) : 0,
    masks: room(maskRows, 1) * Math.ceil(limits.vocab / 32),
  };
}

const room = (n: number, least: number): number => (n === 0 ? 0 : Math.max(least, 2 ** Math.ceil(Math.log2(n))));

/** Bytes of the largest upload without lists; what has more finds room when it comes. */
export function uploadBytes({ maxTokens, maxLogits, maxRows, maxBlocksPerRow }: StepLimits): number {
  const lists = { bias: LEAST, history: LEAST, masks: 0 };
  return new UploadLayout({
    ...lists,
    tokens: maxTokens,
    logits: maxLogits,
    rows: maxRows,
    columns: maxBlocksPerRow,
    decode: maxTokens,
    prefill: maxTokens,
    copies: 2 * maxRows,
  }).bytes;
}

/**
 * Writes the step and its tasks as laid out; what the layout has room for beyond them is harmless to read. `blocks`: KV blocks that have
 * memory.
 * @throws native_error
 */
export function writeUpload(
  s: Step,
  tasks: Tasks,
  lists: TaskLists,
  layout: UploadLayout,
  blocks: number,
  out: Upload,
): void {
  const { words } = out;
  for (let i = 0; i < HEADER; i++) words[i] = s.header[i]!;
  writeTokens(s, layout, words);
  writeTables(s, lists.blocks, layout, blocks, words);
  const task = layout.at('decodeTasks');
  for (let i = 0; i < 4 * tasks.decode; i++) words[task + i] = lists.decode[i]!;
  words.fill(0, task + 4 * tasks.decode, task + 4 * layout.sizes.decode);
  const prefill = layout.at('prefillTasks');
  for (let i = 0; i < 4 * tasks.prefill; i++) words[prefill + i] = lists.prefill[i]!;
  const n = s.logitCount;
  const put = (name: StepArray, length: number) => {
    if (length === 0) return;
    const { byteOffset } = s[name];
    out.bytes.set(s.bytes.subarray(byteOffset, byteOffset + 4 * length), 4 * layout.at(name));
  };
  put('copies', 3 * s.copyCount);
  if (n === 0) return;
  for (const name of SAMPLING) put(name, n);
  put('seed', 2 * n);
  put('historyStart', n + 1);
  put('biasStart', n + 1);
  for (const name of ['biasTokens', 'biasValues'] as const) put(name, s.biasStart[n]!);
  for (const name of ['historyTokens', 'historyCounts'] as const) put(name, s.historyStart[n]!);
  put('masks', Math.min(s.masks.length, layout.sizes.masks));
}

/** Pinned memory that a step is written into. */
export interface Upload {
  bytes: Uint8Array;
  /** The same. */
  words: Int32Array;
}

function writeTokens(s: Step, layout: UploadLayout, words: Int32Array): void {
  const { tokens, logits } = layout.sizes;
  const slot = layout.at('slots');
  const token = layout.at('tokens');
  const position = layout.at('positions');
  for (let r = 0; r < s.rowCount; r++) {
    for (let t = s.rowStart[r]!; t < s.rowStart[r + 1]!; t++) {
      words[slot + t] = r;
      words[token + t] = s.tokens[t]!;
      words[position + t] = s.positions[t]!;
    }
  }
  words.fill(0, token + s.tokenCount, token + tokens);
  words.fill(0, position + s.tokenCount, position + tokens);
  const row = layout.at('logitRows');
  for (let i = 0; i < s.logitCount; i++) words[row + i] = s.logitRows[i]!;
  words.fill(0, row + s.logitCount, row + logits);
}

/** Of each row the blocks that it needs. */
function writeTables(s: Step, needs: Int32Array, layout: UploadLayout, blocks: number, words: Int32Array): void {
  const { columns } = layout.sizes;
  const { blockTables: tables, rowSlot, rowCount } = s;
  const perSlot = tables.length / rowSlot.length;
  let to = layout.at('blockTables');
  for (let r = 0; r < rowCount; r++, to += columns) {
    const from = rowSlot[r]! * perSlot;
    const n = needs[r]!;
    for (let b = 0; b < n; b++) {
      const block = tables[from + b]!;
      checkBlock(block, blocks, r);
      words[to + b] = block;
    }
  }
}
