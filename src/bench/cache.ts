/** What the cache manager's operations cost per block, and what it keeps in memory. */
import { createCacheManager } from '../cache/index.js';
import type { Manager } from '../cache/manager.js';
import type { SequenceId } from '../cache/types.js';

const BLOCK = 64;
const LENGTH = 2048;
const PER_SEQUENCE = LENGTH / BLOCK;

export interface CacheBenchRow {
  blocks: number;
  policy: string;
  /** Nanoseconds a block. */
  reserveRelease: number;
  commit: number;
  match: number;
  evict: number;
  fork: number;
  /** Microseconds to resume a session of 2,048 tokens by its id, append one, and reserve. */
  resume: number;
  bytesPerBlock: number;
  bytesPerToken: number;
  /** JavaScript heap used by resuming a session, garbage included. */
  heapBytesPerOperation: number;
}

/** A permutation of 0 … n - 1, the same each time. */
function scrambled(n: number): Int32Array {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  let x = 12345;
  for (let i = n - 1; i > 0; i--) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    const k = x % (i + 1);
    [order[i], order[k]] = [order[k]!, order[i]!];
  }
  return order;
}

/** Nanoseconds of this process's own time: other work on the machine does not count (but for its use of the caches). */
const now = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
};
/** Sequences that are in the batch together, so that the clock is read seldom. */
const BATCH = 32;

class Bench {
  readonly cache: Manager;
  readonly count: number;
  readonly order: Int32Array;
  readonly text = new Int32Array(LENGTH + 1);
  readonly copies = new Int32Array(64);

  constructor(
    readonly blocks: number,
    readonly policy: 'lru',
  ) {
    this.count = Math.floor(blocks / PER_SEQUENCE);
    this.order = scrambled(this.count);
    this.cache = createCacheManager({
      blocks,
      blockLen: BLOCK,
      sessionLen: 2 * LENGTH,
      chunkSize: -1,
      policy,
      prefixCaching: true,
      maxSequences: 2 ** 22,
      maxTokens: 2 ** 31,
      grow: () => true,
    }) as Manager;
  }

  fill(i: number): Int32Array {
    for (let k = 0; k <= LENGTH; k++) this.text[k] = (Math.imul(i + 1, 2654435761) + k * 7919) & 0x1ffff;
    return this.text;
  }

  create(i: number): SequenceId {
    const id = this.cache.create();
    this.cache.append(id, this.fill(i));
    return id;
  }

  /** Takes all blocks. What is returned gives n of them back, from all over the pool. */
  hold(): (n: number) => void {
    const ids: SequenceId[] = [];
    const one = new Int32Array(1);
    for (let i = 0; i < this.blocks; i++) {
      const id = this.cache.create();
      this.cache.append(id, one);
      this.cache.match(id);
      this.cache.reserve(id, 1);
      ids.push(id);
    }
    const mixed = scrambled(ids.length);
    let next = 0;
    return (n) => {
      for (const to = next + n; next < to; next++) this.cache.release(ids[mixed[next]!]!, 'drop');
    };
  }
}

function measure(blocks: number, policy: 'lru'): CacheBenchRow {
  const b = new Bench(blocks, policy);
  const { cache, count, order } = b;
  const total = count * PER_SEQUENCE;
  const ids: SequenceId[] = [];
  for (let i = 0; i < count; i++) ids.push(b.create(i));

  // reserve and release without computing anything: the blocks are free again
  const cycle = (id: SequenceId) => {
    cache.match(id);
    cache.reserve(id, LENGTH);
    cache.release(id, 'keep');
  };
  const reserveRelease = median(3, () => each(order, (i) => cycle(ids[i]!))) / total;

  // from here on the blocks of a sequence lie anywhere
  const free = b.hold();
  let commit = 0;
  for (let k = 0; k < count; k += BATCH) {
    const batch = order.subarray(k, k + BATCH);
    free(PER_SEQUENCE * batch.length);
    for (const i of batch) cache.match(ids[i]!);
    for (const i of batch) cache.reserve(ids[i]!, LENGTH);
    commit += each(batch, (i) => cache.commit(ids[i]!, LENGTH));
    for (const i of batch) cache.release(ids[i]!, 'keep');
  }
  const arena = cache.arena.bytes;
  const tables = count * PER_SEQUENCE * 4;
  const resumeOne = (i: number) => {
    const id = ids[i]!;
    cache.match(id);
    cache.reserve(id, LENGTH + 1);
    cache.release(id, 'keep');
  };
  // one block must be free for the token to come
  cache.release(ids[0]!, 'drop');
  cache.tree.evict();
  ids[0] = ids[1]!;
  const again = order.filter((i) => i > 0);
  for (let i = 1; i < count; i++) cache.truncate(ids[i]!, LENGTH + 1);
  const resume = median(3, () => each(again, resumeOne)) / again.length / 1000;

  // the same texts under new names: found through the prefix index
  const match =
    median(3, () => {
      let t = 0;
      const sample = again.subarray(0, Math.min(again.length, 20_000));
      for (let k = 0; k < sample.length; k += BATCH) {
        const batch = Array.from(sample.subarray(k, k + BATCH), (i) => b.create(i));
        t += each(batch, (id) => cache.match(id));
        for (const id of batch) cache.release(id, 'drop');
      }
      return t;
    }) /
    (Math.min(again.length, 20_000) * PER_SEQUENCE);

  const some = again.subarray(0, Math.min(again.length, 10_000));
  const fork =
    median(3, () => each(some, (i) => cache.release(cache.fork(ids[i]!), 'drop'))) / (some.length * PER_SEQUENCE);

  // all are cached now: new texts push old ones out
  let evict = 0;
  for (let k = 0; k < some.length; k += BATCH) {
    const batch = Array.from(some.subarray(k, k + BATCH), (_, n) => b.create(count + k + n));
    for (const id of batch) cache.match(id);
    evict += each(batch, (id) => cache.reserve(id, LENGTH));
    for (const id of batch) cache.commit(id, LENGTH);
    for (const id of batch) cache.release(id, 'keep');
  }
  return {
    blocks,
    policy,
    reserveRelease,
    commit: commit / total,
    match,
    evict: evict / (some.length * PER_SEQUENCE),
    fork,
    resume,
    bytesPerBlock: (cache.pool.bytes + cache.tree.index.bytes + tables) / blocks,
    bytesPerToken: (arena.used - tables) / (count * (LENGTH + 1)),
    heapBytesPerOperation: heapGrowth(() => each(again, resumeOne), again.length),
  };
}

