/**
 * Steps out and back: plans one and submits it while there is room in flight, waits for the oldest and hands it on to be
 * committed. What did not run (cancelled, refused, failed) leaves everything as it was and is planned again.
 */
import type { CacheManager } from '../cache/types.js';
import type { StepResult } from '../device/device.js';
import { errors, LongmindError } from '../errors.js';
import type { Flight, Flights } from './flight.js';
import type { Planner } from './planner.js';
import type { LiveRequest } from './request.js';
import type { Roster } from './roster.js';
import { type LostRow, runRowByRow } from './row-by-row.js';
import type { StepBudget } from './step-budget.js';
import type { StepBuilder } from './step-builder.js';

export interface RunnerReport {
  /** The flight's step ran. */
  commit(flight: Flight, result: StepResult): void;
  fail(r: LiveRequest, error: LongmindError): void;
}

export class StepRunner {
  /** Time spent in the device, until somebody sets it back. */
  deviceMs = 0;
  #landedAt = 0;

  constructor(
    private readonly flights: Flights,
    private readonly planner: Planner,
    private readonly builder: StepBuilder,
    private readonly cache: CacheManager,
    private readonly roster: Roster,
    private readonly budget: Pick<StepBudget, 'observe'>,
    private readonly now: () => number,
    private readonly report: RunnerReport,
  ) {}

  get inFlight(): number {
    return this.flights.count;
  }

  /** Waits for all and forgets them. */
  drain(): void {
    this.flights.drain();
  }

  /** Plans a step and submits it. False: as many are in flight as may be, or there is nothing to compute. */
  launch(): boolean {
    const flight = this.flights.next;
    if (!flight) return false;
    this.planner.fill(flight, this.inFlight > 0);
    if (flight.rows.length === 0) return false;
    try {
      this.#submit(flight);
    } catch (e) {
      const lost = lostRows(flight);
      // what is in flight comes first
      while (this.inFlight > 0) this.land();
      this.#rowByRow(lost, e);
      return false;
    }
    return true;
  }

  /** Waits for the oldest step and hands it on. False if the device failed it. */
  land(): boolean {
    const flight = this.flights.oldest;
    let result: StepResult;
    try {
      result = this.#wait(flight);
    } catch (e) {
      this.#rowByRow(lostRows(flight), e);
      return false;
    }
    this.#settle(flight, result);
    return true;
  }

  /** Throws what the device says; then nothing has happened. */
  #submit(flight: Flight): void {
    this.builder.end();
    let context = 0;
    for (let i = 0; i < flight.rows.length; i++) {
      const count = flight.counts[i]! + flight.drafts[i]!;
      context += count * (flight.rows[i]!.scheduled + count / 2);
    }
    flight.context = context / flight.step.tokenCount;
    flight.submittedAt = this.now();
    try {
      this.flights.submit(flight);
    } catch (e) {
      this.cache.copiesLost(1);
      throw e;
    } finally {
      this.deviceMs += this.now() - flight.submittedAt;
    }
    for (let i = 0; i < flight.rows.length; i++) {
      const r = flight.rows[i]!;
      r.drafting = flight.drafts[i]!;
      r.scheduled += flight.counts[i]! + r.drafting;
      if (flight.logits[i] === flight.logits[i + 1]) continue;
      r.drawing++;
      r.drawnBy = flight.logits[i]!;
    }
  }

  /** Throws what the device says; then the step is lost. */
  #wait(flight: Flight): StepResult {
    const asked = this.now();
    const begun = Math.max(flight.submittedAt, this.#landedAt);
    try {
      return this.flights.wait();
    } catch (e) {
      this.#loseAll();
      throw e;
    } finally {
      this.#landedAt = this.now();
      flight.ms = this.#landedAt - begun;
      this.deviceMs += this.#landedAt - asked;
    }
  }

  /** The flight's step is over. False: it was cancelled. */
  #settle(flight: Flight, result: StepResult): boolean {
    if (!result.completed) {
      this.#loseAll();
      return false;
    }
    const { tokenCount, logitCount } = flight.step;
    this.budget.observe(tokenCount, flight.context, flight.ms, logitCount);
    this.cache.copiesRan();
    this.report.commit(flight, result);
    return true;
  }

  /** The step that was waited for did not run, and takes those behind it along: all of it is to be scheduled again. */
  #loseAll(): void {
    const steps = 1 + this.inFlight;
    this.flights.drain();
    this.cache.copiesLost(steps);
    this.roster.unschedule();
  }

  /** The device refused a step, or failed: only the requests that it refuses alone get its error. */
  #rowByRow(rows: readonly LostRow[], error: unknown): void {
    // nothing is in flight, so it is the same one for all
    const flight = this.flights.next!;
    runRowByRow(rows, error, {
      run: ({ request, count }) => {
        this.builder.begin(flight);
        this.builder.addRow(request, count);
        this.#submit(flight);
        return this.#wait(flight);
      },
      settle: (result) => this.#settle(flight, result),
      failed: (r, e) => this.report.fail(r, e instanceof LongmindError ? e : errors.engineFailed(messageOf(e))),
    });
  }
}

function lostRows(flight: Flight): LostRow[] {
  return flight.rows.map((request, i) => ({ request, count: flight.counts[i]! }));
}

const messageOf = (e: unknown) => (e instanceof Error ? e.message : String(e));
