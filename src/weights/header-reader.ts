/**
 * Reads the beginning of a file in growing pieces. Whatever a file claims, no more is read or allocated than the file
 * holds, and no more than MAX_HEADER.
 */
import { readSync } from 'node:fs';

/** Bytes. The largest known vocabularies need about 20 MiB. */
const MAX_HEADER = 512 * 2 ** 20;
const FIRST_READ = 256 * 2 ** 10;

/** What is wrong with the file; `readGgufPart` makes it a LongmindError with the path. */
export class HeaderError extends Error {}

export class HeaderReader {
  /** Next byte to read. */
  position = 0;
  #bytes = Buffer.alloc(0);

  constructor(
    private readonly fd: number,
    readonly fileSize: number,
  ) {}

  /** Bytes of the file after the position. */
  get left(): number {
    return this.fileSize - this.position;
  }

  #fill(count: number, what: string): void {
    if (count > this.left) {
      throw new HeaderError(
        `${what} needs ${count} bytes at ${this.position}, but the file ends at ${this.fileSize} (truncated or corrupt)`,
      );
    }
    const end = this.position + count;
    if (end <= this.#bytes.length) return;
    if (end > MAX_HEADER)
      throw new HeaderError(`${what} at ${this.position} lies beyond ${MAX_HEADER} bytes of header`);
    const size = Math.min(this.fileSize, MAX_HEADER, Math.max(end, FIRST_READ, 2 * this.#bytes.length));
    const grown = Buffer.allocUnsafeSlow(size);
    this.#bytes.copy(grown);
    let have = this.#bytes.length;
    while (have < size) {
      const got = readSync(this.fd, grown, have, size - have, have);
      if (got === 0) throw new HeaderError(`the file became shorter while it was read (${have} bytes)`);
      have += got;
    }
    this.#bytes = grown;
  }

  /** Checks `count` bytes and steps over them; returns where they begin in `buffer`. */
  take(count: number, what: string): number {
    this.#fill(count, what);
    const at = this.position;
    this.position += count;
    return at;
  }

  /** What was read so far; replaced when it grows. */
  get buffer(): Buffer {
    return this.#bytes;
  }

  u32(what: string): number {
    const at = this.take(4, what);
    return this.#bytes.readUInt32LE(at);
  }

  /** A 64-bit length, count, dimension or offset: must be a safe integer. */
  size(what: string): number {
    const at = this.take(8, what);
    const low = this.#bytes.readUInt32LE(at);
    const high = this.#bytes.readUInt32LE(at + 4);
    if (high >= 2 ** 21) throw new HeaderError(`${what} is ${this.#bytes.readBigUInt64LE(at)}, which cannot be`);
    return high * 2 ** 32 + low;
  }

  string(what: string, limit: number): string {
    const length = this.size(`the length of ${what}`);
    if (length > limit) throw new HeaderError(`${what} is ${length} bytes long, at most ${limit} can be`);
    const at = this.take(length, what);
    return this.#bytes.toString('utf8', at, at + length);
  }
}
