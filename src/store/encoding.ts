/** Token ids and marks as the servers keep them. */
import type { KeptMark, KeptSession } from './types.js';

/** Little endian, four bytes each. */
export function encodeIds(ids: Int32Array): Buffer {
  const out = Buffer.allocUnsafe(4 * ids.length);
  for (let i = 0; i < ids.length; i++) out.writeInt32LE(ids[i]!, 4 * i);
  return out;
}

function decodeIds(bytes: Buffer): Int32Array {
  const ids = new Int32Array(bytes.length >> 2);
  for (let i = 0; i < ids.length; i++) ids[i] = bytes.readInt32LE(4 * i);
  return ids;
}

/** One text a mark; a head that is the same as that of the mark before it is left out. */
export function encodeMarks(marks: readonly KeptMark[], before: KeptMark | null): string[] {
  return marks.map((mark, i) => {
    const { head, ...rest } = mark;
    const last = i === 0 ? before : marks[i - 1]!;
    return JSON.stringify(last && last.head === head ? rest : mark);
  });
}

export interface StoredSession {
  ids: Buffer;
  marks: readonly string[];
  adapter: string | null;
  used: number;
}

export function decodeSession({ ids, marks, adapter, used }: StoredSession): KeptSession {
  let head = '';
  const read = marks.map((text) => {
    const mark: KeptMark = { head, ...(JSON.parse(text) as Omit<KeptMark, 'head'>) };
    head = mark.head;
    return mark;
  });
  return { ids: decodeIds(ids), adapter, lastUsed: Math.floor(used), marks: read };
}
