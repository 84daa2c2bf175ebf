/**
 * A step and its result: each one flat buffer, described by one table (step-table.ts). Everything that crosses the boundary
 * to native code lies in it, so one pointer and one length say all:
 *
 *     words   0        hash of the table
 *             1 …      counts
 *             …        directory: for each array its offset and its length, both in words of 4 bytes
 *             …        the arrays, at multiples of 64 bytes
 *
 * The C side of it (step-header.ts) is generated from the same table; devices compile it in, and a library that was built
 * from another table is refused by its hash.
 */
import { InvariantError } from '../errors.js';
import { STEP_LAYOUT } from './step-header.js';
import {
  type Element,
  type Fields,
  RESULT_COUNTS,
  RESULT_FIELDS,
  STEP_COUNTS,
  STEP_FIELDS,
  type StepLimits,
} from './step-table.js';

export { hashOf, STEP_LAYOUT, stepHeader } from './step-header.js';
export { MAX_TOP_LOGPROBS, STEP_COUNTS, STEP_FIELDS, type StepLimits } from './step-table.js';

type View<E extends Element> = E extends 'f32' ? Float32Array : E extends 'u32' ? Uint32Array : Int32Array;
type Views<F extends Fields> = { readonly [K in keyof F]: View<F[K]['type']> };
const VIEWS = { i32: Int32Array, u32: Uint32Array, f32: Float32Array };

/** Where the memory of a step or result comes from; a device that copies it elsewhere may want memory of its own. */
export type Allocate = (bytes: number) => ArrayBufferLike;
const ordinary: Allocate = (bytes) => new ArrayBuffer(bytes);

/** Words between arrays: a cache line. */
const ALIGN = 16;
const aligned = (words: number) => Math.ceil(words / ALIGN) * ALIGN;

/** Header, directory and views of one flat buffer. */
class Flat {
  header!: Int32Array;
  /** The whole buffer. */
  bytes!: Uint8Array;

  constructor(
    private readonly fields: Fields,
    private readonly counts: number,
    private readonly allocate: Allocate,
    lengths: number[],
  ) {
    this.#layOut(lengths);
    const self = this as unknown as Record<string, Int32Array>;
    for (const [name, { fill }] of Object.entries(fields)) if (fill !== 0) self[name]!.fill(fill);
  }

  /**
   * Makes an array at least so long. The whole buffer may move then: views that were read before are stale.
   * @throws InvariantError for a name that no array has
   */
  protected grow(name: string, length: number): void {
    const self = this as unknown as Record<string, Int32Array>;
    const names = Object.keys(this.fields);
    if (!names.includes(name)) throw new InvariantError(`a step has no array '${name}'`);
    const old = names.map((n) => self[n]!);
    const before = this.header.slice(0, 1 + this.counts);
    this.#layOut(names.map((n, i) => (n === name ? Math.max(length, 2 * old[i]!.length) : old[i]!.length)));
    this.header.set(before);
    names.forEach((n, i) => {
      self[n]!.set(old[i]!);
    });
  }

  #layOut(lengths: number[]): void {
    const entries = Object.entries(this.fields);
    const directory = 1 + this.counts;
    let words = aligned(directory + 2 * entries.length);
    const offsets = lengths.map((n) => {
      const at = words;
      words = aligned(at + n);
      return at;
    });
    const buffer = this.allocate(4 * words);
    this.bytes = new Uint8Array(buffer, 0, 4 * words);
    this.header = new Int32Array(buffer, 0, directory + 2 * entries.length);
    this.header[0] = STEP_LAYOUT;
    entries.forEach(([name, { type }], i) => {
      this.header[directory + 2 * i] = offsets[i]!;
      this.header[directory + 2 * i + 1] = lengths[i]!;
      Object.assign(this, { [name]: new VIEWS[type](buffer as ArrayBuffer, 4 * offsets[i]!, lengths[i]!) });
    });
  }
}

const lengthsOf = (fields: Fields, limits: StepLimits) => Object.values(fields).map((f) => f.length(limits));

class FlatStep extends Flat {
  constructor(limits: StepLimits, allocate: Allocate) {
    super(STEP_FIELDS, STEP_COUNTS.length, allocate, lengthsOf(STEP_FIELDS, limits));
  }

  get rowCount(): number {
    return this.header[1]!;
  }
  set rowCount(n: number) {
    this.header[1] = n;
  }
  get tokenCount(): number {
    return this.header[2]!;
  }
  set tokenCount(n: number) {
    this.header[2] = n;
  }
  get logitCount(): number {
    return this.header[3]!;
  }
  set logitCount(n: number) {
    this.header[3] = n;
  }
  get copyCount(): number {
    return this.header[4]!;
  }
  set copyCount(n: number) {
    this.header[4] = n;
  }

  /** Makes an array at least so long. The buffer may move: views that were read before are stale then. */
  reserve(name: keyof typeof STEP_FIELDS, length: number): void {
    if ((this as unknown as Step)[name].length < length) this.grow(name, length);
  }
}

class FlatResult extends Flat {
  constructor(limits: StepLimits, allocate: Allocate) {
    super(RESULT_FIELDS, RESULT_COUNTS.length, allocate, lengthsOf(RESULT_FIELDS, limits));
  }

  /** False if the cancel flag stopped the step half-way: nothing of it may be committed. */
  get completed(): boolean {
    return this.header[1] === 1;
  }
  set completed(yes: boolean) {
    this.header[1] = yes ? 1 : 0;
  }
  get logitCount(): number {
    return this.header[2]!;
  }
  set logitCount(n: number) {
    this.header[2] = n;
  }
  /** Where a refused step is at fault (a row, a logit row, an operation) … */
  get faultIndex(): number {
    return this.header[3]!;
  }
  /** … and the value found there. */
  get faultValue(): number {
    return this.header[4]!;
  }
}

/** One unit of work, plain data: counts and arrays of STEP_FIELDS. It belongs to the device from `submit` to `wait`. */
export type Step = FlatStep & Views<typeof STEP_FIELDS>;
/** What a step drew: arrays of RESULT_FIELDS. */
export type StepResult = Readonly<FlatResult & Views<typeof RESULT_FIELDS>>;
export type MutableResult = FlatResult & Views<typeof RESULT_FIELDS>;
/** What sampling reads. */
export type StepSampling = Omit<
  Views<typeof STEP_FIELDS>,
  'tokens' | 'positions' | 'rowStart' | 'rowSlot' | 'rowAdapter' | 'blockTables' | 'logitRows' | 'copies'
>;

export function createStep(limits: StepLimits, allocate = ordinary): Step {
  return new FlatStep(limits, allocate) as Step;
}

export function createResult(limits: StepLimits, allocate = ordinary): MutableResult {
  return new FlatResult(limits, allocate) as MutableResult;
}
