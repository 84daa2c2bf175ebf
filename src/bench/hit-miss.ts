/**
 * The promise "hit or miss, the same bits", put to the test on a real model: the same conversations with room for all of them,
 * for an eighth, for one; alone and together; with other chunks, blocks and threads. Every token id and every
 * log-probability is compared with ===.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { EngineConfig } from '../config.js';
import { engineOptions, parseOptions } from '../config.js';
import { createCpuDevice } from '../device/cpu/index.js';
import { type Device, kvBlockBytes, type Program } from '../device/device.js';
import { Core } from '../engine/core.js';
import type { EngineRequest } from '../engine/request.js';
import type { LongmindError } from '../errors.js';
import type { TensorSource } from '../types.js';
import { DelayedDevice } from './delayed-device.js';
import { uniform } from './random.js';

export interface HitMissModel {
  program: Program;
  weights: TensorSource;
}

interface HitMissOptions {
  sessions: number;
  turns: number;
  said: [number, number];
  answered: number;
  seed: number;
}

interface Variant {
  name: string;
  config: Partial<Record<keyof EngineConfig, unknown>>;
  /** Blocks that a place on disk holds, and one in host memory; 0: there is none. */
  diskBlocks: number;
  hostBlocks: number;
  /** All sessions speak at once, or one after the other. */
  together: boolean;
}

export interface HitMissRun {
  name: string;
  /** By session and turn: token ids and log-probabilities. */
  answers: { tokens: number[]; logprobs: number[] }[];
  blocksEvicted: number;
  tokensRecomputed: number;
  tokensRestored: number;
  /** Tokens that were guessed right. */
  draftsAccepted: number;
  preemptions: number;
  seconds: number;
}

/** Room for one session of this load, in blocks. */
function blocksForOne(o: HitMissOptions, blockLen: number): number {
  return Math.ceil((o.turns * (o.said[1] + o.answered)) / blockLen) + 1;
}

/** `ownMemory`: the device's memory is not the host's, so host memory is one of the places below it. */
export function variants(o: HitMissOptions, ownMemory = false): Variant[] {
  const one = blocksForOne(o, 64);
  const all = one * o.sessions;
  const eighth = Math.max(one + 1, Math.ceil(all / 8));
  const base = { cacheBlockSeqLen: 64, maxPrefillTokenNum: 256, maxBatchSize: o.sessions };
  const v = (name: string, together: boolean, config: Variant['config'], diskBlocks = 0, hostBlocks = 0): Variant => ({
    name,
    diskBlocks,
    hostBlocks,
    together,
    config: { ...base, ...config },
  });
  return [
    v('room for all, together, no guesses', true, { cacheMaxEntryCount: all, speculation: 'off' }),
    v('room for all, together', true, { cacheMaxEntryCount: all }),
    v('room for all, alone', false, { cacheMaxEntryCount: all }),
    v('an eighth, together', true, { cacheMaxEntryCount: eighth }),
    v('room for one, together', true, { cacheMaxEntryCount: one }),
    v('room for one, alone', false, { cacheMaxEntryCount: one }),
    v('small odd chunks', true, { cacheMaxEntryCount: eighth, maxPrefillTokenNum: 37 }),
    v('blocks of 16, one thread', true, { cacheMaxEntryCount: 4 * eighth, cacheBlockSeqLen: 16, threads: 1 }),
    v('blocks of 128, no prefix cache', true, {
      cacheMaxEntryCount: Math.ceil(one / 2) + 2,
      cacheBlockSeqLen: 128,
      enablePrefixCaching: false,
    }),
    v('memory by and by', true, { cacheMaxEntryCount: eighth, cacheChunkSize: 0 }),
    v('room for one, a disk for all, alone', false, { cacheMaxEntryCount: one }, 2 * all),
    v('an eighth, a disk for all, together', true, { cacheMaxEntryCount: eighth }, 2 * all),
    v('an eighth, a disk for another', true, { cacheMaxEntryCount: eighth }, eighth),
    v('room for one, a disk of one block', false, { cacheMaxEntryCount: one }, 1),
    ...(ownMemory
      ? [
          v('an eighth, host for all, together', true, { cacheMaxEntryCount: eighth }, 0, 2 * all),
          v('room for one, host for all, alone', false, { cacheMaxEntryCount: one }, 0, 2 * all),
          v('an eighth, host for an eighth, disk', true, { cacheMaxEntryCount: eighth }, 2 * all, eighth),
        ]
      : []),
  ];
}

function openCpu({ threads, isa }: EngineConfig): Device {
  return createCpuDevice({ threads: threads || undefined, isa });
}

/** The CPU as a device that takes so many steps at a time, so that the engine runs ahead of it. */
export function openDelayed(depth: number): (config: EngineConfig) => Device {
  return (config) => (depth === 1 ? openCpu(config) : new DelayedDevice(openCpu(config), depth));
}

