/** What a model takes of the machine's memory, told to other engines from its planning until all of it is taken. */
import type { MemoryPromises, Room } from '../base/memory-promises.js';
import type { Device } from '../device/device.js';
import type { MemorySplit } from '../types.js';

/** Taken weights are told so often; each time is a file written. */
const TELLINGS = 8;

export class MemoryClaim {
  readonly #promises: MemoryPromises | null;
  #memory: MemorySplit | null = null;
  /** Weights that are taken, in parts of TELLINGS. */
  #loaded = 0;
  #grown = 0;

  /** `promises`: null where nobody is told. `part`: the engine's models have names of their own. */
  constructor(
    private readonly device: Device,
    promises: MemoryPromises | null,
    private readonly part: string,
  ) {
    // what a GPU has taken it says itself
    this.#promises = device.info.ownMemory ? null : promises;
  }

  /** Divides the memory, and claims what the plan says; no other engine does meanwhile. @throws what `plan` throws */
  settle<P extends { memory: MemorySplit }>(plan: (room: Room) => P): P {
    const decide = (room: Room): P => {
      const made = plan(room);
      this.#memory = made.memory;
      this.#tell();
      return made;
    };
    return this.#promises ? this.#promises.settle(decide) : decide({ free: this.device.info.memoryFree, promised: 0 });
  }

  /** So much of the weights is on the device. */
  loaded(done: number, total: number): void {
    const parts = total > 0 ? Math.floor((TELLINGS * done) / total) : TELLINGS;
    if (parts === this.#loaded) return;
    this.#loaded = parts;
    this.#tell();
  }

  /** Device.growKv. */
  grow(total: number): boolean {
    if (!this.device.growKv(total)) return false;
    this.#grown = Math.max(this.#grown, total);
    this.#tell();
    return true;
  }

  #tell(): void {
    const m = this.#memory;
    if (!m || !this.#promises) return;
    const weights = m.weightBytes * (1 - this.#loaded / TELLINGS);
    this.#promises.promise(this.part, weights + m.workspaceBytes + (m.kvBlocks - this.#grown) * m.blockBytes);
  }
}
