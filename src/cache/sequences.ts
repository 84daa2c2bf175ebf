/**
 * Sequences as dense records of integers. A sequence id is record number + generation · 2^bits, so that a stale one is noticed;
 * as few bits as the records need, so that ids stay small integers, which JavaScript keeps without allocating.
 * An inactive sequence keeps a table of the nodes that still hold its text; when the last one is evicted, nothing is
 * left of the table, and the sequence is its record and its tokens.
 */
import { errors, InvariantError } from '../errors.js';
import { type Cursor, classesFor, createCursor, Records, type TokenArena } from './memory.js';
import type { TokenRuns } from './token-runs.js';
import type { CacheConfig, SequenceId } from './types.js';

/** Fields of a record. */
export const S = {
  GENERATION: 0,
  /** FREE, ACTIVE or INACTIVE. */
  STATE: 1,
  NAMESPACE: 2,
  /** The token run it writes. */
  RUN: 3,
  KNOWN: 4,
  COMPUTED: 5,
  /** Blocks in the table; the first NODES of them are nodes of the prefix tree, the rest are private. */
  BLOCKS: 6,
  NODES: 7,
  /** List of the sequences whose last node is the same. */
  PEER_PREVIOUS: 8,
  PEER_NEXT: 9,
  /** List of active (in the order of activation) or of inactive sequences (least recently used first). */
  PREVIOUS: 10,
  NEXT: 11,
  VERSION: 12,
  /** The most tokens that were ever computed (less what was rewound): beyond `computed` they are recomputed. */
  STORED: 13,
  /** Table index of the block that a copy fills, until the step that runs the copy is committed; else -1. */
  COPY: 14,
  /** What match() found, until the first reserve counts it: own tokens (-1: counted), tokens of the prefix index. */
  OWN_HIT: 15,
  PREFIX_HIT: 16,
  /** Tokens whose blocks are reserved for the step that is being made; 0 when none is. */
  RESERVED: 17,
  TABLE: 18,
} as const;

export const FREE = 0;
export const ACTIVE = 1;
export const INACTIVE = 2;

const LAST_GENERATION = 2 ** 26;

/** A list of sequences through PREVIOUS and NEXT. */
export interface SequenceList {
  first: number;
  last: number;
  size: number;
}

export class SequenceStore {
  readonly active: SequenceList = { first: -1, last: -1, size: 0 };
  readonly inactive: SequenceList = { first: -1, last: -1, size: 0 };
  /** Inactive sequences that have at least one block. */
  cached = 0;
  readonly #records: Records;
  readonly #numbers: number;
  readonly #blocks: Int32Array;
  readonly #cursor = createCursor();

  constructor(
    private readonly arena: TokenArena,
    maxSequences: number,
    maxBlocksPerSequence: number,
  ) {
    this.#numbers = 2 ** Math.ceil(Math.log2(maxSequences + 1));
    this.#blocks = new Int32Array(maxBlocksPerSequence);
    this.#records = new Records(S.TABLE + 1 + classesFor(maxBlocksPerSequence));
  }

  get size(): number {
    return this.#records.size;
  }

  get high(): number {
    return this.#records.high;
  }

  get bytes(): number {
    return this.#records.bytes;
  }

  get(s: number, field: number): number {
    return this.#records.get(s, field);
  }

  set(s: number, field: number, value: number): void {
    this.#records.set(s, field, value);
  }

  add(s: number, field: number, delta: number): number {
    return this.#records.add(s, field, delta);
  }

  idOf(s: number): SequenceId {
    return this.get(s, S.GENERATION) * this.#numbers + s;
  }

