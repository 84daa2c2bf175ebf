/**
 * The persistent batch. Requests join and leave at any step; `step()` is: plan, submit, wait, commit, tell. On a device that
 * takes two steps it runs ahead: step n+1 is planned and submitted while step n runs, and its rows compute tokens that are
 * still being drawn. What is learned late (a request ended, a step was cancelled) costs the row that ran ahead, no more: what
 * it drew is discarded, and what it stored lies beyond the end of its sequence.
 *
 * It owns no thread and no clock of its own, so that tests drive it step by step.
 */

import type { Grammar } from 'longmind-grammar';
import type { CacheManager } from '../cache/types.js';
import type { Device, StepLimits, StepResult } from '../device/device.js';
import { errors, invariant, type LongmindError } from '../errors.js';
import type { Mover } from '../tiers/index.js';
import type { FinishReason, TokenLogprob } from '../types.js';
import { type Admission, admit } from './admission.js';
import { type Flight, Flights } from './flight.js';
import { Forks } from './forks.js';
import { openMatcher } from './matchers.js';
import { Planner } from './planner.js';
import type { PooledStates } from './pooled-states.js';
import { PrefixWaits } from './prefix-waits.js';
import type { EngineRequest, FinishedRequest, LiveRequest } from './request.js';
import { Restores } from './restores.js';
import { Roster } from './roster.js';
import { StepRunner } from './runner.js';
import { Sessions, type SessionsOptions } from './sessions.js';
import { changeOf } from './shared/kept.js';
import type { Drafter } from './speculation/drafter.js';
import { Speculator } from './speculation/speculator.js';
import type { Budget } from './step-budget.js';
import { readLogprobs, StepBuilder } from './step-builder.js';
import { StepTimes } from './step-times.js';
import { StopDetector } from './stop-detector.js';
import { type Turn, undoTurn } from './turn.js';

export interface BatchOptions {
  limits: StepLimits;
  maxQueue: number;
  sessions: SessionsOptions;
  budget: Budget;
  /** Moves KV between the device and the places below it, if there are any. */
  mover?: Mover | null;
  /** Whether tokens are guessed and verified; changes speed only. Default: where it pays. */
  speculation?: 'auto' | 'off' | 'lookup';
  /** Guesses too, unless `speculation` says otherwise. */
  draft?: Drafter | null;
  admission: Admission;
  now?: () => number;
}

/** Where the events of a step go. Tokens of a request come before its end. */
export interface BatchEvents {
  /** Before the first token: what is known of the prompt. */
  begun?(begun: { id: number; promptTokens: number; cachedTokens: number }): void;
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
  /** Null: every token is drawn by a step of its own. */
  readonly speculator: Speculator | null;
  lastStepMs = 0;
  lastStepJsMs = 0;
  readonly #device: Device;
  readonly #roster: Roster;
  readonly #runner: StepRunner;
  readonly #forks: Forks;
  readonly #waits: PrefixWaits;
  readonly #restores: Restores | null;
  readonly #now: () => number;
  /** Requests are to end by the next step. */
  #aborting = false;

