/** A step's rows as tasks of the attention kernels, written before the step in its upload. */
import type { Step } from '../device.js';

export interface TaskRules {
  maxTokens: number;
  /** Query heads of a KV head. */
  group: number;
  /** Tokens of a task of the kernel for many rows. */
  prefillTokens: number;
  /** Rows · splits whose sums there is room for. */
  partialRows: number;
  /** Positions of a split. */
  splitLen: number;
}
export interface Tasks {
  decode: number;
  prefill: number;
  /** Splits of the longest decode task. */
  splits: number;
  /** Token at which the sums of split attention begin. */
  firstToken: number;
}

/** Where the arrays lie, in words. */
export const taskOffsets = (maxTokens: number) => ({
  slots: 0,
  decode: maxTokens + (-maxTokens & 15),
  prefill: 5 * (maxTokens + (-maxTokens & 15)),
});

/** Few tokens go to the kernel that splits the context over many blocks. */
export function planTasks(s: Step, rules: TaskRules, out: Int32Array): Tasks {
  const at = taskOffsets(rules.maxTokens);
  const few = Math.floor(16 / Math.min(rules.group, 16));
  let first = -1;
  let last = 0;
  let splits = 1;
  for (let r = 0; r < s.rowCount; r++) {
    const from = s.rowStart[r]!;
    const to = s.rowStart[r + 1]!;
    for (let t = from; t < to; t++) out[at.slots + t] = s.rowSlot[r]!;
    if (to - from > few) continue;
    if (first < 0) first = from;
    last = to;
    splits = Math.max(splits, Math.ceil((s.positions[from]! + to - from) / rules.splitLen));
  }
  // up to a power of two: graphs are kept by it
  const room = 2 ** Math.ceil(Math.log2(splits));
  const split = first >= 0 && (last - first) * room <= rules.partialRows;
  const tasks = { decode: 0, prefill: 0, splits: room, firstToken: split ? first : 0 };
  for (let r = s.rowCount - 1; r >= 0; r--) {
    const from = s.rowStart[r]!;
    const to = s.rowStart[r + 1]!;
    const put = (where: number, t: number, count: number) => out.set([t, count, s.rowSlot[r]!, s.positions[t]!], where);
    if (split && to - from <= few) {
      put(at.decode + 4 * tasks.decode++, from, to - from);
      continue;
    }
    // the longest first
    const pieces = Math.ceil((to - from) / rules.prefillTokens);
    for (let i = pieces - 1; i >= 0; i--) {
      const t = from + i * rules.prefillTokens;
      put(at.prefill + 4 * tasks.prefill++, t, Math.min(rules.prefillTokens, to - t));
    }
  }
  return tasks;
}
