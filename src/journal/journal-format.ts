/**
 * The journal's file: records of (length u32, CRC-32C u32, payload), little endian. The first names the format and the
 * fingerprint; each later one says what became of a session: its tokens from some position on, or that it is gone.
 */

const HEADER = 0;
export const WRITE = 1;
export const DROP = 2;
/** Before each payload. */
const FRAME = 8;
/** type u8, owner f64, id length u16, from u32 */
const FIXED = 15;
const MAX_PAYLOAD = 2 ** 30;

export interface SavedSession {
  sessionId: string;
  owner: number;
  ids: Int32Array;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0x82f63b78 : n >>> 1;
  return n;
});

export function crc32c(bytes: Uint8Array): number {
  let c = -1;
  for (let i = 0; i < bytes.length; i++) c = TABLE[(c ^ bytes[i]!) & 255]! ^ (c >>> 8);
  return ~c >>> 0;
}

/** A whole record; its checksum is filled in by seal(), which may run on another thread. */
export function encode(
  type: number,
  sessionId: string,
  owner: number,
  from: number,
  ids: ArrayLike<number>,
): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(sessionId);
  const record = new Uint8Array(FRAME + FIXED + name.length + 4 * ids.length);
  const view = new DataView(record.buffer);
  view.setUint32(0, record.length - FRAME, true);
  view.setUint8(FRAME, type);
  view.setFloat64(FRAME + 1, owner, true);
  view.setUint16(FRAME + 9, name.length, true);
  view.setUint32(FRAME + 11, from, true);
  record.set(name, FRAME + FIXED);
  for (let i = 0; i < ids.length; i++) view.setInt32(FRAME + FIXED + name.length + 4 * i, ids[i]!, true);
  return record;
}

export function seal(record: Uint8Array): Uint8Array {
  new DataView(record.buffer, record.byteOffset).setUint32(4, crc32c(record.subarray(FRAME)), true);
  return record;
}

export interface Replay {
  /** null: not a journal, or one of another format. */
  fingerprint: string | null;
  /** Bytes up to the end of the last whole record. */
  validBytes: number;
  /** By key(), in the order of last use. */
  sessions: Map<string, SavedSession>;
}

function key(sessionId: string, owner: number): string {
  return `${owner}:${sessionId}`;
}

/** Reads what is whole; the first torn or damaged record ends it. */
export function replay(file: Uint8Array): Replay {
  const result: Replay = { fingerprint: null, validBytes: 0, sessions: new Map() };
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let at = 0;
  while (at + FRAME + FIXED <= file.length) {
    const length = view.getUint32(at, true);
    const end = at + FRAME + length;
    if (length < FIXED || length > MAX_PAYLOAD || end > file.length) break;
    if (crc32c(file.subarray(at + FRAME, end)) !== view.getUint32(at + 4, true)) break;
    if (!apply(result, view, at + FRAME, end, at === 0)) break;
    at = end;
    result.validBytes = at;
  }
  return result;
}

function apply(result: Replay, view: DataView, at: number, end: number, first: boolean): boolean {
  const type = view.getUint8(at);
  const owner = view.getFloat64(at + 1, true);
  const nameLength = view.getUint16(at + 9, true);
  const from = view.getUint32(at + 11, true);
  const idsAt = at + FIXED + nameLength;
  if (idsAt > end || (end - idsAt) % 4 !== 0) return false;
  const name = new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + at + FIXED, nameLength));
  if (first !== (type === HEADER)) return false;
  if (type === HEADER) {
    result.fingerprint = name;
    return true;
  }
  const k = key(name, owner);
  const old = result.sessions.get(k);
  result.sessions.delete(k);
  if (type === DROP) return true;
  if (type !== WRITE) return false;
  // whole, but it continues what is not here: that session is lost, the others are not
  if (from > (old?.ids.length ?? 0)) return true;
  const ids = new Int32Array(from + (end - idsAt) / 4);
  if (old) ids.set(old.ids.subarray(0, from));
  for (let i = from, p = idsAt; p < end; i++, p += 4) ids[i] = view.getInt32(p, true);
  result.sessions.set(k, { sessionId: name, owner, ids });
  return true;
}

/** A file with nothing but what is alive. */
export function compacted(fingerprint: string, sessions: Iterable<SavedSession>): Uint8Array[] {
  const records: Uint8Array[] = [seal(encode(HEADER, fingerprint, 0, 0, []))];
  for (const s of sessions) records.push(seal(encode(WRITE, s.sessionId, s.owner, 0, s.ids)));
  return records;
}
