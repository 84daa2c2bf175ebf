/**
 * Reads and writes the slots of a disk tier's file; runs on the disk thread. It throws what the file system throws; a
 * slot that does not hold what was written is `false`.
 */
import fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { type DiskLayout, encodeRecord, HEADER_BYTES, type SlotRecord } from './disk-layout.js';

/** What of node:fs is used, so that tests can let a disk fail. */
export interface DiskFs {
  readSync(fd: number, into: Uint8Array, offset: number, length: number, position: number): number;
  writeSync(fd: number, from: Uint8Array, offset: number, length: number, position: number): number;
  fdatasyncSync(fd: number): void;
}

export class DiskIo {
  readonly #empty: Buffer;

  constructor(
    private readonly fd: number,
    private readonly layout: DiskLayout,
    /** (slots) CRC-32 of the KV that each slot holds. */
    private readonly crcs: Uint32Array,
    private readonly disk: DiskFs = fs,
  ) {
    this.#empty = Buffer.alloc(layout.recordBytes);
  }

  /** KV first, then what it is: until the record is there, the slot counts as what it was before, with a wrong checksum. */
  write(slot: number, record: Omit<SlotRecord, 'dataCrc'>, kv: Uint8Array): void {
    const dataCrc = crc32(kv);
    this.#writeAll(kv, this.#dataAt(slot));
    this.#writeAll(encodeRecord(this.layout, { ...record, dataCrc }), this.#recordAt(slot));
    this.crcs[slot] = dataCrc;
  }

  /** False: the slot does not hold what was written. */
  read(slot: number, kv: Uint8Array): boolean {
    let done = 0;
    while (done < kv.length) {
      const n = this.disk.readSync(this.fd, kv, done, kv.length - done, this.#dataAt(slot) + done);
      if (n <= 0) return false;
      done += n;
    }
    return crc32(kv) === this.crcs[slot];
  }

  /** Nobody finds the slot after a restart. */
  erase(slot: number): void {
    this.#writeAll(this.#empty, this.#recordAt(slot));
  }

  sync(): void {
    this.disk.fdatasyncSync(this.fd);
  }

  #writeAll(bytes: Uint8Array, at: number): void {
    let done = 0;
    while (done < bytes.length) {
      const n = this.disk.writeSync(this.fd, bytes, done, bytes.length - done, at + done);
      if (n <= 0) throw new Error('the disk took nothing');
      done += n;
    }
  }

  #recordAt(slot: number): number {
    return HEADER_BYTES + slot * this.layout.recordBytes;
  }

  #dataAt(slot: number): number {
    return this.layout.dataAt + slot * this.layout.slotBytes;
  }
}
