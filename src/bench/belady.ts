/**
 * Belady's MIN over a trace: what a policy could reach that knows the future. It evicts the block whose next use is
 * farthest away, deeper ones first, and must admit every block; blocks of the request being served are pinned.
 */
import type { Trace } from './trace-formats.js';

interface Paths {
  /** Block ids of request r, all of them. Valid until the next call. */
  path(r: number): Int32Array;
  length(r: number): number;
}

/** The full block list of each request, rebuilt from what it keeps and adds. */
function pathsOf(trace: Trace): Paths {
  const { requests } = trace;
  const chains: Int32Array[] = [];
  const lengths = new Int32Array(trace.chains);
  let last = -1;
  const longest = requests.reduce((n, r) => Math.max(n, r.ids.length), 0);
  const step = (r: number) => {
    const { chain, keep, ids } = requests[r]!;
    if (chain === -1) return;
    let list = chains[chain] ?? new Int32Array(Math.max(1024, 2 * longest));
    if (list.length < keep + ids.length) {
      const bigger = new Int32Array(2 * (keep + ids.length));
      bigger.set(list);
      list = bigger;
    }
    chains[chain] = list;
    list.set(ids, keep);
    lengths[chain] = keep + ids.length;
  };
  return {
    path(r) {
      const { chain, ids } = requests[r]!;
      if (chain === -1) return ids;
      if (r !== last) {
        if (r < last) last = -1;
        while (last < r) step(++last);
      }
      return chains[chain]!.subarray(0, lengths[chain]);
    },
    length: (r) => requests[r]!.keep + requests[r]!.ids.length,
  };
}

/** For each access, in order, the next request that uses the same block; requests.length if none does. */
function nextUses(trace: Trace, paths: Paths): Int32Array {
  const next = new Int32Array(trace.accesses).fill(trace.requests.length);
  const lastAt = new Int32Array(trace.blocks).fill(-1);
  let at = 0;
  for (let r = 0; r < trace.requests.length; r++) {
    for (const id of paths.path(r)) {
      if (lastAt[id]! >= 0) next[lastAt[id]!] = r;
      lastAt[id] = at++;
    }
  }
  return next;
}

export function belady(trace: Trace, capacity: number): { hits: number; infiniteHits: number } {
  const paths = pathsOf(trace);
  const next = nextUses(trace, paths);
  const heap = new MaxHeap();
  /** Key under which a resident block stands in the heap; -1: not resident; -2: pinned. */
  const key = new Float64Array(trace.blocks).fill(-1);
  const seen = new Uint8Array(trace.blocks);
  let resident = 0;
  let hits = 0;
  let infiniteHits = 0;
  let at = 0;
  for (let r = 0; r < trace.requests.length; r++) {
    const path = paths.path(r);
    let intact = true;
    let known = true;
    const served = Math.min(path.length, capacity);
    for (let i = 0; i < path.length; i++) {
      const id = path[i]!;
      if (!seen[id]) known = false;
      if (known) infiniteHits++;
      seen[id] = 1;
      if (i >= served) continue;
      if (key[id] === -1) intact = false;
      if (intact) hits++;
      if (key[id] === -1) resident++;
      key[id] = -2;
    }
    while (resident > capacity) {
      const victim = heap.pop();
      if (key[victim.id] !== victim.key) continue;
      key[victim.id] = -1;
      resident--;
    }
    for (let i = 0; i < served; i++) {
      const k = next[at + i]! * 2 ** 20 + i;
      key[path[i]!] = k;
      heap.push(k, path[i]!);
    }
    at += path.length;
    if (heap.size > 8 * capacity + 1_000_000) heap.rebuild((k, id) => key[id] === k);
  }
  return { hits, infiniteHits };
}

class MaxHeap {
  size = 0;
  #keys = new Float64Array(1024);
  #ids = new Int32Array(1024);
  readonly #top = { key: 0, id: 0 };

  push(key: number, id: number): void {
    if (this.size === this.#keys.length) this.#grow();
    this.#up(this.size++, key, id);
  }

  pop(): { key: number; id: number } {
    const keys = this.#keys;
    this.#top.key = keys[0]!;
    this.#top.id = this.#ids[0]!;
    this.size--;
    if (this.size > 0) this.#down(0, keys[this.size]!, this.#ids[this.size]!);
    return this.#top;
  }

  /** Drops entries that are out of date. */
  rebuild(keep: (key: number, id: number) => boolean): void {
    const n = this.size;
    this.size = 0;
    for (let i = 0; i < n; i++) {
      const key = this.#keys[i]!;
      const id = this.#ids[i]!;
      if (keep(key, id)) this.#up(this.size++, key, id);
    }
  }

  #up(i: number, key: number, id: number): void {
    const keys = this.#keys;
    while (i > 0) {
      const p = (i - 1) >> 1;
      if (keys[p]! >= key) break;
      keys[i] = keys[p]!;
      this.#ids[i] = this.#ids[p]!;
      i = p;
    }
    keys[i] = key;
    this.#ids[i] = id;
  }

  #down(i: number, key: number, id: number): void {
    const keys = this.#keys;
    for (;;) {
      let c = 2 * i + 1;
      if (c >= this.size) break;
      if (c + 1 < this.size && keys[c + 1]! > keys[c]!) c++;
      if (keys[c]! <= key) break;
      keys[i] = keys[c]!;
      this.#ids[i] = this.#ids[c]!;
      i = c;
    }
    keys[i] = key;
    this.#ids[i] = id;
  }

  #grow(): void {
    const keys = new Float64Array(2 * this.#keys.length);
    keys.set(this.#keys);
    this.#keys = keys;
    const ids = new Int32Array(2 * this.#ids.length);
    ids.set(this.#ids);
    this.#ids = ids;
  }
}
