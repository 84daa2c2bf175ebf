/** A batch over the null device, driven step by step. */

import type { Grammar } from 'longmind-grammar';
import { createCacheManager } from '../../src/cache/index.js';
import type { CacheManager } from '../../src/cache/types.js';
import { greedySampling } from '../../src/config.js';
import type { Device, Program } from '../../src/device/device.js';
import { createNullDevice, type NullDeviceOptions } from '../../src/device/null/index.js';
import { PersistentBatch } from '../../src/engine/batch.js';
import type { EngineRequest, FinishedRequest } from '../../src/engine/request.js';
import type { Session } from '../../src/engine/sessions.js';
import { DraftModel } from '../../src/engine/speculation/draft-model.js';
import { MAX_DRAFTING } from '../../src/engine/speculation/drafter.js';
import type { LongmindError } from '../../src/errors.js';
import { Mover, TierMemory } from '../../src/tiers/index.js';
import type { TokenLogprob } from '../../src/types.js';
import { MemoryDisk } from './memory-disk.js';

/** Steps in flight where a test does not say. See ahead.test.ts, which runs the tests of the batch at 2. */
let depth = 1;
export function setDepth(n: number): void {
  depth = n;
}

export const VOCAB = 1000;
export const EOS = 2;

export interface Outcome {
  tokens: number[];
  logprobs: (TokenLogprob | null)[];
  finished: FinishedRequest | null;
  error: LongmindError | null;
}

export interface TestBatchOptions extends NullDeviceOptions {
  blocks?: number;
  blockLen?: number;
  sessionLen?: number;
  maxRows?: number;
  speculation?: 'auto' | 'off' | 'lookup';
  /** A draft model over another null device: the same one as the model (default), unless these options say otherwise. */
  draft?: NullDeviceOptions & { blocks?: number; sessionLen?: number; now?: () => number };
  budget?: number;
  policy?: 'lru';
  prefixCaching?: boolean;
  chunkSize?: number;
  maxQueue?: number;
  now?: () => number;
  /** Token ids kept, all sequences together. */
  maxTokens?: number;
  onSessionChange?: (session: Readonly<Session>, from: number) => void;
  /** Blocks that host memory and a disk below the device hold; KV is brought back, since computing it counts as slow. */
  hostBlocks?: number;
  diskBlocks?: number;
  /** What tokens spell: letters (default), or the byte of their number minus 3. */
  vocab?: 'letters' | 'bytes';
}

export class TestBatch {
  readonly outcomes = new Map<number, Outcome>();
  readonly batch: PersistentBatch;
  readonly cache: CacheManager;
  readonly device: Device;
  readonly draft: DraftModel | null;
  /** Below the device, if there are `diskBlocks`. */
  readonly disk = new MemoryDisk();
  readonly #mover: Mover | null;
  #nextId = 1;

  constructor(o: TestBatchOptions = {}) {
    const blockLen = o.blockLen ?? 16;
    const sessionLen = o.sessionLen ?? 512;
    const maxRows = o.maxRows ?? 8;
    const blocks = o.blocks ?? 256;
    const budget = o.budget ?? 64;
    const limits = {
      maxTokens: Math.max(budget, maxRows),
      maxRows,
      maxBlocksPerRow: Math.ceil(sessionLen / blockLen),
      maxLogits: maxRows + 40,
      vocab: VOCAB,
    };
    this.device = createNullDevice({ depth, ...o });
    const kv = { layers: 1, kvHeads: 1, headDim: 16, blockLen, bits: 16 as const };
    const program: Program = { dims: dims(sessionLen), buffers: [], ops: [] };
    this.device.load(program, { path: '', tensors: new Map() }, { limits, kv, maxBlocks: blocks });
    this.cache = createCacheManager({
      blocks,
      blockLen,
      sessionLen,
      chunkSize: o.chunkSize ?? -1,
      policy: o.policy ?? 'lru',
      prefixCaching: o.prefixCaching ?? true,
      maxSequences: 10_000,
      maxTokens: o.maxTokens ?? 1_000_000,
      grow: (total) => this.device.growKv(total),
      tiers: { host: o.hostBlocks ?? 0, disk: o.diskBlocks ?? 0 },
    });
    const tiers = o.hostBlocks || o.diskBlocks;
    const below = {
      kv: this.device.kv,
      sessionLen,
      memory: new TierMemory(this.device.kv, o.hostBlocks ?? 0, Boolean(o.diskBlocks)),
      disk: o.diskBlocks ? this.disk : null,
    };
    this.#mover = tiers ? new Mover(this.cache, below) : null;
    this.draft = o.draft ? openDraft({ drawn: o.drawn, sessionLen, ...o.draft }) : null;
    const spell = (t: number) => (o.vocab === 'bytes' ? Math.max(0, t - 3) & 255 : 97 + (t % 26));
    const letters = Uint8Array.from({ length: VOCAB }, (_, t) => spell(t));
    const tokenBytes = {
      bytes: letters,
      offsets: Int32Array.from({ length: VOCAB + 1 }, (_, t) => t),
      special: Uint8Array.from({ length: VOCAB }, (_, t) => (t <= EOS ? 1 : 0)),
    };
    this.batch = new PersistentBatch(
      this.device,
      this.cache,
      {
        limits,
        maxQueue: o.maxQueue ?? 1000,
        sessions: { max: 1000, shareAcrossOwners: true, onChange: o.onSessionChange },
        // rows cost nothing: guesses are as long as they may be
        budget: {
          tokens: () => budget,
          observe: () => {},
          prefillMs: (n) => (tiers ? 1000 * n : 0),
          rowMs: () => 0,
          fixedMs: () => 1,
          drawMs: () => 1,
        },
        mover: this.#mover,
        speculation: o.speculation,
        draft: this.draft,
        admission: { vocab: VOCAB, tokenBytes, endOfTurn: new Set([EOS]) },
        now: o.now,
      },
      {
        token: (r, tokenId, logprob) => {
          const outcome = this.outcomes.get(r.id)!;
          outcome.tokens.push(tokenId);
          outcome.logprobs.push(logprob);
        },
        finished: (f) => {
          this.outcomes.get(f.id)!.finished = f;
        },
        failed: (id, error) => {
          this.outcomes.get(id)!.error = error;
        },
      },
    );
  }

