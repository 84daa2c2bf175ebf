/**
 * Token ids, each kept once. A run is a piece of text that one sequence writes at its end: tokens [start, end), which
 * continue its parent run. A sequence is its last run with all ancestors; a fork or a rewind starts a new run that
 * continues an old one. Runs are counted: by the sequence that writes them, by the runs that continue them, and by the
 * KV blocks whose last token lies in them (the prefix index compares with those tokens after the sequence is gone).
 */
import { InvariantError } from '../errors.js';
import { type Cursor, classesFor, createCursor, Records, type TokenArena } from './memory.js';

const REFS = 0;
const PARENT = 1;
const START = 2;
const END = 3;
/** Runs that continue this one. */
const KIDS = 4;
/** The sequence that writes it, or -1. */
const OWNER = 5;
const VECTOR = 6;

/** Longer chains of runs are copied into one, so that finding a token stays cheap. */
const MAX_DEPTH = 8;

export class TokenRuns {
  readonly #records: Records;
  readonly #cursor: Cursor = createCursor();
  readonly #other: Cursor = createCursor();
  readonly #one = new Int32Array(1);

  constructor(
    private readonly arena: TokenArena,
    sessionLen: number,
  ) {
    this.#records = new Records(VECTOR + 1 + classesFor(sessionLen));
  }

  get size(): number {
    return this.#records.size;
  }

  get bytes(): number {
    return this.#records.bytes;
  }

  /** A run that nobody continues yet, written by sequence `owner`. */
  createRoot(owner: number): number {
    return this.#create(-1, 0, owner);
  }

  /** A run of its own for a piece of text that begins at position `start`: nobody reads what came before through it. */
  createPiece(start: number): number {
    return this.#create(-1, start, -1);
  }

