import { BlockList } from '../../dist/src/cache/index.js';
/** Rules with one number a block, the smallest goes first: a heap with stale entries. key(policy, block) is taken at each release. */
export const keyed = (key) => (links) => new Keyed(links, key);
class Keyed {
  name = 'keyed';
  wantsHashes = false;
  bytes = 0;
  size = 0;
  now = 0;
  floor = 0;
  heap = [];
  constructor(links, key) {
    this.links = links;
    this.key = key;
    const n = links.blocks;
    this.cached = new Uint8Array(n);
    this.uses = new Int32Array(n);
    this.last = new Float64Array(n);
    this.before = new Float64Array(n);
    this.keys = new Float64Array(n);
    this.waiting = new Uint8Array(n);
    this.orphan = -1;
  }
  published() {}
  warm() {}
  reused() {}
  push(b) {
    this.uses[b]++;
    this.before[b] = this.last[b];
    this.last[b] = ++this.now;
    this.cached[b] = 1;
    this.waiting[b] = 0;
    this.size++;
    this.keys[b] = this.key(this, b);
    this.up(this.keys[b], b);
  }
  remove(b) {
    this.cached[b] = 0;
    this.keys[b] = NaN;
    this.size--;
  }
  up(k, b) {
    const h = this.heap;
    let i = h.length;
    h.push(null);
    while (i > 0) {
      const p = (i - 1) >> 1;
      if (h[p][0] <= k) break;
      h[i] = h[p];
      i = p;
    }
    h[i] = [k, b];
  }
  pop() {
    const h = this.heap,
      top = h[0],
      x = h.pop();
    if (h.length) {
      let i = 0;
      for (;;) {
        let c = 2 * i + 1;
        if (c >= h.length) break;
        if (c + 1 < h.length && h[c + 1][0] < h[c][0]) c++;
        if (h[c][0] >= x[0]) break;
        h[i] = h[c];
        i = c;
      }
      h[i] = x;
    }
    return top;
  }
  victim() {
    if (this.size === 0) return -1;
    const o = this.orphan;
    let b = o >= 0 && this.waiting[o] && this.cached[o] && !this.links.hasChildren(o) ? o : -1;
    while (b === -1) {
      if (this.heap.length === 0) {
        for (let i = 0; i < this.links.blocks; i++)
          if (this.cached[i] && !this.links.hasChildren(i)) {
            b = i;
            break;
          }
        break;
      }
      const [k, x] = this.pop();
      if (!this.cached[x] || this.keys[x] !== k) continue;
      if (this.links.hasChildren(x)) this.waiting[x] = 1;
      else b = x;
    }
    this.floor = Math.max(this.floor, this.keys[b]);
    this.orphan = this.links.parent(b);
    this.remove(b);
    this.uses[b] = 0;
    this.last[b] = 0;
    return b;
  }
}
export const lru2 = keyed((p, b) => (p.uses[b] < 2 ? -1e12 + p.last[b] : p.before[b]));
export const gdsf = keyed((p, b) => p.floor + p.uses[b] * (1 + p.links.depth(b) / 64));
/** Two queues with ghosts: blocks not known from before go first while they hold more than a share of the pool. */
export const queues = (adapt) => (links) => new Queues(links, adapt);
class Queues {
  name = 'queues';
  wantsHashes = true;
  bytes = 0;
  size = 0;
  now = 0;
  constructor(links, adapt) {
    this.links = links;
    this.n = links.blocks;
    this.adapt = adapt;
    this.share = adapt ? 0.5 : 0.1;
    this.lists = [new BlockList(links), new BlockList(links)];
    this.blocked = new BlockList(links);
    this.cls = new Uint8Array(this.n);
    this.place = new Uint8Array(this.n);
    this.low = new Int32Array(this.n);
    this.high = new Int32Array(this.n);
    this.seen = new Uint8Array(this.n);
    this.ghosts = new Map();
    this.orphan = -1;
  }
  published(b, parent, low, high) {
    if (parent >= 0) {
      low = Math.imul(low ^ this.low[parent], 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ this.high[parent] ^ low, 0x85ebca6b);
      high ^= high >>> 13;
    }
    this.low[b] = low;
    this.high[b] = high;
    this.seen[b] = 0;
    this.cls[b] = 0;
    this.place[b] = 0;
    const k = low * 4294967296 + high,
      g = this.ghosts.get(k);
    if (g === undefined) return;
    this.ghosts.delete(k);
    this.cls[b] = 1;
    if (this.adapt) this.share = Math.min(0.99, Math.max(0.01, this.share + (g ? -1 : 1) / this.n));
  }
  reused(b) {
    if (this.place[b] === 2) {
      this.cls[b] = 1;
      this.place[b] = 0;
    }
  }
  warm() {}
  push(b) {
    this.lists[this.cls[b]].pushLast(b);
    this.place[b] = 1;
    this.size++;
  }
  remove(b) {
    (this.place[b] === 3 ? this.blocked : this.lists[this.cls[b]]).remove(b);
    this.place[b] = 2;
    this.size--;
  }
  victim() {
    if (this.size === 0) return -1;
    const o = this.orphan;
    let b = o >= 0 && this.place[o] === 3 && !this.links.hasChildren(o) ? o : -1;
    while (b === -1) {
      const [once, more] = this.lists;
      const l = once.size > this.share * this.n || more.size === 0 ? once : more;
      b = l.first;
      if (b === -1) {
        b = this.blocked.first;
        while (this.links.hasChildren(b)) b = this.links.next(b);
        break;
      }
      if (this.links.hasChildren(b)) {
        l.remove(b);
        this.blocked.pushLast(b);
        this.place[b] = 3;
        b = -1;
      }
    }
    this.remove(b);
    this.place[b] = 0;
    this.orphan = this.links.parent(b);
    const k = this.low[b] * 4294967296 + this.high[b];
    this.ghosts.delete(k);
    this.ghosts.set(k, this.cls[b]);
    if (this.ghosts.size > this.n) this.ghosts.delete(this.ghosts.keys().next().value);
    return b;
  }
}
