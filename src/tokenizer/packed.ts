/**
 * Lists of strings as their UTF-8: a vocabulary is looked up, hashed and sent to another process without ever becoming
 * hundreds of thousands of string objects.
 */
import type { Metadata, Strings } from './types.js';

export interface PackedStrings {
  bytes: Uint8Array;
  /** (length) first byte of each. */
  starts: Int32Array;
  /** (length) bytes of each. */
  lengths: Int32Array;
}

export type PackedMetadata = [key: string, value: unknown][];

/** A list that keeps its bytes gives them away as they are. */
export function packStrings(list: Strings): PackedStrings {
  const { bytes, starts, lengths } = list as Partial<PackedStrings>;
  if (bytes && starts && lengths) return { bytes, starts, lengths };
  const texts = Array.from({ length: list.length }, (_, i) => Buffer.from(list.at(i) ?? '', 'utf8'));
  const sizes = Int32Array.from(texts, (t) => t.length);
  const begins = new Int32Array(sizes.length);
  for (let i = 1; i < begins.length; i++) begins[i] = begins[i - 1]! + sizes[i - 1]!;
  return { bytes: Buffer.concat(texts), starts: begins, lengths: sizes };
}

/** One string of the list. */
export function unpackString(list: PackedStrings, index: number): string {
  const start = list.starts[index]!;
  return viewOf(list.bytes).toString('utf8', start, start + list.lengths[index]!);
}

const viewOf = (b: Uint8Array): Buffer => Buffer.from(b.buffer as ArrayBuffer, b.byteOffset, b.byteLength);

/** Only what tokenizers and chat templates read. */
export function packMetadata(metadata: Metadata): PackedMetadata {
  return [...metadata]
    .filter(([key]) => key.startsWith('tokenizer.'))
    .map(([key, value]) => [key, isStrings(value) ? { ...packStrings(value), packed: true } : value]);
}

export function unpackMetadata(packed: PackedMetadata): Metadata {
  return new Map(packed.map(([key, value]) => [key, isPacked(value) ? asStrings(value) : value]));
}

function isStrings(value: unknown): value is Strings {
  const list = value as Partial<Strings> | null;
  return typeof value === 'object' && typeof list?.at === 'function' && typeof list.at(0) === 'string';
}

function isPacked(value: unknown): value is PackedStrings {
  return typeof value === 'object' && value !== null && (value as { packed?: unknown }).packed === true;
}

function asStrings(list: PackedStrings): Strings & PackedStrings {
  const { bytes, starts, lengths } = list;
  const { length } = starts;
  return { bytes, starts, lengths, length, at: (i) => (i in starts ? unpackString(list, i) : undefined) };
}
