/** What a disk below the device gives where KV is short: the same load with evicted KV computed again, and brought back. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { median, type OpenEngine, playOnce, prepare } from './compare.js';
import type { LoadOptions } from './load.js';
import type { SessionsResult } from './play.js';

export interface DiskOptions extends LoadOptions {
  /** Conversations end before they are longer. */
  sessionLen: number;
  /** Blocks of the KV cache over those that hold all sessions at their longest. */
  share: number;
  /** Each round runs both, every other one in the opposite order. */
  rounds: number;
  /** Where the disk's file goes for as long as it is measured; '' = the folder for temporary files. */
  folder: string;
  onProgress?: (what: string, done: number, total: number) => void;
}

export interface DiskRow {
  name: string;
  capacityBlocks: number;
  /** Of the round with the median throughput. */
  run: SessionsResult;
  /** Throughput over that without a disk in the same round: median, lowest, highest. */
  speedup: number;
  speedupSpread: [number, number];
  /** By processor time. */
  speedupCpu: number;
}

export interface DiskResult {
  load: LoadOptions & { sessionLen: number };
  blocksForAll: number;
  diskBytes: number;
  rows: DiskRow[];
  sameAnswers: boolean;
  answersSha256: string;
}

/** Records, header and slots that are a whole number of pages take a little more than the KV. */
const ROOM = 1.1;
const NAMES = ['computed again', 'from the disk'] as const;

export async function compareDisk(open: OpenEngine, o: DiskOptions): Promise<DiskResult> {
  const { load, all, everything, one, blockBytes } = await prepare(open, o);
  const arm = { prefixes: true, blocks: Math.max(one, Math.ceil(all * o.share)) };
  const diskBytes = Math.ceil(ROOM * everything * blockBytes) + 2 ** 16;
  const rounds: SessionsResult[][] = [];
  for (let round = 0; round < o.rounds; round++) {
    const runs: SessionsResult[] = [];
    for (const which of round % 2 === 0 ? [0, 1] : [1, 0]) {
      const onProgress = (done: number, total: number) => o.onProgress?.(NAMES[which]!, done, total);
      const dir = mkdtempSync(path.join(o.folder || tmpdir(), 'longmind-sessions-'));
      try {
        const more = which === 1 ? { cacheDisk: { dir, bytes: diskBytes } } : {};
        runs[which] = (await playOnce(open, load, arm, { mode: 'session', onProgress }, more)).result;
      } finally {
        rmSync(dir, { recursive: true, force: true });
      }
    }
    rounds.push(runs);
  }
  const { sessions, turns, arrivals, clients, rate, said, answered, seed } = o;
  const digests = new Set(rounds.flat().map((r) => r.answersSha256));
  return {
    load: { sessions, turns, arrivals, clients, rate, said, answered, seed, sessionLen: load.sessionLen },
    blocksForAll: all,
    diskBytes,
    rows: NAMES.map((name, a) => row(name, a, arm.blocks, rounds)),
    sameAnswers: digests.size === 1,
    answersSha256: rounds[0]![0]!.answersSha256,
  };
}

function row(name: string, a: number, capacityBlocks: number, rounds: readonly SessionsResult[][]): DiskRow {
  const speedups = rounds.map((r) => r[0]!.seconds / r[a]!.seconds);
  return {
    ...{ name, capacityBlocks },
    run: rounds.map((r) => r[a]!).sort((x, y) => x.seconds - y.seconds)[rounds.length >> 1]!,
    speedup: median(speedups),
    speedupSpread: [Math.min(...speedups), Math.max(...speedups)],
    speedupCpu: median(rounds.map((r) => r[0]!.cpuSeconds / r[a]!.cpuSeconds)),
  };
}
