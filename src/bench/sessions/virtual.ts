/**
 * The comparison of compare.ts in virtual time: the real scheduler, sessions and cache manager over a device that only counts
 * what its steps would take. It tells what scheduling and eviction lose, apart from kernels and from what else runs on the
 * machine, and does so for many seeds in seconds.
 */
import { engineOptions, greedySampling, parseOptions } from '../../config.js';
import type { Program, Step } from '../../device/device.js';
import { createNullDevice } from '../../device/null/index.js';
import { Core } from '../../engine/core.js';
import type { EngineRequest, FinishedRequest } from '../../engine/request.js';
import {
  blocksForAll,
  blocksForEverything,
  blocksForOne,
  type Load,
  type LoadOptions,
  planLoad,
  type Turn,
} from './load.js';
import type { Answers, Mode } from './play.js';

/** Milliseconds of a step; `context` is in thousands (1,024) of tokens before the one computed. */
export interface StepCost {
  fixed: number;
  perToken: number;
  perTokenContext: number;
  /** A sequence that computes one token. */
  perDecode: number;
  perDecodeContext: number;
}

/** SmolLM2-135M Q4_1 on 2 cores of a Zen 4 EPYC: fitted to the fastest of 12 runs of each of 39 kinds of steps. */
export const SMOLLM2_STEP: StepCost = {
  fixed: 2.8,
  perToken: 0.377,
  perTokenContext: 0.375,
  perDecode: 0.1,
  perDecodeContext: 0.86,
};

export interface VirtualOptions extends LoadOptions {
  sessionLen: number;
  share: number;
  policy: 'lru';
  cost: StepCost;
  /** Tokens of a step. */
  budget: number;
}

interface VirtualRow {
  name: string;
  capacityBlocks: number;
  seconds: number;
  hitRate: number;
  recomputedTokens: number;
  preemptions: number;
  speedup: number;
  ceiling: number;
  shareOfCeiling: number;
}

interface VirtualResult {
  seconds: number;
  prefillShare: number;
  rows: VirtualRow[];
  sameAnswers: boolean;
}

const BLOCK_LEN = 64;
const VOCAB = 50_000;

/** Rows: prefix cache and sessions, with room for all and for a share. */
export function virtualComparison(o: VirtualOptions): VirtualResult {
  const text = Int32Array.from({ length: 20_011 }, (_, i) => (i * 7919) % VOCAB);
  const load = planLoad(o, o.sessionLen, text);
  const everything = blocksForEverything(load, BLOCK_LEN);
  const few = Math.max(blocksForOne(load, BLOCK_LEN), Math.ceil(o.share * blocksForAll(load, BLOCK_LEN)));
  const stateless = run(load, o, { mode: 'history', prefixes: false, blocks: everything });
  const prefill = run(load, o, {
    mode: 'history',
    prefixes: false,
    blocks: everything,
    prefillOnly: stateless.answers,
  });
  const prefillShare = prefill.seconds / stateless.seconds;
  const runs = [
    { name: 'prefix cache, room for all', mode: 'history' as const, blocks: everything },
    { name: 'sessions, room for all', mode: 'session' as const, blocks: everything },
    { name: 'prefix cache, room for a share', mode: 'history' as const, blocks: few },
    { name: 'sessions, room for a share', mode: 'session' as const, blocks: few },
  ].map((arm) => ({ arm, ...run(load, o, { ...arm, prefixes: true }) }));
  const expected = JSON.stringify(stateless.answers);
  return {
    seconds: stateless.seconds,
    prefillShare,
    sameAnswers: runs.every((r) => JSON.stringify(r.answers) === expected),
    rows: runs.map(({ arm, answers: _, ...r }): VirtualRow => {
      const speedup = stateless.seconds / r.seconds;
      const ceiling = 1 / (1 - r.hitRate * prefillShare);
      return { name: arm.name, capacityBlocks: arm.blocks, ...r, speedup, ceiling, shareOfCeiling: speedup / ceiling };
    }),
  };
}

interface Arm {
  mode: Mode;
  prefixes: boolean;
  blocks: number;
  prefillOnly?: Answers;
}

