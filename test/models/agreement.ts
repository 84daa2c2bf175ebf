/** How a tiny model's logits are computed here, and compared with transformers'. */
import assert from 'node:assert/strict';
import type { WeightsChoice } from '../../src/config.js';
import { llama } from '../../src/model/llama.js';
import { openModel } from '../../src/weights/index.js';
import { type Row, Runner, type RunnerOptions, relativeError } from '../device/support.js';
import { readTensors } from '../reference/device.js';
import { Reference } from '../reference/forward.js';
import type { Expected } from './tiny.js';

const CHUNK = 13;
/** What rounding K and V to 16 bits makes of the logits of these models, whose attention is sharp. */
export const KV_ROUNDED = 3e-3;

function open(file: string, weights: WeightsChoice) {
  const { config, source } = openModel(file, { sessionLen: 0, weights });
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  return { program: llama({ ...dims, rmsEps, rope, tiedOutput, flags }), source };
}

/** The prompt in pieces, then token by token. */
function pieces(f: Expected): Row[] {
  const ids = f.ids.slice(0, -1);
  const rows: Row[] = [];
  for (let at = 0; at < ids.length; ) {
    const end = at < f.prompt ? Math.min(f.prompt, at + CHUNK) : at + 1;
    rows.push({ slot: 0, position: at, tokens: ids.slice(at, end), logits: 'all' });
    at = end;
  }
  return rows;
}

/** Nothing rounded but what f32 rounds in transformers: the program and the tensors are the model's. */
export function referenceLogits(f: Expected, file: string): Float64Array[] {
  const { program, source } = open(file, 'file');
  const reference = new Reference(program, readTensors(program, source), { bits: 32 }, 'exact');
  const runner = new Runner({ program, source, tensors: new Map() });
  const out = pieces(f).flatMap((row) => reference.step(runner.fill([row])));
  runner.close();
  return out;
}

/** Logits of every position. */
export function logitsOf(
  f: Expected,
  file: string,
  weights: WeightsChoice,
  options: RunnerOptions = {},
): Float32Array[] {
  const runner = new Runner({ ...open(file, weights), tensors: new Map() }, options);
  const out = pieces(f).flatMap((row) => runner.logits([row]));
  runner.close();
  return out;
}

/** Of pieces in which the KV is computed anew. */
const OTHER_CHUNK = 29;

/**
 * Logits of every position; those after the middle of the answer once more, when the KV before it was thrown away and is
 * computed anew, in other pieces and another place: the same bits.
 */
export function logitsThroughEviction(f: Expected, file: string): Float32Array[] {
  const runner = new Runner({ ...open(file, 'file'), tensors: new Map() });
  const rows = pieces(f);
  const out = rows.flatMap((row) => runner.logits([row]));
  const half = f.prompt + ((f.ids.length - f.prompt) >> 1);
  for (let at = 0; at < half; at += OTHER_CHUNK) {
    const tokens = f.ids.slice(at, Math.min(half, at + OTHER_CHUNK));
    runner.run([{ slot: 1, position: at, tokens, logits: 'none' }]);
  }
  for (const row of rows.filter(({ position }) => position >= half))
    assert.deepEqual(runner.logits([{ ...row, slot: 1 }])[0], out[row.position], `position ${row.position}`);
  runner.close();
  return out;
}

function argmax(x: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < x.length; i++) if (x[i]! > x[best]!) best = i;
  return best;
}

export const spreadOf = (x: Float32Array): number => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);

export function agrees(f: Expected, logits: (Float32Array | Float64Array)[], limit: number): void {
  f.watched.forEach((p, i) => {
    const error = relativeError(logits[p]!, f.logits[i]!);
    assert.ok(error < limit, `position ${p}: relative error ${error.toExponential(2)}`);
  });
  // a gap of ten times the error is no tie
  const tie = 10 * limit * spreadOf(f.logits[0]!);
  logits.forEach((x, p) => {
    if (f.gap[p]! > tie) assert.equal(argmax(x), f.argmax[p], `position ${p}`);
  });
}

/** Rounding of the weights decides where two tokens are nearly as likely: those positions are not counted. */
export function mostlyAgrees(f: Expected, logits: (Float32Array | Float64Array)[], tie: number, share = 0.99): void {
  let counted = 0;
  let same = 0;
  logits.forEach((x, p) => {
    if (f.gap[p]! < tie) return;
    counted++;
    same += Number(argmax(x) === f.argmax[p]);
  });
  assert.ok(counted > logits.length / 4, `only ${counted} of ${logits.length} positions are no ties`);
  assert.ok(same >= share * counted, `${same} of ${counted}`);
}
