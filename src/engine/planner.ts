/** Makes the next step: who computes how much of what, who is let in, who must give up its blocks. */
import type { CacheManager } from '../cache/types.js';
import { errors, type LongmindError } from '../errors.js';
import { fairOrder, type Queued } from './fairness.js';
import type { Flight } from './flight.js';
import type { PrefixWaits } from './prefix-waits.js';
import type { LiveRequest } from './request.js';
import type { Restores } from './restores.js';
import type { Roster } from './roster.js';
import { createPlan, planAdmission, planRunning } from './scheduler.js';
import type { Speculator } from './speculation/speculator.js';
import type { StepBudget } from './step-budget.js';
import type { StepBuilder } from './step-builder.js';

interface PlannerReport {
  fail(r: LiveRequest, error: LongmindError): void;
  preempted(r: LiveRequest): void;
  /** For the first time. */
  admitted(r: LiveRequest): void;
}

const NO_DRAFT = new Int32Array(0);

export class Planner {
  readonly #plan;
  /** Logits in the step that is being filled beside one for each sequence. */
  #drafted = 0;

  constructor(
    private readonly limits: { maxTokens: number; maxRows: number; maxLogits: number },
    private readonly budget: Pick<StepBudget, 'tokens'>,
    private readonly cache: CacheManager,
    private readonly roster: Roster,
    private readonly waits: { prefix: PrefixWaits; restores: Restores | null },
    private readonly builder: StepBuilder,
    private readonly report: PlannerReport,
    private readonly speculator: Speculator | null,
  ) {
    this.#plan = createPlan(limits.maxRows);
  }

  /**
   * Fills the flight. Whatever it holds afterwards has its blocks; it may hold nothing. While a step is in flight nobody is made
   * to give up blocks: the plan is left empty, and made again when the step has landed.
   */
  fill(flight: Flight, inFlight: boolean): void {
    this.waits.restores?.settle();
    const { running } = this.roster;
    const plan = this.#plan;
    const budget = this.#budget();
    let preempted = false;
    this.speculator?.prepare(running, this.limits.maxLogits - this.limits.maxRows);
    for (;;) {
      planRunning(running, budget, this.cache.available(), plan);
      if (!plan.preemptLast && this.#reserve(flight)) break;
      this.builder.begin(flight);
      if (inFlight) return;
      if (this.waits.restores?.giveUp()) continue;
      const last = running[running.length - 1]!;
      // what is being saved can be had in a moment
      if (running.length === 1 && this.cache.held() > 0) return;
      if (running.length === 1) {
        // alone, and still no room: the device refused memory that was counted on
        this.report.fail(last, this.#outOfMemory(last));
        return;
      }
      this.waits.prefix.leave(last);
      this.roster.preempt(last);
      this.report.preempted(last);
      preempted = true;
    }
    if (!preempted) this.#admitWaiting();
  }

  #reserve(flight: Flight): boolean {
    const { running } = this.roster;
    this.builder.begin(flight);
    this.#drafted = 0;
    for (let i = 0; i < running.length; i++) {
      const r = running[i]!;
      const tokens = this.#within(r, this.#plan.tokens[i]!);
      if (tokens === 0) continue;
      const draft = tokens === 1 && this.speculator ? this.#guess(r) : NO_DRAFT;
      if (draft.length > 0 && this.cache.reserve(r.sequence, r.scheduled + tokens + draft.length)) {
        this.builder.addRow(r, tokens, draft);
        continue;
      }
      if (!this.cache.reserve(r.sequence, r.scheduled + tokens)) return false;
      this.builder.addRow(r, tokens);
    }
    return true;
  }

  /** Of a text whose hidden states are all wanted, as many tokens as the step has logits for. */
  #within(r: LiveRequest, tokens: number): number {
    if (r.states?.pooling !== 'mean' || tokens === 0) return tokens;
    // one is its own
    const more = Math.min(tokens - 1, this.limits.maxLogits - this.limits.maxRows - this.#drafted);
    this.#drafted += more;
    return 1 + more;
  }

  /** Guesses for a sequence that decodes, within what the step may still hold. */
  #guess(r: LiveRequest): Int32Array {
    const plan = this.#plan;
    if (r.length - r.scheduled !== 1 || r.drawing > 0) return NO_DRAFT;
    const logitsLeft = this.limits.maxLogits - this.limits.maxRows - this.#drafted;
    const max = Math.min(r.maxTokens - r.generated - 1, logitsLeft, plan.budgetLeft);
    const draft = this.speculator!.guess(r, this.roster.running.length, max);
    if (draft.length === 0) return NO_DRAFT;
    const more = r.needed(r.length + draft.length) - r.needed(r.length);
    if (more > plan.blocksLeft) return NO_DRAFT;
    plan.blocksLeft -= more;
    plan.budgetLeft -= draft.length;
    this.#drafted += draft.length;
    return draft;
  }

