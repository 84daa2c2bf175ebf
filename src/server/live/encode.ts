/**
 * Snapshots of the engine as messages for the page: a whole picture first, then what changed. Typed arrays travel as
 * base64, so that a map of 10,000 blocks costs some bytes a second while little happens.
 */
import type { EngineSnapshot } from '../../index.js';
import type { LiveCommon, LiveMessage, SequenceRow } from './wire.js';

/** Blocks in eviction order that are told of, first to go first. */
const MAX_ORDER = 1024;

const STATES = ['evicted', 'cached', 'active'] as const;

interface Sequence {
  owner: number;
  sessionId: string | null;
  state: 0 | 1 | 2;
  known: number;
  computed: number;
}

/** Turns a series of snapshots into messages. One for all listeners; names are filled in for each owner. */
export class LiveEncoder {
  #last: EngineSnapshot | null = null;
  #high = 0;
  #numbers = new Map<number, number>();
  #nextNumber = 0;
  /** (blocks) numbers of holders, or -1. */
  #holder = new Int32Array(0);
  #sequences = new Map<number, Sequence>();
  #ttft = { count: 0, sum: 0 };
  #changed: number[] = [];
  #gone: number[] = [];
  #common: LiveCommon | null = null;

  /** False: nothing happened since the last one, and there is nothing to tell. */
  next(s: EngineSnapshot, ttft: { count: number; sum: number }): boolean {
    const last = this.#last;
    const before = this.#holder;
    this.#number(s);
    const index = this.#changedBlocks(s, before);
    this.#noteSequences(s);
    const order = s.evictionOrder.subarray(0, MAX_ORDER);
    const sameOrder = last !== null && equal(order, last.evictionOrder.subarray(0, MAX_ORDER));
    const same =
      index.length === 0 && sameOrder && this.#changed.length + this.#gone.length === 0 && sameCounters(last, s);
    this.#last = s;
    this.#ttft = ttft;
    this.#common = same ? null : this.#encode(s, Uint32Array.from(index), sameOrder ? null : order);
    return !same;
  }

  /** What changed with the last snapshot, for one owner. */
  change(owner: number): string {
    const rows = this.#changed.map((number) => this.#row(number, owner));
    const message: LiveMessage = { kind: 'change', ...this.#common!, sequences: rows, gone: this.#gone };
    return JSON.stringify(message);
  }

  /** The whole picture of the last snapshot, for one owner; null before the first. */
  whole(owner: number): string | null {
    const s = this.#last;
    if (!s) return null;
    const rows = [...this.#sequences.keys()].map((number) => this.#row(number, owner));
    const common = this.#encode(s, null, s.evictionOrder.subarray(0, MAX_ORDER));
    return JSON.stringify({ kind: 'whole', ...common, sequences: rows, gone: [] } satisfies LiveMessage);
  }

  /** Gives every sequence that is seen a number, which it keeps for as long as it is seen. */
  #number(s: EngineSnapshot): void {
    const old = this.#numbers;
    const now = new Map<number, number>();
    const note = (id: number): number => {
      let n = now.get(id);
      if (n === undefined) {
        n = old.get(id) ?? this.#nextNumber++;
        now.set(id, n);
      }
      return n;
    };
    for (const list of [s.sequences, s.batch, s.waiting]) for (const { sequence } of list) note(sequence);
    this.#holder = Int32Array.from(s.sequence, (id) => (id < 0 ? -1 : note(id)));
    this.#numbers = now;
  }

  #changedBlocks(s: EngineSnapshot, before: Int32Array): number[] {
    const { state, fill } = s;
    const holder = this.#holder;
    let high = state.length;
    while (high > 0 && state[high - 1] === 0) high--;
    this.#high = high;
    const last = this.#last;
    const out: number[] = [];
    for (let b = 0; b < high; b++) {
      const sameBelow = last?.tiers?.below[b] === s.tiers?.below[b];
      if (last && last.state[b] === state[b] && before[b] === holder[b] && last.fill[b] === fill[b] && sameBelow)
        continue;
      out.push(b);
    }
    return out;
  }

  #noteSequences(s: EngineSnapshot): void {
    const old = this.#sequences;
    const now = new Map<number, Sequence>();
    this.#changed = [];
    for (const { sequence, sessionId, owner, state, known, computed } of s.sequences) {
      const number = this.#numbers.get(sequence)!;
      const is: Sequence = { owner, sessionId, state: STATES.indexOf(state) as 0 | 1 | 2, known, computed };
      const was = old.get(number);
      now.set(number, is);
      if (!was || !sameSequence(was, is)) this.#changed.push(number);
    }
    this.#gone = [...old.keys()].filter((number) => !now.has(number));
    this.#sequences = now;
  }

  #row(number: number, owner: number): SequenceRow {
    const q = this.#sequences.get(number)!;
    // names belong to their owner; that something is there does not
    const mine = owner === 0 || q.owner === owner;
    return [number, mine ? q.sessionId : null, mine ? 1 : 0, q.state, q.known, q.computed];
  }

  #encode(s: EngineSnapshot, index: Uint32Array | null, order: Int32Array | null): LiveCommon {
    const high = this.#high;
    const below = s.tiers?.below ?? null;
    const number = (id: number): number => this.#numbers.get(id)!;
    const { stepTimes: _, sessionStates: __, sessionStoreFailure: ___, ...stats } = s.stats;
    return {
      at: Date.now(),
      step: s.step,
      blockLen: s.blockLen,
      blocks: s.state.length,
      high,
      index: index && base64(index),
      state: base64(index ? index.reduce(pickFrom(s.state), new Uint8Array(index.length)) : s.state.slice(0, high)),
      holder: base64(
        index ? index.reduce(pickFrom(this.#holder), new Int32Array(index.length)) : this.#holder.slice(0, high),
      ),
      below:
        below && base64(index ? index.reduce(pickFrom(below), new Uint8Array(index.length)) : below.slice(0, high)),
      fill: base64(index ? index.reduce(pickFrom(s.fill), new Uint16Array(index.length)) : s.fill.slice(0, high)),
      order: order && base64(order),
      batch: s.batch.map((r) => [r.slot, number(r.sequence), r.request, r.known, r.computed, r.generated]),
      waiting: s.waiting.map((r) => [number(r.sequence), r.request, r.known, r.computed]),
      stats,
      ttft: this.#ttft,
    };
  }
}

const base64 = (a: Uint8Array | Int32Array | Uint32Array | Uint16Array): string =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString('base64');

/** A reducer that copies `from[block]` to place i for the i-th block of an index. */
const pickFrom =
  <A extends Uint8Array | Int32Array | Uint16Array>(from: A) =>
  (into: A, block: number, i: number): A => {
    into[i] = from[block]!;
    return into;
  };

function equal(a: Int32Array, b: Int32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

const sameSequence = (a: Sequence, b: Sequence): boolean =>
  a.sessionId === b.sessionId &&
  a.owner === b.owner &&
  a.state === b.state &&
  a.known === b.known &&
  a.computed === b.computed;

const sameCounters = (a: EngineSnapshot | null, b: EngineSnapshot): boolean =>
  a !== null && a.step === b.step && JSON.stringify(a.stats) === JSON.stringify(b.stats);
