/**
 * The scheduler: pure functions from (batch, free blocks, budget) to a plan. There is no prefill phase and no decode
 * phase: a step lets *scheduled* catch up with *length*, as far as the token budget and the blocks reach.
 *
 * Order is by rank = arrival − priority × AGEING_MS: a priority is worth a head start of so many milliseconds. So the order
 * of two requests never changes while they wait, the lower priority gets its turn in bounded time, and equal priorities
 * are served first come, first served.
 */

/** One level of priority outweighs so much waiting. */
const AGEING_MS = 10_000;

export function rankOf(arrivalMs: number, priority: number): number {
  return arrivalMs - priority * AGEING_MS;
}

/** A sequence as the scheduler sees it. */
export interface Schedulable {
  /** Ids that it has or will have when the step runs. */
  readonly length: number;
  /** Of these, the ones computed by then. */
  readonly scheduled: number;
  /** Tokens it may have in the end. */
  readonly limit: number;
  /** Blocks it lacks so that `length` tokens fit. */
  needed(length: number): number;
}

interface Plan {
  /** Blocks do not suffice: the last sequence of the batch must give its blocks up, then plan again. */
  preemptLast: boolean;
  /** (running.length) tokens each running sequence may compute in this step; 0 = none. */
  tokens: Int32Array;
  budgetLeft: number;
  /** Blocks that remain when every running sequence has what its known tokens need. */
  blocksLeft: number;
}

/**
 * Shares the budget among the running sequences, which stand in rank order. Sequences that decode (one token to go) go
 * first; then prefills, in order, each as far as it gets, so that at most one is left partly done.
 */
export function planRunning(running: readonly Schedulable[], budget: number, available: number, plan: Plan): Plan {
  plan.preemptLast = false;
  plan.tokens.fill(0, 0, running.length);
  let blocks = available;
  for (let i = 0; i < running.length && budget > 0; i++) {
    const s = running[i]!;
    if (s.length - s.scheduled !== 1) continue;
    const need = s.needed(s.length);
    if (need > blocks) return preemption(plan, running);
    blocks -= need;
    budget--;
    plan.tokens[i] = 1;
  }
  for (let i = 0; i < running.length; i++) {
    const s = running[i]!;
    if (s.length - s.scheduled === 1) continue;
    const tokens = Math.min(s.length - s.scheduled, budget);
    if (tokens > 0) {
      if (s.needed(s.scheduled + tokens) > blocks) return preemption(plan, running);
      plan.tokens[i] = tokens;
      budget -= tokens;
    }
    blocks -= s.needed(s.length);
  }
  plan.budgetLeft = budget;
  plan.blocksLeft = Math.max(0, blocks);
  return plan;
}

function preemption(plan: Plan, running: readonly Schedulable[]): Plan {
  plan.preemptLast = true;
  plan.tokens.fill(0, 0, running.length);
  plan.budgetLeft = 0;
  plan.blocksLeft = 0;
  return plan;
}

/**
 * Tokens that a waiting sequence may compute at once, or 0: it must wait. Its whole need is looked at (known tokens and
 * one block more, so that it does not stop a step later), not its first chunk: else admission and preemption alternate.
 * `alone`: nothing else runs, so only what it has must fit.
 */
export function planAdmission(
  s: Schedulable,
  plan: Readonly<Pick<Plan, 'budgetLeft' | 'blocksLeft'>>,
  blockLen: number,
  alone: boolean,
): number {
  if (plan.budgetLeft <= 0) return 0;
  const need = s.needed(alone ? s.length : Math.max(s.length, Math.min(s.length + blockLen, s.limit)));
  return need > plan.blocksLeft ? 0 : Math.min(s.length - s.scheduled, plan.budgetLeft);
}

export function createPlan(maxRows: number): Plan {
  return { preemptLast: false, tokens: new Int32Array(maxRows), budgetLeft: 0, blocksLeft: 0 };
}
