/**
 * Sessions in a store that several servers share, as the main thread sees them. A turn holds a lease on its session from
 * before it begins until the store has taken what it changed; only then its caller is told that it has ended.
 */
import { errors, invariant, LongmindError } from '../../errors.js';
import { type Held, isAway, Leases, type MeasuredStore, type StoreBounds } from '../../store/index.js';
import type { EngineRequest } from '../request.js';
import type { TurnChange } from './kept.js';

export interface SharedOptions {
  leaseMs: number;
  bounds: StoreBounds;
  /** Adapters are loaded: what a session is of, the store alone may know. */
  adapters: boolean;
  /** The lease of a request's session is another server's: what it answers will not be kept. */
  onLost: (request: number, error: LongmindError) => void;
  onProblem: (problem: string) => void;
}

export type Unsent = Omit<EngineRequest, 'grammar'>;

const TRIM_MS = 60_000;
/** It is bounded after so many turns too. */
const TURNS_A_TRIM = 1_000;

export class SharedSessions {
  readonly #leases: Leases;
  /** Turns that have begun and are not in the store, by the request's number. */
  readonly #held = new Map<number, Held>();
  /** Requests that are answered without the store. */
  readonly #unkept = new Set<number>();
  readonly #trims: NodeJS.Timeout;
  #turns = 0;

  constructor(
    readonly store: MeasuredStore,
    private readonly options: SharedOptions,
  ) {
    store.onProblem = options.onProblem;
    this.#leases = new Leases(store, options.leaseMs);
    this.#trims = setInterval(() => this.#trim(), TRIM_MS).unref();
    void this.#warn();
  }

  /** What the engine needs of the store. Then `commit` or `release` must follow. @throws what the caller is to be told */
  async prepare(r: Unsent): Promise<Unsent> {
    if (r.after) return this.#prepareAfter(r, r.after);
    if (r.sessionId === null) return r;
    const id = r.sessionId;
    try {
      const { kept } = await this.#acquire(r.id, { id, owner: r.owner });
      return { ...r, shared: { id, kept, branch: false } };
    } catch (e) {
      // what the whole history is sent of needs no store, unless it is kept already, or goes on with its session's adapter
      if (!isAway(e) || r.continuation || (this.options.adapters && r.adapter === null)) throw e;
      this.#unkept.add(r.id);
      return { ...r, sessionId: null, keepAs: null, shared: { unless: id, error: e.toJSON() } };
    }
  }

  /**
   * Goes on from a turn that has a name: in its session where it is the last one and the new one is to be kept too, else in
   * a branch, which is a session if it is to be kept.
   */
  async #prepareAfter(r: Unsent, after: string): Promise<Unsent> {
    const { owner, keepAs } = r;
    const id = await this.store.find(after, owner);
    if (id === null) throw errors.checkpointUnknown(after);
    const key = { id, owner };
    if (!keepAs) return { ...r, shared: { id, kept: await this.store.load(key), branch: true } };
    const free = await this.#acquire(r.id, key).catch((e) => {
      if (e instanceof LongmindError && e.code === 'session_busy') return null;
      throw e;
    });
    const last = free?.kept?.marks.at(-1);
    if (free && last?.name === after && last.own) return { ...r, shared: { id, kept: free.kept, branch: false } };
    if (free) void this.release(r.id);
    const kept = free ? free.kept : await this.store.load(key);
    await this.#acquire(r.id, { id: keepAs.name, owner });
    return { ...r, shared: { id, kept, branch: true } };
  }

  holds(request: number): boolean {
    return this.#held.has(request);
  }

  /** Whether the request is answered without being kept. */
  unkept(request: number): boolean {
    return this.#unkept.delete(request);
  }

  /** The store takes what the turn changed (null: nothing). @throws session_lease_lost, session_store_unavailable */
  async commit(request: number, change: TurnChange | null): Promise<void> {
    const held = this.#held.get(request)!;
    if (!change) return this.release(request);
    this.#held.delete(request);
    const { id, ...rest } = change;
    const { lease, kept } = held;
    invariant(id === lease.id, `a turn of session '${id}' under a lease of '${lease.id}'`);
    const stays = new Set(rest.marks.map((m) => m.name));
    const goneNames = (kept?.marks.slice(rest.keepMarks) ?? []).map((m) => m.name);
    await this.#leases.write(held, {
      ...rest,
      before: kept?.marks[rest.keepMarks - 1] ?? null,
      goneNames: goneNames.filter((n) => n !== '' && !stays.has(n)),
    });
    if (++this.#turns % TURNS_A_TRIM === 0) this.#trim();
  }

  /** The request ended without changing anything. Never rejects. */
  async release(request: number): Promise<void> {
    this.#unkept.delete(request);
    const held = this.#held.get(request);
    this.#held.delete(request);
    if (held) await this.#leases.release(held);
  }

  async close(): Promise<void> {
    clearInterval(this.#trims);
    await this.#leases.close();
    await this.store.close().catch(() => {});
  }

  async #acquire(request: number, key: { id: string; owner: number }): Promise<Held> {
    const held = await this.#leases.acquire(key);
    held.onLost = (error) => this.options.onLost(request, error);
    this.#held.set(request, held);
    return held;
  }

  #trim(): void {
    void this.store.trim(this.options.bounds).catch(() => {});
  }

  async #warn(): Promise<void> {
    const weakness = await this.store.weakness().catch(() => null);
    if (weakness !== null)
      this.options.onProblem(`the session store (${this.store.place}) may lose turns: ${weakness}`);
  }
}
