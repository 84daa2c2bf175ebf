/** What a step and its result are made of: the one table that both TypeScript and native code are made from. */

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

export type Element = 'i32' | 'u32' | 'f32';
export interface Field<E extends Element = Element> {
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
  /** (maxRows) index into the program's adapters, or -1: none. Devices without adapters do not look at it. */
  rowAdapter: i32((l) => l.maxRows, -1),
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

export type Fields = Record<string, Field>;
