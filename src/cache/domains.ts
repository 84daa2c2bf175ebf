/** Groups of sequences that may share text. All shared ones are in one; an owner who does not share has its own. */
export class Domains {
  readonly #byOwner = new Map<number, number>();
  readonly #owner: (number | null)[] = [];
  /** Sequences in the domain + blocks at its root. */
  readonly #members: number[] = [];
  readonly #free: number[] = [];

  constructor(private readonly onAdd: (domain: number) => void) {
    this.#add(null);
    this.#members[0] = 1;
  }

  /** `owner` null: the shared domain. */
  of(owner: number | null): number {
    if (owner === null) return 0;
    let d = this.#byOwner.get(owner);
    if (d === undefined) {
      d = this.#add(owner);
      this.#byOwner.set(owner, d);
    }
    return d;
  }

  /** A domain for one sequence and its forks. */
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

  members(d: number): number {
    return this.#members[d]!;
  }

  get high(): number {
    return this.#owner.length;
  }
}
