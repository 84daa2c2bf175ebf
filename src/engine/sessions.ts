/** Named conversations: session id → sequence. The tokens and their KV live in the cache manager. */
import type { CacheManager, SequenceId } from '../cache/types.js';
import { checkSessionId } from '../config.js';
import { errors } from '../errors.js';
import type { ForkOrigin, SessionInfo } from '../types.js';

export interface Session {
  id: string;
  owner: number;
  sequence: SequenceId;
  busy: boolean;
  lastUsed: number;
  /** The session that it was forked from, and how many of its tokens it took. Not in the journal. */
  forkedFrom: ForkOrigin | null;
}

export interface SessionsOptions {
  /** Sessions kept; beyond it the least recently used idle one is forgotten. */
  max: number;
  /** Share KV between sequences of different owners. */
  shareAcrossOwners: boolean;
  /** Told of what must outlive the process: a session's tokens are new from `from` on; a session is gone. */
  onChange?: (session: Readonly<Session>, from: number) => void;
  onGone?: (id: string, owner: number) => void;
}

export class Sessions {
  /** In the order of last use, the latest last. */
  readonly #byKey = new Map<string, Session>();

  constructor(
    private readonly cache: CacheManager,
    private readonly options: SessionsOptions,
  ) {}

  get size(): number {
    return this.#byKey.size;
  }

  /** The owner's session; one that the cache manager has dropped (too many tokens kept) is forgotten here. */
  find(id: string, owner: number): Session | null {
    const s = this.#byKey.get(key(id, owner));
    if (!s) return null;
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

  open(id: string, owner: number): Session {
    return this.find(id, owner) ?? this.#add(checkSessionId(id), owner, this.#create(owner));
  }

  /** A session with these tokens, as if it had been evicted. */
  restore(id: string, owner: number, tokens: ArrayLike<number>): Session {
    const sequence = this.#create(owner);
    try {
      this.cache.append(sequence, tokens);
    } catch (e) {
      this.cache.release(sequence, 'drop');
      throw e;
    }
    return this.#add(id, owner, sequence);
  }

  /** Names a sequence, which `fork` makes; the name is checked before. It outlives the process, also without a token. */
  adopt(id: string, owner: number, fork: () => SequenceId, forkedFrom: ForkOrigin | null = null): Session {
    checkSessionId(id);
    const s = this.#add(id, owner, fork());
    s.forkedFrom = forkedFrom;
    this.changed(s, 0);
    return s;
  }

  /** A turn begins or ends. */
  use(s: Session, busy: boolean): void {
    s.busy = busy;
    s.lastUsed = Date.now();
    this.#byKey.delete(key(s.id, s.owner));
    this.#byKey.set(key(s.id, s.owner), s);
  }

  /** Its tokens are new from `from` on. */
  changed(s: Readonly<Session>, from: number): void {
    this.options.onChange?.(s, from);
  }

  delete(id: string, owner: number): void {
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
    const { id, sequence, lastUsed, forkedFrom } = s;
    const tokens = this.cache.known(sequence);
    return {
      id,
      state: this.cache.state(sequence),
      tokens,
      cachedTokens: this.cache.computed(sequence),
      lastUsed,
      // one that was rewound beyond where it was forked has less in common
      forkedFrom: forkedFrom && { id: forkedFrom.id, tokens: Math.min(forkedFrom.tokens, tokens) },
    };
  }

  #create(owner: number): SequenceId {
    return this.cache.create({ owner, shared: this.options.shareAcrossOwners });
  }

  #add(id: string, owner: number, sequence: SequenceId): Session {
    if (this.#byKey.size >= this.options.max) this.#makeRoom(sequence);
    const s: Session = { id, owner, sequence, busy: false, lastUsed: Date.now(), forkedFrom: null };
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
    this.options.onGone?.(s.id, s.owner);
  }
}

/** Names are per owner: nobody learns of, or stands in the way of, another owner's sessions. */
function key(id: string, owner: number): string {
  return `${owner}:${id}`;
}
