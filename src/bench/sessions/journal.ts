/**
 * What the journal of sessions costs. Two engines, one with it and one without, play the same load in slices of some turns each,
 * taking turns slice by slice, so that a drift of the machine meets both. A share of one percent is less than most machines'
 * noise: so the journal's own work is measured too, alone, and held against the processor time of the load.
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createJournal } from '../../journal/journal.js';
import { median, type OpenEngine, prepare } from './compare.js';
import type { Load, LoadOptions, Turn } from './load.js';
import { Player, warmUp } from './play.js';

export interface JournalOptions extends LoadOptions {
  sessionLen: number;
  /** How often the whole load is played. */
  rounds: number;
  /** Where the journals go for as long as they are measured; '' = the folder for temporary files. */
  folder: string;
  onProgress?: (what: string, done: number, total: number) => void;
}

export interface JournalResult {
  load: LoadOptions & { sessionLen: number };
  rounds: number;
  slices: number;
  seconds: { off: number; on: number };
  cpuSeconds: { off: number; on: number };
  journalBytes: number;
  /** Throughput with the journal over that without: all slices together, and the median of their ratios. */
  ratio: number;
  medianRatio: number;
  /** Standard error of the mean of the slices' ratios, the lowest and the highest. */
  ratioError: number;
  ratioSpread: [number, number];
  /** By processor time. */
  ratioCpu: number;
  alone: JournalAlone;
  sameAnswers: boolean;
}

/** The same records written by a journal without an engine beside it. */
export interface JournalAlone {
  /** The engine thread's time for one turn's record, microseconds: median. */
  appendMicroseconds: number;
  /** Processor time of the process for one turn's record, its way to the file and to the disk included. */
  cpuMicroseconds: number;
  /** That over the processor time of a turn without a journal. */
  share: number;
}

/** Turns that one engine plays before it is the other's turn. */
const SLICE = 16;

export async function compareJournal(open: OpenEngine, o: JournalOptions): Promise<JournalResult> {
  const { load, everything } = await prepare(open, o);
  const store = mkdtempSync(path.join(o.folder || tmpdir(), 'longmind-journal-'));
  try {
    const pairs: { off: number; on: number; offCpu: number; onCpu: number }[] = [];
    const digests = new Set<string>();
    let journalBytes = 0;
    for (let round = 0; round < o.rounds; round++) {
      const folder = path.join(store, String(round));
      const onProgress = (done: number, total: number) => o.onProgress?.(`round ${round + 1}`, done, total);
      const { slices, answers } = await playRound(open, load, everything, folder, onProgress);
      pairs.push(...slices);
      for (const digest of answers) digests.add(digest);
      journalBytes = readdirSync(folder).reduce((n, f) => n + statSync(path.join(folder, f)).size, 0);
    }
    const sum = (of: keyof (typeof pairs)[number]) => pairs.reduce((n, p) => n + p[of], 0);
    const ratios = pairs.map((p) => p.off / p.on);
    const turns = load.turns.length * o.rounds;
    const { onProgress: _, rounds, folder: __, ...options } = o;
    return {
      load: { ...options, sessionLen: load.sessionLen },
      rounds,
      slices: pairs.length,
      seconds: { off: sum('off'), on: sum('on') },
      cpuSeconds: { off: sum('offCpu'), on: sum('onCpu') },
      journalBytes,
      ratio: sum('off') / sum('on'),
      medianRatio: median(ratios),
      ratioError: standardError(ratios),
      ratioSpread: [Math.min(...ratios), Math.max(...ratios)],
      ratioCpu: sum('offCpu') / sum('onCpu'),
      alone: await journalAlone(load, path.join(store, 'alone'), sum('offCpu') / turns),
      sameAnswers: digests.size === 1,
    };
  } finally {
    rmSync(store, { recursive: true, force: true });
  }
}

async function playRound(
  open: OpenEngine,
  load: Load,
  blocks: number,
  folder: string,
  onProgress: (done: number, total: number) => void,
) {
  const own = { cacheMaxEntryCount: blocks, enablePrefixCaching: true, sessionLen: load.sessionLen };
  await using without = await open(own);
  await using journalled = await open({ ...own, sessionStore: folder });
  const off = new Player(without, load, { mode: 'session' });
  const on = new Player(journalled, load, { mode: 'session', onProgress });
  await warmUp(without);
  await warmUp(journalled);
  const slices: { off: number; on: number; offCpu: number; onCpu: number }[] = [];
  const answers: string[] = [];
  for (let at = 0; at < load.turns.length; at += SLICE) {
    const turns: Turn[] = load.turns.slice(at, at + SLICE);
    // off on, on off, off on …
    const first = await (slices.length % 2 === 0 ? off : on).measure(turns);
    const second = await (slices.length % 2 === 0 ? on : off).measure(turns);
    const [a, b] = slices.length % 2 === 0 ? [first, second] : [second, first];
    slices.push({ off: a.seconds, on: b.seconds, offCpu: a.cpuSeconds, onCpu: b.cpuSeconds });
    if (at + SLICE >= load.turns.length) answers.push(a.answersSha256, b.answersSha256);
  }
  return { slices, answers };
}

/** Writes what a load's turns write, one record after the other. */
async function journalAlone(load: Load, dir: string, turnCpuSeconds: number): Promise<JournalAlone> {
  const journal = createJournal({ dir, fingerprint: 'bench' });
  await journal.flush();
  const times: number[] = [];
  const cpu = process.cpuUsage();
  for (const { session, history, said, answered } of load.turns) {
    const ids = new Int32Array(said.length + answered).fill(session);
    const started = performance.now();
    journal.append(`bench-${session}`, 0, history, ids);
    times.push((performance.now() - started) * 1e3);
    await journal.flush();
  }
  const { user, system } = process.cpuUsage(cpu);
  await journal.close();
  const cpuMicroseconds = (user + system) / load.turns.length;
  const share = cpuMicroseconds / (turnCpuSeconds * 1e6);
  return { appendMicroseconds: median(times), cpuMicroseconds, share };
}

function standardError(values: readonly number[]): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((s, v) => s + (v - mean) ** 2, 0) / Math.max(1, values.length - 1);
  return Math.sqrt(variance / values.length);
}
