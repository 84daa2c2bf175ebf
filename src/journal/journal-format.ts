/**
 * The journal's file: records of (length u32, CRC-32C u32, payload), little endian. The first names the format and the
 * fingerprint; each later one says what became of a session: its tokens from some position on, or that it is gone.
 */

const HEADER = 0;
export const WRITE = 1;
export const DROP = 2;
/** A turn of the session that ends at `from` has a name; its data is JSON. */
const MARK = 3;
/** A turn of the session has its name no longer. */
const UNMARK = 4;
/** The session speaks with an adapter; its data is JSON. Stands right before its tokens from the first one on. */
const ADAPTER = 5;
/** Before each payload. */
const FRAME = 8;
/** type u8, owner f64, id length u16, from u32 */
const FIXED = 15;
const MAX_PAYLOAD = 2 ** 30;

export interface SavedSession {
  sessionId: string;
  owner: number;
  ids: Int32Array;
  /** Name of the adapter that it speaks with. */
  adapter: string | null;
  /** In the order of their ends. */
  marks: SavedMark[];
}

/** A turn that can be gone on from by its name: a checkpoint of the engine. */
export interface SavedMark {
  /** '' if it has none any more. */
  name: string;
  prompt: number;
  end: number;
  cachedTokens: number;
  finishReason: string;
  note: string;
  head: string;
  /** The session is there for its marks alone. */
  own: boolean;
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

/** A record whose data is text. */
function encodeText(type: number, sessionId: string, owner: number, from: number, text: string) {
  const bytes = new TextEncoder().encode(text);
  // data is counted in words
  const padded = new Uint8Array(4 * Math.ceil(bytes.length / 4)).fill(0x20);
  padded.set(bytes);
  return encode(type, sessionId, owner, from, new Int32Array(padded.buffer));
}

/** `before`: the session's mark before it, whose head is not written again. */
export function encodeMark(sessionId: string, owner: number, mark: SavedMark, before: SavedMark | undefined) {
  const { end, head, ...rest } = mark;
  const text = JSON.stringify(head === before?.head ? rest : { ...rest, head });
  return encodeText(MARK, sessionId, owner, end, text);
}

export function encodeUnmark(sessionId: string, owner: number, name: string) {
  return encodeText(UNMARK, sessionId, owner, 0, JSON.stringify({ name }));
}

export function encodeAdapter(sessionId: string, owner: number, adapter: string) {
  return encodeText(ADAPTER, sessionId, owner, 0, JSON.stringify({ adapter }));
}

export function seal(record: Uint8Array): Uint8Array {
  new DataView(record.buffer, record.byteOffset).setUint32(4, crc32c(record.subarray(FRAME)), true);
  return record;
}

interface Given {
  sessionId: string;
  owner: number;
  adapter: string;
}

export interface Replay {
  /** null: not a journal, or one of another format. */
  fingerprint: string | null;
  /** Bytes up to the end of the last record that is whole, and that nothing more belongs to. */
  validBytes: number;
  /** By key(), in the order of last use. */
  sessions: Map<string, SavedSession>;
  /** Of the last record, if it gives a session an adapter: its tokens come next. */
  given: Given | null;
}

function key(sessionId: string, owner: number): string {
  return `${owner}:${sessionId}`;
}

/** Reads what is whole; the first torn or damaged record ends it. */
export function replay(file: Uint8Array): Replay {
  const result: Replay = { fingerprint: null, validBytes: 0, sessions: new Map(), given: null };
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let at = 0;
  while (at + FRAME + FIXED <= file.length) {
    const length = view.getUint32(at, true);
    const end = at + FRAME + length;
    if (length < FIXED || length > MAX_PAYLOAD || end > file.length) break;
    if (crc32c(file.subarray(at + FRAME, end)) !== view.getUint32(at + 4, true)) break;
    if (!apply(result, view, at + FRAME, end, at === 0)) break;
    at = end;
    // an adapter without the tokens that it is for was torn off them
    if (!result.given) result.validBytes = at;
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
  const { given } = result;
  result.given = null;
  const old = result.sessions.get(k);
  result.sessions.delete(k);
  if (type === DROP) return true;
  if (type === MARK || type === UNMARK) {
    // of a session that is lost
    if (!old) return true;
    result.sessions.set(k, old);
    const text = new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + idsAt, end - idsAt));
    return applyMark(old, type, from, text);
  }
  if (type === ADAPTER) {
    const text = new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + idsAt, end - idsAt));
    const adapter = adapterIn(text);
    if (adapter === null) return false;
    result.given = { sessionId: name, owner, adapter };
    if (old) result.sessions.set(k, old);
    return true;
  }
  if (type !== WRITE) return false;
  // whole, but it continues what is not here: that session is lost, the others are not
  if (from > (old?.ids.length ?? 0)) return true;
  const ids = new Int32Array(from + (end - idsAt) / 4);
  if (old) ids.set(old.ids.subarray(0, from));
  for (let i = from, p = idsAt; p < end; i++, p += 4) ids[i] = view.getInt32(p, true);
  const marks = old?.marks.filter((m) => m.end <= from) ?? [];
  // one that begins anew is another session
  const begun = given && key(given.sessionId, given.owner) === k ? given.adapter : null;
  const adapter = from === 0 ? begun : (old?.adapter ?? null);
  result.sessions.set(k, { sessionId: name, owner, ids, adapter, marks });
  return true;
}

function adapterIn(text: string): string | null {
  try {
    const { adapter } = JSON.parse(text) as { adapter?: unknown };
    return typeof adapter === 'string' ? adapter : null;
  } catch {
    return null;
  }
}

function applyMark(session: SavedSession, type: number, end: number, text: string): boolean {
  let data: Partial<SavedMark>;
  try {
    data = JSON.parse(text) as Partial<SavedMark>;
  } catch {
    return false;
  }
  if (type === UNMARK) {
    const { marks } = session;
    for (const m of marks) if (m.name === data.name) m.name = '';
    while (marks.at(-1)?.name === '') marks.pop();
    return true;
  }
  const before = session.marks.at(-1);
  const mark = {
    name: '',
    prompt: 0,
    cachedTokens: 0,
    finishReason: 'stop',
    note: '',
    head: before?.head ?? '',
    own: false,
    ...data,
    end,
  };
  if (mark.prompt <= end && end <= session.ids.length && end > (before?.end ?? 0)) session.marks.push(mark);
  return true;
}

/** A file with nothing but what is alive. */
export function compacted(
  fingerprint: string,
  sessions: Iterable<SavedSession>,
  given: Given | null = null,
): Uint8Array[] {
  const records: Uint8Array[] = [seal(encode(HEADER, fingerprint, 0, 0, []))];
  for (const s of sessions) {
    if (s.adapter !== null) records.push(seal(encodeAdapter(s.sessionId, s.owner, s.adapter)));
    records.push(seal(encode(WRITE, s.sessionId, s.owner, 0, s.ids)));
    s.marks.forEach((m, i) => {
      records.push(seal(encodeMark(s.sessionId, s.owner, m, s.marks[i - 1])));
    });
  }
  if (given) records.push(seal(encodeAdapter(given.sessionId, given.owner, given.adapter)));
  return records;
}
