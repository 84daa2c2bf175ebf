/**
 * A model on several GPUs ("ranks"): each has an equal share of the heads, of gate's and up's features and of the vocabulary, and
 * the inputs of o and down that follow from these. What a rank computes is a program like any other, with smaller buffers.
 */
import { errors } from '../../errors.js';
import type { Op, Program } from '../device.js';

export interface Shard {
  rank: number;
  ranks: number;
}
export const WHOLE: Shard = { rank: 0, ranks: 1 };

/** Inputs of a weight that only go together: 64, or 256 of K-quants. */
type UnitOf = (weight: string) => number;

/** Features of the output matrix that a rank has: whole tiles, the last one the rest. */
export function vocabularyOf(vocab: number, { rank, ranks }: Shard): { first: number; rows: number } {
  const share = 64 * Math.ceil(vocab / (64 * ranks));
  const first = Math.min(vocab, rank * share);
  return { first, rows: Math.min(vocab, first + share) - first };
}

/** What keeps a model from being cut into so many equal parts; null: nothing. */
export function unfit({ dims, ops, buffers }: Program, unitOf: UnitOf, ranks: number): string | null {
  const { heads, kvHeads, vocab } = dims;
  if (heads % ranks !== 0 || kvHeads % ranks !== 0)
    return `a divisor of the model's ${heads} heads and ${kvHeads} KV heads`;
  if (vocabularyOf(vocab, { rank: ranks - 1, ranks }).rows === 0)
    return `small enough for the vocabulary of ${vocab} tokens to have a tile of 64 on each GPU`;
  for (const op of ops) {
    if (op.op !== 'linear' || op.residual === null) continue;
    const inputs = buffers.find((b) => b.name === op.in)!.width;
    const unit = unitOf(op.outputs[0]!.weight);
    if (inputs % (ranks * unit) !== 0)
      return `such that each GPU has a multiple of ${unit} of the ${inputs} inputs of '${op.outputs[0]!.weight}'`;
  }
  return null;
}

/**
 * The program of a rank.
 * @throws invalid_option, unsupported_model
 */
export function shardProgram(program: Program, unitOf: UnitOf, { ranks }: Shard): Program {
  if (ranks === 1) return program;
  const why = unfit(program, unitOf, ranks);
  if (why) throw errors.invalidOption('tp', ranks, why);
  for (const op of program.ops) refuse(op);
  const split = new Set(program.ops.flatMap(splitBy));
  const { dims, buffers } = program;
  return {
    ...program,
    dims: { ...dims, heads: dims.heads / ranks, kvHeads: dims.kvHeads / ranks, ffDim: dims.ffDim / ranks },
    buffers: buffers.map((b) => (split.has(b.name) ? { ...b, width: b.width / ranks } : b)),
  };
}

/** Buffers of which each rank has a share. */
function splitBy(op: Op): string[] {
  if (op.op === 'ropeAndStore') return [op.q, op.k, op.v];
  if (op.op === 'attention') return [op.out];
  return op.op === 'siluMul' ? [op.gate, op.up, op.out] : [];
}

/** What is right on one GPU, but was not thought through for a share of it. @throws unsupported_model */
function refuse(op: Op): void {
  const plain =
    (op.op !== 'rmsNorm' || ((op.parts ?? 1) === 1 && op.residual === undefined && op.in !== op.out)) &&
    (op.op !== 'linear' || (op.scale ?? 1) === 1) &&
    op.op !== 'softcap';
  if (!plain) throw errors.unsupportedModel(`--tp does not split models with this kind of ${op.op} yet; leave it out`);
}