  #create(parent: number, start: number, owner: number): number {
    const r = this.#records;
    const run = r.alloc(PARENT);
    r.set(run, REFS, 1);
    r.set(run, OWNER, owner);
    r.set(run, KIDS, 0);
    r.set(run, PARENT, parent);
    r.set(run, START, start);
    r.set(run, END, start);
    r.set(run, VECTOR, 0);
    if (parent !== -1) {
      r.add(parent, REFS, 1);
      r.add(parent, KIDS, 1);
    }
    return run;
  }

  end(run: number): number {
    return this.#records.get(run, END);
  }

  /** The sequence that writes the run, or -1. */
  owner(run: number): number {
    return this.#records.get(run, OWNER);
  }

  start(run: number): number {
    return this.#records.get(run, START);
  }

  /** Adds ids[from…to) at the end. */
  append(run: number, ids: ArrayLike<number>, from: number, to: number): void {
    const r = this.#records;
    const start = r.get(run, START);
    const had = r.get(run, END) - start;
    const have = had + to - from;
    const record = r.segment(run);
    const base = r.offset(run, VECTOR);
    this.arena.resize(record, base, had, have);
    const c = this.#cursor;
    let all = 0;
    for (let i = had; i < have; ) {
      this.arena.locate(record, base, i, c);
      const n = Math.min(c.span, have - i);
      const { data, at } = c;
      for (let k = 0; k < n; k++) {
        data[at + k] = ids[from + k]!;
        all |= ids[from + k]!;
      }
      from += n;
      i += n;
    }
    if (all < 0) throw new InvariantError('a token id is negative');
    r.set(run, END, start + have);
  }

  appendOne(run: number, id: number): void {
    this.#one[0] = id;
    this.append(run, this.#one, 0, 1);
  }

  /** A new run, written by `owner`, that continues the first `length` tokens of `run`'s text. */
  branch(run: number, length: number, owner: number): number {
    if (length === 0) return this.createRoot(owner);
    let parent = run;
    while (this.#records.get(parent, START) >= length) parent = this.#records.get(parent, PARENT);
    if (this.#depth(parent) < MAX_DEPTH) return this.#create(parent, length, owner);
    const copy = this.createRoot(owner);
    const c = this.#cursor;
    for (let i = 0; i < length; ) {
      this.locate(parent, i, c);
      const { data, at } = c;
      const n = Math.min(c.span, length - i);
      this.append(copy, data, at, at + n);
      i += n;
    }
    return copy;
  }

  #depth(run: number): number {
    let depth = 1;
    for (let p = this.#records.get(run, PARENT); p !== -1; p = this.#records.get(p, PARENT)) depth++;
    return depth;
  }

  /** The writer rewinds its text to `length`. Returns the run it writes from now on. */
  rewind(run: number, length: number): number {
    const r = this.#records;
    const start = r.get(run, START);
    if (length >= start && r.get(run, REFS) === 1) {
      this.#shorten(run, length);
      return run;
    }
    if (length === r.get(run, END)) return run;
    const next = this.branch(run, length, r.get(run, OWNER));
    this.disown(run);
    return next;
  }

  #shorten(run: number, length: number): void {
    const r = this.#records;
    const start = r.get(run, START);
    const end = r.get(run, END);
    if (length >= end) return;
    this.arena.resize(r.segment(run), r.offset(run, VECTOR), end - start, length - start);
    r.set(run, END, length);
  }

  /** The writer is gone. */
  disown(run: number): void {
    this.#records.set(run, OWNER, -1);
    this.unref(run);
  }

  /** Counts a block whose text ends at `end`; returns the run it must unref: the one that holds its last token. */
  refFor(run: number, end: number): number {
    let r = run;
    while (this.#records.get(r, START) >= end) r = this.#records.get(r, PARENT);
    this.#records.add(r, REFS, 1);
    return r;
  }

  unref(run: number): void {
    const r = this.#records;
    while (run !== -1 && r.add(run, REFS, -1) === 0) {
      const parent = r.get(run, PARENT);
      const length = r.get(run, END) - r.get(run, START);
      this.arena.resize(r.segment(run), r.offset(run, VECTOR), length, 0);
      r.set(run, REFS, -1);
      r.free(run, PARENT);
      if (parent !== -1) r.add(parent, KIDS, -1);
      run = parent;
    }
  }

  /** A block of a run left. If no sequence needs the run's tokens beyond `length`, and no other run does, they go. */
  trim(run: number, length: number): void {
    const r = this.#records;
    if (r.get(run, REFS) <= 0 || r.get(run, OWNER) !== -1 || r.get(run, KIDS) > 0) return;
    this.#shorten(run, Math.max(length, r.get(run, START)));
  }

  /** Points the cursor at token i of `run`'s text and at what follows it side by side (not beyond the run's end). */
  locate(run: number, i: number, out: Cursor): void {
    const r = this.#records;
    let limit = r.get(run, END);
    let start = r.get(run, START);
    while (start > i) {
      limit = start;
      run = r.get(run, PARENT);
      start = r.get(run, START);
    }
    this.arena.locate(r.segment(run), r.offset(run, VECTOR), i - start, out);
    if (out.span > limit - i) out.span = limit - i;
  }

  token(run: number, i: number): number {
    const r = this.#records;
    let start = r.get(run, START);
    while (start > i) {
      run = r.get(run, PARENT);
      start = r.get(run, START);
    }
    return this.arena.get(r.segment(run), r.offset(run, VECTOR), i - start);
  }

  /** Copies tokens [from, to) of the run's text to out[offset…]. */
  read(run: number, from: number, to: number, out: Int32Array, offset: number): void {
    const c = this.#cursor;
    while (from < to) {
      this.locate(run, from, c);
      const n = Math.min(c.span, to - from);
      const { data, at } = c;
      for (let k = 0; k < n; k++) out[offset + k] = data[at + k]!;
      offset += n;
      from += n;
    }
  }

  /** How many of the run's tokens [from, to) equal ids[offset…] before the first difference. */
  common(run: number, from: number, to: number, ids: ArrayLike<number>, offset: number): number {
    const c = this.#cursor;
    for (let i = from; i < to; ) {
      this.locate(run, i, c);
      const { data, at } = c;
      const n = Math.min(c.span, to - i);
      for (let k = 0; k < n; k++) if (data[at + k] !== ids[offset + k]) return i + k - from;
      offset += n;
      i += n;
    }
    return Math.max(0, to - from);
  }

  /** How many of the tokens [from, to) of two runs are equal before the first difference. */
  shared(a: number, b: number, from: number, to: number): number {
    if (a === b) return to - from;
    const x = this.#cursor;
    const y = this.#other;
    let i = from;
    while (i < to) {
      this.locate(a, i, x);
      this.locate(b, i, y);
      const n = Math.min(x.span, y.span, to - i);
      const { data: p, at } = x;
      const { data: q } = y;
      const shift = y.at - at;
      const same = equal(p, at, q, at + shift, n);
      i += same;
      if (same < n) break;
    }
    return i - from;
  }

  /** For check(): calls back with (run, refs, parent, units) of every run in use. */
  forEach(visit: (run: number, refs: number, parent: number, units: number, owner: number) => void): void {
    const r = this.#records;
    for (let run = 0; run < r.high; run++) {
      const refs = r.get(run, REFS);
      if (refs > 0) visit(run, refs, r.get(run, PARENT), r.get(run, VECTOR), r.get(run, OWNER));
    }
  }
}

/** How many of a[i … i + n) equal b[j … j + n); four at a time, since one branch a token is what costs. */
function equal(a: Int32Array, i: number, b: Int32Array, j: number, n: number): number {
  const start = i;
  const end = i + n;
  for (; i + 3 < end; i += 4, j += 4) {
    const x = (a[i]! ^ b[j]!) | (a[i + 1]! ^ b[j + 1]!) | (a[i + 2]! ^ b[j + 2]!) | (a[i + 3]! ^ b[j + 3]!);
    if (x !== 0) break;
  }
  while (i < end && a[i] === b[j]) {
    i++;
    j++;
  }
  return i - start;
}