function run(load: Load, o: VirtualOptions, arm: Arm) {
  let ms = 0;
  const { core, drawn, finished } = openCore(load, o, arm, (step) => {
    ms += costOf(step, o.cost);
  });
  const answers: Answers = load.peaks.map(() => []);
  const histories: number[][] = load.peaks.map(() => []);
  const left = [...load.turns];
  const live = new Map<number, Turn>();
  const busy = new Set<number>();
  let prompt = 0;
  let cached = 0;
  let id = 0;
  for (;;) {
    while (live.size < o.clients) {
      const at = left.findIndex((t) => !busy.has(t.session));
      if (at < 0) break;
      const [turn] = left.splice(at, 1) as [Turn];
      busy.add(turn.session);
      live.set(++id, turn);
      drawn.set(id, []);
      core.batch.submit(requestOf(id, turn, histories, arm, core));
    }
    if (live.size === 0) break;
    core.batch.step();
    for (const f of finished.splice(0)) {
      const turn = live.get(f.id)!;
      const tokens = drawn.get(f.id)!;
      live.delete(f.id);
      busy.delete(turn.session);
      prompt += f.promptTokens;
      cached += f.cachedTokens;
      answers[turn.session]![turn.index] = tokens;
      histories[turn.session]!.push(...(arm.prefillOnly?.[turn.session]?.[turn.index] ?? tokens));
    }
  }
  core.batch.check();
  const { tokensRecomputed } = core.cache.stats();
  const { preemptions } = core.batch.counters;
  return { seconds: ms / 1e3, hitRate: cached / prompt, recomputedTokens: tokensRecomputed, preemptions, answers };
}

function costOf(step: Step, c: StepCost): number {
  let ms = c.fixed;
  for (let r = 0; r < step.rowCount; r++) {
    const n = step.rowStart[r + 1]! - step.rowStart[r]!;
    const position = step.positions[step.rowStart[r]!]!;
    if (n === 1) ms += c.perDecode + (c.perDecodeContext * position) / 1024;
    else ms += n * (c.perToken + (c.perTokenContext * (position + n / 2)) / 1024);
  }
  return ms;
}

function openCore(load: Load, o: VirtualOptions, arm: Arm, onStep: (step: Step) => void) {
  const drawn = new Map<number, number[]>();
  const finished: FinishedRequest[] = [];
  const config = parseOptions(engineOptions, {
    device: 'null',
    cacheMaxEntryCount: arm.blocks,
    cacheBlockSeqLen: BLOCK_LEN,
    cachePolicy: o.policy,
    enablePrefixCaching: arm.prefixes,
    maxPrefillTokenNum: o.budget,
  });
  const shape = { layers: 1, dim: 16, heads: 1, kvHeads: 1, headDim: 16, ffDim: 16, vocab: VOCAB };
  const program: Program = { dims: { ...shape, contextLength: load.sessionLen }, buffers: [], ops: [] };
  const data = { program, weights: { path: '', tensors: new Map() }, config, fingerprint: '', modelKey: '' };
  const core = new Core(data, createNullDevice({ thorough: false, onStep }), {
    token: (r, token) => drawn.get(r.id)!.push(token),
    finished: (f) => finished.push(f),
    failed: (_, e) => {
      throw e;
    },
  });
  return { core, drawn, finished };
}

function requestOf(id: number, turn: Turn, histories: number[][], arm: Arm, core: Core): EngineRequest {
  const sessionId = arm.mode === 'session' ? `s${turn.session}` : null;
  if (turn.number === 1) {
    histories[turn.session] = [];
    if (sessionId && turn.index > 0) core.batch.sessions.delete(sessionId, 0);
  }
  const history = histories[turn.session]!;
  history.push(...turn.said);
  const tokens = Int32Array.from(sessionId ? turn.said : history);
  return {
    id,
    tokens,
    continuation: sessionId ? tokens : null,
    sessionId,
    stopTokens: [],
    priority: 0,
    owner: 0,
    grammar: null,
    forkOf: null,
    limits: {
      maxTokens: arm.prefillOnly ? 1 : turn.answered,
      minTokens: 0,
      stop: [],
      stopTokens: [],
      ignoreEos: true,
    },
    sampling: greedySampling,
  };
}
