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
import type { BatchEvents } from '../engine/batch.js';
import { Core } from '../engine/core.js';
import type { EngineRequest } from '../engine/request.js';
import type { LongmindError } from '../errors.js';
import type { TensorSource, TierStats, TokenLogprob } from '../types.js';
import { DelayedDevice } from './delayed-device.js';
import { AWAY, type DiskFaults, diskFaults, HERE, SILENT } from './disk-faults.js';
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
  /** Requests handed in, of all. */
  onProgress?: (done: number, total: number) => void;
}

interface Variant {
  name: string;
  config: Partial<Record<keyof EngineConfig, unknown>>;
  /** Blocks that a place on disk holds, and one in host memory; 0: there is none. */
  diskBlocks: number;
  hostBlocks: number;
  /** All sessions speak at once, or one after the other. */
  together: boolean;
  /** How the disk fails; `states` by turn, HERE if not given. */
  faults?: Partial<DiskFaults> & { states?: readonly number[] };
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
  /** What became of the disk; null: there is none. */
  tiers: TierStats | null;
  /** What the engine told whoever runs it. */
  problems: string[];
  seconds: number;
}

const FAULTY_DISK = new URL('./faulty-disk.js', import.meta.url).href;

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

/** Room for an eighth, over disks of so many blocks. */
export function diskVariants(o: HitMissOptions, sizes: readonly number[]): Variant[] {
  const eighth = variants(o).find((v) => v.name === 'an eighth, together')!;
  return sizes.map((diskBlocks) => ({ ...eighth, name: `an eighth, a disk of ${diskBlocks}`, diskBlocks }));
}

