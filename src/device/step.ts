/**
 * A step and its result: each one flat buffer, described by one table. Everything that crosses the boundary to native code
 * lies in it, so one pointer and one length say all:
 *
 *     words   0        layout hash of the table below
 *             1 …      counts
 *             …        directory: for each array its offset and its length, both in words of 4 bytes
 *             …        the arrays, at multiples of 64 bytes
 *
 * The C side of it (`stepHeader`) is generated from the same table; devices compile it in, and a library that was built
 * from another table is refused by its hash.
 */
import { InvariantError } from '../errors.js';

export const MAX_TOP_LOGPROBS = 20;

/** Sizes a step may have; a device sizes its workspace by them. */
export interface StepLimits {
  /** Tokens in one step, all rows together. */
  maxTokens: number;
  /** Sequences in one step = number of slots. */
  maxRows: number;
  /** Columns of the block table: ceil(sessionLength / blockLen). */
  maxBlocksPerRow: number;
  /** Rows of logits in one step, several of a sequence included. */
  maxLogits: number;
  vocab: number;
}

type Element = 'i32' | 'u32' | 'f32';
interface Field<E extends Element = Element> {
  type: E;
  /** Elements to begin with. */
  length: (limits: StepLimits) => number;
  /** What the elements are at first. */
  fill: number;
}
const field =
  <E extends Element>(type: E) =>
  (length: Field['length'], fill = 0): Field<E> => ({ type, length, fill });
const i32 = field('i32');
const u32 = field('u32');
const f32 = field('f32');

export const STEP_COUNTS = ['rowCount', 'tokenCount', 'logitCount', 'copyCount'] as const;

/**
 * Row r (a sequence) owns tokens rowStart[r] … rowStart[r+1]-1, at consecutive positions; its context is everything stored
 * at smaller positions in the blocks of its slot. Arrays from `temperature` on are parallel over the wanted logits. Order of
 * work there: bias and mask, penalties, temperature, top-k, top-p, min-p, draw.
 */
export const STEP_FIELDS = {
  /** (maxTokens) token ids; -1 - i: the one that logit row i of the step submitted before this one draws. */
  tokens: i32((l) => l.maxTokens),
  /** (maxTokens) absolute positions. */
  positions: i32((l) => l.maxTokens),
  /** (maxRows + 1) first token of each row. */
  rowStart: i32((l) => l.maxRows + 1),
  /** (maxRows) which row of `blockTables` belongs to the sequence. */
  rowSlot: i32((l) => l.maxRows),
  /** (maxRows, maxBlocksPerRow) block numbers by slot. A slot's row changes only when its blocks do. */
  blockTables: i32((l) => l.maxRows * l.maxBlocksPerRow),
  /** (maxLogits) indexes into `tokens` whose logits are wanted, ascending; a row may want several of its own. */
  logitRows: i32((l) => l.maxLogits),
  /** (2 × maxRows, 3) triples (from block, to block, leading tokens to copy), done before anything else in the step. */
  copies: i32((l) => 6 * l.maxRows),
  /** (maxLogits); 0 = greedy (argmax, lowest id wins ties). */
  temperature: f32((l) => l.maxLogits),
  /** (maxLogits); 0 = off. */
  topK: i32((l) => l.maxLogits),
  /** (maxLogits); 1 = off. */
  topP: f32((l) => l.maxLogits, 1),
  /** (maxLogits); 0 = off. */
  minP: f32((l) => l.maxLogits),
  /** (maxLogits); 1 = off. Divides positive and multiplies negative logits of tokens in the history. */
  repetitionPenalty: f32((l) => l.maxLogits, 1),
  /** (maxLogits); 0 = off. Subtracted once from tokens of the history whose count is above 0. */
  presencePenalty: f32((l) => l.maxLogits),
  /** (maxLogits); 0 = off. Subtracted count times. */
  frequencyPenalty: f32((l) => l.maxLogits),
  /** (maxLogits, 2) seed; the random number is a function of (seed, position of the token being drawn) only. */
  seed: u32((l) => 2 * l.maxLogits),
  /** (maxLogits) -1: no log-probabilities; 0…20: that many alternatives. They are of the model's raw distribution. */
  topLogprobs: i32((l) => l.maxLogits, -1),
  /** (maxLogits) a token whose raw log-probability is wanted too, or -1. */
  scoreToken: i32((l) => l.maxLogits, -1),
  /** (maxLogits) row of `masks` that limits the choice, or -1. */
  maskRow: i32((l) => l.maxLogits, -1),
  /** (maxLogits + 1) offsets into historyTokens / historyCounts: distinct tokens, how often each was generated (0 = prompt only). */
  historyStart: i32((l) => l.maxLogits + 1),
  /** (maxLogits + 1) offsets into biasTokens / biasValues (added to logits; -Infinity bans). */
  biasStart: i32((l) => l.maxLogits + 1),
  // those below grow on demand: see `reserve`
  biasTokens: i32(() => 256),
  biasValues: f32(() => 256),
  historyTokens: i32(() => 1024),
  historyCounts: i32(() => 1024),
  /** (rows, ceil(vocab / 32)) bit t of a row set = token t allowed. */
  masks: i32((l) => Math.ceil(l.vocab / 32)),
};

