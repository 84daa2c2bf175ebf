/**
 * Sessions in a store that several servers share, as the main thread sees them. A turn holds a lease on its session from
 * before it begins until the store has taken what it changed; only then its caller is told that it has ended.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { errors, invariant, LongmindError } from '../../errors.js';
import type { Change, KeptSession, Lease, MeasuredStore, StoreBounds } from '../../store/index.js';
import type { EngineRequest } from '../request.js';
import type { TurnChange } from './kept.js';

export interface SharedOptions {
  leaseMs: number;
  bounds: StoreBounds;
  /** The lease of a request's session is another server's: what it answers will not be kept. */
  onLost: (request: number, error: LongmindError) => void;
  onProblem: (problem: string) => void;
}

/** So long a turn that has ended waits for a store that does not answer. */
const PATIENCE_MS = 15_000;
const RETRY_MS = 100;
const MAX_RETRY_MS = 1_000;
const TRIM_MS = 60_000;
/** It is bounded after so many turns too. */
const WRITES_A_TRIM = 1_000;

/** A turn that has begun and is not in the store. */
interface Held {
  lease: Lease;
  kept: KeptSession | null;
  lost: boolean;
  /** The store is taking it: what that says counts. */
  ending: boolean;
}

export class SharedSessions {
  /** By the request's number. */
  readonly #held = new Map<number, Held>();
  /** Requests that are answered without the store. */
  readonly #unkept = new Set<number>();
  readonly #trims: NodeJS.Timeout;
  #renewals: NodeJS.Timeout | null = null;
  #closed = false;
  #writes = 0;

  constructor(
    readonly store: MeasuredStore,
    private readonly options: SharedOptions,
  ) {
    store.onProblem = options.onProblem;
    this.#trims = setInterval(() => this.#trim(), TRIM_MS).unref();
    void this.#warn();
  }

  /** What the engine needs of the store. Then `commit` or `release` must follow. @throws what the caller is to be told */
  async prepare(r: EngineRequest): Promise<EngineRequest> {
    if (r.after) return this.#prepareAfter(r, r.after);
    if (r.sessionId === null) return r;
    const id = r.sessionId;
    try {
      const kept = await this.#acquire(r.id, { id, owner: r.owner });
      return { ...r, shared: { id, kept, branch: false } };
    } catch (e) {
      // what the whole history is sent of needs no store, unless it is kept already
      if (!isAway(e) || r.continuation) throw e;
      this.#unkept.add(r.id);
      return { ...r, sessionId: null, keepAs: null, shared: { unless: id, error: e.toJSON() } };
    }
  }

