/** A disk in memory that fails as a test says, for batches that are driven step by step. */
import type { Disk } from '../../src/tiers/index.js';

type Done = Parameters<Disk['read']>[2];

export class MemoryDisk implements Disk {
  writable = true;
  /** Whether the next access succeeds. */
  succeeds = (_kind: 'read' | 'write'): boolean => true;
  /** Nothing is answered until it is. */
  silent = false;
  readonly #slots = new Map<number, Uint8Array>();
  readonly #waiting: (() => void)[] = [];

  write(slot: number, _namespace: number, _prefix: Int32Array, kv: Uint8Array, done: Done): void {
    this.#waiting.push(() => {
      const ok = this.succeeds('write');
      if (ok) this.#slots.set(slot, kv.slice());
      else this.#slots.delete(slot);
      done({ id: 0, ok, ms: 0.1, error: null });
    });
  }

  read(slot: number, kv: Uint8Array, done: Done): void {
    this.#waiting.push(() => {
      const held = this.#slots.get(slot);
      const ok = held !== undefined && this.succeeds('read');
      kv.set(ok ? held : kv.map(() => 0xaa));
      done({ id: 0, ok, ms: 0.1, error: null });
    });
  }

  erase(slot: number): void {
    this.#waiting.push(() => void this.#slots.delete(slot));
  }

  poll(): void {
    if (!this.silent) for (const answer of this.#waiting.splice(0)) answer();
  }
}
