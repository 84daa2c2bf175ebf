/** Takes one file out of a wheel (a ZIP archive, PEP 427) and checks it against the wheel's own RECORD of sha256 sums. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createInflateRaw } from 'node:zlib';
import { errors } from '../errors.js';

interface WheelEntry {
  name: string;
  /** Uncompressed. */
  bytes: number;
  compressed: number;
  /** 0 = stored, 8 = deflated. */
  method: number;
  /** Of its local header. */
  offset: number;
}

const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const MAX_DIRECTORY = 64 * 2 ** 20;
const NONE = 0xffffffff;

/** The archive's table of contents. @throws Error what is wrong with it */
export async function readWheel(file: string): Promise<WheelEntry[]> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const { offset, length } = await findDirectory(handle, size);
    if (length > MAX_DIRECTORY || offset + length > size)
      throw new Error('its table of contents lies outside the file');
    return parseDirectory(await readAt(handle, offset, length));
  } finally {
    await handle.close();
  }
}

async function readAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, position);
  if (bytesRead !== length) throw new Error('it is truncated');
  return buffer;
}

async function findDirectory(handle: FileHandle, size: number): Promise<{ offset: number; length: number }> {
  const tail = await readAt(handle, Math.max(0, size - 65_557), Math.min(size, 65_557));
  let at = tail.length - 22;
  while (at >= 0 && tail.readUInt32LE(at) !== END) at--;
  if (at < 0) throw new Error('it is not a ZIP archive');
  const offset = tail.readUInt32LE(at + 16);
  const length = tail.readUInt32LE(at + 12);
  if (offset !== NONE && length !== NONE) return { offset, length };
  if (at < 20 || tail.readUInt32LE(at - 20) !== LOCATOR64) throw new Error('its ZIP64 table is missing');
  const record = await readAt(handle, Number(tail.readBigUInt64LE(at - 12)), 56);
  if (record.readUInt32LE(0) !== END64) throw new Error('its ZIP64 table is missing');
  return { offset: Number(record.readBigUInt64LE(48)), length: Number(record.readBigUInt64LE(40)) };
}

function parseDirectory(table: Buffer): WheelEntry[] {
  const entries: WheelEntry[] = [];
  for (let at = 0; at + 46 <= table.length && table.readUInt32LE(at) === CENTRAL; ) {
    const nameLength = table.readUInt16LE(at + 28);
    const extraLength = table.readUInt16LE(at + 30);
    const nameEnd = at + 46 + nameLength;
    if (nameEnd + extraLength > table.length) throw new Error('its table of contents is truncated');
    const entry: WheelEntry = {
      name: table.toString('utf8', at + 46, nameEnd),
      bytes: table.readUInt32LE(at + 24),
      compressed: table.readUInt32LE(at + 20),
      method: table.readUInt16LE(at + 10),
      offset: table.readUInt32LE(at + 42),
    };
    widen(entry, table.subarray(nameEnd, nameEnd + extraLength));
    entries.push(entry);
    at = nameEnd + extraLength + table.readUInt16LE(at + 32);
  }
  return entries;
}

/** Sizes of 4 GiB and more stand in an extra field, in this order, those that did not fit. */
function widen(entry: WheelEntry, extra: Buffer): void {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    let field = at + 4;
    for (const key of ['bytes', 'compressed', 'offset'] as const) {
      if (entry[key] === NONE && field + 8 <= extra.length) {
        entry[key] = Number(extra.readBigUInt64LE(field));
        field += 8;
      }
    }
  }
}

/** Writes the entry to `target`; returns its sha256, checked if the wheel says what it must be. */
export async function extract(
  wheel: string,
  entries: readonly WheelEntry[],
  name: string,
  target: string,
  onBytes: (done: number) => void,
  signal?: AbortSignal,
): Promise<string> {
  const entry = entries.find((e) => e.name === name);
  if (!entry) throw new Error(`it has no file '${name}'`);
  const hash = createHash('sha256');
  let done = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      hash.update(chunk);
      done += chunk.length;
      onBytes(done);
      next(done > entry.bytes ? new Error(`'${name}' is longer than it says`) : null, chunk);
    },
  });
  await pipe(wheel, entry, meter, createWriteStream(target), signal);
  if (done !== entry.bytes) throw new Error(`'${name}' has ${done} bytes instead of ${entry.bytes}`);
  const sha256 = hash.digest('hex');
  const want = await recorded(wheel, entries, name, signal);
  if (want !== null && want !== sha256) throw errors.checksum(name, want, sha256);
  return sha256;
}

async function pipe(
  wheel: string,
  entry: WheelEntry,
  meter: Transform,
  target: NodeJS.WritableStream,
  signal?: AbortSignal,
): Promise<void> {
  if (entry.method !== 0 && entry.method !== 8) throw new Error(`'${entry.name}' is packed by method ${entry.method}`);
  const handle = await open(wheel);
  const header = await readAt(handle, entry.offset, 30).finally(() => handle.close());
  if (header.readUInt32LE(0) !== LOCAL) throw new Error(`'${entry.name}' is not where the table of contents says`);
  const start = entry.offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
  const source = createReadStream(wheel, {
    start,
    end: start + Math.max(0, entry.compressed - 1),
    highWaterMark: 2 ** 20,
  });
  if (entry.method === 0) await pipeline(source, meter, target, { signal });
  else await pipeline(source, createInflateRaw(), meter, target, { signal });
}

/** The sum that RECORD has for the file, as hexadecimal digits. */
async function recorded(
  wheel: string,
  entries: readonly WheelEntry[],
  name: string,
  signal?: AbortSignal,
): Promise<string | null> {
  const record = entries.find((e) => /^[^/]+\.dist-info\/RECORD$/.test(e.name));
  if (!record || record.bytes > MAX_DIRECTORY) return null;
  const parts: Buffer[] = [];
  const collect = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      parts.push(chunk);
      next();
    },
  });
  const pass = new Transform({ transform: (chunk: Buffer, _encoding, next) => next(null, chunk) });
  collect.resume();
  await pipe(wheel, record, pass, collect, signal);
  for (const line of Buffer.concat(parts).toString('utf8').split(/\r?\n/)) {
    const m = /^"?(.*?)"?,sha256=([\w-]+),\d*$/.exec(line);
    if (m && m[1] === name) return Buffer.from(m[2]!, 'base64url').toString('hex');
  }
  return null;
}
