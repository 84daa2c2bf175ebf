/**
 * What sessions give: the same conversations by a stateless server (the history computed again each turn), with a prefix
 * cache alone, and with sessions; with KV for all of them and for a share. All in one process, one after the other.
 *
 * If the share h of the prompt tokens need not be computed, and prefill is the share f of a stateless server's time, then no
 * cache can make it faster than 1 / (1 − h·f) times: the ceiling that each row is held against. f is measured: the stateless
 * run's prompts once more, without the answers.
 */
import type { DiskSpace } from '../../config.js';
import { errors } from '../../errors.js';
import type { Engine } from '../../types.js';
import {
  blocksForAll,
  blocksForEverything,
  blocksForOne,
  type Load,
  type LoadOptions,
  planLoad,
  proseTokens,
} from './load.js';
import { type Answers, type Mode, type PlayOptions, play, type SessionsResult } from './play.js';

/** Engine options that a measurement sets itself. */
export interface OpenOptions {
  cacheMaxEntryCount?: number;
  enablePrefixCaching?: boolean;
  sessionLen: number;
  sessionStore?: string;
  cacheDisk?: DiskSpace;
}

/** Loads the model; what is not given here comes from the command line. */
export type OpenEngine = (options: OpenOptions) => Promise<Engine>;

export interface CompareOptions extends LoadOptions {
  /** Conversations end before they are longer. */
  sessionLen: number;
  /** Blocks of the small cache over those that hold all sessions at their longest. */
  share: number;
  /** Each round runs every row once; medians are reported. */
  rounds: number;
  onProgress?: (what: string, done: number, total: number) => void;
}

export interface CompareRow {
  name: string;
  capacityBlocks: number;
  /** Of the round with the median throughput. */
  run: SessionsResult;
  /** Throughput over the stateless server's in the same round: median, lowest, highest. */
  speedup: number;
  speedupSpread: [number, number];
  /** By processor time instead of the clock, for busy machines. */
  speedupCpu: number;
  /** Median TTFT of the fifth and later turns, as a multiple of the stateless server's. */
  ttftLateRatio: number;
  ceiling: number;
  shareOfCeiling: number;
}

export interface CompareResult {
  load: LoadOptions & { sessionLen: number; meanPrompt: number };
  /** Prefill's share of the stateless server's time, by the clock and by processor time. */
  prefillShare: number;
  prefillShareCpu: number;
  blocksForAll: number;
  rows: CompareRow[];
  sameAnswers: boolean;
  answersSha256: string;
}

interface Arm {
  name: string;
  mode: Mode;
  prefixes: boolean;
  blocks: number;
}

/** One round's results by arm, and the replay of the prompts. */
interface Round {
  runs: SessionsResult[];
  prefill: SessionsResult;
}

export async function compareSessions(open: OpenEngine, o: CompareOptions): Promise<CompareResult> {
  const { load, all, everything, one } = await prepare(open, o);
  const few = Math.max(one, Math.ceil(all * o.share));
  const percent = `${Math.round(100 * o.share)}%`;
  const arms: Arm[] = [
    { name: 'stateless', mode: 'history', prefixes: false, blocks: everything },
    { name: 'prefix cache, room for all', mode: 'history', prefixes: true, blocks: everything },
    { name: 'sessions, room for all', mode: 'session', prefixes: true, blocks: everything },
    { name: `prefix cache, room for ${percent}`, mode: 'history', prefixes: true, blocks: few },
    { name: `sessions, room for ${percent}`, mode: 'session', prefixes: true, blocks: few },
  ];
  const rounds: Round[] = [];
  let answers: Answers | undefined;
  for (let round = 0; round < o.rounds; round++) {
    const runs: SessionsResult[] = [];
    const once = async (arm: Arm, what: string, prefillOnly?: Answers) => {
      const onProgress = (done: number, total: number) => o.onProgress?.(what, done, total);
      return playOnce(open, load, arm, { mode: arm.mode, prefillOnly, onProgress });
    };
    // every other round in the opposite order, so that a drift of the machine favours nobody
    const order = round % 2 === 0 ? arms : [...arms].reverse();
    for (const arm of order) {
      const played = await once(arm, arm.name);
      runs[arms.indexOf(arm)] = played.result;
      answers ??= played.answers;
    }
    const prefill = await once(arms[0]!, 'prompts alone', answers);
    rounds.push({ runs, prefill: prefill.result });
  }
  return summary(o, load, all, arms, rounds);
}

