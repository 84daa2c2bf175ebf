/**
 * The disk tier's file: a header, one record a slot, then the slots. Nothing in it is ever trusted: whatever a crash, a full
 * disk or a flipped bit left behind has a wrong checksum and counts as empty. So no order of writing has to be kept, and
 * nothing has to be recovered: a slot is what its record says if both checksums are right.
 *
 *     0        header: magic, version, sizes, key of what may be stored here, CRC-32
 *     4096     records (slots × recordBytes): see SlotRecord
 *     dataAt   slots (slots × slotBytes): the KV of one block each
 *
 * Little endian.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { NAMESPACE_GROUP } from '../cache/types.js';

const MAGIC = 0x4c4d4b56; // 'LMKV'
const VERSION = 1;
export const HEADER_BYTES = 4096;
const PAGE = 4096;
/** Record: CRC of the rest u32, tokens u32, end u32, CRC of the KV u32, key 16, parent's key 16, namespace f64, stamp f64, token ids. */
const FIXED = 64;
const KEY_BYTES = 16;

/** KV that everybody may share; a namespace ≥ 0 is its owner's. */
export const SHARED = -1;

export interface DiskLayout {
  slots: number;
  /** Bytes of KV in a slot. */
  blockBytes: number;
  /** Tokens a block. */
  blockLen: number;
  recordBytes: number;
  /** Bytes from slot to slot. */
  slotBytes: number;
  dataAt: number;
  fileBytes: number;
  /** SHA-256 (hex) of model, KV layout and kernel family: another one's KV means nothing here. */
  key: string;
  /** By number of a group of namespaces (NAMESPACE_GROUP): hash of what makes its KV another. */
  groups: Readonly<Record<number, string>>;
}

/** What a slot holds: the KV of the last `tokens.length` tokens of a text that ends at position `end`. */
export interface SlotRecord {
  /** Names the whole text up to `end`, see `chainKey`. */
  key: Uint8Array;
  parentKey: Uint8Array;
  /** SHARED or an owner. */
  namespace: number;
  /** Position after the last token. */
  end: number;
  tokens: Int32Array;
  /** CRC-32 of the KV. */
  dataCrc: number;
  /** When it was written: of two that hold the same, the later one counts. */
  stamp: number;
}

/** As many slots as fit into `bytes`; 0: not one. */
export function planLayout(
  bytes: number,
  blockBytes: number,
  blockLen: number,
  key: string,
  groups: DiskLayout['groups'] = {},
): DiskLayout {
  const recordBytes = roundUp(FIXED + 4 * blockLen, 64);
  const slotBytes = roundUp(blockBytes, PAGE);
  const slots = Math.max(0, Math.floor((bytes - HEADER_BYTES - PAGE) / (slotBytes + recordBytes)));
  const dataAt = roundUp(HEADER_BYTES + slots * recordBytes, PAGE);
  const fileBytes = dataAt + slots * slotBytes;
  return { slots, blockBytes, blockLen, recordBytes, slotBytes, dataAt, fileBytes, key, groups };
}

function roundUp(n: number, to: number): number {
  return Math.ceil(n / to) * to;
}

export function encodeHeader(layout: DiskLayout): Buffer {
  const b = Buffer.alloc(HEADER_BYTES);
  b.writeUInt32LE(MAGIC, 4);
  b.writeUInt32LE(VERSION, 8);
  b.writeUInt32LE(layout.slots, 12);
  b.writeDoubleLE(layout.blockBytes, 16);
  b.writeUInt32LE(layout.blockLen, 24);
  b.write(layout.key, 32, 'latin1');
  b.writeUInt32LE(crc32(b.subarray(4)), 0);
  return b;
}

/** The file was made for just this. */
export function isHeaderOf(header: Uint8Array, layout: DiskLayout): boolean {
  return Buffer.compare(header, encodeHeader(layout)) === 0;
}

/**
 * Names a text by its tokens: the hash of its last block's tokens and of the name of what stands before. The first block
 * hangs below the name of its namespace.
 */
export function chainKey(parentKey: Uint8Array, tokens: Int32Array): Uint8Array {
  const hash = createHash('sha256').update(parentKey);
  hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
  return new Uint8Array(hash.digest().subarray(0, KEY_BYTES));
}

/** That of a group says what the group is: a record of one that is not here hangs on nothing. */
export function rootKey(namespace: number, groups: DiskLayout['groups'] = {}): Uint8Array {
  const group = Math.floor(namespace / NAMESPACE_GROUP);
  const hash = createHash('sha256').update(`namespace ${namespace}`);
  if (group > 0) hash.update(` of ${groups[group]}`);
  return new Uint8Array(hash.digest().subarray(0, KEY_BYTES));
}

export function encodeRecord(layout: DiskLayout, r: SlotRecord): Buffer {
  const b = Buffer.alloc(layout.recordBytes);
  b.writeUInt32LE(r.tokens.length, 4);
  b.writeUInt32LE(r.end, 8);
  b.writeUInt32LE(r.dataCrc, 12);
  b.set(r.key, 16);
  b.set(r.parentKey, 32);
  b.writeDoubleLE(r.namespace, 48);
  b.writeDoubleLE(r.stamp, 56);
  for (let i = 0; i < r.tokens.length; i++) b.writeInt32LE(r.tokens[i]!, FIXED + 4 * i);
  b.writeUInt32LE(crc32(b.subarray(4)), 0);
  return b;
}

/** null: empty, torn or damaged, or not a name of its text. */
export function decodeRecord(layout: DiskLayout, bytes: Uint8Array): SlotRecord | null {
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = b.readUInt32LE(4);
  const end = b.readUInt32LE(8);
  if (count < 1 || count > layout.blockLen || b.readUInt32LE(0) !== crc32(b.subarray(4))) return null;
  if (end < count || (end - count) % layout.blockLen !== 0) return null;
  const tokens = new Int32Array(count);
  for (let i = 0; i < count; i++) tokens[i] = b.readInt32LE(FIXED + 4 * i);
  const key = new Uint8Array(b.subarray(16, 16 + KEY_BYTES));
  const parentKey = new Uint8Array(b.subarray(32, 32 + KEY_BYTES));
  if (Buffer.compare(chainKey(parentKey, tokens), key) !== 0) return null;
  const namespace = b.readDoubleLE(48);
  return { key, parentKey, namespace, end, tokens, dataCrc: b.readUInt32LE(12), stamp: b.readDoubleLE(56) };
}
