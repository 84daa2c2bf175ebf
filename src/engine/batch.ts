/**
 * The persistent batch. Requests join and leave at any step; `step()` is: admit, plan, reserve, run, commit, tell.
 * It owns no thread and no clock of its own, so that tests drive it step by step.
 */
import type { CacheManager } from '../cache/types.js';
import type { Device, Step, StepLimits, StepResult } from '../device/device.js';
import { errors, invariant, LongmindError } from '../errors.js';
import type { FinishReason, TokenLogprob } from '../types.js';
import { type Admission, admit, historyOf } from './admission.js';
import { Forks } from './forks.js';
import { openMatcher } from './matchers.js';
import { type EngineRequest, type FinishedRequest, LiveRequest } from './request.js';
import { runRowByRow } from './row-by-row.js';
import { createPlan, planAdmission, planRunning } from './scheduler.js';
import { Sessions, type SessionsOptions } from './sessions.js';
import type { StepBudget } from './step-budget.js';
import { readLogprobs, StepBuilder } from './step-builder.js';
import { StepTimes } from './step-times.js';
import { StopDetector } from './stop-detector.js';
import { type Turn, undoTurn } from './turn.js';

export interface BatchOptions {
  limits: StepLimits;
  maxQueue: number;
  sessions: SessionsOptions;
  budget: Pick<StepBudget, 'tokens' | 'observe'>;
  admission: Admission;
  now?: () => number;
}

/** Where the events of a step go. Tokens of a request come before its end. */
export interface BatchEvents {
  token(request: EngineRequest, tokenId: number, logprob: TokenLogprob | null): void;
  finished(result: FinishedRequest): void;
  failed(id: number, error: LongmindError): void;
}

export class PersistentBatch {
  readonly sessions: Sessions;
  readonly counters = {
    finished: 0,
    aborted: 0,
    failed: 0,
    preemptions: 0,
    steps: 0,
    prompt: 0,
    cached: 0,
    generated: 0,
  };
  readonly stepTimes = new StepTimes();
  lastStepMs = 0;
  lastStepJsMs = 0;
  /** In rank order, both. */
  readonly #running: LiveRequest[] = [];
  readonly #waiting: LiveRequest[] = [];
  readonly #byId = new Map<number, LiveRequest>();
  readonly #stops = new Map<number, StopDetector>();
  readonly #forks: Forks;
  readonly #freeSlots: number[] = [];
  readonly #builder: StepBuilder;
  readonly #plan;
  readonly #now: () => number;

