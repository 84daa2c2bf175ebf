/**
 * What the adaptive policy learns about time: for each class of blocks, after how long a pause they are used again, if at
 * all. Pauses are counted in blocks newly stored, in steps that grow with the pause (two to an octave, from an eighth of
 * the pool on). Lives that have not ended count as survivors up to their present age: without them, early experience
 * would be all success.
 */
export const AGES = 24;
/** Births are remembered in so many time slots. */
const SLOTS = 64;
/** Counts are halved when so many lives have ended: old experience fades. */
const MEMORY = 40_000;
/** Weight of the common course of time against a class's own, and of the expected rate against the counted one: lives. */
const SHRINK = 50;
const EXPECTED_WEIGHT = 20;
/** How much a class's rate counts beyond its course of time: rates are better known than times. */
const EMPHASIS = 0.5;

export class ReuseModel {
  /** (classes + 1, AGES) lives that ended in use, and lives that were given up; the last row counts all. */
  readonly #used: Float64Array;
  readonly #lost: Float64Array;
  /** (SLOTS, classes) lives that go on, by the time of their birth. */
  readonly #alive: Float64Array;
  /** (classes + 1) */
  readonly #born: Float64Array;
  /** (classes, AGES) the most uses per block and time that keeping a block of this age can bring. */
  readonly index: Float64Array;
  readonly #width = new Float64Array(AGES);
  readonly #ended: Float64Array;
  readonly #uses = new Float64Array(AGES);
  readonly #time = new Float64Array(AGES);
  readonly #unit: number;
  readonly #slotWidth: number;
  #slot = 0;
  #mass = 0;

  constructor(
    readonly classes: number,
    pool: number,
    life: number,
    /** What is expected of a class before anything is known: the share of lives that end in use. */
    private readonly expected: (cls: number) => number,
  ) {
    this.#used = new Float64Array((classes + 1) * AGES);
    this.#lost = new Float64Array((classes + 1) * AGES);
    this.#ended = new Float64Array((classes + 1) * AGES);
    this.#alive = new Float64Array(SLOTS * classes);
    this.#born = new Float64Array(classes + 1);
    this.index = new Float64Array(classes * AGES);
    this.#unit = Math.max(1, pool / 8);
    this.#slotWidth = Math.max(1, Math.ceil((2 * life) / SLOTS));
    let from = 0;
    for (let a = 0; a < AGES; a++) {
      const to = this.#unit * 2 ** (a / 2);
      this.#width[a] = to - from;
      from = to;
    }
    this.update(0);
  }

  /** Step of a pause. */
  age(pause: number): number {
    if (pause < this.#unit) return 0;
    return Math.min(AGES - 1, 1 + Math.floor(2 * Math.log2(pause / this.#unit)));
  }

  born(cls: number, now: number): void {
    const slot = Math.floor(now / this.#slotWidth);
    if (slot !== this.#slot) {
      this.#slot = slot;
      this.#alive.fill(0, (slot % SLOTS) * this.classes, ((slot % SLOTS) + 1) * this.classes);
    }
    this.#alive[(slot % SLOTS) * this.classes + cls]!++;
    this.#born[cls]!++;
    this.#born[this.classes]!++;
  }

  end(cls: number, since: number, now: number, used: boolean): void {
    const slot = Math.floor(since / this.#slotWidth);
    if (this.#slot - slot < SLOTS) this.#alive[(slot % SLOTS) * this.classes + cls]!--;
    const age = this.age(now - since);
    const where = used ? this.#used : this.#lost;
    where[cls * AGES + age]!++;
    where[this.classes * AGES + age]!++;
    if (++this.#mass < MEMORY) return;
    this.#mass /= 2;
    for (let i = 0; i < this.#used.length; i++) {
      this.#used[i]! /= 2;
      this.#lost[i]! /= 2;
    }
    for (let c = 0; c <= this.classes; c++) this.#born[c]! /= 2;
  }

  /** Computes the index anew from the counts. */
  update(now: number): void {
    const { classes } = this;
    const all = classes * AGES;
    this.#lostSoFar(now);
    let lives = 2;
    let uses = 1;
    for (let a = 0; a < AGES; a++) {
      lives += this.#used[all + a]! + this.#ended[all + a]!;
      uses += this.#used[all + a]!;
    }
    const rate = uses / (this.#born[classes]! + 2);
    for (let c = 0; c < classes; c++) {
      let used = EXPECTED_WEIGHT * this.expected(c);
      for (let a = 0; a < AGES; a++) used += this.#used[c * AGES + a]!;
      const relative = used / (EXPECTED_WEIGHT + this.#born[c]!) / rate;
      this.#curve(c, relative, uses / lives, lives);
      this.#indexOf(c, relative ** EMPHASIS);
    }
  }

  /** Lives given up, and lives that go on at their present age. */
  #lostSoFar(now: number): void {
    const { classes } = this;
    const all = classes * AGES;
    this.#ended.set(this.#lost);
    for (let k = 0; k < Math.min(SLOTS, this.#slot + 1); k++) {
      const slot = this.#slot - k;
      const age = this.age(Math.max(0, now - (slot + 0.5) * this.#slotWidth));
      for (let c = 0; c < classes; c++) {
        const n = this.#alive[(slot % SLOTS) * classes + c]!;
        this.#ended[c * AGES + age]! += n;
        this.#ended[all + age]! += n;
      }
    }
  }

  /** Uses and time spent in each age by class c, its own experience mixed with everybody's at the class's rate. */
  #curve(c: number, relative: number, rate: number, lives: number): void {
    const all = this.classes * AGES;
    const own = Math.min(0.98, relative * rate);
    const moreUsed = ((own / rate) * SHRINK) / lives;
    const moreLost = (((1 - own) / (1 - rate)) * SHRINK) / lives;
    let alive = 0;
    for (let a = AGES - 1; a >= 0; a--) {
      // without experience: each step of age as likely as any, so the longer the pause, the slower
      const used = this.#used[c * AGES + a]! + moreUsed * (this.#used[all + a]! + 1 / AGES);
      const lost = this.#ended[c * AGES + a]! + moreLost * (this.#ended[all + a]! + 1 / AGES);
      this.#uses[a] = used;
      this.#time[a] = (alive + (used + lost) / 2) * this.#width[a]!;
      alive += used + lost;
    }
  }

  /** For each age the best that keeping on, up to the best moment to give up, can bring (a Gittins index). */
  #indexOf(c: number, factor: number): void {
    for (let a = 0; a < AGES; a++) {
      let uses = 0;
      let spent = 0;
      let best = 0;
      for (let b = a; b < AGES; b++) {
        uses += this.#uses[b]!;
        spent += this.#time[b]!;
        best = Math.max(best, uses / spent);
      }
      this.index[c * AGES + a] = best * factor;
    }
  }
}
