/** Named conversations: session id → sequence. The tokens and their KV live in the cache manager. */
import type { CacheManager, SequenceId } from '../cache/types.js';
import { errors } from '../errors.js';
import type { SessionInfo } from '../types.js';

interface Session {
  id: string;
  owner: number;
  sequence: SequenceId;
  busy: boolean;
  lastUsed: number;
}

export class Sessions {
  readonly #byKey = new Map<string, Session>();

  constructor(
    private readonly cache: CacheManager,
    private readonly shareAcrossOwners: boolean,
  ) {}

  get size(): number {
    return this.#byKey.size;
  }

  /** The owner's session; one that the cache manager has dropped (too many kept) is forgotten here. */
  find(id: string, owner: number): Session | null {
    const s = this.#byKey.get(key(id, owner));
    if (!s) return null;
    if (this.cache.exists(s.sequence)) return s;
    this.#byKey.delete(key(id, owner));
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
    const known = this.find(id, owner);
    if (known) return known;
    const sequence = this.cache.create({ owner, shared: this.shareAcrossOwners });
    return this.adopt(id, owner, sequence);
  }

  adopt(id: string, owner: number, sequence: SequenceId): Session {
    const s: Session = { id, owner, sequence, busy: false, lastUsed: Date.now() };
    this.#byKey.set(key(id, owner), s);
    return s;
  }

  delete(id: string, owner: number): void {
    const s = this.idle(id, owner);
    this.#byKey.delete(key(id, owner));
    this.cache.release(s.sequence, 'drop');
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
    for (const s of [...this.#byKey.values()].sort((a, b) => b.lastUsed - a.lastUsed)) {
      if (this.cache.exists(s.sequence)) yield s;
    }
  }

  info(s: Session): SessionInfo {
    return {
      id: s.id,
      state: this.cache.state(s.sequence),
      tokens: this.cache.known(s.sequence),
      cachedTokens: this.cache.computed(s.sequence),
      lastUsed: s.lastUsed,
    };
  }
}

/** Names are per owner: nobody learns of, or stands in the way of, another owner's sessions. */
function key(id: string, owner: number): string {
  return `${owner}:${id}`;
}
