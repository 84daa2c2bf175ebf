/** What a step must be before kernels that check nothing read it. The same rules as native/cpu/step.cpp. */
import { errors } from '../../errors.js';
import { MAX_TOP_LOGPROBS, type Step, type StepLimits } from '../device.js';

export interface StepBounds {
  limits: StepLimits;
  blockLen: number;
  /** KV blocks that have memory. */
  blocks: number;
  /** Logit rows of the step before. */
  drawn: number;
}

const wrong = (what: string, index: number, value: number) =>
  errors.native(-1, `invalid step: ${what} (index ${index}, value ${value})`);

/** All but the block tables, which are checked as they are copied (`writeUpload`). @throws native_error */
export function checkStep(s: Step, bounds: StepBounds): void {
  const { limits } = bounds;
  const counts = [s.rowCount, s.tokenCount, s.logitCount, s.copyCount];
  const most = [limits.maxRows, limits.maxTokens, limits.maxLogits, 2 * limits.maxRows];
  counts.forEach((n, i) => {
    if (!(n >= 0 && n <= most[i]!)) throw wrong('its counts exceed the limits', i, n);
  });
  checkRows(s, bounds);
  for (let i = 0; i < s.logitCount; i++) {
    const t = s.logitRows[i]!;
    if (t < 0 || t >= s.tokenCount || (i > 0 && t <= s.logitRows[i - 1]!))
      throw wrong('logitRows are out of range or not ascending', i, t);
  }
  for (let i = 0; i < s.copyCount; i++) {
    const [from, to, tokens] = s.copies.subarray(3 * i) as unknown as [number, number, number];
    if (from < 0 || from >= bounds.blocks || to < 0 || to >= bounds.blocks || tokens < 0 || tokens > bounds.blockLen)
      throw wrong('a block copy is out of range', i, from);
  }
  checkSampling(s, limits.vocab);
}

/** Of a row's blocks, read where its table is copied. @throws native_error */
export function checkBlock(block: number, blocks: number, row: number): void {
  if (block < 0 || block >= blocks) throw wrong('a row needs a block that was not grown', row, block);
}

function checkRows(s: Step, { limits, blockLen, drawn }: StepBounds): void {
  // read once: a step's arrays are properties of an object with many
  const { rowStart, rowSlot, positions, tokens, rowCount, tokenCount } = s;
  const { vocab, maxRows, maxBlocksPerRow } = limits;
  let next = 0;
  for (let r = 0; r < rowCount; r++) {
    const from = rowStart[r]!;
    const to = rowStart[r + 1]!;
    const slot = rowSlot[r]!;
    if (from !== next || to <= from || to > tokenCount)
      throw wrong('rowStart does not divide the tokens into rows', r, from);
    next = to;
    if (slot < 0 || slot >= maxRows) throw wrong('a slot is out of range', r, slot);
    const first = positions[from]!;
    const end = first + to - from;
    if (first < 0 || end > maxBlocksPerRow * blockLen)
      throw wrong('positions of a row are not consecutive or exceed the session length', r, first);
    for (let t = from; t < to; t++) {
      const token = tokens[t]!;
      if (token >= 0 ? token >= vocab : -1 - token >= drawn)
        throw wrong('a token id is outside the vocabulary, or refers to a row that drew nothing', t, token);
      if (positions[t] !== first + t - from)
        throw wrong('positions of a row are not consecutive or exceed the session length', t, positions[t]!);
    }
  }
  if (next !== tokenCount) throw wrong('rowStart does not divide the tokens into rows', rowCount, next);
}

function checkSampling(s: Step, vocab: number): void {
  const n = s.logitCount;
  const { historyTokens, historyCounts, biasTokens, biasValues } = s;
  const history = Math.min(historyTokens.length, historyCounts.length);
  checkLists(s.historyStart, historyTokens, history, n, vocab, 'token history');
  checkLists(s.biasStart, biasTokens, Math.min(biasTokens.length, biasValues.length), n, vocab, 'logit bias');
  const { temperature, topLogprobs, scoreToken, repetitionPenalty, topP, minP, maskRow, masks } = s;
  const words = Math.ceil(vocab / 32);
  for (let i = 0; i < n; i++) {
    const top = topLogprobs[i]!;
    const score = scoreToken[i]!;
    const good =
      temperature[i]! >= 0 &&
      top >= -1 &&
      top <= MAX_TOP_LOGPROBS &&
      score >= -1 &&
      score < vocab &&
      repetitionPenalty[i]! > 0 &&
      topP[i]! >= 0 &&
      minP[i]! >= 0 &&
      minP[i]! <= 1;
    if (!good) throw wrong('a sampling parameter is out of range', i, top);
    const row = maskRow[i]!;
    if (row < -1 || (row + 1) * words > masks.length) throw wrong('a mask row is out of range', i, row);
  }
}

function checkLists(
  start: Int32Array,
  tokens: Int32Array,
  length: number,
  n: number,
  vocab: number,
  what: string,
): void {
  if (n === 0) return;
  if (start[0]! < 0 || start[n]! > length) throw wrong(`the ${what} is out of range`, 0, start[n]!);
  for (let i = 0; i < n; i++)
    if (start[i + 1]! < start[i]!) throw wrong(`the ${what} is out of range`, i, start[i + 1]!);
  for (let i = start[0]!; i < start[n]!; i++)
    if (tokens[i]! < 0 || tokens[i]! >= vocab) throw wrong(`the ${what} is out of range`, i, tokens[i]!);
}