export async function runVariant(
  model: HitMissModel,
  variant: Variant,
  o: HitMissOptions,
  openDevice: (config: EngineConfig) => Device = openCpu,
): Promise<HitMissRun> {
  const dir = variant.diskBlocks > 0 ? mkdtempSync(path.join(tmpdir(), 'longmind-hit-miss-')) : null;
  const cacheDisk = dir && { dir, bytes: diskBytes(model.program, variant) };
  const cacheHost = variant.hostBlocks * blockBytes(model.program, variant);
  const more = { cacheDisk, cacheHost, sessionLen: sessionLength(model, o) };
  const config = parseOptions(engineOptions, { ...variant.config, ...more });
  const vocab = model.program.dims.vocab;
  const outcomes = new Map<number, HitMissRun['answers'][number]>();
  const failures: LongmindError[] = [];
  const data = { program: model.program, weights: model.weights, config, fingerprint: '', modelKey: 'the only model' };
  const core = new Core(data, openDevice(config), {
    token: (r, tokenId, logprob) => {
      const a = outcomes.get(r.id)!;
      a.tokens.push(tokenId);
      a.logprobs.push(logprob!.logprob);
    },
    finished: () => {},
    failed: (_, e) => failures.push(e),
  });
  const started = performance.now();
  try {
    const answers = await converse(core, variant.together, o, vocab, outcomes);
    if (failures.length > 0) throw failures[0]!;
    core.batch.check();
    const cache = core.cache.stats();
    return {
      name: variant.name,
      answers,
      blocksEvicted: cache.blocksEvicted,
      tokensRecomputed: cache.tokensRecomputed,
      tokensRestored: cache.tokensRestored,
      draftsAccepted: core.stats().drafts.accepted,
      preemptions: core.batch.counters.preemptions,
      seconds: (performance.now() - started) / 1e3,
    };
  } finally {
    await core.close();
    if (dir) rmSync(dir, { recursive: true, force: true });
  }
}

const blockLenOf = ({ config }: Variant): number => Number(config.cacheBlockSeqLen ?? 64);

function blockBytes({ dims: { layers, kvHeads, headDim } }: Program, variant: Variant): number {
  return kvBlockBytes({ layers, kvHeads, headDim, blockLen: blockLenOf(variant), bits: 16 });
}

/** Room for just so many blocks, their records and the header. */
function diskBytes(program: Program, variant: Variant): number {
  const { diskBlocks } = variant;
  const blockLen = blockLenOf(variant);
  const slot = Math.ceil(blockBytes(program, variant) / 4096) * 4096;
  return 8192 + diskBlocks * (slot + 64 + Math.ceil((4 * blockLen) / 64) * 64);
}

function sessionLength(model: HitMissModel, o: HitMissOptions): number {
  return Math.min(model.program.dims.contextLength, o.turns * (o.said[1] + o.answered) + 16);
}

async function converse(
  core: Core,
  together: boolean,
  o: HitMissOptions,
  vocab: number,
  outcomes: Map<number, HitMissRun['answers'][number]>,
): Promise<HitMissRun['answers']> {
  const answers: HitMissRun['answers'] = [];
  // what is being brought back is waited for, what is being saved too: else it would be evicted unsaved
  const drain = async () => {
    while (core.batch.step() || core.batch.watching || core.cache.ordersWaiting() + core.cache.ordersOutstanding() > 0)
      await new Promise(setImmediate);
  };
  const randoms = Array.from({ length: o.sessions }, (_, s) => uniform(o.seed * 1000 + s));
  let id = 0;
  for (let turn = 0; turn < o.turns; turn++) {
    for (let s = 0; s < o.sessions; s++) {
      const random = randoms[s]!;
      const n = o.said[0] + Math.floor(random() * (o.said[1] - o.said[0] + 1));
      const said = Int32Array.from({ length: n }, () => Math.floor(random() * vocab));
      const answer = { tokens: [], logprobs: [] };
      outcomes.set(++id, answer);
      answers.push(answer);
      core.batch.submit(request(id, said, s, o.answered));
      if (!together) await drain();
    }
    await drain();
  }
  return answers;
}

/** Every other session draws by seed, with penalties; the others are greedy. */
function request(id: number, tokens: Int32Array, session: number, maxTokens: number): EngineRequest {
  const drawn = session % 2 === 1;
  return {
    id,
    tokens,
    sessionId: `s${session}`,
    continuation: tokens,
    stopTokens: [],
    priority: 0,
    owner: 0,
    grammar: null,
    forkOf: null,
    limits: { maxTokens, minTokens: 0, stop: [], stopTokens: [], ignoreEos: true },
    sampling: {
      temperature: drawn ? 0.9 : 0,
      topK: drawn ? 50 : 0,
      topP: drawn ? 0.95 : 1,
      minP: 0,
      repetitionPenalty: drawn ? 1.1 : 1,
      presencePenalty: 0,
      frequencyPenalty: drawn ? 0.1 : 0,
      seed: 42 + session,
      logprobs: 1,
      logitBias: {},
    },
  };
}

/** Index of the first answer that differs in any bit, or -1. */
export function firstDifference(a: HitMissRun, b: HitMissRun): number {
  return a.answers.findIndex((x, i) => {
    const y = b.answers[i]!;
    const same = x.tokens.length === y.tokens.length && x.tokens.every((t, k) => t === y.tokens[k]);
    return !same || !x.logprobs.every((p, k) => p === y.logprobs[k]);
  });
}