  /** Record of a live sequence, or -1. */
  find(id: SequenceId): number {
    const s = id & (this.#numbers - 1);
    if (!(id >= this.#numbers) || s >= this.#records.high) return -1;
    return this.get(s, S.STATE) !== FREE && this.idOf(s) === id ? s : -1;
  }

  /** Record of a sequence that must exist. */
  indexOf(id: SequenceId): number {
    const s = this.find(id);
    if (s === -1) throw new InvariantError(`there is no sequence ${id}: it was dropped`);
    return s;
  }

  /** The caller gives it a run. */
  create(namespace: number): number {
    const r = this.#records;
    const fresh = r.high;
    const s = r.alloc(S.NEXT);
    if (s === fresh) r.set(s, S.GENERATION, 0);
    r.set(s, S.GENERATION, (r.get(s, S.GENERATION) % LAST_GENERATION) + 1);
    r.set(s, S.STATE, INACTIVE);
    r.set(s, S.NAMESPACE, namespace);
    for (let f = S.KNOWN; f <= S.RESERVED; f++) r.set(s, f, 0);
    r.set(s, S.PEER_PREVIOUS, -1);
    r.set(s, S.PEER_NEXT, -1);
    r.set(s, S.COPY, -1);
    r.set(s, S.OWN_HIT, -1);
    r.set(s, S.TABLE, 0);
    this.link(this.inactive, s);
    return s;
  }

  /** The caller has taken its blocks and its run, and unlinked it. */
  free(s: number): void {
    this.resizeTable(s, 0);
    this.set(s, S.STATE, FREE);
    this.#records.free(s, S.NEXT);
  }

  // ---------------------------------------------------------------- lists

  link(list: SequenceList, s: number): void {
    this.set(s, S.PREVIOUS, list.last);
    this.set(s, S.NEXT, -1);
    if (list.last === -1) list.first = s;
    else this.set(list.last, S.NEXT, s);
    list.last = s;
    list.size++;
  }

  unlink(list: SequenceList, s: number): void {
    const p = this.get(s, S.PREVIOUS);
    const n = this.get(s, S.NEXT);
    if (p === -1) list.first = n;
    else this.set(p, S.NEXT, n);
    if (n === -1) list.last = p;
    else this.set(n, S.PREVIOUS, p);
    list.size--;
  }

  // ---------------------------------------------------------------- block table

  block(s: number, index: number): number {
    return this.arena.get(this.#records.segment(s), this.#records.offset(s, S.TABLE), index);
  }

  setBlock(s: number, index: number, block: number): void {
    this.arena.set(this.#records.segment(s), this.#records.offset(s, S.TABLE), index, block);
  }

  /** Sets the number of blocks; new entries are undefined until set. */
  resizeTable(s: number, count: number): void {
    const r = this.#records;
    this.arena.resize(r.segment(s), r.offset(s, S.TABLE), r.get(s, S.BLOCKS), count);
    r.set(s, S.BLOCKS, count);
  }

  pushBlock(s: number, block: number): void {
    const count = this.get(s, S.BLOCKS);
    this.resizeTable(s, count + 1);
    this.setBlock(s, count, block);
  }

  /** Adds blocks[0 … count) at the end. */
  pushBlocks(s: number, blocks: Int32Array, count: number): void {
    const before = this.get(s, S.BLOCKS);
    this.resizeTable(s, before + count);
    const c = this.#cursor;
    for (let i = 0; i < count; ) {
      this.locateBlock(s, before + i, c);
      const { data, at } = c;
      const n = Math.min(c.span, count - i);
      for (let k = 0; k < n; k++) data[at + k] = blocks[i + k]!;
      i += n;
    }
  }

  /** Table entries [from, to), at 0 … to - from of an array that is valid until the next call. */
  blocksOf(s: number, from: number, to: number): Int32Array {
    this.readTable(s, from, to, this.#blocks, 0, this.#cursor);
    return this.#blocks;
  }

  /** Points the cursor at table entry `index` and at what follows it side by side. */
  locateBlock(s: number, index: number, out: Cursor): void {
    this.arena.locate(this.#records.segment(s), this.#records.offset(s, S.TABLE), index, out);
  }

  /** Units of the arena that the table takes. */
  tableUnits(s: number): number {
    return this.get(s, S.TABLE);
  }

  readTable(s: number, from: number, to: number, out: Int32Array, offset: number, cursor: Cursor): void {
    while (from < to) {
      this.locateBlock(s, from, cursor);
      const n = Math.min(cursor.span, to - from);
      const { data, at } = cursor;
      for (let i = 0; i < n; i++) out[offset + i] = data[at + i]!;
      offset += n;
      from += n;
    }
  }
}

/** Groups of sequences that may share text. All shared ones are in one; an owner who does not share has its own. */
export class Namespaces {
  readonly #byOwner = new Map<number, number>();
  readonly #owner: (number | null)[] = [];
  /** Sequences in the namespace + blocks at its root. */
  readonly #members: number[] = [];
  readonly #free: number[] = [];

  constructor(private readonly onAdd: (namespace: number) => void) {
    this.#add(null);
    this.#members[0] = 1;
  }

  /** `owner` null: the shared namespace. */
  of(owner: number | null): number {
    if (owner === null) return 0;
    let d = this.#byOwner.get(owner);
    if (d === undefined) {
      d = this.#add(owner);
      this.#byOwner.set(owner, d);
    }
    return d;
  }

  /** A namespace for one sequence and its forks. */
  private(): number {
    return this.#add(null);
  }

  #add(owner: number | null): number {
    const d = this.#free.pop() ?? this.#owner.length;
    this.#owner[d] = owner;
    this.#members[d] = 0;
    this.onAdd(d);
    return d;
  }

  join(d: number): void {
    this.#members[d]!++;
  }

  leave(d: number): void {
    if (--this.#members[d]! > 0) return;
    const owner = this.#owner[d];
    if (owner !== null) this.#byOwner.delete(owner!);
    this.#free.push(d);
  }

  /** -1: shared by all, -2: one conversation's, else the owner. */
  ownerOf(d: number): number {
    return d === 0 ? -1 : (this.#owner[d] ?? -2);
  }

  members(d: number): number {
    return this.#members[d]!;
  }

  get high(): number {
    return this.#owner.length;
  }
}

/** Which sequences are kept: their number and their tokens are limited; the least recently used inactive ones go first. */
export class Retention {
  /** Known tokens of all sequences. */
  tokens = 0;
  /** Sequences that the limits cost. */
  dropped = 0;

  constructor(
    private readonly limits: Pick<CacheConfig, 'maxSequences' | 'maxTokens'>,
    private readonly sequences: SequenceStore,
    private readonly runs: TokenRuns,
    private readonly namespaces: Namespaces,
    /** An inactive sequence gives up its blocks. */
    private readonly giveUp: (s: number) => void,
  ) {}

  /** A new sequence without tokens; the caller has made room, and gives it a run. */
  create(namespace: number): number {
    this.namespaces.join(namespace);
    return this.sequences.create(namespace);
  }

  /** `count` tokens were added to sequence s: it was used. */
  addKnown(s: number, count: number): void {
    const q = this.sequences;
    q.add(s, S.KNOWN, count);
    this.tokens += count;
    if (q.get(s, S.STATE) === INACTIVE && q.inactive.last !== s) {
      q.unlink(q.inactive, s);
      q.link(q.inactive, s);
    }
  }

  /** Drops inactive sequences, but not `except`, until there is room, or throws; then nothing was dropped. */
  makeRoom(sequences: number, tokens: number, except: number): void {
    const { maxSequences, maxTokens } = this.limits;
    const q = this.sequences;
    if (q.size + sequences <= maxSequences && this.tokens + tokens <= maxTokens) return;
    let droppable = q.inactive.size;
    let kept = 0;
    for (let s = q.active.first; s !== -1; s = q.get(s, S.NEXT)) kept += q.get(s, S.KNOWN);
    if (except !== -1 && q.get(except, S.STATE) === INACTIVE) {
      droppable--;
      kept += q.get(except, S.KNOWN);
    }
    const fits = q.size - droppable + sequences <= maxSequences && kept + tokens <= maxTokens;
    if (!fits) throw errors.tooManySessions(maxSequences);
    this.#dropInactive(sequences, tokens, except);
  }

  /** The same for a token of a sequence that runs: if all others run, too, it goes beyond the limit. */
  makeRoomForOne(except: number): void {
    if (this.tokens >= this.limits.maxTokens) this.#dropInactive(0, 1, except);
  }

  #dropInactive(sequences: number, tokens: number, except: number): void {
    const q = this.sequences;
    const { maxSequences, maxTokens } = this.limits;
    let s = q.inactive.first;
    while (s !== -1 && (q.size + sequences > maxSequences || this.tokens + tokens > maxTokens)) {
      const next = q.get(s, S.NEXT);
      if (s !== except) {
        this.forget(s);
        this.dropped++;
      }
      s = next;
    }
  }

  /** Drops an inactive sequence. */
  forget(s: number): void {
    const q = this.sequences;
    this.giveUp(s);
    this.tokens -= q.get(s, S.KNOWN);
    this.runs.disown(q.get(s, S.RUN));
    this.namespaces.leave(q.get(s, S.NAMESPACE));
    q.unlink(q.inactive, s);
    q.free(s);
  }
}
