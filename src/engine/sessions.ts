/** Named conversations: session id → sequence. The tokens and their KV live in the cache manager. */
import type { CacheManager, SequenceId } from '../cache/types.js';
import { checkSessionId } from '../config.js';
import { errors } from '../errors.js';
import type { ForkOrigin, SessionInfo } from '../types.js';
import { type CheckpointEvents, Checkpoints } from './checkpoints.js';
import { type AdapterId, checkOwner, namespaceOf } from './namespaces.js';
import type { Point, PointData, Session } from './session.js';

export type { Session } from './session.js';

export interface SessionsOptions extends CheckpointEvents {
  /** Sessions kept; beyond it the least recently used idle one is forgotten. */
  max: number;
  /** Bytes of notes and heads of checkpoints, all together. */
  maxNoteBytes?: number;
  /** What is here are copies of what a store has: beyond the bounds whole copies are forgotten, not names. Default: no. */
  copies?: boolean;
  /** Share KV between sequences of different owners. */
  shareAcrossOwners: boolean;
  /** Adapters by index: their names, and numbers that name their KV (see namespaces.ts). Default: none. */
  adapters?: readonly AdapterId[];
  /** Sessions that are kept and whose adapter is none of those: its name, by key(). They can only be deleted. */
  waiting?: Map<string, string>;
  /** Told of what must outlive the process: a session's tokens are new from `from` on; a session is gone. */
  onChange?: (session: Readonly<Session>, from: number) => void;
  onGone?: (id: string, owner: number) => void;
}

export class Sessions {
  /** In the order of last use, the latest last. */
  readonly #byKey = new Map<string, Session>();
  readonly points: Checkpoints;

  constructor(
    private readonly cache: CacheManager,
    private readonly options: SessionsOptions,
  ) {
    this.points = new Checkpoints(options);
  }

  get size(): number {
    return this.#byKey.size;
  }

  /**
   * The owner's session; one that the cache manager has dropped (too many tokens kept) is forgotten here.
   * @throws adapter_not_found: it is kept, and waits for its adapter
   */
  find(id: string, owner: number): Session | null {
    const s = this.#byKey.get(key(id, owner));
    if (!s) {
      const adapter = this.options.waiting?.get(key(id, owner));
      if (adapter !== undefined) throw errors.sessionAdapterMissing(id, adapter, this.#adapterNames);
      return null;
    }
    if (this.cache.exists(s.sequence)) return s;
    this.#forget(s);
    return null;
  }

  get(id: string, owner: number): Session {
    const s = this.find(id, owner);
    if (!s) throw errors.sessionUnknown(id);
    return s;
  }

  /** Not in use by a request, or the typed error. */
  idle(id: string, owner: number): Session {
    const s = this.get(id, owner);
    if (s.busy) throw errors.sessionBusy(id);
    return s;
  }

  open(id: string, owner: number, adapter = -1): Session {
    return this.find(id, owner) ?? this.#add(checkSessionId(id), owner, this.createSequence(owner, adapter), adapter);
  }

  /** A sequence without tokens. `alone`: it shares no KV. */
  createSequence(owner: number, adapter: number, alone = false): SequenceId {
    const { shareAcrossOwners: shared, adapters = [] } = this.options;
    if (adapter < 0) {
      if (!shared && adapters.length > 0) checkOwner(owner);
      return this.cache.create({ owner, shared, alone });
    }
    return this.cache.create({ owner: namespaceOf(adapters[adapter]!, shared ? -1 : owner), shared: false, alone });
  }

  adapterName(adapter: number): string | null {
    return this.options.adapters?.[adapter]?.name ?? null;
  }

  get #adapterNames(): string[] {
    return (this.options.adapters ?? []).map((a) => a.name);
  }

