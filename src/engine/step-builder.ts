/** Fills the reused Step from what the scheduler planned. */
import type { CacheManager } from '../cache/types.js';
import { createStep, MAX_TOP_LOGPROBS, type Step, type StepLimits, type StepResult } from '../device/device.js';
import type { Matcher } from '../grammar/index.js';
import type { TokenLogprob } from '../types.js';
import type { LiveRequest } from './request.js';

export class StepBuilder {
  readonly step: Step;
  /** Requests whose logits are wanted, in the order of logitRows. */
  readonly wanted: LiveRequest[] = [];
  readonly rows: LiveRequest[] = [];
  /** (rows) tokens of each row. */
  readonly counts: Int32Array;
  /** Requests whose grammar allows no token of this vocabulary: their rows fail. */
  readonly deadEnds = new Set<LiveRequest>();
  readonly #maskWords: number;
  #historyUsed = 0;
  #biasUsed = 0;
  #masksUsed = 0;

  constructor(
    private readonly limits: StepLimits,
    private readonly cache: CacheManager,
  ) {
    this.step = createStep(limits);
    this.counts = new Int32Array(limits.maxRows);
    this.#maskWords = Math.ceil(limits.vocab / 32);
  }

  begin(): void {
    this.rows.length = 0;
    this.wanted.length = 0;
    this.#historyUsed = 0;
    this.#biasUsed = 0;
    this.#masksUsed = 0;
    this.deadEnds.clear();
    const s = this.step;
    s.rowCount = s.tokenCount = s.logitCount = s.copyCount = 0;
  }

  /** Adds `count` tokens of a sequence whose blocks are reserved. */
  addRow(r: LiveRequest, count: number): void {
    const s = this.step;
    const first = r.computed;
    const at = s.tokenCount;
    this.counts[this.rows.length] = count;
    this.rows.push(r);
    s.rowStart[s.rowCount] = at;
    s.rowSlot[s.rowCount] = r.slot;
    this.cache.readTokens(r.sequence, first, first + count, s.tokens, at);
    for (let i = 0; i < count; i++) s.positions[at + i] = first + i;
    s.tokenCount = at + count;
    s.rowStart[++s.rowCount] = s.tokenCount;
    this.#updateTable(r);
    if (first + count === r.known) this.#want(r, s.tokenCount - 1);
  }

  /** Last: block copies that fork and partial sharing asked for. */
  end(): Step {
    this.step.copyCount = this.cache.takeCopies(this.step.copies);
    return this.step;
  }

  #updateTable(r: LiveRequest): void {
    const version = this.cache.tableVersion(r.sequence);
    const first = version === r.tableVersion ? r.tableLength : 0;
    const offset = r.slot * this.limits.maxBlocksPerRow;
    r.tableLength = this.cache.blockTable(r.sequence, this.step.blockTables, offset, first);
    r.tableVersion = version;
  }

  #want(r: LiveRequest, token: number): void {
    const i = this.step.logitCount++;
    const s = this.step;
    const p = r.request.sampling;
    // first what may move the arrays
    const maskRow = r.matcher ? this.#addMask(r, r.matcher) : -1;
    this.#addHistory(r, i);
    this.#addBias(r, i);
    this.wanted.push(r);
    this.step.logitRows[i] = token;
    s.temperature[i] = p.temperature;
    s.topK[i] = p.topK;
    s.topP[i] = p.topP;
    s.minP[i] = p.minP;
    s.repetitionPenalty[i] = p.repetitionPenalty;
    s.presencePenalty[i] = p.presencePenalty;
    s.frequencyPenalty[i] = p.frequencyPenalty;
    s.seed[2 * i] = r.seedLow;
    s.seed[2 * i + 1] = r.seedHigh;
    s.topLogprobs[i] = p.logprobs ?? -1;
    s.scoreToken[i] = -1;
    s.maskRow[i] = maskRow;
  }

  #addMask(r: LiveRequest, matcher: Matcher): number {
    const s = this.step;
    const row = this.#masksUsed++;
    s.reserve('masks', this.#masksUsed * this.#maskWords);
    if (!matcher.fillMask(s.masks, row * this.#maskWords, this.#maskWords)) this.deadEnds.add(r);
    return row;
  }

  #addHistory(r: LiveRequest, i: number): void {
    const s = this.step;
    s.historyStart[i] = this.#historyUsed;
    const h = r.history;
    if (h) {
      s.reserve('historyTokens', this.#historyUsed + h.size);
      s.reserve('historyCounts', this.#historyUsed + h.size);
      s.historyTokens.set(h.tokens.subarray(0, h.size), this.#historyUsed);
      s.historyCounts.set(h.counts.subarray(0, h.size), this.#historyUsed);
      this.#historyUsed += h.size;
    }
    s.historyStart[i + 1] = this.#historyUsed;
  }

  #addBias(r: LiveRequest, i: number): void {
    const s = this.step;
    s.biasStart[i] = this.#biasUsed;
    const bans = r.generated < r.request.limits.minTokens ? r.bans.length : 0;
    const all = this.#biasUsed + r.biasTokens.length + bans;
    if (all > this.#biasUsed) {
      s.reserve('biasTokens', all);
      s.reserve('biasValues', all);
      s.biasTokens.set(r.biasTokens, this.#biasUsed);
      s.biasValues.set(r.biasValues, this.#biasUsed);
      for (let b = 0; b < bans; b++) {
        s.biasTokens[this.#biasUsed + r.biasTokens.length + b] = r.bans[b]!;
        s.biasValues[this.#biasUsed + r.biasTokens.length + b] = -Infinity;
      }
      this.#biasUsed = all;
    }
    s.biasStart[i + 1] = this.#biasUsed;
  }
}

/** Log-probabilities of logit row i, as asked for by the request; null if it did not ask. */
export function readLogprobs(result: StepResult, i: number, asked: number | null): TokenLogprob | null {
  if (asked === null) return null;
  const top: TokenLogprob['top'] = [];
  for (let k = 0; k < asked; k++) {
    const at = i * MAX_TOP_LOGPROBS + k;
    top.push({ tokenId: result.topTokens[at]!, logprob: result.topLogprobs[at]! });
  }
  return { tokenId: result.tokens[i]!, logprob: result.logprobs[i]!, top };
}
