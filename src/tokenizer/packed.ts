/** Sends a file's tokenizer metadata to another thread: string lists go as their bytes, in memory that both share. */
import type { Metadata, Strings } from './types.js';

interface PackedStrings {
  packed: true;
  bytes: Uint8Array;
  starts: Int32Array;
  lengths: Int32Array;
}

export type PackedMetadata = [key: string, value: unknown][];

/** Only what tokenizers and chat templates read. */
export function packMetadata(metadata: Metadata): PackedMetadata {
  return [...metadata]
    .filter(([key]) => key.startsWith('tokenizer.'))
    .map(([key, value]) => [key, isStrings(value) ? packStrings(value) : value]);
}

export function unpackMetadata(packed: PackedMetadata): Metadata {
  return new Map(packed.map(([key, value]) => [key, isPacked(value) ? unpackStrings(value) : value]));
}

function isStrings(value: unknown): value is Strings {
  const list = value as Partial<Strings> | null;
  return typeof value === 'object' && typeof list?.at === 'function' && typeof list.at(0) === 'string';
}

function isPacked(value: unknown): value is PackedStrings {
  return typeof value === 'object' && value !== null && (value as Partial<PackedStrings>).packed === true;
}

function packStrings(list: Strings): PackedStrings {
  const given = list as Partial<PackedStrings>;
  if (given.bytes && given.starts && given.lengths) {
    const { bytes, starts, lengths } = given;
    return { packed: true, bytes: shared(bytes), starts, lengths };
  }
  const texts = Array.from({ length: list.length }, (_, i) => Buffer.from(list.at(i) ?? '', 'utf8'));
  const lengths = Int32Array.from(texts, (t) => t.length);
  const starts = new Int32Array(list.length);
  for (let i = 1; i < starts.length; i++) starts[i] = starts[i - 1]! + lengths[i - 1]!;
  return { packed: true, bytes: shared(Buffer.concat(texts)), starts, lengths };
}

function shared(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}

function unpackStrings(packed: PackedStrings): Strings {
  const { bytes, starts, lengths } = packed;
  const buffer = Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
  return {
    length: starts.length,
    at: (i) => (i in starts ? buffer.toString('utf8', starts[i]!, starts[i]! + lengths[i]!) : undefined),
  };
}