/** The load, and the blocks that all sessions and the largest one need. */
export async function prepare(open: OpenEngine, o: LoadOptions & { sessionLen: number }) {
  await using engine = await open({ sessionLen: o.sessionLen });
  const { memory, sessionLen } = engine.info;
  const load = planLoad(o, sessionLen, await proseTokens(engine));
  return {
    load,
    all: blocksForAll(load, memory.blockLen),
    everything: blocksForEverything(load, memory.blockLen),
    one: blocksForOne(load, memory.blockLen),
    blockBytes: memory.blockBytes,
  };
}

export async function playOnce(
  open: OpenEngine,
  load: Load,
  { prefixes, blocks }: Pick<Arm, 'prefixes' | 'blocks'>,
  how: PlayOptions,
  more: Partial<OpenOptions> = {},
) {
  await using engine = await open({
    cacheMaxEntryCount: blocks,
    enablePrefixCaching: prefixes,
    sessionLen: load.sessionLen,
    ...more,
  });
  return await play(engine, load, how);
}

function summary(o: CompareOptions, load: Load, all: number, arms: Arm[], rounds: Round[]): CompareResult {
  const share = (by: 'seconds' | 'cpuSeconds') => median(rounds.map((r) => r.prefill[by] / r.runs[0]![by]));
  const prefillShare = share('seconds');
  const rows = arms.map(({ name, blocks }, a): CompareRow => {
    const speedups = rounds.map((r) => r.runs[0]!.seconds / r.runs[a]!.seconds);
    const speedup = median(speedups);
    const run = rounds.map((r) => r.runs[a]!).sort((x, y) => x.seconds - y.seconds)[rounds.length >> 1]!;
    const ceiling = 1 / (1 - run.hitRate * prefillShare);
    return {
      name,
      capacityBlocks: blocks,
      run,
      speedup,
      speedupSpread: [Math.min(...speedups), Math.max(...speedups)],
      speedupCpu: median(rounds.map((r) => r.runs[0]!.cpuSeconds / r.runs[a]!.cpuSeconds)),
      ttftLateRatio: median(rounds.map((r) => r.runs[a]!.ttftLate.p50 / r.runs[0]!.ttftLate.p50)),
      ceiling,
      shareOfCeiling: speedup / ceiling,
    };
  });
  const digests = new Set(rounds.flatMap((r) => r.runs.map((x) => x.answersSha256)));
  const { sessions, turns, arrivals, clients, rate, said, answered, seed } = o;
  return {
    load: {
      ...{ sessions, turns, arrivals, clients, rate, said, answered, seed },
      sessionLen: load.sessionLen,
      meanPrompt: rounds[0]!.runs[0]!.promptTokens / load.turns.length,
    },
    prefillShare,
    prefillShareCpu: share('cpuSeconds'),
    blocksForAll: all,
    rows,
    sameAnswers: digests.size === 1,
    answersSha256: rounds[0]!.runs[0]!.answersSha256,
  };
}

export function median(values: readonly number[]): number {
  if (values.length === 0) throw errors.invalidRequest('the median of nothing');
  const s = [...values].sort((a, b) => a - b);
  const mid = s.length >> 1;
  return s.length % 2 === 1 ? s[mid]! : (s[mid - 1]! + s[mid]!) / 2;
}
