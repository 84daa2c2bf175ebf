/** The engine as the page knows it: messages of the live stream put together. */
import { int32Of, type LiveMessage, type LiveStats, uint8Of, uint16Of, uint32Of } from '../wire.js';

/** What a block is; 0: it was never used. */
export const FREE = 1;
export const CACHED = 2;
export const ACTIVE = 3;

export interface Sequence {
  number: number;
  /** null: it has no name, or it belongs to another API key (then `ours` is false). */
  sessionId: string | null;
  ours: boolean;
  state: 'evicted' | 'cached' | 'active';
  known: number;
  computed: number;
}

export interface BatchRow {
  slot: number;
  sequence: number;
  request: number;
  known: number;
  computed: number;
  generated: number;
}

export interface Picture {
  at: number;
  step: number;
  blockLen: number;
  /** Blocks of the pool; the arrays hold the first `high` of them, the others were never used. */
  blocks: number;
  high: number;
  state: Uint8Array;
  holder: Int32Array;
  fill: Uint16Array;
  /** Where else a block's KV is: 0 nowhere, 1 in host memory, 2 on disk, 3 both. */
  below: Uint8Array;
  /** Cached blocks, first to be evicted first. */
  order: Int32Array;
  sequences: ReadonlyMap<number, Sequence>;
  batch: BatchRow[];
  waiting: Omit<BatchRow, 'slot' | 'generated'>[];
  stats: LiveStats;
  ttft: { count: number; sum: number };
}

const STATES = ['evicted', 'cached', 'active'] as const;

/** The picture after a message. Pictures are never changed: the one before can be compared with. Null: ask for a whole one. */
export function applyMessage(before: Picture | null, m: LiveMessage): Picture | null {
  if (m.kind === 'change' && !before) return null;
  const base = m.kind === 'whole' ? null : before;
  const arrays = blocksAfter(base, m);
  const sequences = new Map(base?.sequences);
  for (const number of m.gone) sequences.delete(number);
  for (const [number, sessionId, ours, state, known, computed] of m.sequences) {
    sequences.set(number, { number, sessionId, ours: ours === 1, state: STATES[state], known, computed });
  }
  return {
    at: m.at,
    step: m.step,
    blockLen: m.blockLen,
    blocks: m.blocks,
    high: m.high,
    ...arrays,
    order: m.order === null ? (base?.order ?? new Int32Array(0)) : int32Of(m.order),
    sequences,
    batch: m.batch.map(([slot, sequence, request, known, computed, generated]) => ({
      slot,
      sequence,
      request,
      known,
      computed,
      generated,
    })),
    waiting: m.waiting.map(([sequence, request, known, computed]) => ({ sequence, request, known, computed })),
    stats: m.stats,
    ttft: m.ttft,
  };
}

function blocksAfter(base: Picture | null, m: LiveMessage): Pick<Picture, 'state' | 'holder' | 'fill' | 'below'> {
  const state = new Uint8Array(m.high);
  const holder = new Int32Array(m.high).fill(-1);
  const fill = new Uint16Array(m.high);
  const below = new Uint8Array(m.high);
  if (base) {
    const kept = Math.min(base.high, m.high);
    state.set(base.state.subarray(0, kept));
    holder.set(base.holder.subarray(0, kept));
    fill.set(base.fill.subarray(0, kept));
    below.set(base.below.subarray(0, kept));
  }
  const [newState, newHolder, newFill] = [uint8Of(m.state), int32Of(m.holder), uint16Of(m.fill)];
  const newBelow = m.below === null ? new Uint8Array(newState.length) : uint8Of(m.below);
  if (m.index === null) return { state: newState, holder: newHolder, fill: newFill, below: newBelow };
  uint32Of(m.index).forEach((b, i) => {
    state[b] = newState[i] as number;
    holder[b] = newHolder[i] as number;
    fill[b] = newFill[i] as number;
    below[b] = newBelow[i] as number;
  });
  return { state, holder, fill, below };
}