  /** Tokens for this step, given the context that its prefill (if any) would see. */
  #budget(): number {
    const { running, waiting } = this.roster;
    const prefill = running.find((r) => r.length - r.scheduled > 1);
    const tokens = this.budget.tokens(prefill ? prefill.scheduled : (waiting[0]?.computed ?? 0));
    return Math.min(this.limits.maxTokens, Math.max(tokens, running.length));
  }

  #admitWaiting(): void {
    const { waiting, running, shares } = this.roster;
    const plan = this.#plan;
    if (waiting.length === 0 || !this.roster.hasSlot || plan.budgetLeft <= 0) return;
    for (const r of fairOrder(waiting, queued, (owner) => shares.had(owner))) {
      if (!this.roster.hasSlot || plan.budgetLeft <= 0) return;
      if (r.forkFrom || r.waitsFor || this.waits.restores?.waits(r)) continue;
      if (!this.cache.exists(r.sequence)) {
        this.report.fail(r, errors.tooManySessions(this.cache.config.maxSequences));
        continue;
      }
      // with nobody beside it, it is let in or fails
      if (running.length > 0) {
        const answer = this.#ask(r);
        if (answer === 'no room') return;
        // another one is computing its next block: it waits outside, others pass
        if (answer === 'waits') continue;
      }
      if (this.#admit(r) === 'no room') return;
    }
  }

  /** Whether it would fit, without touching the cache: the same question may be asked at every step. */
  #ask(r: LiveRequest): 'fits' | 'waits' | 'no room' {
    const { blockLen } = this.cache.config;
    const found = this.cache.probe(r.sequence);
    if (found.leader !== -1) {
      const leader = this.roster.running.find((x) => x.sequence === found.leader);
      if (leader) {
        this.waits.prefix.add(r, leader);
        return 'waits';
      }
    }
    const { computed, blocks, copies, cached } = found;
    const asked = {
      length: r.known,
      scheduled: computed,
      limit: r.limit,
      needed: (length: number) => Math.max(0, Math.ceil(length / blockLen) - blocks) + copies,
    };
    const blocksLeft = Math.min(this.#plan.blocksLeft, this.cache.available() - cached);
    const { budgetLeft } = this.#plan;
    return planAdmission(asked, { budgetLeft, blocksLeft }, blockLen, false) > 0 ? 'fits' : 'no room';
  }

  #admit(r: LiveRequest): 'in' | 'waits' | 'no room' {
    const { running } = this.roster;
    const plan = this.#plan;
    r.scheduled = this.cache.match(r.sequence);
    plan.blocksLeft = Math.min(plan.blocksLeft, this.cache.available());
    const alone = running.length === 0 && !this.waits.restores?.size;
    const tokens = this.#within(r, planAdmission(r, plan, this.cache.config.blockLen, alone));
    if (tokens > 0 && this.waits.restores?.begin(r)) return 'waits';
    if (tokens === 0 || !this.cache.reserve(r.sequence, r.scheduled + tokens)) {
      this.cache.release(r.sequence, 'keep');
      if (alone && tokens > 0 && this.cache.held() === 0) this.report.fail(r, this.#outOfMemory(r));
      return 'no room';
    }
    this.roster.enter(r);
    this.report.admitted(r);
    plan.budgetLeft -= tokens;
    plan.blocksLeft -= r.needed(r.known);
    this.builder.addRow(r, tokens);
    return 'in';
  }

  #outOfMemory(r: LiveRequest): LongmindError {
    const { total, grown } = this.cache.stats().blocks;
    return errors.invalidRequest(
      `the device gave only ${grown} of ${total} KV blocks, and ${r.known} tokens do not fit into them`,
    );
  }
}

const queued = (r: LiveRequest): Queued => ({
  owner: r.request.owner,
  priority: r.request.priority,
  cost: r.known,
});
