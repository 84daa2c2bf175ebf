/**
 * The second line of defence against a step that the device refuses: one bad row must not fail the others. What a caller
 * may ask for is checked at admission; this is for what was not thought of there.
 */
import type { LiveRequest } from './request.js';

/** Part of a step that did not run: the next `count` tokens of a request. */
export interface LostRow {
  request: LiveRequest;
  count: number;
}

export interface RowByRow {
  /** Runs a step of this row alone, and commits it. False: it was cancelled. Throws what the device says. */
  run(row: LostRow): boolean;
  failed(request: LiveRequest, error: unknown): void;
}

/**
 * Runs the rows of a step that was refused again, each as a step of its own; only those that are refused alone fail. Blocks
 * stay reserved and a row's result depends on its own tokens alone, so the others get the tokens that they would have had.
 * Nothing of the refused step was committed, and nothing is in flight.
 */
export function runRowByRow(rows: readonly LostRow[], error: unknown, { run, failed }: RowByRow): void {
  if (rows.length === 1) {
    if (!rows[0]!.request.ended) failed(rows[0]!.request, error);
    return;
  }
  for (const row of rows) {
    // it may have ended with a step that was still in flight
    if (row.request.ended) continue;
    try {
      // cancelled: what is left is run by the steps to come
      if (!run(row)) return;
    } catch (e) {
      failed(row.request, e);
    }
  }
}
