/** Fills a step from what the scheduler planned. */

import type { Matcher } from 'longmind-grammar';
import type { CacheManager } from '../cache/types.js';
import { MAX_TOP_LOGPROBS, type Step, type StepLimits, type StepResult } from '../device/device.js';
import { invariant } from '../errors.js';
import type { TokenLogprob } from '../types.js';
import type { Flight } from './flight.js';
import type { LiveRequest } from './request.js';

const NO_DRAFT = new Int32Array(0);

export class StepBuilder {
  /** What is being filled. */
  flight!: Flight;
  readonly #maskWords: number;
  #historyUsed = 0;
  #biasUsed = 0;
  #masksUsed = 0;

  constructor(
    private readonly limits: StepLimits,
    private readonly cache: CacheManager,
  ) {
    this.#maskWords = Math.ceil(limits.vocab / 32);
  }

  /** Begins a step; what the flight held is forgotten. */
  begin(flight: Flight): void {
    this.flight = flight;
    flight.rows.length = 0;
    flight.deadEnds.clear();
    this.#historyUsed = 0;
    this.#biasUsed = 0;
    this.#masksUsed = 0;
    const s = flight.step;
    s.rowCount = s.tokenCount = s.logitCount = s.copyCount = 0;
  }

  /** Adds the next `count` tokens of a sequence whose blocks are reserved, and guesses of what follows the last known one. */
  addRow(r: LiveRequest, count: number, draft: Int32Array = NO_DRAFT): void {
    const f = this.flight;
    const s = f.step;
    const row = f.rows.length;
    const at = s.tokenCount;
    const end = at + count + draft.length;
    f.counts[row] = count;
    f.drafts[row] = draft.length;
    f.rows.push(r);
    s.rowStart[row] = at;
    s.rowStart[row + 1] = end;
    s.rowSlot[row] = r.slot;
    s.rowAdapter[row] = r.adapter;
    s.rowCount = row + 1;
    s.tokenCount = end;
    this.#setTokens(r, count, at);
    for (let i = 0; i < draft.length; i++) {
      s.tokens[at + count + i] = draft[i]!;
      s.positions[at + count + i] = r.scheduled + count + i;
    }
    this.#updateTable(r);
    f.logits[row] = s.logitCount;
    if (r.states?.pooling === 'mean') for (let t = at; t < end; t++) this.#want(r, t, 0, null);
    else if (r.scheduled + count === r.length) this.#wantAll(r, at + count - 1, draft);
    f.logits[row + 1] = s.logitCount;
  }

  /** Last: block copies that fork and partial sharing asked for. */
  end(): Step {
    const { step } = this.flight;
    step.copyCount = this.cache.takeCopies(step.copies);
    return step;
  }

  /** The last one may be still on its way: then it is what its logit row draws. */
  #setTokens(r: LiveRequest, count: number, at: number): void {
    const { tokens, positions } = this.flight.step;
    const first = r.scheduled;
    if (count === 1) {
      tokens[at] =
        r.drawing > 0 ? -1 - r.drawnBy : first === r.known - 1 ? r.lastToken : this.cache.tokenAt(r.sequence, first);
      positions[at] = first;
      return;
    }
    this.cache.readTokens(r.sequence, first, first + count, tokens, at);
    for (let i = 0; i < count; i++) positions[at + i] = first + i;
  }

  #updateTable(r: LiveRequest): void {
    const f = this.flight;
    const { slot } = r;
    const version = this.cache.tableVersion(r.sequence);
    const first = version === f.tableVersion[slot] ? f.tableLength[slot]! : 0;
    const offset = slot * this.limits.maxBlocksPerRow;
    f.tableLength[slot] = this.cache.blockTable(r.sequence, f.step.blockTables, offset, first);
    f.tableVersion[slot] = version;
  }

  /** The logits of the last known token, and of each guess as if those before it were known. */
  #wantAll(r: LiveRequest, token: number, draft: Int32Array): void {
    if (draft.length === 0) {
      this.#want(r, token, 0, r.matcher);
      return;
    }
    const matcher = r.matcher?.clone() ?? null;
    const want = (guesses: number) => {
      if (guesses > 0) invariant(matcher?.accept(draft[guesses - 1]!) ?? true, 'a guess that the grammar forbids');
      this.#want(r, token + guesses, guesses, matcher);
    };
    if (r.history) r.history.with(draft, want);
    else for (let n = 0; n <= draft.length; n++) want(n);
  }

  #want(r: LiveRequest, token: number, guesses: number, matcher: Matcher | null): void {
    const s = this.flight.step;
    const i = s.logitCount++;
    // first what may move the arrays
    const maskRow = matcher ? this.#addMask(r, matcher) : -1;
    this.#addHistory(r, i);
    this.#addBias(r, i, guesses);
    s.logitRows[i] = token;
    s.maskRow[i] = maskRow;
    const { sampledBy } = this.flight;
    // the row has them from the last step with this buffer
    if (sampledBy[i] === r.slot) return;
    sampledBy[i] = r.slot;
    const p = r.request.sampling;
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
  }

  #addMask(r: LiveRequest, matcher: Matcher): number {
    const { step, deadEnds } = this.flight;
    const row = this.#masksUsed++;
    step.reserve('masks', this.#masksUsed * this.#maskWords);
    if (!matcher.fillMask(step.masks, row * this.#maskWords, this.#maskWords)) deadEnds.add(r);
    return row;
  }

  #addHistory(r: LiveRequest, i: number): void {
    const s = this.flight.step;
    const h = r.history;
    const from = this.#historyUsed;
    if (h) {
      this.#historyUsed += h.size;
      s.reserve('historyTokens', this.#historyUsed);
      s.reserve('historyCounts', this.#historyUsed);
      s.historyTokens.set(h.tokens.subarray(0, h.size), from);
      s.historyCounts.set(h.counts.subarray(0, h.size), from);
    }
    s.historyStart[i] = from;
    s.historyStart[i + 1] = this.#historyUsed;
  }

  #addBias(r: LiveRequest, i: number, guesses: number): void {
    const s = this.flight.step;
    const from = this.#biasUsed;
    const asked = r.biased;
    const bans = r.generated + r.drawing + guesses < r.minTokens ? r.bans.length : 0;
    if (asked + bans > 0) {
      this.#biasUsed += asked + bans;
      s.reserve('biasTokens', this.#biasUsed);
      s.reserve('biasValues', this.#biasUsed);
      s.biasTokens.set(r.biasTokens, from);
      s.biasValues.set(r.biasValues, from);
      for (let b = 0; b < bans; b++) {
        s.biasTokens[from + asked + b] = r.bans[b]!;
        s.biasValues[from + asked + b] = -Infinity;
      }
    }
    s.biasStart[i] = from;
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
