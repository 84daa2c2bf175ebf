/**
 * Where the sessions of several servers are kept. One server at a time may write a session: it holds a lease with a fencing
 * token, a number that only grows, and the store itself compares it in every write. A server that slept through the end of
 * its lease, and whose session another one took, has an old token: what it wants to write is refused.
 */

export interface SessionKey {
  id: string;
  owner: number;
}

/** A turn that can be gone on from by its name: a checkpoint of the engine. */
export interface KeptMark {
  /** '' if it has none any more. */
  name: string;
  prompt: number;
  end: number;
  cachedTokens: number;
  finishReason: string;
  note: string;
  head: string;
  /** The session is there for its marks alone. */
  own: boolean;
}

/** A store remembers whose writes the last ones were: one that was not answered can be told from one that was not done. */
export const WRITERS = 8;

export interface KeptSession {
  ids: Int32Array;
  /** Name of the adapter that it speaks with. */
  adapter: string | null;
  /** Milliseconds since the epoch, by the store's clock. */
  lastUsed: number;
  /** In the order of their ends. */
  marks: KeptMark[];
}

export interface Lease extends SessionKey {
  token: number;
}

/** All of it is written, or nothing. */
export interface Change {
  /** Tokens that stay; `ids` follow them. */
  from: number;
  ids: Int32Array;
  adapter: string | null;
  /** Marks that stay, from the first on; `marks` follow them. */
  keepMarks: number;
  marks: readonly KeptMark[];
  /** The last mark that stays: its head is not written again. */
  before: KeptMark | null;
  /** Names of marks that do not stay, and are no names any more. */
  goneNames: readonly string[];
}

export interface ListedSession {
  id: string;
  tokens: number;
  /** Name of the adapter that it speaks with. */
  adapter: string | null;
  /** Milliseconds since the epoch, by the store's clock. */
  lastUsed: number;
}

export interface StoreBounds {
  sessions: number;
  bytes: number;
  /** Milliseconds after which a session that nobody used is forgotten; 0: never. */
  idleMs: number;
}

/** Whatever a method throws that is no LongmindError means that the store did not answer: its outcome is not known. */
export interface SessionStore {
  /**
   * A lease for so many milliseconds, and what is kept (null: nothing).
   * @throws session_busy (409) while somebody else's lease lasts
   */
  acquire(key: SessionKey, ttlMs: number): Promise<{ lease: Lease; kept: KeptSession | null }>;
  load(key: SessionKey): Promise<KeptSession | null>;
  /**
   * Writes and gives the lease back. Done again with the same lease it is the same as once.
   * @throws session_lease_lost (409): nothing was written by this call
   */
  write(lease: Lease, change: Change): Promise<void>;
  /** The tokens of the last writes, `WRITERS` at most, the latest first. */
  writers(key: SessionKey): Promise<number[]>;
  /** Forgets the session. @throws session_lease_lost */
  drop(lease: Lease): Promise<void>;
  /** Gives a lease back; one that is lost is no error. */
  release(lease: Lease): Promise<void>;
  /** Makes leases last for so many milliseconds from now. The ones that are lost, or were given back, come back. */
  renew(leases: readonly Lease[], ttlMs: number): Promise<Lease[]>;
  /** Id of the session that has a turn of this name. */
  find(name: string, owner: number): Promise<string | null>;
  /** All of an owner, the least recently used first. */
  list(owner: number): Promise<ListedSession[]>;
  /** Forgets the least recently used sessions that nobody holds, until the rest is within the bounds. Returns how many. */
  trim(bounds: StoreBounds): Promise<number>;
  /** What answers, for people: 'Redis 7.0'. */
  about(): Promise<string>;
  /** In what way what it acknowledged may be lost when it crashes; null: in none, or it does not tell. */
  weakness(): Promise<string | null>;
  close(): Promise<void>;
}
