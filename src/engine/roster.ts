/** Who is in the engine: the batch, with its slots, and the queue, both in rank order. */
import type { CacheManager } from '../cache/types.js';
import { invariant } from '../errors.js';
import { Shares } from './fairness.js';
import type { LiveRequest } from './request.js';

export class Roster {
  readonly running: LiveRequest[] = [];
  readonly waiting: LiveRequest[] = [];
  /** What each owner has had of the engine. */
  readonly shares = new Shares();
  readonly #byId = new Map<number, LiveRequest>();
  readonly #freeSlots: number[] = [];

  constructor(
    private readonly cache: CacheManager,
    private readonly slots: number,
    /** Told of a slot that gets another owner. */
    private readonly taken: (slot: number) => void,
  ) {
    for (let s = slots - 1; s >= 0; s--) this.#freeSlots.push(s);
  }

  get size(): number {
    return this.#byId.size;
  }

  get hasSlot(): boolean {
    return this.#freeSlots.length > 0;
  }

  find(id: number): LiveRequest | undefined {
    return this.#byId.get(id);
  }

  /** A new request joins the queue. */
  add(r: LiveRequest): void {
    this.#byId.set(r.request.id, r);
    this.shares.enter(r.request.owner);
    insertByRank(this.waiting, r);
  }

  /** From the queue into the batch; its sequence is active. */
  enter(r: LiveRequest): void {
    this.waiting.splice(this.waiting.indexOf(r), 1);
    this.shares.admitted(r.request.owner, r.request.priority);
    r.slot = this.#freeSlots.pop()!;
    this.taken(r.slot);
    r.scheduled = r.computed;
    r.drawing = 0;
    r.drafting = 0;
    r.mayRestore = true;
    insertByRank(this.running, r);
  }

  /** Back into the queue. Its blocks are given back, its tokens stay. */
  preempt(r: LiveRequest): void {
    this.#leave(r, 'keep');
    insertByRank(this.waiting, r);
  }

  /** Out of the engine. 'keep': its sequence stays; 'drop': it is forgotten (its blocks may serve as prefixes). */
  remove(r: LiveRequest, mode: 'keep' | 'drop'): void {
    r.ended = true;
    if (r.slot >= 0) this.#leave(r, mode);
    else {
      this.waiting.splice(this.waiting.indexOf(r), 1);
      if (mode === 'drop' && this.cache.exists(r.sequence)) this.cache.release(r.sequence, 'drop');
    }
    this.#byId.delete(r.request.id);
    this.shares.leave(r.request.owner);
  }

  #leave(r: LiveRequest, mode: 'keep' | 'drop'): void {
    this.running.splice(this.running.indexOf(r), 1);
    this.#freeSlots.push(r.slot);
    r.slot = -1;
    this.cache.release(r.sequence, mode);
  }

  /** Nothing is in flight: what was scheduled and did not run is to be scheduled again. */
  unschedule(): void {
    for (const r of this.running) {
      r.scheduled = r.computed;
      r.drawing = 0;
      r.drafting = 0;
    }
  }

  /** `inFlight`: a step is on its way. */
  check(inFlight: boolean): void {
    const { running } = this;
    const slots = new Set(running.map((r) => r.slot));
    invariant(slots.size === running.length && !slots.has(-1), 'two sequences share a slot');
    invariant(slots.size + this.#freeSlots.length === this.slots, 'a slot is lost');
    invariant(this.size === running.length + this.waiting.length, 'a request is lost');
    for (const r of running) {
      const { id } = r.request;
      const known = this.cache.known(r.sequence);
      invariant(r.known === known, `request ${id}: ${r.known} tokens, its sequence has ${known}`);
      invariant(
        r.scheduled >= r.computed && r.scheduled <= r.known + r.drawing + r.drafting,
        `request ${id}: ${r.scheduled} scheduled`,
      );
      if (!inFlight)
        invariant(r.scheduled === r.computed && r.drawing + r.drafting === 0, `request ${id}: nothing is in flight`);
    }
  }
}

function insertByRank(list: LiveRequest[], r: LiveRequest): void {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    const other = list[mid]!;
    if (other.rank < r.rank || (other.rank === r.rank && other.request.id < r.request.id)) low = mid + 1;
    else high = mid;
  }
  list.splice(low, 0, r);
}
