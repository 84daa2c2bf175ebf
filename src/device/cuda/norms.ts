/** Norms that are no kernels of their own: with few rows of a small model the products that read them make them. The same bits. */
import type { NormOp, Plan, PlanOp } from './plan.js';
import { type Gpu, productKernel } from './products.js';

export type ProductOp = Extract<PlanOp, { op: 'product' }>;

const MOST_ROWS = 8;
const MOST_WIDTH = 1024;

/** The norm that an operation makes. */
const normOf = (op: PlanOp): NormOp | null => (op.op === 'norm' ? op : op.op === 'reduce' ? op.norm : null);

export class Norms {
  readonly #readers = new Map<ProductOp, NormOp>();
  readonly #made = new Set<NormOp>();

  constructor({ ops, matrices, buffers }: Plan, act: number, gpu: Gpu) {
    ops.forEach((op, i) => {
      if (op.op !== 'norm' || op.indexed) return;
      const { width } = buffers.get(op.out)!;
      if (width % 64 !== 0 || width > MOST_WIDTH) return;
      const next = ops.findIndex((other, j) => j > i && normOf(other)?.out === op.out);
      const readers = ops
        .slice(i, next < 0 ? undefined : next)
        .filter((other): other is ProductOp => other.op === 'product' && other.in === op.out);
      // each block of a product makes the norm: there must not be many
      const few = readers.every(({ matrix, epilogue }) => {
        const { features } = productKernel(matrices[matrix]!, act, epilogue, MOST_ROWS, gpu);
        return matrices[matrix]!.features <= 2 * gpu.multiprocessors * features;
      });
      if (!few) return;
      this.#made.add(op);
      for (const reader of readers) this.#readers.set(reader, op);
    });
  }

  /** The norm that a product makes of its inputs, with so many rows. */
  of(op: ProductOp, rows: number): NormOp | undefined {
    return rows <= MOST_ROWS ? this.#readers.get(op) : undefined;
  }

  /** Is this norm made by those who read it? */
  made(op: NormOp, rows: number): boolean {
    return rows <= MOST_ROWS && this.#made.has(op);
  }
}
