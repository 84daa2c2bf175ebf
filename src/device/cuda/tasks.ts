/** A step's rows as tasks of the attention kernels. */
import type { Step } from '../device.js';

export interface TaskRules {
  blockLen: number;
  /** Query heads of a KV head. */
  group: number;
  /** Tokens of a task of the kernel for many rows. */
  prefillTokens: number;
  /** Rows · splits whose sums there is room for. */
  partialRows: number;
  /** Positions that attention sums alone before it joins them. */
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

/** What planTasks fills in: tasks are (first token, tokens, row, position of the first). */
export interface TaskLists {
  /** (maxTokens, 4) each. */
  decode: Int32Array;
  prefill: Int32Array;
  /** (maxRows) blocks that a row has. */
  blocks: Int32Array;
}

export const createTaskLists = (maxTokens: number, maxRows: number): TaskLists => ({
  decode: new Int32Array(4 * maxTokens),
  prefill: new Int32Array(4 * maxTokens),
  blocks: new Int32Array(maxRows),
});

/** Few tokens go to the kernel that splits the context over many blocks. */
export function planTasks(s: Step, rules: TaskRules, out: TaskLists): Tasks {
  const few = Math.floor(16 / Math.min(rules.group, 16));
  const { rowStart, positions } = s;
  let first = -1;
  let last = 0;
  let longest = 1;
  for (let r = 0; r < s.rowCount; r++) {
    const from = rowStart[r]!;
    const to = rowStart[r + 1]!;
    const end = positions[from]! + to - from;
    out.blocks[r] = Math.ceil(end / rules.blockLen);
    if (to - from > few) continue;
    if (first < 0) first = from;
    last = to;
    longest = Math.max(longest, end);
  }
  // up to a power of two: graphs are kept by it
  const splits = 2 ** Math.ceil(Math.log2(Math.ceil(longest / rules.splitLen)));
  const split = first >= 0 && (last - first) * splits <= rules.partialRows;
  const tasks = { decode: 0, prefill: 0, splits, firstToken: split ? first : 0 };
  for (let r = s.rowCount - 1; r >= 0; r--) {
    const from = rowStart[r]!;
    const to = rowStart[r + 1]!;
    if (split && to - from <= few) {
      put(out.decode, tasks.decode++, from, to - from, r, positions[from]!);
      continue;
    }
    // the longest first
    const pieces = Math.ceil((to - from) / rules.prefillTokens);
    for (let i = pieces - 1; i >= 0; i--) {
      const t = from + i * rules.prefillTokens;
      put(out.prefill, tasks.prefill++, t, Math.min(rules.prefillTokens, to - t), r, positions[t]!);
    }
  }
  return tasks;
}

function put(list: Int32Array, task: number, token: number, count: number, row: number, position: number): void {
  list[4 * task] = token;
  list[4 * task + 1] = count;
  list[4 * task + 2] = row;
  list[4 * task + 3] = position;
}