  constructor(
    private readonly device: Device,
    private readonly cache: CacheManager,
    private readonly options: BatchOptions,
    private readonly events: BatchEvents,
  ) {
    const rows = options.limits.maxRows;
    this.sessions = new Sessions(cache, options.sessions);
    this.#forks = new Forks(cache);
    this.#builder = new StepBuilder(options.limits, cache);
    this.#plan = createPlan(rows);
    this.#now = options.now ?? (() => performance.now());
    for (let s = rows - 1; s >= 0; s--) this.#freeSlots.push(s);
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get running(): number {
    return this.#running.length;
  }

  get idle(): boolean {
    return this.#running.length === 0 && this.#waiting.length === 0;
  }

  /** Takes a request in, or throws the caller's error; then nothing changed. */
  submit(request: EngineRequest): void {
    if (this.#waiting.length >= this.options.maxQueue) throw errors.queueFull(this.options.maxQueue);
    const matcher = openMatcher(request, this.options.admission);
    const { sequence, turn, maxTokens } = admit(request, this.cache, this.sessions, this.options);
    const live = new LiveRequest(request, sequence, this.cache, this.#now());
    live.maxTokens = maxTokens;
    live.promptTokens = live.known;
    live.matcher = matcher;
    if (live.usesPenalties) live.history = historyOf(this.cache, sequence);
    live.turn = turn;
    if (turn) this.sessions.use(turn.session, true);
    const { stop } = request.limits;
    if (stop.length > 0) this.#stops.set(request.id, new StopDetector(stop, this.options.admission.tokenBytes));
    this.#byId.set(request.id, live);
    insertByRank(this.#waiting, live);
    const other = request.forkOf === null ? undefined : this.#byId.get(request.forkOf);
    if (other) this.#forks.join(live, other);
  }

  /** The request ends by the next step. Unknown ids (ended already) are fine. */
  abort(id: number): void {
    const r = this.#byId.get(id);
    if (r) r.aborted = true;
  }

  /** One step. False if there was nothing to do. */
  step(): boolean {
    const start = this.#now();
    this.#removeAborted();
    if (this.idle) return false;
    this.#schedule();
    const step = this.#builder.end();
    if (step.rowCount === 0) return !this.idle;
    const submitted = this.#now();
    let result: StepResult;
    try {
      result = this.#run(step);
    } catch (e) {
      this.#refused(e);
      return true;
    }
    const ran = this.#now() - submitted;
    if (result.completed) {
      this.#observe(ran);
      this.#commit(result);
    }
    this.counters.steps++;
    this.lastStepMs = this.#now() - start;
    this.stepTimes.observe(this.lastStepMs);
    this.lastStepJsMs = this.lastStepMs - ran;
    return true;
  }

  /** The batch and the queue, in order. */
  view(): { running: readonly LiveRequest[]; waiting: readonly LiveRequest[] } {
    return { running: this.#running, waiting: this.#waiting };
  }

  /** Every invariant of batch and cache. */
  check(): void {
    this.cache.check();
    const stats = this.cache.stats();
    invariant(
      stats.sequences.active === this.#running.length,
      `${stats.sequences.active} active sequences, ${this.#running.length} in the batch`,
    );
    if (this.#running.length === 0)
      invariant(stats.blocks.active === 0, `idle, but ${stats.blocks.active} blocks active`);
    const slots = new Set(this.#running.map((r) => r.slot));
    invariant(slots.size === this.#running.length && !slots.has(-1), 'two sequences share a slot');
    invariant(slots.size + this.#freeSlots.length === this.options.limits.maxRows, 'a slot is lost');
    invariant(this.#byId.size === this.#running.length + this.#waiting.length, 'a request is lost');
  }

  // ---------------------------------------------------------------- scheduling

  /** Fills the step builder. Whatever it holds afterwards has its blocks. */
  #schedule(): void {
    const plan = this.#plan;
    const budget = this.#budget();
    let preempted = false;
    for (;;) {
      planRunning(this.#running, budget, this.cache.available(), plan);
      if (!plan.preemptLast) {
        if (this.#reservePlanned()) break;
      }
      if (this.#running.length === 1) {
        this.#failAlone();
        return;
      }
      this.#preempt(this.#running[this.#running.length - 1]!);
      preempted = true;
    }
    if (!preempted) this.#admitWaiting();
  }

  #reservePlanned(): boolean {
    this.#builder.begin();
    for (let i = 0; i < this.#running.length; i++) {
      const tokens = this.#plan.tokens[i]!;
      if (tokens === 0) continue;
      const r = this.#running[i]!;
      if (!this.cache.reserve(r.sequence, r.computed + tokens)) return false;
      this.#builder.addRow(r, tokens);
    }
    return true;
  }

  /** Tokens for this step, given the context that its prefill (if any) would see. */
  #budget(): number {
    const prefill = this.#running.find((r) => r.known - r.computed > 1) ?? this.#waiting[0];
    const tokens = this.options.budget.tokens(prefill ? prefill.computed : 0);
    return Math.min(this.options.limits.maxTokens, Math.max(tokens, this.#running.length));
  }

  #admitWaiting(): void {
    const plan = this.#plan;
    for (let i = 0; i < this.#waiting.length && this.#freeSlots.length > 0 && plan.budgetLeft > 0; ) {
      const r = this.#waiting[i]!;
      if (r.leader) {
        i++;
        continue;
      }
      if (!this.cache.exists(r.sequence)) {
        this.#fail(r, errors.tooManySessions(this.cache.config.maxSequences));
        continue;
      }
      this.cache.match(r.sequence);
      if (this.cache.leader(r.sequence) !== -1) {
        // another sequence is computing this one's next block: wait outside, let others pass
        this.cache.release(r.sequence, 'keep');
        i++;
        continue;
      }
      plan.blocksLeft = Math.min(plan.blocksLeft, this.cache.available());
      const tokens = planAdmission(r, plan, this.cache.config.blockLen, this.#running.length === 0);
      if (tokens === 0 || !this.cache.reserve(r.sequence, r.computed + tokens)) {
        this.cache.release(r.sequence, 'keep');
        if (this.#running.length === 0 && tokens > 0) this.#fail(r, this.#outOfMemory(r));
        return;
      }
      this.#enter(r, i, tokens);
    }
  }

  #enter(r: LiveRequest, waitingIndex: number, tokens: number): void {
    this.#waiting.splice(waitingIndex, 1);
    if (r.admittedAt < 0) {
      r.admittedAt = this.#now();
      r.cachedTokens = Math.min(r.computed, r.promptTokens);
      this.counters.prompt += r.promptTokens;
      this.counters.cached += r.cachedTokens;
    }
    r.slot = this.#freeSlots.pop()!;
    r.tableLength = 0;
    r.tableVersion = -1;
    insertByRank(this.#running, r);
    this.#plan.budgetLeft -= tokens;
    this.#plan.blocksLeft -= r.needed(r.known);
    this.#builder.addRow(r, tokens);
  }

  #preempt(r: LiveRequest): void {
    this.counters.preemptions++;
    this.#leave(r, 'keep');
    insertByRank(this.#waiting, r);
  }

  /** Out of the batch; its blocks are given back. */
  #leave(r: LiveRequest, mode: 'keep' | 'drop'): void {
    this.#running.splice(this.#running.indexOf(r), 1);
    this.#freeSlots.push(r.slot);
    r.slot = -1;
    this.cache.release(r.sequence, mode);
  }

  // ---------------------------------------------------------------- results

  #observe(ms: number): void {
    const b = this.#builder;
    let context = 0;
    for (let i = 0; i < b.rows.length; i++) context += b.counts[i]! * b.rows[i]!.computed;
    this.options.budget.observe(b.step.tokenCount, context / b.step.tokenCount, ms);
  }

  /** The device refused the step, or failed: only the requests that it refuses alone get its error. */
  #refused(error: unknown): void {
    runRowByRow(this.#builder, error, {
      run: (step) => this.#run(step),
      commit: (result) => this.#commit(result),
      failed: (r, e) =>
        this.#fail(r, e instanceof LongmindError ? e : errors.engineFailed(e instanceof Error ? e.message : String(e))),
    });
  }

  #run(step: Step): StepResult {
    return this.device.wait(this.device.submit(step));
  }

  #commit(result: StepResult): void {
    const b = this.#builder;
    for (let i = 0; i < b.rows.length; i++) this.cache.commit(b.rows[i]!.sequence, b.rows[i]!.computed + b.counts[i]!);
    for (const r of b.rows) this.#forks.computed(r);
    for (let i = 0; i < b.wanted.length; i++) this.#accept(b.wanted[i]!, result, i);
  }

  #accept(r: LiveRequest, result: StepResult, i: number): void {
    const b = this.#builder;
    if (result.status[i] !== 0) {
      this.#fail(r, b.deadEnds.has(r) ? errors.deadEnd() : errors.nanLogits(r.known - 1));
      return;
    }
    const token = result.tokens[i]!;
    const { limits, sampling } = r.request;
    this.cache.appendOne(r.sequence, token);
    r.history?.add(token);
    if (r.matcher) invariant(r.matcher.accept(token), `token ${token} was drawn against the mask`);
    r.generated++;
    this.counters.generated++;
    this.events.token(r.request, token, readLogprobs(result, i, sampling.logprobs));
    const stopString = this.#stops.get(r.request.id)?.push(token) ?? null;
    const enough = r.generated >= limits.minTokens;
    if (enough && (stopString !== null || r.request.stopTokens.includes(token))) this.#finish(r, 'stop', stopString);
    else if (r.generated >= r.maxTokens) this.#finish(r, 'length', null);
  }

  #finish(r: LiveRequest, reason: FinishReason, stopString: string | null): void {
    if (reason === 'abort') this.counters.aborted++;
    else this.counters.finished++;
    this.#takeOut(r);
    if (r.turn) this.#endTurn(r.turn);
    this.events.finished(r.finished(reason, stopString));
  }

  /** Its session is as it was before. */
  #fail(r: LiveRequest, error: LongmindError): void {
    this.counters.failed++;
    this.#takeOut(r);
    if (r.turn) undoTurn(r.turn, this.cache, this.sessions);
    this.events.failed(r.request.id, error);
  }

  /** Out of the engine. A session keeps its sequence; any other sequence is forgotten (its blocks may serve as prefixes). */
  #takeOut(r: LiveRequest): void {
    this.#forks.leave(r);
    const mode = r.turn ? 'keep' : 'drop';
    if (r.slot >= 0) this.#leave(r, mode);
    else {
      this.#waiting.splice(this.#waiting.indexOf(r), 1);
      if (mode === 'drop' && this.cache.exists(r.sequence)) this.cache.release(r.sequence, 'drop');
    }
    this.#byId.delete(r.request.id);
    this.#stops.delete(r.request.id);
  }

  #endTurn({ session, keep }: Turn): void {
    if (this.sessions.find(session.id, session.owner) !== session) return;
    this.sessions.use(session, false);
    this.sessions.changed(session, keep);
  }

  #removeAborted(): void {
    for (const list of [this.#running, this.#waiting]) {
      for (let i = list.length - 1; i >= 0; i--) {
        if (list[i]!.aborted) this.#finish(list[i]!, 'abort', null);
      }
    }
  }

  /** One sequence alone in the batch and still no room: the device refused memory that was counted on. */
  #failAlone(): void {
    this.#builder.begin();
    const r = this.#running[0]!;
    this.#fail(r, this.#outOfMemory(r));
  }

  #outOfMemory(r: LiveRequest): LongmindError {
    const { total, grown } = this.cache.stats().blocks;
    return errors.invalidRequest(
      `the device gave only ${grown} of ${total} KV blocks, and ${r.known} tokens do not fit into them`,
    );
  }
}

function insertByRank(list: LiveRequest[], r: LiveRequest): void {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    const other = list[mid]!;
    if (other.rank < r.rank || (other.rank === r.rank && other.request.id < r.request.id)) low = mid + 1;
    else high = mid;
  }
  list.splice(low, 0, r);
}
