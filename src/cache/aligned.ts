/** Records of integers that never cross a cache line, and reading many of them early. */

/** V8's allocator begins big arrays 16 bytes after a page; so many integers later a cache line begins. */
const ALIGN = 12;

/** `count` records of 2^shift integers (at most 16). Where the allocator differs, only speed does. */
export function alignedRecords(count: number, shift: number): Int32Array {
  return new Int32Array(ALIGN + (count << shift)).subarray(ALIGN);
}

/**
 * Reads the records of indices[from … to) in one go. What follows then finds them in the processor's cache: the reads do
 * not depend on one another, so the memory serves them side by side. The caller keeps the result, or the compiler would
 * see that nothing is done with it.
 */
export function warm(records: Int32Array, shift: number, indices: Int32Array, from: number, to: number): number {
  let any = 0;
  let i = from;
  // the shorter the loop, the more reads are under way
  for (; i + 3 < to; i += 4) {
    any |= records[indices[i]! << shift]! | records[indices[i + 1]! << shift]!;
    any |= records[indices[i + 2]! << shift]! | records[indices[i + 3]! << shift]!;
  }
  for (; i < to; i++) any |= records[indices[i]! << shift]!;
  return any;
}
