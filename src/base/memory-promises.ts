/**
 * What the engines of this user have said that they will take of this machine's memory, and have not taken yet. The system
 * knows only what is taken: two engines that start one after the other would both count on the same free memory.
 *
 * One small file for each engine in the user's cache folder; those of processes that have ended count nothing and are
 * removed by whoever finds them. Of processes elsewhere (another machine, boot or container) nothing is known here.
 */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { makeFolder, temporaryCache, userCache, writable } from './folders.js';
import { lives, parseIdentity, placeOfProcesses, thisProcess } from './identity.js';
import { withLockSync } from './lock.js';

/** A limit of memory: the machine's, or that of a control group. */
export interface MemoryLevel {
  /** Bytes that can be had within it now. */
  free: number;
  /** The process has its memory from it. */
  holds(pid: number): boolean;
}

/** Memory for an engine: `free` bytes, of which others were promised `promised`. */
export interface Room {
  free: number;
  promised: number;
}

/** What others have promised themselves. */
interface Promised {
  pid: number;
  bytes: number;
}

interface PromisesOptions {
  /** Where the promises are. null: there is no such place, and nobody knows of anybody. */
  folder: string | null;
  /** Of this engine; another one that promises under the same name takes its place. */
  name: string;
  levels: () => MemoryLevel[];
  /** Told once, when promises cannot be read or made. */
  onProblem?: (problem: string) => void;
}

/** Looking and promising takes milliseconds: a lock that did not change for so long was left by a thread that ended. */
const PATIENCE_MS = 3000;

/** The folder of the promises; null where no folder of this user can be written. */
export function promisesFolder(env: NodeJS.ProcessEnv): string | null {
  const folder = folderIn(userCache(env));
  if (folder !== null) return folder;
  try {
    return folderIn(temporaryCache(env));
  } catch {
    return null;
  }
}

/** A folder of this user alone. */
function folderIn(cache: string): string | null {
  const folder = path.join(cache, 'memory');
  if (!writable(cache)) return null;
  makeFolder(folder, 0o700);
  return writable(folder) ? folder : null;
}

/** For who ends an engine's thread that could not do it itself. */
export function withdrawPromise(folder: string | null, name: string): void {
  if (folder === null) return;
  try {
    rmSync(fileOf(folder, name), { force: true });
  } catch {
    // it counts until the process ends
  }
}

const fileOf = (folder: string, name: string) => path.join(folder, `${name}.json`);

export class MemoryPromises {
  /** Bytes by part of the engine. */
  readonly #parts = new Map<string, number>();
  #told = false;

  constructor(private readonly options: PromisesOptions) {}

  /** What can be had now. Never throws. */
  room(): Room {
    return roomIn(this.options.levels(), this.#others());
  }

  /**
   * `decide` sees what can be had and promises of it (with `promise`); no other engine looks meanwhile.
   * @throws what `decide` throws, nothing else
   */
  settle<T>(decide: (room: Room) => T): T {
    let outcome: { value: T } | { error: unknown } | undefined;
    const work = () => {
      try {
        outcome = { value: decide(this.room()) };
      } catch (error) {
        outcome = { error };
      }
    };
    const { folder } = this.options;
    try {
      if (folder !== null) {
        makeFolder(folder, 0o700);
        withLockSync(path.join(folder, 'lock'), { patienceMs: PATIENCE_MS, mustBeat: true }, () => false, work);
      }
    } catch (e) {
      this.#problem(e);
    }
    if (!outcome) work();
    if ('error' in outcome!) throw outcome.error;
    return (outcome as unknown as { value: T }).value;
  }

  /** A part of this engine will take so many bytes that it has not taken yet. Never throws. */
  promise(part: string, bytes: number): void {
    const { folder, name } = this.options;
    if (this.#parts.get(part) === bytes) return;
    this.#parts.set(part, bytes);
    if (folder === null) {
      this.#problem(new Error('no folder of this user can be written'));
      return;
    }
    const sum = [...this.#parts.values()].reduce((a, b) => a + b, 0);
    const file = fileOf(folder, name);
    try {
      writeFileSync(`${file}.new`, `${JSON.stringify({ ...thisProcess(), bytes: sum })}\n`, { mode: 0o600 });
      renameSync(`${file}.new`, file);
    } catch (e) {
      this.#problem(e);
    }
  }

  withdraw(): void {
    withdrawPromise(this.options.folder, this.options.name);
  }

  #others(): Promised[] {
    const { folder, name } = this.options;
    if (folder === null) return [];
    const here = placeOfProcesses();
    const found: Promised[] = [];
    try {
      for (const entry of readdirSync(folder)) {
        const file = path.join(folder, entry);
        if (!entry.endsWith('.json') || file === fileOf(folder, name)) continue;
        const promised = read(file, here);
        if (promised === 'dead') rmSync(file, { force: true });
        else if (promised) found.push(promised);
      }
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code !== 'ENOENT') this.#problem(e);
    }
    return found;
  }

  #problem(e: unknown): void {
    if (this.#told) return;
    this.#told = true;
    this.options.onProblem?.(
      `other longmind processes cannot be told how much memory this one will take (${(e as Error).message}): ` +
        'together they may promise more than there is',
    );
  }
}

/** null: nothing that counts here. */
function read(file: string, here: string): Promised | 'dead' | null {
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (e) {
    // it was withdrawn in the meantime
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw e;
  }
  const who = parseIdentity(content);
  if (who === null || who.where !== here) return null;
  if (!lives(who)) return 'dead';
  const { bytes } = JSON.parse(content) as { bytes?: unknown };
  return typeof bytes === 'number' && bytes >= 0 && Number.isFinite(bytes) ? { pid: who.pid, bytes } : null;
}

/** The tightest of the limits, each with what the processes within it were promised. */
function roomIn(levels: readonly MemoryLevel[], others: readonly Promised[]): Room {
  let tightest: Room = { free: Number.POSITIVE_INFINITY, promised: 0 };
  for (const level of levels) {
    const promised = others.filter((o) => level.holds(o.pid)).reduce((sum, o) => sum + o.bytes, 0);
    if (level.free - promised < tightest.free - tightest.promised) tightest = { free: level.free, promised };
  }
  return tightest;
}
