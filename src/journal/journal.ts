/**
 * Sessions that outlive the process: an append-only file of what their tokens are, written by a thread of its own, so
 * that the engine never waits for a disk. After a restart a session continues as if it had been evicted.
 *
 * What a crash loses: the process killed (kill -9) at any moment, at most what was not yet handed to the system, i.e. the
 * turn in flight; the machine losing power, with fsync 'turn' the same, with 'interval' the last second, with 'off'
 * whatever the system had not written. A torn or damaged end is cut off; what stands before it is kept.
 */
import { closeSync, lstatSync, renameSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { type FileLock, HeldBy, takeLock } from '../base/lock.js';
import { WorkerClient } from '../base/worker.js';
import { errors, LongmindError } from '../errors.js';
import { createPrivate, privateFolder, readPrivate } from './journal-file.js';
import {
  compacted,
  DROP,
  encode,
  encodeAdapter,
  encodeMark,
  encodeUnmark,
  type Replay,
  replay,
  type SavedMark,
  type SavedSession,
  WRITE,
} from './journal-format.js';
import type { JournalCalls, JournalMessage, JournalNews, JournalWorkerData } from './journal-worker.js';

export type { SavedMark, SavedSession } from './journal-format.js';

export interface JournalOptions {
  /** A folder for this journal alone; made if it is missing. In use by another one: `session_store_in_use`. */
  dir: string;
  /** Of model and tokenizer: token ids of another model mean nothing. */
  fingerprint: string;
  fsync?: 'turn' | 'interval' | 'off';
  /** Compaction starts beyond so many bytes, when the file has doubled. Default 4 MiB. */
  compactAbove?: number;
  /** Told when writing fails. What is appended from then on waits, and is written when the disk takes it again. */
  onFailure?: (error: Error) => void;
  /** Told when everything that waited was written. */
  onRecovery?: () => void;
}

export interface Journal {
  /** What the file held when it was opened, least recently used first. */
  readonly recovered: SavedSession[];
  /** Set if the file there was made with another model: it was put aside under this name. */
  readonly putAside: string | null;
  /** Bytes of a torn or damaged end that were cut off. */
  readonly cutBytes: number;
  /** The session's tokens from `from` on are now `ids` (none: it was rewound). Never waits. */
  append(sessionId: string, owner: number, from: number, ids: ArrayLike<number>): void;
  /** The session speaks with this adapter. Right before each `append` of its tokens from the first one on. */
  adapter(sessionId: string, owner: number, name: string): void;
  drop(sessionId: string, owner?: number): void;
  /** The session's last turn, whose tokens were appended, has a name. `before`: the mark before it in this session. */
  mark(sessionId: string, owner: number, mark: SavedMark, before?: SavedMark): void;
  unmark(sessionId: string, owner: number, name: string): void;
  /** Resolves when all before it is in the file (and on the disk, unless fsync is 'off'); rejects if writing failed. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

const FILE = 'sessions.journal';
const LOCK = 'sessions.lock';
const COMPACT_ABOVE = 4 * 2 ** 20;

export function createJournal(options: JournalOptions): Journal {
  const { dir, fingerprint, fsync = 'interval', compactAbove = COMPACT_ABOVE } = options;
  const file = path.join(dir, FILE);
  let lock: FileLock | null = null;
  try {
    privateFolder(dir, FILE);
    const taken = takeLock(path.join(dir, LOCK));
    if (taken instanceof HeldBy) throw errors.sessionStoreInUse(dir, taken.holder);
    lock = taken;
    const { old, putAside, bytes } = open(file, fingerprint);
    const { validBytes } = old;
    const data: JournalWorkerData = { file, fingerprint, fsync, validBytes, compactAbove, lock: lock.handle };
    return new FileJournal([...old.sessions.values()], putAside, bytes - validBytes, lock, data, options);
  } catch (e) {
    lock?.release();
    if (e instanceof LongmindError) throw e;
    throw errors.io(`the session store '${dir}' cannot be used`, (e as Error).message);
  }
}

/** Reads the file there is, or starts a new one. What is not this model's journal is never overwritten. */
function open(file: string, fingerprint: string): { old: Replay; putAside: string | null; bytes: number } {
  const header = compacted(fingerprint, [])[0]!;
  let putAside: string | null = null;
  if (lstatSync(file, { throwIfNoEntry: false })) {
    const content = readPrivate(file);
    const old = replay(content);
    if (old.fingerprint === fingerprint) return { old, putAside, bytes: content.length };
    // shorter than a header: its own writing was interrupted
    if (old.fingerprint !== null || content.length >= header.length) {
      putAside = `${file}.${Date.now()}.old`;
      renameSync(file, putAside);
    } else rmSync(file);
  }
  const fd = createPrivate(file);
  try {
    writeSync(fd, header);
  } finally {
    closeSync(fd);
  }
  return {
    old: { fingerprint, validBytes: header.length, sessions: new Map(), given: null },
    putAside,
    bytes: header.length,
  };
}

class FileJournal implements Journal {
  readonly #thread: WorkerClient<JournalCalls, null, JournalMessage, JournalNews>;
  /** Flushes that are waited for: this process stays for them. */
  #flushes = 0;
  #failure: Error | null = null;
  /** Its thread is gone. */
  #dead = false;
  #closed = false;

  constructor(
    readonly recovered: SavedSession[],
    readonly putAside: string | null,
    readonly cutBytes: number,
    private readonly lock: FileLock,
    data: JournalWorkerData,
    private readonly news: Pick<JournalOptions, 'onFailure' | 'onRecovery'>,
  ) {
    const script = new URL('./journal-worker.js', import.meta.url);
    this.#thread = new WorkerClient(
      script,
      { data, execArgv: [] },
      {
        onMessage: (m) =>
          m.type === 'recovery' ? this.#recover() : this.#fail(errors.io('the session store', m.message)),
        onEnd: ({ detail }) => {
          this.#dead = true;
          if (!this.#closed) this.#fail(errors.io('the session store', detail));
        },
      },
    );
    this.#thread.hold(false);
  }

  append(sessionId: string, owner: number, from: number, ids: ArrayLike<number>): void {
    this.#send(encode(WRITE, sessionId, owner, from, ids));
  }

  adapter(sessionId: string, owner: number, name: string): void {
    this.#send(encodeAdapter(sessionId, owner, name));
  }

  drop(sessionId: string, owner = 0): void {
    this.#send(encode(DROP, sessionId, owner, 0, []));
  }

  mark(sessionId: string, owner: number, mark: SavedMark, before?: SavedMark): void {
    this.#send(encodeMark(sessionId, owner, mark, before));
  }

  unmark(sessionId: string, owner: number, name: string): void {
    this.#send(encodeUnmark(sessionId, owner, name));
  }

  #send(record: Uint8Array<ArrayBuffer>): void {
    if (this.#closed || this.#dead) return;
    this.#thread.post({ type: 'record', record }, [record.buffer]);
  }

  async flush(): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (this.#closed) return;
    this.#flushes++;
    this.#thread.hold(true);
    try {
      await this.#thread.call('flush', null);
    } catch (e) {
      throw this.#failure ?? e;
    } finally {
      if (--this.#flushes === 0 && !this.#closed) this.#thread.hold(false);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    const flushed = this.flush();
    this.#closed = true;
    try {
      await flushed;
    } finally {
      this.#thread.hold(true);
      this.#thread.post({ type: 'close' });
      await this.#thread.ended;
      this.lock.release();
    }
  }

  #recover(): void {
    if (!this.#failure) return;
    this.#failure = null;
    this.news.onRecovery?.();
  }

  #fail(e: Error): void {
    if (this.#failure) return;
    this.#failure = e;
    this.news.onFailure?.(e);
  }
}