/** A disk that fails in each way there is. */
export function faultVariants(o: HitMissOptions): Variant[] {
  const one = blocksForOne(o, 64);
  const all = one * o.sessions;
  const config = { cacheBlockSeqLen: 64, maxPrefillTokenNum: 256, maxBatchSize: o.sessions };
  const v = (name: string, faults: Variant['faults'], together = true, diskBlocks = 2 * all): Variant => ({
    ...{ name, faults, together, diskBlocks, hostBlocks: 0 },
    config: { ...config, cacheMaxEntryCount: together ? Math.max(one + 1, Math.ceil(all / 8)) : one },
  });
  return [
    v('torn writes', { torn: 0.5 }),
    v('all writes torn, alone', { torn: 1 }, false),
    v('flipped bits', { flipped: 0.5 }),
    v('ENOSPC now and then', { full: 0.3 }),
    v('ENOSPC always', { full: 1 }),
    v('EIO now and then', { broken: 0.3 }),
    v('EIO always, alone', { broken: 1 }, false),
    v('slow', { delayMs: 60 }),
    v('away, and back', { states: [HERE, AWAY] }),
    v('no answer for a while', { states: [HERE, SILENT] }),
    v('no answer for a while, alone', { states: [HERE, SILENT] }, false),
    v('all of it', { torn: 0.1, full: 0.1, flipped: 0.1, broken: 0.1, delayMs: 2, states: [HERE, HERE, AWAY] }),
    v('all of it, a disk of one block', { torn: 0.2, full: 0.2, flipped: 0.2, broken: 0.2 }, true, 1),
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
  return (await runInFolder(1, model, variant, o, openDevice))[0]!;
}

/** The same conversations twice, the second time by an engine that finds on the disk what the first one left. */
export function runTwice(
  model: HitMissModel,
  variant: Variant,
  o: HitMissOptions,
  openDevice: (config: EngineConfig) => Device = openCpu,
): Promise<HitMissRun[]> {
  return runInFolder(2, model, variant, o, openDevice);
}

async function runInFolder(
  times: number,
  ...args: Parameters<typeof runOnce> extends [string, ...infer A] ? A : never
) {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-hit-miss-'));
  const runs: HitMissRun[] = [];
  try {
    while (runs.length < times) runs.push(await runOnce(dir, ...args));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return runs;
}

async function runOnce(
  dir: string,
  model: HitMissModel,
  variant: Variant,
  o: HitMissOptions,
  openDevice: (config: EngineConfig) => Device,
): Promise<HitMissRun> {
  const cacheDisk = variant.diskBlocks > 0 ? { dir, bytes: diskBytes(model.program, variant) } : null;
  const cacheHost = variant.hostBlocks * blockBytes(model.program, variant);
  const more = { cacheDisk, cacheHost, sessionLen: sessionLength(model, o) };
  const config = parseOptions(engineOptions, { ...variant.config, ...more });
  const faults = variant.faults ? diskFaults(variant.faults) : null;
  const data = {
    ...{ program: model.program, weights: model.weights, config, fingerprint: '', modelKey: 'the only model' },
    diskProgram: faults ? { script: FAULTY_DISK, data: faults } : undefined,
  };
  const heard = new Listener();
  const core = new Core(data, openDevice(config), heard, { problem: (p) => heard.problems.push(p) });
  const setDisk = (state: number) => {
    if (!faults) return;
    Atomics.store(faults.state, 0, state);
    Atomics.notify(faults.state, 0);
  };
  const started = performance.now();
  try {
    const onTurn = (turn: number) => setDisk(variant.faults?.states?.[turn] ?? HERE);
    const answers = await converse(core, variant, o, model.program.dims.vocab, heard.answers, onTurn);
    if (heard.failures.length > 0) throw heard.failures[0]!;
    core.batch.check();
    return { name: variant.name, answers, ...figures(core, heard, (performance.now() - started) / 1e3) };
  } finally {
    setDisk(HERE);
    await core.close();
  }
}

/** What an engine tells. */
class Listener implements BatchEvents {
  readonly answers = new Map<number, HitMissRun['answers'][number]>();
  readonly failures: LongmindError[] = [];
  readonly problems: string[] = [];

  token(request: EngineRequest, tokenId: number, logprob: TokenLogprob | null): void {
    const a = this.answers.get(request.id)!;
    a.tokens.push(tokenId);
    a.logprobs.push(logprob!.logprob);
  }

  finished(): void {}

  failed(_id: number, error: LongmindError): void {
    this.failures.push(error);
  }
}

function figures(core: Core, { problems }: Listener, seconds: number): Omit<HitMissRun, 'name' | 'answers'> {
  const { blocksEvicted, tokensRecomputed, tokensRestored, tiers } = core.cache.stats();
  const { preemptions } = core.batch.counters;
  const draftsAccepted = core.stats().drafts.accepted;
  return { blocksEvicted, tokensRecomputed, tokensRestored, draftsAccepted, preemptions, tiers, problems, seconds };
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
  { together, faults }: Variant,
  o: HitMissOptions,
  vocab: number,
  outcomes: Map<number, HitMissRun['answers'][number]>,
  onTurn: (turn: number) => void,
): Promise<HitMissRun['answers']> {
  const answers: HitMissRun['answers'] = [];
  // what is being brought back is waited for, what is being saved too: else it would be evicted unsaved
  const moves = () => core.batch.watching || core.cache.ordersWaiting() + core.cache.ordersOutstanding() > 0;
  const drain = async (turn: number) => {
    const answers = faults?.states?.[turn] !== SILENT;
    while (core.batch.step() || (answers ? moves() : !core.batch.idle)) await new Promise(setImmediate);
  };
  const randoms = Array.from({ length: o.sessions }, (_, s) => uniform(o.seed * 1000 + s));
  let id = 0;
  for (let turn = 0; turn < o.turns; turn++) {
    onTurn(turn);
    for (let s = 0; s < o.sessions; s++) {
      const random = randoms[s]!;
      const n = o.said[0] + Math.floor(random() * (o.said[1] - o.said[0] + 1));
      const said = Int32Array.from({ length: n }, () => Math.floor(random() * vocab));
      const answer = { tokens: [], logprobs: [] };
      outcomes.set(++id, answer);
      answers.push(answer);
      core.batch.submit(request(id, said, s, o.answered));
      if (!together) await drain(turn);
      o.onProgress?.(answers.length, o.turns * o.sessions);
    }
    await drain(turn);
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
