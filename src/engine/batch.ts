/**
 * The persistent batch. Requests join and leave at any step; `step()` is: plan, submit, wait, commit, tell. On a device that
 * takes two steps it runs ahead: step n+1 is planned and submitted while step n runs, and its rows compute tokens that are
 * still being drawn. What is learned late (a request ended, a step was cancelled) costs the row that ran ahead, no more: what
 * it drew is discarded, and what it stored lies beyond the end of its sequence.
 *
 * It owns no thread and no clock of its own, so that tests drive it step by step.
 */
import type { CacheManager } from '../cache/types.js';
import type { Device, StepLimits, StepResult } from '../device/device.js';
import { errors, invariant, LongmindError } from '../errors.js';
import type { Mover } from '../tiers/index.js';
import type { FinishReason, TokenLogprob } from '../types.js';
import { type Admission, admit, historyOf } from './admission.js';
import { type Flight, Flights } from './flight.js';
import { Forks } from './forks.js';
import { openMatcher } from './matchers.js';
import { Planner } from './planner.js';
import { PrefixWaits } from './prefix-waits.js';
import { type EngineRequest, type FinishedRequest, LiveRequest } from './request.js';
import { Restores } from './restores.js';
import { Roster } from './roster.js';
import { type LostRow, runRowByRow } from './row-by-row.js';
import { Sessions, type SessionsOptions } from './sessions.js';
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
  readonly #roster: Roster;
  readonly #flights: Flights;
  readonly #forks: Forks;
  readonly #waits: PrefixWaits;
  readonly #restores: Restores | null;
  readonly #builder: StepBuilder;
  readonly #planner: Planner;
  readonly #now: () => number;
  /** Of this call of step(): time in the device. */
  #deviceMs = 0;
  #landedAt = 0;

  constructor(
    device: Device,
    private readonly cache: CacheManager,
    private readonly options: BatchOptions,
    private readonly events: BatchEvents,
  ) {
    const { limits, budget } = options;
    this.sessions = new Sessions(cache, options.sessions);
    this.#flights = new Flights(device, limits);
    this.#roster = new Roster(cache, limits.maxRows, (slot) => this.#flights.clearSlot(slot));
    this.#forks = new Forks(cache);
    this.#waits = new PrefixWaits(cache);
    this.#now = options.now ?? (() => performance.now());
    this.#restores = options.mover ? new Restores(cache, options.mover, budget, this.#now) : null;
    this.#builder = new StepBuilder(limits, cache);
    const waits = { prefix: this.#waits, restores: this.#restores };
    this.#planner = new Planner(limits, budget, cache, this.#roster, waits, this.#builder, {
      fail: (r, error) => this.#fail(r, error),
      preempted: () => this.counters.preemptions++,
      admitted: (r) => this.#admitted(r),
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
  submit(request: EngineRequest): void {
    if (this.waiting >= this.options.maxQueue) throw errors.queueFull(this.options.maxQueue);
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
    if (stop.length > 0) live.stops = new StopDetector(stop, this.options.admission.tokenBytes);
    const other = request.forkOf === null ? undefined : this.#roster.find(request.forkOf);
    this.#roster.add(live);
    if (other) this.#forks.join(live, other);
  }

  /** The request ends by the next step. Unknown ids (ended already) are fine. */
  abort(id: number): void {
    const r = this.#roster.find(id);
    if (r) r.aborted = true;
  }

  /** KV is on its way, and nothing but looking for it again tells when it is there. */
  get watching(): boolean {
    return (this.#restores?.size ?? 0) > 0 || (this.options.mover?.copying ?? false);
  }

  /** One step. False if there was nothing to do. */
  step(): boolean {
    const start = this.#now();
    this.options.mover?.pump();
    this.#deviceMs = 0;
    this.#removeAborted();
    if (this.idle && this.#flights.count === 0) return false;
    while (this.#launch());
    if (this.#flights.count === 0) return !this.idle && !this.watching;
    if (!this.#land()) return true;
    this.counters.steps++;
    this.lastStepMs = this.#now() - start;
    this.stepTimes.observe(this.lastStepMs);
    this.lastStepJsMs = this.lastStepMs - this.#deviceMs;
    return true;
  }

  /** Waits for what is in flight and forgets it: another batch takes the device over, or it is closed. */
  drain(): void {
    this.#flights.drain();
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
    this.#roster.check(this.#flights.count > 0);
  }

  // ---------------------------------------------------------------- out and back

  /** Plans a step and submits it. False: as many are in flight as may be, or there is nothing to compute. */
  #launch(): boolean {
    const flight = this.#flights.next;
    if (!flight) return false;
    this.#planner.fill(flight, this.#flights.count > 0);
    if (flight.rows.length === 0) return false;
    try {
      this.#submit(flight);
    } catch (e) {
      const lost = lostRows(flight);
      // what is in flight comes first
      while (this.#flights.count > 0) this.#land();
      this.#rowByRow(lost, e);
      return false;
    }
    return true;
  }

  /** Throws what the device says; then nothing has happened. */
  #submit(flight: Flight): void {
    this.#builder.end();
    let context = 0;
    for (let i = 0; i < flight.rows.length; i++) context += flight.counts[i]! * flight.rows[i]!.scheduled;
    flight.context = context / flight.step.tokenCount;
    flight.submittedAt = this.#now();
    try {
      this.#flights.submit(flight);
    } catch (e) {
      this.cache.copiesLost(1);
      throw e;
    } finally {
      this.#deviceMs += this.#now() - flight.submittedAt;
    }
    for (let i = 0; i < flight.rows.length; i++) {
      const r = flight.rows[i]!;
      r.scheduled += flight.counts[i]!;
      if (flight.logits[i] === flight.logits[i + 1]) continue;
      r.drawing++;
      r.drawnBy = flight.logits[i]!;
    }
  }

  /** Waits for the oldest step and commits it. False if the device failed it. */
  #land(): boolean {
    const flight = this.#flights.oldest;
    const asked = this.#now();
    let result: StepResult;
    try {
      result = this.#flights.wait();
    } catch (e) {
      const lost = lostRows(flight);
      this.#loseAll();
      this.#rowByRow(lost, e);
      return false;
    }
    const landed = this.#now();
    this.#deviceMs += landed - asked;
    if (result.completed) {
      const ran = landed - Math.max(flight.submittedAt, this.#landedAt);
      this.options.budget.observe(flight.step.tokenCount, flight.context, ran);
      this.cache.copiesRan();
      this.#commit(flight, result);
    } else this.#loseAll();
    this.#landedAt = landed;
    return true;
  }

  /** The step that was waited for did not run, and takes those behind it along: all of it is to be scheduled again. */
  #loseAll(): void {
    const steps = 1 + this.#flights.count;
    this.#flights.drain();
    this.cache.copiesLost(steps);
    this.#roster.unschedule();
  }

  /** The device refused a step, or failed: only the requests that it refuses alone get its error. */
  #rowByRow(rows: readonly LostRow[], error: unknown): void {
    runRowByRow(rows, error, {
      run: ({ request, count }) => {
        const flight = this.#flights.next!;
        this.#builder.begin(flight);
        this.#builder.addRow(request, count);
        this.#submit(flight);
        let result: StepResult;
        try {
          result = this.#flights.wait();
        } catch (e) {
          this.#loseAll();
          throw e;
        }
        if (!result.completed) {
          this.#loseAll();
          return false;
        }
        this.cache.copiesRan();
        this.#commit(flight, result);
        return true;
      },
      failed: (r, e) => this.#fail(r, e instanceof LongmindError ? e : errors.engineFailed(messageOf(e))),
    });
  }

  // ---------------------------------------------------------------- results

  /** Rows of requests that have ended meanwhile are passed over. */
  #commit(flight: Flight, result: StepResult): void {
    const { rows, counts, logits } = flight;
    for (let i = 0; i < rows.length; i++) {
      const r = rows[i]!;
      if (!r.ended) this.cache.commit(r.sequence, r.computed + counts[i]!, r.scheduled);
    }
    for (const r of rows) {
      if (r.ended) continue;
      this.#forks.computed(r);
      this.#waits.computed(r);
    }
    for (let i = 0; i < rows.length; i++) {
      const r = rows[i]!;
      if (logits[i] === logits[i + 1] || r.ended) continue;
      r.drawing--;
      this.#accept(r, result, logits[i]!, flight);
    }
  }

  #accept(r: LiveRequest, result: StepResult, i: number, flight: Flight): void {
    if (result.status[i] !== 0) {
      this.#fail(r, flight.deadEnds.has(r) ? errors.deadEnd() : errors.nanLogits(r.known - 1));
      return;
    }
    const token = result.tokens[i]!;
    const { limits, sampling, stopTokens } = r.request;
    this.cache.appendOne(r.sequence, token);
    r.known++;
    r.lastToken = token;
    r.history?.add(token);
    if (r.matcher) invariant(r.matcher.accept(token), `token ${token} was drawn against the mask`);
    r.generated++;
    this.counters.generated++;
    this.events.token(r.request, token, readLogprobs(result, i, sampling.logprobs));
    const enough = r.generated >= limits.minTokens;
    const stopString = r.stops?.push(token, !enough) ?? null;
    if (enough && (stopString !== null || stopTokens.includes(token))) this.#finish(r, 'stop', stopString);
    else if (r.generated >= r.maxTokens) this.#finish(r, 'length', null);
  }

  #admitted(r: LiveRequest): void {
    if (r.admittedAt >= 0) return;
    r.admittedAt = this.#now();
    r.cachedTokens = Math.min(r.scheduled, r.promptTokens);
    this.counters.prompt += r.promptTokens;
    this.counters.cached += r.cachedTokens;
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

  /** Out of the engine. A session keeps its sequence; any other sequence is forgotten. */
  #takeOut(r: LiveRequest): void {
    this.#forks.leave(r);
    this.#waits.leave(r);
    this.#restores?.leave(r);
    this.#roster.remove(r, r.turn ? 'keep' : 'drop');
  }

  #endTurn({ session, keep }: Turn): void {
    if (this.sessions.find(session.id, session.owner) !== session) return;
    this.sessions.use(session, false);
    this.sessions.changed(session, keep);
  }

  #removeAborted(): void {
    for (const list of [this.#roster.running, this.#roster.waiting]) {
      for (let i = list.length - 1; i >= 0; i--) {
        if (list[i]!.aborted) this.#finish(list[i]!, 'abort', null);
      }
    }
  }
}

function lostRows(flight: Flight): LostRow[] {
  return flight.rows.map((request, i) => ({ request, count: flight.counts[i]! }));
}

const messageOf = (e: unknown) => (e instanceof Error ? e.message : String(e));