  constructor(
    device: Device,
    private readonly cache: CacheManager,
    private readonly options: BatchOptions,
    private readonly events: BatchEvents,
  ) {
    this.#device = device;
    const { limits, budget } = options;
    this.sessions = new Sessions(cache, options.sessions);
    const flights = new Flights(device, limits);
    this.#roster = new Roster(cache, limits.maxRows, (slot) => flights.clearSlot(slot));
    this.#forks = new Forks(cache);
    this.#waits = new PrefixWaits(cache);
    this.#now = options.now ?? (() => performance.now());
    this.#restores = options.mover ? new Restores(cache, options.mover, budget, this.#now) : null;
    const builder = new StepBuilder(limits, cache);
    const draft = options.speculation === 'lookup' ? null : (options.draft ?? null);
    this.speculator = options.speculation === 'off' ? null : new Speculator(cache, budget, draft, this.#now);
    const waits = { prefix: this.#waits, restores: this.#restores };
    const report = {
      fail: (r: LiveRequest, error: LongmindError) => this.#fail(r, error),
      preempted: () => this.counters.preemptions++,
      admitted: (r: LiveRequest) => this.#admitted(r),
    };
    const planner = new Planner(limits, budget, cache, this.#roster, waits, builder, report, this.speculator);
    this.#runner = new StepRunner(flights, planner, builder, cache, this.#roster, budget, this.#now, {
      commit: (flight, result) => this.#commit(flight, result),
      fail: (r, error) => this.#fail(r, error),
    });
  }

  get waiting(): number {
    return this.#roster.waiting.length;
  }

  get running(): number {
    return this.#roster.running.length;
  }

  /** No request is in the engine. A step that was planned for those that have ended may still be on its way. */
  get idle(): boolean {
    return this.#roster.size === 0;
  }

  /** Takes a request in, or throws the caller's error; then nothing changed. */
  submit(request: EngineRequest, grammar: Grammar | null = null): void {
    if (this.waiting >= this.options.maxQueue) throw errors.queueFull(this.options.maxQueue);
    if (request.embed && !this.#device.hidden) throw errors.noEmbeddings(this.#device.info.name);
    const matcher = openMatcher(request, grammar, this.options.admission);
    const live = admit(request, this.cache, this.sessions, this.options.admission, this.#now());
    live.matcher = matcher;
    const { stop } = request.limits;
    if (stop.length > 0) live.stops = new StopDetector(stop, this.options.admission.tokenBytes);
    const other = request.forkOf === null ? undefined : this.#roster.find(request.forkOf);
    this.#roster.add(live);
    if (other) this.#forks.join(live, other);
  }

  /** The request ends by the next step. Unknown ids (ended already) are fine. */
  abort(id: number): void {
    const r = this.#roster.find(id);
    if (!r) return;
    r.aborted = true;
    this.#aborting = true;
  }

  /** KV is on its way, and nothing but looking for it again tells when it is there. */
  get watching(): boolean {
    return (this.#restores?.size ?? 0) > 0 || (this.options.mover?.copying ?? false);
  }

  /** One step. False if there was nothing to do. */
  step(): boolean {
    const start = this.#now();
    this.options.mover?.pump();
    const runner = this.#runner;
    runner.deviceMs = 0;
    this.#removeAborted();
    if (this.idle && runner.inFlight === 0) return false;
    while (runner.launch());
    if (runner.inFlight === 0) return !this.idle && !this.watching;
    if (!runner.land()) return true;
    this.counters.steps++;
    this.lastStepMs = this.#now() - start;
    this.stepTimes.observe(this.lastStepMs);
    this.lastStepJsMs = this.lastStepMs - runner.deviceMs - (this.speculator?.takeDraftMs() ?? 0);
    return true;
  }

  /** Waits for what is in flight and forgets it: another batch takes the device over, or it is closed. */
  drain(): void {
    this.#runner.drain();
  }

  /** The batch and the queue, in order. */
  view(): { running: readonly LiveRequest[]; waiting: readonly LiveRequest[] } {
    return this.#roster;
  }

  /** Every invariant of batch and cache. */
  check(): void {
    this.cache.check();
    const stats = this.cache.stats();
    const restoring = this.#restores?.size ?? 0;
    invariant(
      stats.sequences.active === this.running + restoring,
      `${stats.sequences.active} active sequences, ${this.running} in the batch, ${restoring} wait for their KV`,
    );
    if (this.running + restoring === 0)
      invariant(stats.blocks.active === 0, `idle, but ${stats.blocks.active} blocks active`);
    this.#roster.check(this.#runner.inFlight > 0);
  }

  // ---------------------------------------------------------------- results

  /** Rows of requests that have ended meanwhile are passed over. */
  #commit(flight: Flight, result: StepResult): void {
    const { rows, counts, logits } = flight;
    let owner = 0;
    let served = 0;
    for (let i = 0; i < rows.length; i++) {
      const r = rows[i]!;
      if (r.ended) continue;
      const again = this.cache.commit(r.sequence, r.computed + counts[i]!, r.drafting > 0 ? 0 : r.scheduled);
      if (again > 0) r.recomputedTokens += again;
      if (r.owner !== owner && served > 0) {
        this.#roster.shares.served(owner, served);
        served = 0;
      }
      owner = r.owner;
      served += counts[i]!;
    }
    if (served > 0) this.#roster.shares.served(owner, served);
    for (const r of rows) {
      if (r.ended) continue;
      this.#forks.computed(r);
      this.#waits.computed(r);
    }
    for (let i = 0; i < rows.length; i++) {
      const r = rows[i]!;
      if (logits[i] === logits[i + 1] || r.ended) continue;
      r.drawing--;
      if (r.states) this.#takeStates(r, r.states, result, i, flight);
      else if (r.drafting > 0) this.#verify(r, result, i, flight);
      else this.#accept(r, result, logits[i]!, flight);
    }
  }

  /** Draws along the guesses until one is wrong: what was drawn instead is right. KV of what is wrong is not committed. */
  #verify(r: LiveRequest, result: StepResult, row: number, flight: Flight): void {
    const { step, logits, drafts } = flight;
    const first = step.rowStart[row + 1]! - drafts[row]!;
    this.speculator!.verified(r, r.drafting);
    r.drafting = 0;
    r.scheduled = r.known;
    for (let i = logits[row]!, draft = first; i < logits[row + 1]! && !r.ended; i++, draft++) {
      const guess = i + 1 < logits[row + 1]! ? step.tokens[draft]! : -1;
      this.#accept(r, result, i, flight, guess);
      if (result.tokens[i] !== guess) return;
    }
  }

  /** `guess`: a row of the same step has computed what comes after this token. */
  #accept(r: LiveRequest, result: StepResult, i: number, flight: Flight, guess = -1): void {
    if (result.status[i] !== 0) {
      this.#fail(r, flight.deadEnds.has(r) ? errors.deadEnd() : errors.nanLogits(r.known - 1));
      return;
    }
    const token = result.tokens[i]!;
    this.cache.appendOne(r.sequence, token);
    r.known++;
    r.lastToken = token;
    if (token === guess) {
      this.cache.commit(r.sequence, r.known);
      r.scheduled = r.known;
      r.acceptedDrafts++;
      this.speculator!.accepted(r);
    }
    this.speculator?.drawn(r, token);
    r.history?.add(token);
    if (r.matcher) invariant(r.matcher.accept(token), `token ${token} was drawn against the mask`);
    r.generated++;
    this.counters.generated++;
    if (r.generated === 1) {
      const { promptTokens, cachedTokens } = r;
      this.events.begun?.({ id: r.request.id, promptTokens, cachedTokens });
    }
    this.events.token(r.request, token, readLogprobs(result, i, r.logprobs));
    const enough = r.generated >= r.minTokens;
    const stopString = r.stops?.push(token, !enough) ?? null;
    if (enough && (stopString !== null || r.request.stopTokens.includes(token))) this.#finish(r, 'stop', stopString);
    else if (r.generated >= r.maxTokens) this.#finish(r, 'length', null);
  }

  /** Of a prompt that is not gone on from. */
  #takeStates(r: LiveRequest, states: PooledStates, result: StepResult, row: number, { step, logits }: Flight): void {
    for (let i = logits[row]!; i < logits[row + 1]!; i++) {
      const position = step.positions[step.logitRows[i]!]!;
      if (result.status[i] !== 0) {
        this.#fail(r, errors.nanLogits(position));
        return;
      }
      states.take(position, this.#device.hidden!(i));
    }
    if (r.computed === r.known) this.#finish(r, 'stop', null);
  }

  #admitted(r: LiveRequest): void {
    if (r.admittedAt >= 0) return;
    r.admittedAt = this.#now();
    r.cachedTokens = Math.min(r.scheduled, r.promptTokens);
    r.restoredTokens = Math.min(r.broughtBack, r.cachedTokens);
    this.counters.prompt += r.promptTokens;
    this.counters.cached += r.cachedTokens;
  }

