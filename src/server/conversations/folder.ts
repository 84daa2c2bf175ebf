/**
 * Conversations in a folder, a file each: a line for its beginning and one for each change, with their checksums. What is
 * written is the system's before it is acknowledged (a process that is killed loses nothing) and the disk's within a second.
 * A torn or damaged end of a file is left out.
 */
import {
  closeSync,
  constants,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import { makeFolder } from '../../base/folders.js';
import { BEAT_MS, beat, type FileLock, HeldBy, takeLock } from '../../base/lock.js';
import { errors } from '../../index.js';
import { serverErrors } from '../errors.js';
import { apply, type Change, type Conversation } from './conversation.js';
import type { ConversationStore } from './conversations.js';

const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR, O_WRONLY } = constants;
const LINE_END = 0x0a;
const SYNC_MS = 1000;
/** A file of more than so many bytes, and four times what it had when it was written whole, is written whole again. */
const SLACK = 2 ** 16;
const NEW = '.new';
const NAME = /^conv_[0-9a-f]{32}\.jsonl$/;

/** `recovered`: what the folder holds, the least recently changed first. @throws conversation_store_in_use, io_error */
export function openFolder(dir: string): { store: ConversationStore; recovered: Conversation[] } {
  let lock: FileLock | null = null;
  try {
    makeFolder(dir, 0o700);
    const taken = takeLock(path.join(dir, 'conversations.lock'));
    if (taken instanceof HeldBy) throw serverErrors.conversationStoreInUse(dir, taken.holder);
    lock = taken;
    const found = readFolder(dir);
    return { store: new Folder(dir, lock, found), recovered: found.map((f) => f.conversation) };
  } catch (e) {
    lock?.release();
    throw ioError(e);
  }
}

interface Found {
  conversation: Conversation;
  bytes: number;
}

function readFolder(dir: string): Found[] {
  const all = readdirSync(dir);
  for (const name of all) if (name.endsWith(NEW)) rmSync(path.join(dir, name), { force: true });
  const files = all.filter((name) => NAME.test(name)).map((name) => path.join(dir, name));
  const times = new Map(files.map((file) => [file, statSync(file).mtimeMs]));
  files.sort((a, b) => times.get(a)! - times.get(b)!);
  return files.map(readFile).filter((f) => f !== null);
}

class Folder implements ConversationStore {
  /** Bytes of each file, and what they were when it was written whole. */
  readonly #sizes = new Map<string, { bytes: number; whole: number }>();
  /** Files that the disk may not have yet. */
  readonly #dirty = new Set<string>();
  readonly #beats: NodeJS.Timeout;
  #sync: NodeJS.Timeout | null = null;

  constructor(
    private readonly dir: string,
    private readonly lock: FileLock,
    found: readonly Found[],
  ) {
    for (const { conversation, bytes } of found) this.#sizes.set(conversation.id, { bytes, whole: bytes });
    this.#beats = setInterval(() => beat(lock.handle), BEAT_MS);
    this.#beats.unref();
  }

  create(c: Conversation): void {
    this.#replace(c);
  }

  change(c: Conversation, change: Change): void {
    const { bytes, whole } = this.#sizes.get(c.id)!;
    const line = lineOf(change);
    if (bytes + line.length > Math.max(SLACK, 4 * whole)) {
      const changed = { ...c, entries: [...c.entries] };
      apply(changed, change);
      this.#replace(changed);
      return;
    }
    this.#write(this.#fileOf(c), O_WRONLY | O_APPEND, bytes, line);
    this.#sizes.set(c.id, { bytes: bytes + line.length, whole });
  }

  delete(c: Conversation): void {
    try {
      rmSync(this.#fileOf(c), { force: true });
    } catch (e) {
      throw ioError(e);
    }
    this.#sizes.delete(c.id);
    this.#dirty.delete(this.#fileOf(c));
  }

  async close(): Promise<void> {
    clearInterval(this.#beats);
    if (this.#sync) clearTimeout(this.#sync);
    // the system has it all: what the disk makes of it, it says elsewhere
    await this.#syncAll().catch(() => {});
    this.lock.release();
  }

  #fileOf({ id }: Conversation): string {
    return path.join(this.dir, `${id}.jsonl`);
  }

  #replace(c: Conversation): void {
    const file = this.#fileOf(c);
    const next = `${file}${NEW}`;
    const line = lineOf(c);
    try {
      rmSync(next, { force: true });
      this.#write(next, O_WRONLY | O_CREAT | O_EXCL, 0, line);
      renameSync(next, file);
    } catch (e) {
      throw ioError(e);
    }
    this.#dirty.delete(next);
    this.#dirty.add(file);
    this.#sizes.set(c.id, { bytes: line.length, whole: line.length });
  }

  /** All of it, or nothing. */
  #write(file: string, flags: number, size: number, line: Uint8Array): void {
    try {
      const fd = openSync(file, flags | O_NOFOLLOW, 0o600);
      try {
        for (let at = 0; at < line.length; ) at += writeSync(fd, line, at);
      } catch (e) {
        ftruncateSync(fd, size);
        throw e;
      } finally {
        closeSync(fd);
      }
    } catch (e) {
      throw ioError(e);
    }
    this.#dirty.add(file);
    this.#sync ??= setTimeout(() => {
      this.#sync = null;
      void this.#syncAll().catch(() => {});
    }, SYNC_MS).unref();
  }

  async #syncAll(): Promise<void> {
    const files = [...this.#dirty];
    this.#dirty.clear();
    for (const file of files) {
      // Windows syncs what may be written alone
      const handle = await open(file, O_RDWR | O_NOFOLLOW).catch(() => null);
      await handle?.datasync().finally(() => handle.close());
    }
  }
}

function ioError(e: unknown): Error {
  const { code, message } = e as NodeJS.ErrnoException;
  return code !== undefined && 'errno' in (e as object)
    ? errors.io('the conversations cannot be kept', message)
    : (e as Error);
}

function lineOf(value: Conversation | Change): Buffer {
  const json = JSON.stringify(value);
  return Buffer.from(`${crc32(json).toString(16).padStart(8, '0')} ${json}\n`);
}

/** null: a line that was not written whole, or that changed since. */
function readLine(line: string): unknown {
  const json = line.slice(9);
  return Number.parseInt(line.slice(0, 8), 16) === crc32(json) ? JSON.parse(json) : null;
}

/** null: not even its beginning can be read. An end that cannot be read is cut off, so that changes can follow. */
function readFile(file: string): Found | null {
  const fd = openSync(file, O_RDWR | O_NOFOLLOW);
  try {
    const content = readFileSync(fd);
    const found = fold(content);
    if (found && found.bytes < content.length) ftruncateSync(fd, found.bytes);
    return found;
  } finally {
    closeSync(fd);
  }
}

function fold(content: Buffer): Found | null {
  let conversation: Conversation | null = null;
  let bytes = 0;
  for (let end = content.indexOf(LINE_END); end >= 0; end = content.indexOf(LINE_END, bytes)) {
    const value = readLine(content.toString('utf8', bytes, end));
    if (value === null) break;
    if (conversation === null) conversation = value as Conversation;
    else apply(conversation, value as Change);
    bytes = end + 1;
  }
  return conversation && { conversation, bytes };
}