  /**
   * Goes on from a turn that has a name: in its session where it is the last one and the new one is to be kept too, else in
   * a branch, which is a session if it is to be kept.
   */
  async #prepareAfter(r: EngineRequest, after: string): Promise<EngineRequest> {
    const { owner, keepAs } = r;
    const id = await this.store.find(after, owner);
    if (id === null) throw errors.checkpointUnknown(after);
    const key = { id, owner };
    if (!keepAs) return { ...r, shared: { id, kept: await this.store.load(key), branch: true } };
    const free = await this.#acquire(r.id, key).then(
      (kept) => ({ kept }),
      (e) => {
        if (e instanceof LongmindError && e.code === 'session_busy') return null;
        throw e;
      },
    );
    const last = free?.kept?.marks.at(-1);
    if (free && last?.name === after && last.own) return { ...r, shared: { id, kept: free.kept, branch: false } };
    if (free) this.release(r.id);
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
    held.ending = true;
    try {
      if (held.lost) throw errors.leaseLost(held.lease.id);
      if (change) await this.#write(held, change);
    } catch (e) {
      held.lost = true;
      throw e;
    } finally {
      if (change) this.#forget(request);
      else this.release(request);
    }
  }

  /** The request ended without changing anything. Never rejects. */
  release(request: number): void {
    this.#unkept.delete(request);
    const held = this.#forget(request);
    if (held && !held.lost) void this.#giveBack(held.lease);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#trims);
    const leases = [...this.#held.values()].filter((h) => !h.lost).map((h) => h.lease);
    this.#held.clear();
    this.#stopRenewals();
    await Promise.all([...leases.map((l) => this.#giveBack(l)), ...this.#givingBack]);
    await this.store.close().catch(() => {});
  }

  // ---------------------------------------------------------------- inside

  async #acquire(request: number, key: { id: string; owner: number }): Promise<KeptSession | null> {
    const { lease, kept } = await this.store.acquire(key, this.options.leaseMs);
    this.#held.set(request, { lease, kept, lost: false, ending: false });
    this.#renewals ??= setInterval(() => void this.#renew(), this.options.leaseMs / 3).unref();
    return kept;
  }

  /**
   * A write that was not answered may have been done: it is the same when it is done again. If another server has the
   * session by then, what it has tells.
   */
  async #write({ lease, kept }: Held, { id, ...rest }: TurnChange): Promise<void> {
    invariant(id === lease.id, `a turn of session '${id}' under a lease of '${lease.id}'`);
    const stays = new Set(rest.marks.map((m) => m.name));
    const goneNames = (kept?.marks.slice(rest.keepMarks) ?? []).map((m) => m.name);
    const change: Change = {
      ...rest,
      before: kept?.marks[rest.keepMarks - 1] ?? null,
      goneNames: goneNames.filter((n) => n !== '' && !stays.has(n)),
    };
    const start = performance.now();
    for (let unsure = false, wait = RETRY_MS; ; unsure = true, wait = Math.min(MAX_RETRY_MS, 2 * wait)) {
      try {
        if (unsure && (await this.#wasWritten(lease, change))) void this.#giveBack(lease);
        else await this.store.write(lease, change);
        if (++this.#writes % WRITES_A_TRIM === 0) this.#trim();
        return;
      } catch (e) {
        if (!isAway(e)) throw e;
        if (this.#closed || performance.now() - start > PATIENCE_MS) throw errors.turnUncertain(this.store.place, id);
      }
      await sleep(wait);
    }
  }

  async #wasWritten(lease: Lease, { from, ids, marks }: Change): Promise<boolean> {
    const kept = await this.store.load(lease);
    if (!kept || kept.ids.length < from + ids.length || !ids.every((t, i) => kept.ids[from + i] === t)) return false;
    return marks.every(({ name }) => name === '' || kept.marks.some((m) => m.name === name));
  }

  #forget(request: number): Held | undefined {
    const held = this.#held.get(request);
    this.#held.delete(request);
    if (this.#held.size === 0) this.#stopRenewals();
    return held;
  }

  readonly #givingBack = new Set<Promise<void>>();

  /** One that cannot be given back ends by itself. */
  #giveBack(lease: Lease): Promise<void> {
    const done: Promise<void> = this.store
      .release(lease)
      .catch(() => {})
      .finally(() => this.#givingBack.delete(done));
    this.#givingBack.add(done);
    return done;
  }

  #stopRenewals(): void {
    if (this.#renewals) clearInterval(this.#renewals);
    this.#renewals = null;
  }

  async #renew(): Promise<void> {
    const held = new Map([...this.#held].filter(([, h]) => !h.lost).map(([id, h]) => [h.lease, id]));
    const lost = await this.store.renew([...held.keys()], this.options.leaseMs).catch(() => []);
    for (const lease of lost) {
      const id = held.get(lease)!;
      const turn = this.#held.get(id);
      // it may have ended meanwhile
      if (turn?.lease !== lease || turn.ending) continue;
      turn.lost = true;
      this.options.onLost(id, errors.leaseLost(lease.id));
    }
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

const isAway = (e: unknown): e is LongmindError => e instanceof LongmindError && e.code === 'session_store_unavailable';