  #finish(r: LiveRequest, reason: FinishReason, stopString: string | null): void {
    if (reason === 'abort') this.counters.aborted++;
    else this.counters.finished++;
    this.#takeOut(r);
    // what is kept under a name is a whole turn
    const result = r.finished(reason, stopString);
    if (r.turn && r.request.keepAs && reason === 'abort') undoTurn(r.turn, this.cache, this.sessions);
    else if (r.turn) {
      this.#endTurn(r, r.turn, reason);
      if (r.request.shared && this.cache.exists(r.sequence))
        result.change = changeOf(r.turn, this.sessions, this.cache);
    }
    this.events.finished(result);
  }

  /** Its session is as it was before. */
  #fail(r: LiveRequest, error: LongmindError): void {
    this.counters.failed++;
    this.#takeOut(r);
    if (r.turn) undoTurn(r.turn, this.cache, this.sessions);
    this.events.failed(r.request.id, error);
  }

  /** Out of the engine. A session keeps its sequence; any other sequence is forgotten. */
  #takeOut(r: LiveRequest): void {
    this.#forks.leave(r);
    this.#waits.leave(r);
    this.#restores?.leave(r);
    this.#roster.remove(r, r.turn ? 'keep' : 'drop');
  }

  #endTurn(r: LiveRequest, { session, keep, inherited }: Turn, finishReason: FinishReason): void {
    if (this.sessions.find(session.id, session.owner) !== session) return;
    this.sessions.use(session, false);
    this.sessions.changed(session, keep);
    const { keepAs } = r.request;
    if (!keepAs) return;
    for (const p of inherited) this.sessions.keepPoint(session, p);
    const { promptTokens: prompt, known: end, cachedTokens } = r;
    this.sessions.keepPoint(session, { ...keepAs, prompt, end, cachedTokens, finishReason });
  }

  #removeAborted(): void {
    if (!this.#aborting) return;
    this.#aborting = false;
    for (const list of [this.#roster.running, this.#roster.waiting]) {
      for (let i = list.length - 1; i >= 0; i--) {
        if (list[i]!.aborted) this.#finish(list[i]!, 'abort', null);
      }
    }
  }
}
