/**
 * Steps on their way. The engine runs one step ahead of a device that takes two: it plans step n+1 while step n runs, so each
 * step in flight has a buffer, and a record of what it was made of, of its own.
 */
import { createStep, type Device, type Step, type StepLimits, type StepResult, type Ticket } from '../device/device.js';
import type { LiveRequest } from './request.js';

/** More would only delay what is learned late: while one step runs, one waits. */
const MOST = 2;

export class Flight {
  readonly step: Step;
  readonly rows: LiveRequest[] = [];
  /** (rows) tokens of each row. */
  readonly counts: Int32Array;
  /** (rows + 1) the logit rows of row i are logits[i] … logits[i + 1] - 1. */
  readonly logits: Int32Array;
  /** (rows) how many of a row's tokens, its last ones, are guesses. */
  readonly drafts: Int32Array;
  /** Requests whose grammar allows no token of this vocabulary: their rows fail. */
  readonly deadEnds = new Set<LiveRequest>();
  /** By slot: entries of the step's block table that are up to date, and the version of the list they came from. */
  readonly tableLength: Int32Array;
  readonly tableVersion: Int32Array;
  /** By logit row: the slot whose sampling parameters the step holds there, or -1. */
  readonly sampledBy: Int32Array;
  ticket: Ticket = -1;
  submittedAt = 0;
  /** Time that it took, without what ran before it. */
  ms = 0;
  /** Mean position of its tokens, each in its sequence. */
  context = 0;

  constructor(limits: StepLimits) {
    this.step = createStep(limits);
    this.counts = new Int32Array(limits.maxRows);
    this.logits = new Int32Array(limits.maxRows + 1);
    this.drafts = new Int32Array(limits.maxRows);
    this.tableLength = new Int32Array(limits.maxRows);
    this.tableVersion = new Int32Array(limits.maxRows).fill(-1);
    this.sampledBy = new Int32Array(limits.maxLogits).fill(-1);
  }
}

export class Flights {
  /** Oldest first. */
  readonly #inFlight: Flight[] = [];
  readonly #free: Flight[] = [];
  readonly #all: readonly Flight[];

  constructor(
    private readonly device: Device,
    limits: StepLimits,
  ) {
    const depth = Math.min(MOST, device.info.depth);
    this.#all = Array.from({ length: depth }, () => new Flight(limits));
    this.#free.push(...this.#all);
  }

  get count(): number {
    return this.#inFlight.length;
  }

  /** The buffer for the next step, or null: as many are in flight as may be. */
  get next(): Flight | null {
    return this.#free[0] ?? null;
  }

  /** Submits `next`. Throws what the device says; then it was not submitted. */
  submit(flight: Flight): void {
    flight.ticket = this.device.submit(flight.step);
    this.#free.splice(this.#free.indexOf(flight), 1);
    this.#inFlight.push(flight);
  }

  /** The oldest in flight. */
  get oldest(): Flight {
    return this.#inFlight[0]!;
  }

  /** Waits for the oldest; it is not in flight any more, whatever the device says. */
  wait(): StepResult {
    const flight = this.#inFlight.shift()!;
    this.#free.push(flight);
    return this.device.wait(flight.ticket);
  }

  /** Waits for all and forgets what they say. */
  drain(): void {
    while (this.#inFlight.length > 0) {
      try {
        this.wait();
      } catch {
        // its failure took it along, which is what is wanted
      }
    }
  }

  /** A slot has another owner: what the block tables and sampling parameters say of it is old. */
  clearSlot(slot: number): void {
    for (const f of this.#all) {
      f.tableLength[slot] = 0;
      for (let i = f.sampledBy.indexOf(slot); i >= 0; i = f.sampledBy.indexOf(slot, i + 1)) f.sampledBy[i] = -1;
    }
  }
}