export const RESULT_COUNTS = ['ran', 'logitCount', 'faultIndex', 'faultValue'] as const;

/** Row i belongs to logitRows[i]. */
export const RESULT_FIELDS = {
  /** (maxLogits) drawn token. */
  tokens: i32((l) => l.maxLogits),
  /** (maxLogits) 0 = good, 1 = the logits hold NaN or no allowed token is finite. */
  status: i32((l) => l.maxLogits),
  /** (maxLogits) raw log-probability of the drawn token; NaN where not asked for. */
  logprobs: f32((l) => l.maxLogits, Number.NaN),
  /** (maxLogits) raw log-probability of scoreToken; NaN where not asked for. */
  scoreLogprobs: f32((l) => l.maxLogits, Number.NaN),
  /** (maxLogits, MAX_TOP_LOGPROBS) */
  topTokens: i32((l) => l.maxLogits * MAX_TOP_LOGPROBS, -1),
  topLogprobs: f32((l) => l.maxLogits * MAX_TOP_LOGPROBS, Number.NaN),
};

type Fields = Record<string, Field>;
type View<E extends Element> = E extends 'f32' ? Float32Array : E extends 'u32' ? Uint32Array : Int32Array;
type Views<F extends Fields> = { readonly [K in keyof F]: View<F[K]['type']> };
const VIEWS = { i32: Int32Array, u32: Uint32Array, f32: Float32Array };

/** Where the memory of a step or result comes from; a device that copies it elsewhere may want memory of its own. */
export type Allocate = (bytes: number) => ArrayBufferLike;
const ordinary: Allocate = (bytes) => new ArrayBuffer(bytes);

/** Words between arrays: a cache line. */
const ALIGN = 16;
const aligned = (words: number) => Math.ceil(words / ALIGN) * ALIGN;

/** Header, directory and views of one flat buffer. */
class Flat {
  header!: Int32Array;
  /** The whole buffer. */
  bytes!: Uint8Array;

  constructor(
    private readonly fields: Fields,
    private readonly counts: number,
    private readonly allocate: Allocate,
    lengths: number[],
  ) {
    this.#layOut(lengths);
    const self = this as unknown as Record<string, Int32Array>;
    for (const [name, { fill }] of Object.entries(fields)) if (fill !== 0) self[name]!.fill(fill);
  }

  /**
   * Makes an array at least so long. The whole buffer may move then: views that were read before are stale.
   * @throws InvariantError for a name that no array has
   */
  protected grow(name: string, length: number): void {
    const self = this as unknown as Record<string, Int32Array>;
    const names = Object.keys(this.fields);
    if (!names.includes(name)) throw new InvariantError(`a step has no array '${name}'`);
    const old = names.map((n) => self[n]!);
    const before = this.header.slice(0, 1 + this.counts);
    this.#layOut(names.map((n, i) => (n === name ? Math.max(length, 2 * old[i]!.length) : old[i]!.length)));
    this.header.set(before);
    names.forEach((n, i) => {
      self[n]!.set(old[i]!);
    });
  }

  #layOut(lengths: number[]): void {
    const entries = Object.entries(this.fields);
    const directory = 1 + this.counts;
    let words = aligned(directory + 2 * entries.length);
    const offsets = lengths.map((n) => {
      const at = words;
      words = aligned(at + n);
      return at;
    });
    const buffer = this.allocate(4 * words);
    this.bytes = new Uint8Array(buffer, 0, 4 * words);
    this.header = new Int32Array(buffer, 0, directory + 2 * entries.length);
    this.header[0] = STEP_LAYOUT;
    entries.forEach(([name, { type }], i) => {
      this.header[directory + 2 * i] = offsets[i]!;
      this.header[directory + 2 * i + 1] = lengths[i]!;
      Object.assign(this, { [name]: new VIEWS[type](buffer as ArrayBuffer, 4 * offsets[i]!, lengths[i]!) });
    });
  }
}

const lengthsOf = (fields: Fields, limits: StepLimits) => Object.values(fields).map((f) => f.length(limits));

class FlatStep extends Flat {
  constructor(limits: StepLimits, allocate: Allocate) {
    super(STEP_FIELDS, STEP_COUNTS.length, allocate, lengthsOf(STEP_FIELDS, limits));
  }

  get rowCount(): number {
    return this.header[1]!;
  }
  set rowCount(n: number) {
    this.header[1] = n;
  }
  get tokenCount(): number {
    return this.header[2]!;
  }
  set tokenCount(n: number) {
    this.header[2] = n;
  }
  get logitCount(): number {
    return this.header[3]!;
  }
  set logitCount(n: number) {
    this.header[3] = n;
  }
  get copyCount(): number {
    return this.header[4]!;
  }
  set copyCount(n: number) {
    this.header[4] = n;
  }

