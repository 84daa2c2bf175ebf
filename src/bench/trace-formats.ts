/** Reads the traces that `longmind bench trace` knows into one form. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { errors } from '../errors.js';

/** Requests in the order of their arrival. Block ids are dense: 0 … blocks - 1. */
export interface Trace {
  format: 'mooncake' | 'sessions';
  /** Requests of the same chain extend or edit one another's history. */
  chains: number;
  requests: TraceRequest[];
  blocks: number;
  accesses: number;
}

export interface TraceRequest {
  /** -1: it stands alone. */
  chain: number;
  /** Leading blocks that equal the chain's previous request. */
  keep: number;
  /** The blocks after those. */
  ids: Int32Array;
  /** Seconds. */
  time: number;
}

interface ArrivalOptions {
  /** Sessions start at random within so many hours; the requests inside keep their distance. */
  windowHours: number;
  seed: number;
}

export function readTrace(file: string, arrivals: ArrivalOptions): Trace {
  const lines = readLines(file);
  if (lines.length === 0) throw errors.invalidRequest(`'${file}' has no lines`);
  const first = parse(file, lines[0]!, 1);
  if (Array.isArray(first.hash_ids)) return readMooncake(file, lines);
  if (Array.isArray(first.requests)) return readSessions(file, lines, arrivals);
  throw errors.invalidRequest(`'${file}' is in no known format: lines need 'hash_ids' (Mooncake) or 'requests'`);
}

function readLines(file: string): string[] {
  return readText(file)
    .split('\n')
    .filter((l) => l.length > 0);
}

function readText(file: string): string {
  try {
    if (!file.endsWith('.xz')) return readFileSync(file, 'utf8');
    return execFileSync('xz', ['-dc', file], { encoding: 'utf8', maxBuffer: 2 ** 30 });
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    if (code === 'ENOENT' && file.endsWith('.xz')) {
      throw errors.io(`reading '${file}'`, "the file or the program 'xz' is missing: unpack it, or install xz-utils");
    }
    throw errors.io(`reading '${file}'`, message);
  }
}

function parse(file: string, line: string, number: number): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    throw errors.invalidRequest(`'${file}', line ${number}: not JSON`);
  }
}

/** Ids as they come → 0, 1, 2, … */
class Numbering {
  readonly #known = new Map<number, number>();

  get size(): number {
    return this.#known.size;
  }

  of(id: number): number {
    let n = this.#known.get(id);
    if (n === undefined) {
      n = this.#known.size;
      this.#known.set(id, n);
    }
    return n;
  }
}

function readMooncake(file: string, lines: string[]): Trace {
  const numbers = new Numbering();
  let accesses = 0;
  const requests = lines.map((line, i) => {
    const r = parse(file, line, i + 1) as { timestamp: number; hash_ids: number[] };
    accesses += r.hash_ids.length;
    return { chain: -1, keep: 0, ids: Int32Array.from(r.hash_ids, (id) => numbers.of(id)), time: r.timestamp / 1000 };
  });
  requests.sort((a, b) => a.time - b.time);
  return { format: 'mooncake', chains: 0, requests, blocks: numbers.size, accesses };
}

interface RawRequest {
  t: number;
  keep?: number;
  /** Runs: start, count, … */
  new?: number[];
  /** A sub-agent's own conversation, which starts at t. */
  requests?: RawRequest[];
}

function readSessions(file: string, lines: string[], { windowHours, seed }: ArrivalOptions): Trace {
  const trace: Trace = { format: 'sessions', chains: 0, requests: [], blocks: 0, accesses: 0 };
  const random = mulberry32(seed);
  lines.forEach((line, i) => {
    const session = parse(file, line, i + 1) as { requests: RawRequest[] };
    const numbers = new Numbering();
    const first = trace.blocks;
    addChain(trace, session.requests, random() * windowHours * 3600, (id) => first + numbers.of(id));
    trace.blocks += numbers.size;
  });
  trace.requests.sort((a, b) => a.time - b.time);
  return trace;
}

function addChain(trace: Trace, requests: RawRequest[], start: number, number: (id: number) => number): void {
  const chain = trace.chains++;
  let length = 0;
  for (const r of requests) {
    if (r.requests) {
      addChain(trace, r.requests, start + r.t, number);
      continue;
    }
    const runs = r.new ?? [];
    const ids: number[] = [];
    for (let k = 0; k < runs.length; k += 2) for (let n = 0; n < runs[k + 1]!; n++) ids.push(number(runs[k]! + n));
    const keep = Math.min(r.keep ?? 0, length);
    length = keep + ids.length;
    trace.accesses += length;
    trace.requests.push({ chain, keep, ids: Int32Array.from(ids), time: start + r.t });
  }
}

/** A small generator of random numbers in [0, 1), the same on every machine. */
export function mulberry32(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
