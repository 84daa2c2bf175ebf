/** Less KV cache, slower inference, same answers: one load at falling capacities. */
import { median, type OpenEngine, playOnce, prepare } from './compare.js';
import type { LoadOptions } from './load.js';
import type { SessionsResult } from './play.js';

export interface SweepOptions extends LoadOptions {
  sessionLen: number;
  /** Percent of the blocks that hold all sessions at their longest. */
  capacities: number[];
  rounds: number;
  onProgress?: (what: string, done: number, total: number) => void;
}

export interface SweepPoint {
  percent: number;
  blocks: number;
  /** Of the round with the median throughput. */
  run: SessionsResult;
  /** Throughput over that of the first capacity. */
  relative: number;
}

export interface SweepResult {
  load: LoadOptions & { sessionLen: number };
  blocksForAll: number;
  points: SweepPoint[];
  sameAnswers: boolean;
  answersSha256: string;
}

/** A capacity below what one request may need is raised to that; from 100% on there is room for whatever is left over too. */
export async function sweepSessions(open: OpenEngine, o: SweepOptions): Promise<SweepResult> {
  const { load, all, everything, one } = await prepare(open, o);
  const runs: SessionsResult[][] = o.capacities.map(() => []);
  const blocksAt = (percent: number) => (percent >= 100 ? everything : Math.max(one, Math.ceil((all * percent) / 100)));
  for (let round = 0; round < o.rounds; round++) {
    for (const [i, percent] of o.capacities.entries()) {
      const onProgress = (done: number, total: number) => o.onProgress?.(`${percent}% of the KV cache`, done, total);
      const arm = { prefixes: true, blocks: blocksAt(percent) };
      runs[i]!.push((await playOnce(open, load, arm, { mode: 'session', onProgress })).result);
    }
  }
  const first = median(runs[0]!.map((r) => r.seconds));
  const points = o.capacities.map((percent, i): SweepPoint => {
    const sorted = [...runs[i]!].sort((a, b) => a.seconds - b.seconds);
    const relative = first / median(sorted.map((r) => r.seconds));
    return { percent, blocks: blocksAt(percent), run: sorted[sorted.length >> 1]!, relative };
  });
  const digests = new Set(runs.flat().map((r) => r.answersSha256));
  const { onProgress: _, capacities: __, rounds: ___, ...options } = o;
  return {
    load: { ...options, sessionLen: load.sessionLen },
    blocksForAll: all,
    points,
    sameAnswers: digests.size === 1,
    answersSha256: runs[0]![0]!.answersSha256,
  };
}