  /** Of a session that is kept; -1 for none. @throws adapter_not_found */
  adapterIndex(name: string | null, id: string): number {
    if (name === null) return -1;
    const i = this.#adapterNames.indexOf(name);
    if (i < 0) throw errors.sessionAdapterMissing(id, name, this.#adapterNames);
    return i;
  }

  /** The session is kept elsewhere, and its adapter is not here. */
  wait(id: string, owner: number, adapter: string): void {
    this.options.waiting?.set(key(id, owner), adapter);
  }

  /** A session with these tokens, as if it had been evicted. */
  restore(id: string, owner: number, tokens: ArrayLike<number>, adapter = -1): Session {
    const sequence = this.createSequence(owner, adapter);
    try {
      this.cache.append(sequence, tokens);
    } catch (e) {
      this.cache.release(sequence, 'drop');
      throw e;
    }
    return this.#add(id, owner, sequence, adapter);
  }

  /** Names a sequence, which `fork` makes; the name is checked before. It outlives the process, also without a token. */
  adopt(
    id: string,
    owner: number,
    fork: () => SequenceId,
    forkedFrom: ForkOrigin | null = null,
    adapter = -1,
  ): Session {
    checkSessionId(id);
    const s = this.#add(id, owner, fork(), adapter);
    s.forkedFrom = forkedFrom;
    this.changed(s, 0);
    return s;
  }

  /** A branch of a session, from a checkpoint on; its turns up to there are told with the first turn. */
  branch(id: string, { session, end }: Point): Session {
    checkSessionId(id);
    const s = this.#add(id, session.owner, this.branchSequence(session, end), session.adapter);
    s.ofPoints = true;
    return s;
  }

  /** The first `length` tokens of a session as a sequence of its own. KV is shared, unless a request is writing it. */
  branchSequence({ sequence, owner, busy, adapter }: Session, length: number): SequenceId {
    if (!busy) return this.cache.fork(sequence, length);
    const tokens = new Int32Array(length);
    this.cache.readTokens(sequence, 0, length, tokens, 0);
    const copy = this.createSequence(owner, adapter);
    try {
      this.cache.append(copy, tokens);
    } catch (e) {
      this.cache.release(copy, 'drop');
      throw e;
    }
    return copy;
  }

  // ---------------------------------------------------------------- checkpoints

  findPoint(name: string, owner: number): Point | null {
    const point = this.points.find(name, owner);
    return point && this.find(point.session.id, owner) === point.session ? point : null;
  }

  /** @throws checkpoint_not_found */
  point(name: string, owner: number): Point {
    const point = this.findPoint(name, owner);
    if (!point) throw errors.checkpointUnknown(name);
    return point;
  }

  /** The turn that ended last in a session. Beyond `max` names, or `maxNoteBytes` of notes, the oldest are forgotten. */
  keepPoint(s: Session, data: PointData): void {
    this.points.add(s, data);
    if (this.options.copies) {
      this.boundCopies(s);
      return;
    }
    while (this.#tooManyPoints) {
      const oldest = this.points.oldest();
      if (!oldest) return;
      // that of a session which is gone goes with it
      if (this.findPoint(oldest.name, oldest.session.owner)) this.deletePoint(oldest.name, oldest.session.owner);
    }
  }

  /** Forgets other sessions that nobody uses, the least recently used first, until the turns kept are within the bounds. */
  boundCopies(keep: Session): void {
    for (const s of this.#byKey.values()) {
      if (!this.#tooManyPoints) return;
      if (s === keep || s.busy || s.points.length === 0) continue;
      if (this.cache.exists(s.sequence)) this.cache.release(s.sequence, 'drop');
      this.#forget(s);
    }
  }

  get #tooManyPoints(): boolean {
    const { max, maxNoteBytes = Number.POSITIVE_INFINITY } = this.options;
    return this.points.size > max || this.points.bytes > maxNoteBytes;
  }

  /** What no other name needs goes with it. @throws checkpoint_not_found */
  deletePoint(name: string, owner: number): void {
    this.point(name, owner);
    const session = this.points.unname(name, owner)!;
    if (session.busy || !session.ofPoints) return;
    const end = session.points.at(-1)?.end ?? 0;
    if (end === 0) this.delete(session.id, owner);
    else if (end < this.cache.known(session.sequence)) {
      this.cache.truncate(session.sequence, end);
      this.changed(session, end);
    }
  }

  // ---------------------------------------------------------------- turns

  /** A turn begins or ends. */
  use(s: Session, busy: boolean): void {
    s.busy = busy;
    s.lastUsed = Date.now();
    this.#byKey.delete(key(s.id, s.owner));
    this.#byKey.set(key(s.id, s.owner), s);
  }

  /** Its tokens are new from `from` on. */
  changed(s: Session, from: number): void {
    this.points.cut(s, from);
    this.options.onChange?.(s, from);
  }

  delete(id: string, owner: number): void {
    if (this.options.waiting?.delete(key(id, owner))) {
      this.options.onGone?.(id, owner);
      return;
    }
    const s = this.idle(id, owner);
    this.cache.release(s.sequence, 'drop');
    this.#forget(s);
  }

  list(owner: number): SessionInfo[] {
    const out: SessionInfo[] = [];
    for (const s of [...this.#byKey.values()]) {
      if (s.owner === owner && this.find(s.id, owner)) out.push(this.info(s));
    }
    return out;
  }

  /** Every owner's, the last used first. */
  *all(): Generator<Readonly<Session>> {
    for (const s of [...this.#byKey.values()].reverse()) {
      if (this.cache.exists(s.sequence)) yield s;
    }
  }

  info(s: Session): SessionInfo {
    const { id, sequence, lastUsed, forkedFrom, adapter } = s;
    const tokens = this.cache.known(sequence);
    return {
      id,
      state: this.cache.state(sequence),
      tokens,
      cachedTokens: this.cache.computed(sequence),
      lastUsed,
      adapter: this.adapterName(adapter),
      // one that was rewound beyond where it was forked has less in common
      forkedFrom: forkedFrom && { id: forkedFrom.id, tokens: Math.min(forkedFrom.tokens, tokens) },
    };
  }

  #add(id: string, owner: number, sequence: SequenceId, adapter: number): Session {
    if (this.#byKey.size >= this.options.max) this.#makeRoom(sequence);
    const s: Session = {
      id,
      owner,
      adapter,
      sequence,
      busy: false,
      lastUsed: Date.now(),
      forkedFrom: null,
      points: [],
      ofPoints: false,
    };
    this.#byKey.set(key(id, owner), s);
    return s;
  }

  /** Forgets the least recently used idle session. @throws too_many_sessions if all are in use; `sequence` is given up then */
  #makeRoom(sequence: SequenceId): void {
    for (const s of this.#byKey.values()) {
      if (s.busy) continue;
      if (this.cache.exists(s.sequence)) this.cache.release(s.sequence, 'drop');
      this.#forget(s);
      return;
    }
    this.cache.release(sequence, 'drop');
    throw errors.tooManySessions(this.options.max);
  }

  #forget(s: Session): void {
    this.#byKey.delete(key(s.id, s.owner));
    this.points.forget(s);
    this.options.onGone?.(s.id, s.owner);
  }
}

/** Names are per owner: nobody learns of, or stands in the way of, another owner's sessions. */
function key(id: string, owner: number): string {
  return `${owner}:${id}`;
}
