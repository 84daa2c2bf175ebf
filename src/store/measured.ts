/** A store whose answers are timed and counted; one that does not answer is a typed error, told once until it does again. */
import { errors, LongmindError } from '../errors.js';
import type { StoreStats } from '../types.js';
import type { Change, Lease, SessionKey, SessionStore, StoreBounds } from './types.js';

const BOUNDS_MS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000];

export class MeasuredStore implements SessionStore {
  /** Why it cannot be used at the moment, or null. */
  failure: string | null = null;
  /** Told when it does not answer, and when it does again. */
  onProblem: (problem: string) => void = () => {};
  #leasesLost = 0;
  readonly #errors = new Map<string, number>();
  readonly #counts = new Float64Array(BOUNDS_MS.length + 1);
  #sumMs = 0;

  constructor(
    private readonly store: SessionStore,
    /** For people. */
    readonly place: string,
  ) {}

  stats(): StoreStats {
    const times = { boundsMs: BOUNDS_MS, counts: [...this.#counts], sumMs: this.#sumMs };
    return { times, errors: Object.fromEntries(this.#errors), leasesLost: this.#leasesLost };
  }

  acquire = (key: SessionKey, ttlMs: number) => this.#ask('acquire', () => this.store.acquire(key, ttlMs));
  load = (key: SessionKey) => this.#ask('load', () => this.store.load(key));
  write = (lease: Lease, change: Change) => this.#ask('write', () => this.store.write(lease, change));
  writers = (key: SessionKey) => this.#ask('writers', () => this.store.writers(key));
  drop = (lease: Lease) => this.#ask('drop', () => this.store.drop(lease));
  release = (lease: Lease) => this.#ask('release', () => this.store.release(lease));
  find = (name: string, owner: number) => this.#ask('find', () => this.store.find(name, owner));
  list = (owner: number) => this.#ask('list', () => this.store.list(owner));
  trim = (bounds: StoreBounds) => this.#ask('trim', () => this.store.trim(bounds));
  about = () => this.#ask('about', () => this.store.about());
  weakness = () => this.#ask('about', () => this.store.weakness());

  async renew(leases: readonly Lease[], ttlMs: number): Promise<Lease[]> {
    return this.#ask('renew', () => this.store.renew(leases, ttlMs));
  }

  /** What a lease was for, another server has. */
  countLost(): void {
    this.#leasesLost++;
  }

  close(): Promise<void> {
    return this.store.close();
  }

  async #ask<T>(what: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    // connections keep no process alive, what is asked does
    const stay = setInterval(() => {}, 2 ** 30);
    try {
      const value = await work();
      this.#answered(start);
      return value;
    } catch (e) {
      if (e instanceof LongmindError) {
        this.#answered(start);
        throw e;
      }
      this.#errors.set(what, (this.#errors.get(what) ?? 0) + 1);
      const { message } = e as Error;
      if (this.failure === null) this.onProblem(`the session store (${this.place}) does not answer: ${message}`);
      this.failure = message;
      throw errors.storeUnavailable(this.place);
    } finally {
      clearInterval(stay);
    }
  }

  #answered(start: number): void {
    const ms = performance.now() - start;
    let i = 0;
    while (i < BOUNDS_MS.length && ms > BOUNDS_MS[i]!) i++;
    this.#counts[i]!++;
    this.#sumMs += ms;
    if (this.failure === null) return;
    this.failure = null;
    this.onProblem(`the session store (${this.place}) answers again`);
  }
}
