import { BlockList } from '../../dist/src/cache/index.js';

/** LHD with sampled occupancy; classes turn × fresh (× tip); guard = shadow LRU by a histogram of last uses. */
const D = {
  T: 8,
  freshAt: [],
  tip: false,
  ghost: 2,
  unit: 8,
  ages: 20,
  shrink: 0.25,
  memory: 40,
  young: true,
  gittins: true,
  guard: 0,
  gmem: 40,
  beta: 0.1,
  prior: 0.2,
  base: 'lhd',
  samples: 2,
  relPow: 1,
  lasts: 8,
  ownCurve: 1,
};
export function make3(o = {}) {
  return (links) => new P(links, { ...D, ...o });
}
class Shadow {
  constructor(n, slots = 128) {
    this.n = n;
    this.W = Math.max(1, (n / slots) * 2);
    this.S = 4 * slots;
    this.count = new Float64Array(this.S);
    this.slot = 0;
    this.edge = 0;
    this.inside = 0;
    this.now = 0;
  }
  /** share of it that LRU would still hold */
  holds(time) {
    const s = Math.floor(time / this.W);
    if (this.slot - s >= this.S || s < this.edge) return 0;
    if (s > this.edge) return 1;
    return this.part();
  }
  part() {
    const c = this.count[this.edge % this.S];
    return c > 0 ? Math.min(1, Math.max(0, (this.n - this.inside) / c)) : 0;
  }
  forget(time) {
    const s = Math.floor(time / this.W);
    if (this.slot - s >= this.S) return;
    this.count[s % this.S]--;
    if (s > this.edge) this.inside--;
  }
  use() {
    const s = Math.floor(++this.now / this.W);
    while (this.slot < s) {
      this.slot++;
      if (this.slot - this.edge >= this.S) {
        this.edge++;
        this.inside -= this.count[this.edge % this.S];
      }
      this.count[this.slot % this.S] = 0;
    }
    this.count[s % this.S]++;
    this.inside++;
    while (this.inside > this.n && this.edge < this.slot) {
      this.edge++;
      this.inside -= this.count[this.edge % this.S];
    }
    while (
      this.edge > 0 &&
      this.slot - this.edge < this.S - 1 &&
      this.inside + this.count[this.edge % this.S] <= this.n
    ) {
      this.inside += this.count[this.edge % this.S];
      this.edge--;
    }
    return this.now;
  }
}
const NOWHERE = 0,
  CACHED = 1,
  PINNED = 2,
  BLOCKED = 3;
