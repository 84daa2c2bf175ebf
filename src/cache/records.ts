/** Dense records of integers in fixed-size segments: growing never copies, so memory never doubles for a moment. */
const SEGMENT_SHIFT = 8;
const SEGMENT = 1 << SEGMENT_SHIFT;

export class Records {
  readonly #segments: Int32Array[] = [];
  /** Free records are linked through the field that the caller names. */
  #freeHead = -1;
  #used = 0;
  #high = 0;

  constructor(readonly stride: number) {}

  /** Records in use. */
  get size(): number {
    return this.#used;
  }

  /** Every record number is below this. */
  get high(): number {
    return this.#high;
  }

  get bytes(): number {
    return this.#segments.length * SEGMENT * this.stride * 4;
  }

  /** A record number; its fields hold what its last user left there. */
  alloc(linkField: number): number {
    this.#used++;
    if (this.#freeHead !== -1) {
      const r = this.#freeHead;
      this.#freeHead = this.get(r, linkField);
      return r;
    }
    if ((this.#high & (SEGMENT - 1)) === 0) this.#segments.push(new Int32Array(SEGMENT * this.stride));
    return this.#high++;
  }

  free(r: number, linkField: number): void {
    this.#used--;
    this.set(r, linkField, this.#freeHead);
    this.#freeHead = r;
  }

  get(r: number, field: number): number {
    return this.#segments[r >>> SEGMENT_SHIFT]![(r & (SEGMENT - 1)) * this.stride + field]!;
  }

  set(r: number, field: number, value: number): void {
    this.#segments[r >>> SEGMENT_SHIFT]![(r & (SEGMENT - 1)) * this.stride + field] = value;
  }

  add(r: number, field: number, delta: number): number {
    const segment = this.#segments[r >>> SEGMENT_SHIFT]!;
    const at = (r & (SEGMENT - 1)) * this.stride + field;
    const value = segment[at]! + delta;
    segment[at] = value;
    return value;
  }

  /** The array that holds record r, and … */
  segment(r: number): Int32Array {
    return this.#segments[r >>> SEGMENT_SHIFT]!;
  }

  /** … where in it field `field` lies. */
  offset(r: number, field: number): number {
    return (r & (SEGMENT - 1)) * this.stride + field;
  }
}