/** Small pools take little time, and the compiler disturbs: several measurements, of each figure the median. */
function typical(blocks: number, policy: 'lru'): CacheBenchRow {
  const row = measure(blocks, policy);
  if (blocks >= 100_000) return row;
  const all = [row, ...Array.from({ length: 6 }, () => measure(blocks, policy))];
  for (const [name, value] of Object.entries(row)) {
    if (typeof value !== 'number') continue;
    const values = all.map((r) => r[name as keyof CacheBenchRow] as number).sort((a, b) => a - b);
    Object.assign(row, { [name]: values[values.length >> 1] });
  }
  return row;
}

function each(order: ArrayLike<number>, f: (i: number) => void): number {
  const start = now();
  for (let k = 0; k < order.length; k++) f(order[k]!);
  return now() - start;
}

function median(times: number, f: () => number): number {
  return Array.from({ length: times }, f).sort((a, b) => a - b)[times >> 1]!;
}

/** Bytes of JavaScript heap that an operation leaves behind or throws away, garbage included. */
function heapGrowth(f: () => void, operations: number): number {
  f();
  const before = process.memoryUsage().heapUsed;
  f();
  return Math.max(0, process.memoryUsage().heapUsed - before) / operations;
}

/** Memory of evicted sessions of `tokens` tokens, measured as the process's resident set. */
function evictedSessions(sessions: number, tokens: number) {
  const start = process.memoryUsage().rss;
  const cache = createCacheManager({
    blocks: 16,
    blockLen: BLOCK,
    sessionLen: 4096,
    chunkSize: -1,
    policy: 'lru',
    prefixCaching: true,
    maxSequences: sessions,
    maxTokens: 2 ** 31,
    grow: () => true,
  }) as Manager;
  const ids = new Float64Array(sessions);
  const text = new Int32Array(tokens);
  let peak = 0;
  for (let i = 0; i < sessions; i++) {
    for (let k = 0; k < tokens; k++) text[k] = (Math.imul(i, 7919) + k) & 0x1ffff;
    ids[i] = cache.create();
    cache.append(ids[i]!, text);
    if (i % 10_000 === 0) peak = Math.max(peak, process.memoryUsage().rss);
  }
  const rss = process.memoryUsage().rss - start;
  return {
    sessions,
    tokens,
    rssGrowthMB: rss / 1e6,
    peakRssGrowthMB: Math.max(rss, peak - start) / 1e6,
    bytesPerSession: (cache.arena.bytes.used + cache.sequences.bytes + cache.runs.bytes) / sessions + 8,
  };
}

export interface CacheBenchOptions {
  blocks?: number[];
  policies?: 'lru'[];
  /** Evicted sessions of 100 tokens whose memory is measured. */
  sessions?: number;
}

export interface CacheBenchResult {
  /** A dependent read from 64 MiB in random order, in the same process: how fast (and how busy) the memory is. */
  randomReadNs: number;
  rows: CacheBenchRow[];
  evictedSessions: ReturnType<typeof evictedSessions>;
  targets: Record<string, number>;
}

export function runCacheBench(options: CacheBenchOptions = {}): CacheBenchResult {
  const { blocks = [1e3, 1e4, 1e5, 1e6], policies = ['lru'], sessions = 1_000_000 } = options;
  const evicted = evictedSessions(sessions, 100);
  // the first run is slow: functions are compiled when they have run often
  for (const policy of policies) for (let i = 0; i < 3; i++) measure(10_000, policy);
  return {
    randomReadNs: randomRead(),
    rows: policies.flatMap((policy) => blocks.map((n) => typical(n, policy))),
    evictedSessions: evicted,
    targets: {
      reserveRelease: 60,
      commit: 300,
      match: 400,
      resume: 3,
      bytesPerBlock: 48,
      bytesPerToken: 4,
      rssGrowthMB: 700,
    },
  };
}

function randomRead(): number {
  const n = 2 ** 24;
  const next = new Int32Array(n);
  const order = scrambled(n);
  for (let i = 0; i < n; i++) next[order[i]!] = order[(i + 1) % n]!;
  const reads = 1_000_000;
  let at = 0;
  const time = median(3, () => {
    const start = now();
    for (let i = 0; i < reads; i++) at = next[at]!;
    return now() - start;
  });
  return at < 0 ? 0 : time / reads;
}
