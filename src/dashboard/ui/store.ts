/** A value that components follow. */
import { useEffect, useState } from 'preact/hooks';

export class Store<T> {
  readonly #followers = new Set<() => void>();

  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }

  set(next: T): void {
    if (Object.is(next, this.current)) return;
    this.current = next;
    for (const f of [...this.#followers]) f();
  }

  /** Replaces some fields. */
  patch(fields: Partial<T>): void {
    this.set({ ...this.current, ...fields });
  }

  follow(f: () => void): () => void {
    this.#followers.add(f);
    return () => this.#followers.delete(f);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [, again] = useState(0);
  useEffect(() => store.follow(() => again((n) => n + 1)), [store]);
  return store.value;
}