  /** Hands a request in; throws its refusal. */
  submit(
    tokens: number[],
    o: Partial<Omit<EngineRequest, 'limits' | 'grammar'>> & {
      append?: boolean;
      grammar?: Grammar;
      limits?: Partial<EngineRequest['limits']>;
    } = {},
  ) {
    const id = this.#nextId++;
    const request: EngineRequest = {
      id,
      tokens: Int32Array.from(tokens),
      stopTokens: o.stopTokens ?? [],
      sessionId: o.sessionId ?? null,
      continuation: o.append ? Int32Array.from(tokens) : null,
      priority: o.priority ?? 0,
      owner: o.owner ?? 0,
      grammar: null,
      forkOf: o.forkOf ?? null,
      after: o.after ?? null,
      keepAs: o.keepAs ?? null,
      shared: o.shared ?? null,
      limits: { maxTokens: 8, minTokens: 0, stop: [], stopTokens: [], ignoreEos: false, ...o.limits },
      sampling: { ...greedySampling, ...o.sampling },
    };
    this.batch.submit(request, o.grammar);
    this.outcomes.set(id, { tokens: [], logprobs: [], finished: null, error: null });
    return id;
  }

  /** Steps until nothing is left to do, on the device and below it; checks every invariant at each step. */
  run(check = true, limit = 100_000): void {
    const moving = () => this.batch.watching || this.cache.ordersWaiting() + this.cache.ordersOutstanding() > 0;
    for (let i = 0; this.batch.step() || moving(); i++) {
      if (check) this.batch.check();
      if (check) this.draft?.check();
      if (i > limit) throw new Error(`the batch did not come to an end in ${limit} steps`);
    }
    this.batch.check();
  }

  /** One request from beginning to end. */
  complete(...args: Parameters<TestBatch['submit']>): Outcome {
    const id = this.submit(...args);
    this.run();
    return this.outcomes.get(id)!;
  }
}

function openDraft(o: NonNullable<TestBatchOptions['draft']> & { sessionLen: number }): DraftModel {
  const blockLen = 16;
  const maxBlocksPerRow = Math.ceil(o.sessionLen / blockLen);
  const limits = { maxTokens: 64, maxRows: MAX_DRAFTING, maxBlocksPerRow, maxLogits: MAX_DRAFTING, vocab: VOCAB };
  const kv = { layers: 1, kvHeads: 1, headDim: 16, blockLen, bits: 16 as const };
  const kvBlocks = o.blocks ?? MAX_DRAFTING * maxBlocksPerRow;
  const device = createNullDevice({ depth, ...o });
  const program: Program = { dims: dims(o.sessionLen), buffers: [], ops: [] };
  device.load(program, { path: '', tensors: new Map() }, { limits, kv, maxBlocks: kvBlocks });
  const sizes = {
    freeBytes: 0,
    promisedBytes: 0,
    weightBytes: 0,
    workspaceBytes: 0,
    kvBytes: 0,
    blockBytes: 0,
    bytesPerToken: 0,
  };
  const memory = { ...sizes, kvBlocks, blockLen, arithmetic: '' };
  // a step takes no time, unless a test says how much
  const options = {
    shareAcrossOwners: true,
    freeBytes: 0,
    chunkSize: -1,
    grow: (total: number) => device.growKv(total),
    now: o.now ?? (() => 0),
  };
  return new DraftModel(device, { sessionLen: o.sessionLen, kv, limits, memory }, options);
}

function dims(contextLength: number): Program['dims'] {
  return { layers: 1, dim: 16, heads: 1, kvHeads: 1, headDim: 16, ffDim: 16, vocab: VOCAB, contextLength };
}

/** Deterministic random numbers (mulberry32). */
export function random(seed: number): (below: number) => number {
  let a = seed >>> 0;
  return (below) => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

export function tokens(n: number, seed: number): number[] {
  const r = random(seed);
  return Array.from({ length: n }, () => 3 + r(VOCAB - 3));
}
