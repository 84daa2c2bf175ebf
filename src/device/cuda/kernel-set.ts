/** Kernels by what they are compiled for, loaded together, launched with parameters by name. */
import { errors, invariant } from '../../errors.js';
import type { Address, Driver } from './driver.js';
import { type KernelKey, type KernelStore, nameOf, packParams, type Table } from './kernels.js';

export interface Shape {
  grid: [number, number, number];
  block: number;
  shared: number;
}

/** Machine code for kernels, in order. */
export type Compile = Pick<KernelStore, 'load'>;

export class KernelSet {
  readonly #wanted = new Map<string, { key: KernelKey; shared: number }>();
  readonly #names = new Map<KernelKey, string>();
  readonly #loaded = new Map<string, Address>();
  readonly #byKey = new Map<KernelKey, Address>();
  stream: Address = 0;
  /** Kernels may begin while the one before ends. */
  early = false;
  /** Waits for each kernel, so that a failure names it. */
  debug = false;
  /** The next kernel follows a copy: it may not begin early. */
  #first = true;

  constructor(
    readonly driver: Driver,
    readonly table: Table,
  ) {}

  /** Says before `load` that a kernel will be needed, with this much dynamic shared memory. */
  want(key: KernelKey, shared: number): void {
    const name = this.#nameOf(key);
    const known = this.#wanted.get(name);
    this.#wanted.set(name, { key, shared: Math.max(shared, known?.shared ?? 0) });
  }

  load(compile: Compile, onProgress?: (done: number, total: number) => void): void {
    const wanted = [...this.#wanted.entries()].filter(([name]) => !this.#loaded.has(name));
    const cubins = compile.load(
      wanted.map(([, w]) => w.key),
      onProgress,
    );
    wanted.forEach(([name, { key, shared }], i) => {
      this.#loaded.set(name, this.driver.kernel(cubins[i]!, this.table.kernels[key.kernel]!.entry, shared));
    });
  }

  /** After a copy or a wait in the stream. */
  restart(): void {
    this.#first = true;
  }

  launch(key: KernelKey, shape: Shape, values: Readonly<Record<string, number>>): void {
    const [x, y, z] = shape.grid;
    if (x === 0 || y === 0 || z === 0) return;
    const params = packParams(this.table.kernels[key.kernel]!.params, values);
    const early = this.early && !this.#first && !this.debug;
    this.driver.launch(this.#address(key), { ...shape, early }, params, this.stream);
    this.#first = false;
    if (!this.debug) return;
    try {
      this.driver.synchronize(this.stream);
    } catch (e) {
      throw errors.native(-1, `${nameOf(key)}: ${(e as Error).message}`);
    }
  }

  #address(key: KernelKey): Address {
    let address = this.#byKey.get(key);
    if (address === undefined) {
      address = this.#loaded.get(this.#nameOf(key));
      invariant(address !== undefined, `kernel '${nameOf(key)}' was not loaded`);
      this.#byKey.set(key, address);
    }
    return address;
  }

  #nameOf(key: KernelKey): string {
    let name = this.#names.get(key);
    if (name === undefined) {
      name = nameOf(key);
      this.#names.set(key, name);
    }
    return name;
  }
}