class P {
  name = 'x';
  wantsHashes = true;
  bytes = 0;
  size = 0;
  now = 0;
  constructor(links, o) {
    this.links = links;
    this.o = o;
    const n = links.blocks;
    this.n = n;
    this.F = o.freshAt.length + 1;
    this.K = o.T * this.F + (o.tip ? (o.tip === 'each' ? o.T * this.F : 1) : 0);
    this.A = o.ages;
    this.lists = Array.from({ length: this.K }, () => new BlockList(links));
    this.blocked = new BlockList(links);
    this.place = new Uint8Array(n);
    this.cls = new Uint8Array(n);
    this.turn = new Int32Array(n);
    this.seen = new Uint8Array(n);
    this.fresh = new Int32Array(n);
    this.time = new Float64Array(n);
    this.low = new Int32Array(n);
    this.high = new Int32Array(n);
    const slots = Math.max(4, 2 ** Math.ceil(Math.log2(o.ghost * n)));
    this.gs = slots;
    this.gm = slots - 1;
    this.gl = new Int32Array(slots);
    this.gh = new Int32Array(slots);
    this.gt = new Float64Array(slots).fill(-1);
    this.gc = new Int32Array(slots);
    this.gcl = new Uint8Array(slots);
    this.hits = new Float64Array(this.K * this.A);
    this.occ = new Float64Array(this.K * this.A);
    this.index = new Float64Array(this.K * this.A);
    this.unit = Math.max(1, n / o.unit);
    this.last = -1;
    this.orphan = -1;
    this.until = 0;
    this.left = 0;
    this.choice = -1;
    this.rand = 12345;
    this.shadow = new Shadow(n, o.slots ?? 128);
    this.beta = Math.max(1, o.beta * n);
    this.E = Math.log(1 + (o.life ?? 1) / o.beta);
    this.ev = new Float64Array(this.K);
    this.ex = new Float64Array(this.K);
    this.lru = false;
    this.W = Math.max(1, Math.ceil(n / 64));
    this.S = 512;
    this.touch = new Int32Array(this.S);
    this.hs = 0;
    this.inside = 0;
    this.slot = 0;
    this.balance = 0;
    this.seenAcc = 0;
    this.decayAt = o.memory * n;
    this.width = Float64Array.from({ length: this.A }, (_, a) =>
      a === 0 ? this.unit : this.unit * (2 ** (a / 2) - 2 ** ((a - 1) / 2)),
    );
  }
  age(p) {
    return p < this.unit ? 0 : Math.min(this.A - 1, 1 + Math.floor(2 * Math.log2(p / this.unit)));
  }
  random(m) {
    this.rand = (Math.imul(this.rand, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.rand / 4294967296) * m);
  }
  sample() {
    const b = this.random(this.n);
    if (this.place[b] === CACHED || this.place[b] === BLOCKED)
      this.occ[this.cls[b] * this.A + this.age(this.now - this.time[b])] += this.n / this.o.samples;
    const g = this.random(this.gs);
    if (this.gt[g] >= 0) this.occ[this.gcl[g] * this.A + this.age(this.now - this.gt[g])] += this.gs / this.o.samples;
  }
  hit(c, time, cached) {
    const { o } = this;
    if (o.base === 'alpha') this.life(c, this.now - time, true);
    else this.hits[c * this.A + this.age(this.now - time)]++;
    if (o.guard) {
      const x = this.shadow.holds(time);
      this.shadow.forget(time);
      this.sh = (this.sh ?? 0) + x;
      this.balance += (cached ? 1 : 0) - x;
    }
  }
  life(c, age, used) {
    this.ex[c] += Math.log(1 + age / this.beta) - this.E;
    if (used) this.ev[c]++;
  }
  judge() {
    const { o } = this;
    // balance over a memory of accesses
    if (this.seenAcc > o.gmem * this.n) {
      this.seenAcc /= 2;
      this.balance /= 2;
    }
    if (
      this.lru
        ? this.balance > -o.guard * this.seenAcc * (o.back ?? 0.5)
        : this.balance < -o.guard * this.seenAcc - (o.floor ?? 0) * Math.sqrt(this.seenAcc)
    )
      (this.lru = !this.lru), (this.flips = (this.flips ?? 0) + 1);
  }
  published(b, parent, low, high) {
    if (this.o.base !== 'alpha') for (let i = 0; i < this.o.samples; i++) this.sample();
    if (parent >= 0) {
      low = Math.imul(low ^ this.low[parent], 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ this.high[parent] ^ low, 0x85ebca6b);
      high ^= high >>> 13;
    }
    this.low[b] = low;
    this.high[b] = high;
    this.place[b] = NOWHERE;
    this.seen[b] = 0;
    this.cls[b] = 0;
    this.fresh[b] = 1;
    this.turn[b] = 0;
    if (parent >= 0) {
      if (this.seen[parent]) this.turn[b] = this.turn[parent] + 1;
      else {
        this.turn[b] = this.turn[parent];
        this.fresh[b] = this.fresh[parent] + 1;
      }
    }
    const g = this.findGhost(low, high);
    if (g >= 0) {
      this.turn[b] = this.gc[g];
      this.seen[b] = 1;
      this.fresh[b] = 0;
      this.hit(this.gcl[g], this.gt[g], false);
      this.gt[g] = -1;
    }
  }
  findGhost(low, high) {
    const s = (low ^ (high >>> 7)) & this.gm & ~3;
    for (let i = s; i < s + 4; i++) if (this.gt[i] >= 0 && this.gl[i] === low && this.gh[i] === high) return i;
    return -1;
  }
  freeGhost(low, high) {
    const s = (low ^ (high >>> 7)) & this.gm & ~3;
    let o = s;
    for (let i = s; i < s + 4; i++) {
      if (this.gt[i] < this.gt[o]) o = i;
    }
    return o;
  }
  reused(b) {
    if (this.place[b] === PINNED) {
      this.hit(this.cls[b], this.time[b], true);
      this.place[b] = NOWHERE;
    }
  }
  warm() {}
  push(b, first) {
    const tip = this.last === -1 || this.links.parent(this.last) !== b;
    this.last = b;
    if (tip) {
      let k = 0;
      const th = this.o.freshAt,
        f = this.fresh[b];
      while (k < th.length && f > th[k]) k++;
      this.pc = Math.min(this.o.T - 1, this.turn[b]) * this.F + k;
    }
    let c = this.pc;
    if (this.o.max && this.seen[b] && this.cls[b] > c && this.cls[b] < this.o.T * this.F) c = this.cls[b];
    if (this.o.tip === 'each') {
      if (tip) c += this.o.T * this.F;
    } else if (tip && this.o.tip) c = this.K - 1;
    this.cls[b] = c;
    this.seen[b] = 1;
    if (this.place[b] === PINNED) this.undo?.(b);
    this.place[b] = CACHED;
    this.time[b] = this.now = this.shadow.use();
    this.seenAcc++;
    this.size++;
    if (this.o.base === 'alpha') this.ex[c] += this.E;
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
    const { o, K, A } = this;
    if (o.base === 'alpha') return this.updateAlpha();
    const H = new Float64Array(A),
      O = new Float64Array(A);
    let th = 0,
      to = 0;
    for (let c = 0; c < K; c++)
      for (let a = 0; a < A; a++) {
        H[a] += this.hits[c * A + a];
        O[a] += this.occ[c * A + a];
      }
    for (let a = 0; a < A; a++) {
      th += H[a];
      to += O[a];
    }
    const m = o.shrink * this.n; // prior lives (hits' worth)
    for (let c = 0; c < K; c++) {
      // class rate relative to all, at the same ages
      let h = m * 0.5,
        e = m * 0.5;
      for (let a = 0; a < A; a++) {
        h += this.hits[c * A + a];
        e += O[a] > 0 ? (this.occ[c * A + a] * (H[a] + 0.5)) / (O[a] + this.n) : 0;
      }
      const rel = h / e;
      for (let a = A - 1, x = 0, y = 0; a >= 0; a--) {
        // mix own with common curve
        const prior = 0.1 / this.width[a];
        const hz = ((H[a] + this.n * 0.02 * prior * 0 + 1) / (O[a] + this.width[a] * 40 + 1)) * rel;
        const k = m / A / Math.max(hz, 1e-12); // prior occupancy
        this.u ??= new Float64Array(A);
        this.v ??= new Float64Array(A);
        this.u[a] = o.ownCurve * this.hits[c * A + a] + k * hz;
        this.v[a] = o.ownCurve * this.occ[c * A + a] + k;
      }
      for (let a = 0; a < A; a++) {
        let best = 0,
          uu = 0,
          tt = 0,
          s = 1;
        for (let b = a; b < A; b++) {
          const hz = this.u[b] / this.v[b],
            q = 1 - Math.exp(-hz * this.width[b]);
          uu += s * q;
          tt += s * (hz > 0 ? q / hz : this.width[b]);
          s *= 1 - q;
          if (uu / tt > best) best = uu / tt;
          if (!o.gittins) break;
        }
        this.index[c * A + a] = best;
      }
    }
    if (this.now > this.decayAt) {
      this.decayAt = this.now + o.memory * this.n;
      for (let i = 0; i < K * A; i++) {
        this.hits[i] /= 2;
        this.occ[i] /= 2;
      }
    }
  }
  updateAlpha() {
    const { o, K } = this;
    let ev = 1,
      ex = 1;
    for (let c = 0; c < K; c++) {
      ev += this.ev[c];
      ex += this.ex[c];
    }
    const a = ev / ex,
      m = o.prior * this.n;
    this.alpha = Float64Array.from({ length: K }, (_, c) => (this.ev[c] + m * a * this.E) / (this.ex[c] + m * this.E));
    if (o.mono)
      for (let c = 1; c < K; c++)
        if (this.alpha[c] < this.alpha[c - 1]) {
          let s = c;
          while (s > 0 && this.alpha[s - 1] > this.alpha[c]) s--;
          let e1 = 0,
            x1 = 0;
          for (let k = s; k <= c; k++) {
            e1 += this.ev[k] + m * a * this.E;
            x1 += this.ex[k] + m * this.E;
          }
          for (let k = s; k <= c; k++) this.alpha[k] = e1 / x1;
        }
    if (this.now > this.decayAt) {
      this.decayAt = this.now + o.memory * this.n;
      for (let i = 0; i < K; i++) {
        this.ev[i] /= 2;
        this.ex[i] /= 2;
      }
    }
  }
  worth(b) {
    if (this.o.base === 'alpha') return this.alpha[this.cls[b]] / (this.now - this.time[b] + this.beta);
    return this.index[this.cls[b] * this.A + this.age(this.now - this.time[b])];
  }
  oldest() {
    let t = Infinity,
      r = -1;
    for (let c = 0; c < this.K; c++) {
      const x = this.lists[c].first;
      if (x !== -1 && this.time[x] < t) {
        t = this.time[x];
        r = x;
      }
    }
    const y = this.blocked.first;
    return r;
  }
  choose() {
    let least = Infinity;
    this.choice = -1;
    for (let c = 0; c < this.K; c++) {
      const x = this.lists[c].first;
      if (x === -1) continue;
      const w = this.worth(x);
      if (w < least) {
        least = w;
        this.choice = 2 * c;
      }
      if (this.o.young) {
        const y = this.lists[c].last;
        const v = this.worth(y);
        if (v < least) {
          least = v;
          this.choice = 2 * c + 1;
        }
      }
    }
  }
  chosen() {
    if (this.choice < 0) return -1;
    const l = this.lists[this.choice >> 1];
    return this.choice & 1 ? l.last : l.first;
  }
  victim() {
    if (this.size === 0) return -1;
    if (this.now >= this.until) {
      this.update();
      if (this.o.guard || this.o.warm) this.judge();
      this.until = this.now + Math.max(16, this.n / 32);
    }
    const p = this.orphan;
    let b = p >= 0 && this.place[p] === BLOCKED && !this.links.hasChildren(p) ? p : -1;
    while (b === -1) {
      if (this.lru) b = this.oldest();
      else {
        if (this.left-- <= 0 || this.chosen() === -1) {
          this.choose();
          this.left = this.o.lasts;
        }
        b = this.chosen();
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
        b = -1;
      }
    }
    this.remove(b);
    this.place[b] = NOWHERE;
    this.orphan = this.links.parent(b);
    const g = this.freeGhost(this.low[b], this.high[b]);
    if (!(this.gt[g] > this.time[b])) {
      if (this.o.base === 'alpha' && this.gt[g] >= 0) this.life(this.gcl[g], this.now - this.gt[g], false);
      this.gl[g] = this.low[b];
      this.gh[g] = this.high[b];
      this.gt[g] = this.time[b];
      this.gc[g] = this.turn[b];
      this.gcl[g] = this.cls[b];
    } else if (this.o.base === 'alpha') this.life(this.cls[b], this.now - this.time[b], false);
    return b;
  }
}
