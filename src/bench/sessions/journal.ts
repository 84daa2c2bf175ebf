/** What the journal of sessions costs: the same load with and without it, in turns. */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { median, type OpenEngine, playOnce, prepare } from './compare.js';
import type { LoadOptions } from './load.js';
import type { SessionsResult } from './play.js';

export interface JournalOptions extends LoadOptions {
  sessionLen: number;
  /** Pairs of runs. */
  rounds: number;
  /** Where the journals go for as long as they are measured; '' = the folder for temporary files. */
  folder: string;
  onProgress?: (what: string, done: number, total: number) => void;
}

interface Side {
  /** Answered tokens a second: median, lowest, highest of the runs. */
  outputRate: number;
  spread: [number, number];
  cpuSeconds: number;
}

export interface JournalResult {
  load: LoadOptions & { sessionLen: number };
  rounds: number;
  off: Side;
  on: Side;
  journalBytes: number;
  /** Throughput with the journal over that without, pair by pair: median, lowest, highest. */
  ratio: number;
  ratioSpread: [number, number];
  /** How far the runs without it differ among themselves: (highest − lowest) / median. The ratio means no more than that. */
  noise: number;
  /** Processor time without it over that with it: median of the pairs. */
  ratioCpu: number;
  sameAnswers: boolean;
}

export async function compareJournal(open: OpenEngine, o: JournalOptions): Promise<JournalResult> {
  const { load, everything } = await prepare(open, o);
  const pairs: { off: SessionsResult; on: SessionsResult }[] = [];
  let journalBytes = 0;
  const run = async (store: string) => {
    const what = store ? 'with the journal' : 'without';
    const onProgress = (done: number, total: number) => o.onProgress?.(what, done, total);
    const arm = { prefixes: true, blocks: everything };
    return (await playOnce(open, load, arm, { mode: 'session', onProgress }, { sessionStore: store })).result;
  };
  const journalled = async () => {
    const folder = mkdtempSync(path.join(o.folder || tmpdir(), 'longmind-journal-'));
    try {
      const result = await run(folder);
      journalBytes = readdirSync(folder).reduce((n, f) => n + statSync(path.join(folder, f)).size, 0);
      return result;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
  for (let round = 0; round < o.rounds; round++) {
    // who goes first alternates, so that a drift of the machine favours nobody
    if (round % 2 === 0) {
      const off = await run('');
      pairs.push({ off, on: await journalled() });
    } else {
      const on = await journalled();
      pairs.push({ off: await run(''), on });
    }
  }
  const { onProgress: _, rounds, folder: __, ...options } = o;
  const ratios = pairs.map((p) => p.off.seconds / p.on.seconds);
  const off = sideOf(pairs.map((p) => p.off));
  return {
    load: { ...options, sessionLen: load.sessionLen },
    rounds,
    off,
    on: sideOf(pairs.map((p) => p.on)),
    journalBytes,
    ratio: median(ratios),
    ratioSpread: spread(ratios),
    noise: (off.spread[1] - off.spread[0]) / off.outputRate,
    ratioCpu: median(pairs.map((p) => p.off.cpuSeconds / p.on.cpuSeconds)),
    sameAnswers: new Set(pairs.flatMap((p) => [p.off.answersSha256, p.on.answersSha256])).size === 1,
  };
}

const spread = (values: readonly number[]): [number, number] => [Math.min(...values), Math.max(...values)];

function sideOf(runs: SessionsResult[]): Side {
  const rates = runs.map((r) => r.outputRate);
  return { outputRate: median(rates), spread: spread(rates), cpuSeconds: median(runs.map((r) => r.cpuSeconds)) };
}