  /** Makes an array at least so long. The buffer may move: views that were read before are stale then. */
  reserve(name: keyof typeof STEP_FIELDS, length: number): void {
    if ((this as unknown as Step)[name].length < length) this.grow(name, length);
  }
}

class FlatResult extends Flat {
  constructor(limits: StepLimits, allocate: Allocate) {
    super(RESULT_FIELDS, RESULT_COUNTS.length, allocate, lengthsOf(RESULT_FIELDS, limits));
  }

  /** False if the cancel flag stopped the step half-way: nothing of it may be committed. */
  get completed(): boolean {
    return this.header[1] === 1;
  }
  set completed(yes: boolean) {
    this.header[1] = yes ? 1 : 0;
  }
  get logitCount(): number {
    return this.header[2]!;
  }
  set logitCount(n: number) {
    this.header[2] = n;
  }
  /** Where a refused step is at fault (a row, a logit row, an operation) … */
  get faultIndex(): number {
    return this.header[3]!;
  }
  /** … and the value found there. */
  get faultValue(): number {
    return this.header[4]!;
  }
}

/** One unit of work, plain data: counts and arrays of STEP_FIELDS. It belongs to the device from `submit` to `wait`. */
export type Step = FlatStep & Views<typeof STEP_FIELDS>;
/** What a step drew: arrays of RESULT_FIELDS. */
export type StepResult = Readonly<FlatResult & Views<typeof RESULT_FIELDS>>;
export type MutableResult = FlatResult & Views<typeof RESULT_FIELDS>;
/** What sampling reads. */
export type StepSampling = Omit<
  Views<typeof STEP_FIELDS>,
  'tokens' | 'positions' | 'rowStart' | 'rowSlot' | 'blockTables' | 'logitRows' | 'copies'
>;

export function createStep(limits: StepLimits, allocate = ordinary): Step {
  return new FlatStep(limits, allocate) as Step;
}

export function createResult(limits: StepLimits, allocate = ordinary): MutableResult {
  return new FlatResult(limits, allocate) as MutableResult;
}

// ---------------------------------------------------------------- the same for native code

const C_TYPES = { i32: 'int32_t', u32: 'uint32_t', f32: 'float' };

/** The table as C: what `createStep` and `createResult` lay out, and functions that check and read it. */
function describe(): string {
  const snake = (name: string) => name.replace(/([A-Z])/g, '_$1').toUpperCase();
  return [
    `#define LM_MAX_TOP ${MAX_TOP_LOGPROBS}`,
    ...RESULT_COUNTS.map((name, i) => `#define LM_RESULT_${snake(name)} ${1 + i}`),
    struct('LmStep', 'lm_read_step', STEP_COUNTS, STEP_FIELDS, 'const '),
    struct('LmResult', 'lm_read_result', RESULT_COUNTS, RESULT_FIELDS, ''),
  ].join('\n');
}

function struct(name: string, read: string, counts: readonly string[], fields: Fields, constness: string): string {
  const names = Object.keys(fields);
  const array = (n: string, i: number) =>
    `  if (!lm_array(h, words, ${1 + counts.length + 2 * i}, (const void **)&out->${n}, &out->${n}Length)) return 0;`;
  return `struct ${name} {
  ${constness}int32_t *header;
${counts.map((n) => `  int32_t ${n};`).join('\n')}
${names.map((n) => `  ${constness}${C_TYPES[fields[n]!.type]} *${n};\n  int32_t ${n}Length;`).join('\n')}
};
/** 0: the buffer is not one of this layout, or an array reaches beyond its end. */
LM_FN int ${read}(${constness}void *buffer, int64_t bytes, ${name} *out) {
  ${constness}int32_t *h = (${constness}int32_t *)buffer;
  int64_t words = bytes / 4;
  if (!h || words < ${1 + counts.length + 2 * names.length} || h[0] != LM_STEP_LAYOUT) return 0;
  out->header = h;
${counts.map((n, i) => `  out->${n} = h[${1 + i}];`).join('\n')}
${names.map(array).join('\n')}
  return 1;
}`;
}

/** Hash of a text (FNV-1a), positive. */
export function hashOf(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return (h ^ (h >>> 15)) & 0x7fffffff;
}

const DESCRIPTION = describe();

/** Names the layout; the first word of every step and result. */
export const STEP_LAYOUT = hashOf(DESCRIPTION);

/** C header (C++, CUDA) of steps and results. Include <stdint.h> before; LM_FN qualifies its functions. */
export function stepHeader(): string {
  return `// Generated from src/device/step.ts.
#pragma once
#ifndef LM_FN
#define LM_FN static inline
#endif
#define LM_STEP_LAYOUT ${STEP_LAYOUT}
/** Array number \`at\` of a directory, if it lies within the buffer. */
LM_FN int lm_array(const int32_t *h, int64_t words, int at, const void **data, int32_t *length) {
  int64_t offset = h[at], n = h[at + 1];
  if (offset < 0 || n < 0 || offset + n > words) return 0;
  *data = h + offset;
  *length = (int32_t)n;
  return 1;
}
${DESCRIPTION}
`;
}
