/**
 * The second line of defence against a step that the device refuses: one bad row must not fail the others. What a caller
 * may ask for is checked at admission; this is for what was not thought of there.
 */
import type { Step, StepResult } from '../device/device.js';
import type { LiveRequest } from './request.js';
import type { StepBuilder } from './step-builder.js';

export interface RowByRow {
  /** Runs a step to its end. Throws what the device says. */
  run(step: Step): StepResult;
  /** The step that the builder holds was completed. */
  commit(result: StepResult): void;
  failed(request: LiveRequest, error: unknown): void;
}

/**
 * Runs the step that the builder holds again, each of its rows as a step of its own; only those that are refused alone
 * fail. Blocks stay reserved and a row's result depends on its own tokens alone, so the others get the tokens that they
 * would have had. Nothing of the refused step may have been committed.
 */
export function runRowByRow(builder: StepBuilder, error: unknown, { run, commit, failed }: RowByRow): void {
  const rows = builder.rows.map((request, i) => ({ request, count: builder.counts[i]! }));
  if (rows.length === 1) {
    failed(rows[0]!.request, error);
    return;
  }
  // the cache has handed its block copies out: the first step that the device takes runs them all
  let copies = builder.step.copies.slice(0, 3 * builder.step.copyCount);
  for (const { request, count } of rows) {
    builder.begin();
    builder.addRow(request, count);
    const step = builder.end();
    step.copies.set(copies);
    step.copyCount = copies.length / 3;
    let result: StepResult;
    try {
      result = run(step);
    } catch (e) {
      failed(request, e);
      continue;
    }
    // cancelled: what is left is run by the steps to come
    if (!result.completed) return;
    copies = copies.subarray(0, 0);
    commit(result);
  }
}
