/**
 * Names of sessions that were created and not used yet. The engine makes a session when tokens come; until then its name is
 * kept here, so that it can be found, listed, forked and deleted like any other.
 */
export interface ReservedName {
  id: string;
  /** Milliseconds since the epoch. */
  created: number;
}

export class ReservedNames {
  /** By owner and name, the oldest first. */
  readonly #names = new Map<string, ReservedName & { owner: number }>();

  /** At most so many; the oldest are forgotten first. */
  constructor(private readonly limit = 4096) {}

  add(id: string, owner: number): ReservedName {
    const key = `${owner}/${id}`;
    const name = this.#names.get(key) ?? { id, owner, created: Date.now() };
    this.#names.set(key, name);
    if (this.#names.size > this.limit) this.#names.delete(this.#names.keys().next().value!);
    return name;
  }

  get(id: string, owner: number): ReservedName | null {
    return this.#names.get(`${owner}/${id}`) ?? null;
  }

  list(owner: number): ReservedName[] {
    return [...this.#names.values()].filter((n) => n.owner === owner);
  }

  /** false: there was none. */
  delete(id: string, owner: number): boolean {
    return this.#names.delete(`${owner}/${id}`);
  }
}
