import { BlockList } from '../../dist/src/cache/index.js';
/** Classes of blocks (turn of the talk, or uses); the smallest rate of its class ÷ age goes first; rates learned or fixed. */
export function make(o = {}) {
  return (links) =>
    new P(links, {
      cls: 'turn',
      alpha: 'learn',
      ghost: 1,
      beta: 0.1,
      prior: 0.2,
      C: 8,
      power: 1,
      tip: false,
      mono: true,
      ...o,
    });
}
const NOWHERE = 0,
  CACHED = 1,
  PINNED = 2,
  BLOCKED = 3;
class P {
  name = 'x';
  wantsHashes;
  bytes = 0;
  size = 0;
  now = 0;
  constructor(links, o) {
    this.links = links;
    this.o = o;
    const n = links.blocks;
    this.n = n;
    this.wantsHashes = o.ghost > 0;
    this.K = o.C * (o.K ?? 1) + (o.tip ? 1 : 0);
    this.lists = Array.from({ length: this.K }, () => new BlockList(links));
    this.blocked = new BlockList(links);
    this.place = new Uint8Array(n);
    this.cls = new Uint8Array(n);
    this.cnt = new Int32Array(n);
    this.seen = new Uint8Array(n);
    this.fresh = new Int32Array(n);
    this.time = new Float64Array(n);
    this.low = new Int32Array(n);
    this.high = new Int32Array(n);
    const slots = o.ghost ? 2 ** Math.ceil(Math.log2(o.ghost * n)) : 1;
    this.gm = slots - 1;
    this.gl = new Int32Array(slots);
    this.gh = new Int32Array(slots);
    this.gt = new Float64Array(slots).fill(-1);
    this.gc = new Int32Array(slots);
    this.gcl = new Uint8Array(slots);
    this.beta = Math.max(1, o.beta * n);
    this.E = Math.log(1 + ((o.life ?? 1) * n) / this.beta);
    this.ev = new Float64Array(this.K);
    this.ex = new Float64Array(this.K);
    this.alpha = new Float64Array(this.K).fill(1);
    this.last = -1;
    this.orphan = -1;
    this.until = 0;
    this.total = 0;
    if (o.alpha === 'fixed') for (let c = 0; c < this.K; c++) this.alpha[c] = (o.f ?? ((c) => (1 + c) ** o.power))(c);
  }
  expo(age) {
    return Math.log(1 + age / this.beta);
  }
  published(b, parent, low, high) {
    this.now++;
    if (parent >= 0) {
      low = Math.imul(low ^ this.low[parent], 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ this.high[parent] ^ low, 0x85ebca6b);
      high ^= high >>> 13;
    }
    this.low[b] = low;
    this.high[b] = high;
    this.fresh1(b, parent);
    const g = (low ^ (high >>> 7)) & this.gm;
    if (this.gt[g] >= 0 && this.gl[g] === low && this.gh[g] === high) {
      this.cnt[b] = this.gc[g];
      this.seen[b] = 1;
      this.fresh[b] = 0;
      this.learn(this.gcl[g], this.now - this.gt[g], true);
      if (this.o.cls === 'freq') {
        this.cnt[b]++;
        if (parent >= 0) this.cnt[b] = Math.min(this.cnt[b], Math.max(this.cnt[parent], 1));
      }
      this.gt[g] = -1;
    }
  }
  fresh1(b, parent) {
    this.place[b] = NOWHERE;
    this.seen[b] = 0;
    this.cls[b] = 0;
    this.fresh[b] = 1;
    if (this.o.cls === 'freq') this.cnt[b] = 1;
    else {
      this.cnt[b] = parent >= 0 ? this.cnt[parent] + (this.seen[parent] ? 1 : 0) : 0;
      if (parent >= 0 && !this.seen[parent]) this.fresh[b] = this.fresh[parent] + 1;
    }
  }
  learn(c, age, used) {
    const x = this.expo(age);
    this.ex[c] += x - this.E;
    if (used) this.ev[c]++;
    this.total++;
    if (this.o.memory && this.total > this.o.memory * this.n) {
      this.total /= 2;
      for (let k = 0; k < this.K; k++) {
        this.ev[k] /= 2;
        this.ex[k] /= 2;
      }
    }
  }
  reused(b) {
    if (this.place[b] === PINNED) {
      this.learn(this.cls[b], this.now - this.time[b], true);
      if (this.o.cls === 'freq') this.cnt[b]++;
      this.place[b] = NOWHERE;
    } else if (this.place[b] === NOWHERE && !this.wantsHashes) {
      /* unknown */
    }
  }
  warm() {}
  classOf(cnt) {
    const C = this.o.C;
    if (this.o.cls === 'freq') {
      return Math.min(C - 1, this.o.logc ? 31 - Math.clz32(cnt) : cnt - 1);
    }
    return Math.min(C - 1, cnt);
  }
  push(b, first) {
    if (!this.wantsHashes && this.place[b] === NOWHERE && this.time[b] === undefined)
      this.fresh1(b, this.links.parent(b));
    const tip = this.last === -1 || this.links.parent(this.last) !== b;
    this.last = b;
    let c;
    if (this.o.cls === 'freq') c = this.classOf(this.cnt[b]);
    else {
      if (tip) {
        this.T = this.classOf(this.cnt[b]);
        if (this.o.K) {
          const f = this.fresh[b];
          let k = 0;
          const th = this.o.fresh;
          while (k < th.length && f > th[k]) k++;
          this.T = this.T * this.o.K + (this.o.K - 1 - k);
        }
      }
      c = this.seen[b]
        ? Math.max(this.T, this.o.keepmax === false ? 0 : this.cls[b] >= this.K - 1 && this.o.tip ? 0 : this.cls[b])
        : this.T;
      if (tip && this.o.tip) c = this.K - 1;
    }
    this.cls[b] = c;
    this.seen[b] = 1;
    this.place[b] = CACHED;
    this.time[b] = this.now;
    this.size++;
    this.ex[c] += this.E;
    if (first) this.lists[c].pushFirst(b);
    else this.lists[c].pushLast(b);
  }
  remove(b) {
    (this.place[b] === BLOCKED ? this.blocked : this.lists[this.cls[b]]).remove(b);
    this.place[b] = PINNED;
    this.size--;
    if (this.last === b) this.last = -1;
  }
  update() {
    const { o, K } = this;
    if (o.alpha !== 'learn') return;
    let ev = 1,
      ex = 1;
    for (let c = 0; c < K; c++) {
      ev += this.ev[c];
      ex += this.ex[c];
    }
    const a = ev / ex,
      m = o.prior * this.n;
    for (let c = 0; c < K; c++) this.alpha[c] = ((this.ev[c] + m * a * this.E) / (this.ex[c] + m * this.E)) ** o.power;
    if (o.mono === 'max')
      for (let c = 1; c < o.C * (o.K ?? 1); c++) this.alpha[c] = Math.max(this.alpha[c], this.alpha[c - 1]);
  }
  worth(b) {
    return this.alpha[this.cls[b]] / (this.now - this.time[b] + this.beta);
  }
  victim() {
    if (this.size === 0) return -1;
    if (this.now >= this.until) {
      this.update();
      this.until = this.now + Math.max(16, this.n / 32);
    }
    const p = this.orphan;
    let b = p >= 0 && this.place[p] === BLOCKED && !this.links.hasChildren(p) ? p : -1;
    while (b === -1) {
      let least = Infinity;
      for (let c = 0; c < this.K; c++) {
        const x = this.lists[c].first;
        if (x === -1) continue;
        const w = this.worth(x);
        if (w < least) {
          least = w;
          b = x;
        }
      }
      if (b === -1) {
        b = this.blocked.first;
        while (this.links.hasChildren(b)) b = this.links.next(b);
        break;
      }
      if (this.links.hasChildren(b)) {
        this.lists[this.cls[b]].remove(b);
        this.blocked.pushLast(b);
        this.place[b] = BLOCKED;
        this.nb = (this.nb ?? 0) + 1;
        b = -1;
      }
    }
    this.remove(b);
    this.place[b] = NOWHERE;
    this.orphan = this.links.parent(b);
    if (this.wantsHashes) {
      const g = (this.low[b] ^ (this.high[b] >>> 7)) & this.gm;
      if (this.gt[g] >= 0) this.learn(this.gcl[g], this.now - this.gt[g], false);
      this.gl[g] = this.low[b];
      this.gh[g] = this.high[b];
      this.gt[g] = this.time[b];
      this.gc[g] = this.cnt[b];
      this.gcl[g] = this.cls[b];
    } else this.learn(this.cls[b], this.now - this.time[b], false);
    return b;
  }
}
