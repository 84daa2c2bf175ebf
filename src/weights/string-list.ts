/**
 * An array of strings of a GGUF header, still as UTF-8: a vocabulary of 128,000 tokens costs its bytes and is only decoded
 * by whoever reads it. Plain fields, so that it can be sent to another thread.
 */
export class StringList implements Iterable<string> {
  readonly #buffer: Buffer;

  constructor(
    /** UTF-8 of all strings, each at its offset. */
    readonly bytes: Uint8Array,
    /** (length) first byte of each string. */
    readonly starts: Int32Array,
    /** (length) bytes of each string. */
    readonly lengths: Int32Array,
  ) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.starts.length;
  }

  /** undefined outside the list. */
  at(index: number): string | undefined {
    const start = this.starts[index];
    return start === undefined ? undefined : this.#buffer.toString('utf8', start, start + this.lengths[index]!);
  }

  *[Symbol.iterator](): Iterator<string> {
    for (let i = 0; i < this.length; i++) yield this.at(i)!;
  }

  toArray(): string[] {
    return [...this];
  }
}
