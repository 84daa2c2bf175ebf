/**
 * Guesses with a small model of the same vocabulary, which is a persistent batch of its own on a device of its own. A guess
 * is a request with the whole history; what the batch keeps of the last one is truncated where the two part, so only what is
 * new is computed. It draws as the sequence does (same seed, same positions), without its grammar and past generated counts.
 */
import { createCacheManager } from '../../cache/index.js';
import type { CacheManager } from '../../cache/types.js';
import type { Device, KvLayout, StepLimits } from '../../device/device.js';
import { LongmindError } from '../../errors.js';
import type { MemorySplit } from '../../types.js';
import { PersistentBatch } from '../batch.js';
import type { EngineRequest, LiveRequest } from '../request.js';
import { type Budget, StepBudget } from '../step-budget.js';
import { type Drafter, MAX_DRAFTING, type Want } from './drafter.js';

/** A long history is read by and by: the sequences that decode do not wait longer for it in one step. */
const WAIT_MS = 50;
/** More new tokens than this are a prompt to read; their time says nothing of what a guess costs. */
const FEW = 32;
/** Weight of the newest observation in the chance of all requests, and in the time of a token. */
const LEARN = 0.05;
const LEARN_MS = 0.2;

export interface DraftPlan {
  sessionLen: number;
  kv: KvLayout;
  limits: StepLimits;
  memory: MemorySplit;
}

export interface DraftOptions {
  shareAcrossOwners: boolean;
  /** Bytes that are left on the device beside it. */
  freeBytes: number;
  /** KV blocks to take at a time, and how. */
  chunkSize: number;
  grow: (totalBlocks: number) => boolean;
  now?: () => number;
}

export class DraftModel implements Drafter {
  chance = 0.65;
  tokenMs = 0;
  #batch!: PersistentBatch;
  #cache!: CacheManager;
  readonly #pending = new Map<number, Want>();
  readonly #budget: Budget;
  readonly #now: () => number;

  /** `device`: loaded with the model. */
  constructor(
    private readonly device: Device,
    readonly plan: DraftPlan,
    private readonly options: DraftOptions,
  ) {
    this.#budget = new StepBudget(plan.limits.maxTokens, WAIT_MS, 16);
    this.#now = options.now ?? (() => performance.now());
    this.reset();
  }

  get freeBytes(): number {
    return this.options.freeBytes;
  }

  /** Forgets every sequence: batch and cache are made anew. */
  reset(): void {
    this.#batch?.drain();
    this.#pending.clear();
    const { kv, limits, memory, sessionLen } = this.plan;
    this.#cache = createCacheManager({
      blocks: memory.kvBlocks,
      blockLen: kv.blockLen,
      sessionLen,
      chunkSize: this.options.chunkSize,
      policy: 'lru',
      prefixCaching: true,
      maxSequences: 8 * MAX_DRAFTING,
      maxTokens: 8 * MAX_DRAFTING * sessionLen,
      grow: this.options.grow,
    });
    const nothing = { bytes: new Uint8Array(0), offsets: new Int32Array(limits.vocab + 1) };
    const options = {
      limits,
      maxQueue: 2 * MAX_DRAFTING,
      sessions: { max: 2 * MAX_DRAFTING, shareAcrossOwners: this.options.shareAcrossOwners },
      budget: this.#budget,
      speculation: 'off' as const,
      admission: {
        vocab: limits.vocab,
        tokenBytes: { ...nothing, special: new Uint8Array(limits.vocab) },
        endOfTurn: new Set<number>(),
      },
      now: this.#now,
    };
    this.#batch = new PersistentBatch(this.device, this.#cache, options, {
      token: ({ id }, token) => this.#pending.get(id)?.tokens.push(token),
      finished: ({ id, reason }) => this.#end(id, reason !== 'abort'),
      failed: (id) => this.#end(id, false),
    });
  }

  learn(right: boolean): void {
    this.chance += LEARN * ((right ? 1 : 0) - this.chance);
  }

  propose(wants: readonly Want[], history: (r: LiveRequest) => Int32Array): void {
    for (const [id, { r }] of this.#pending) if (r.ended) this.#batch.abort(id);
    let fresh = 0;
    let longest = 0;
    for (const want of wants) {
      if (this.#pending.has(want.r.request.id)) continue;
      fresh += this.#submit(want, history(want.r));
      longest = Math.max(longest, want.count);
    }
    if (this.#pending.size === 0) return;
    const begun = this.#now();
    while (this.#pending.size > 0 && this.#now() - begun < WAIT_MS && this.#batch.step());
    if (this.#pending.size > 0 || longest === 0 || fresh > FEW) return;
    const ms = (this.#now() - begun) / longest;
    this.tokenMs = this.tokenMs === 0 ? ms : this.tokenMs + LEARN_MS * (ms - this.tokenMs);
  }

  /** Every invariant of its batch and cache. */
  check(): void {
    this.#batch.check();
  }

  close(): void {
    this.#batch.drain();
    this.device.close();
  }

  /** Returns how many tokens are new to it; a history that it has no room for gets no guess. */
  #submit(want: Want, tokens: Int32Array): number {
    const { request } = want.r;
    const sessionId = String(request.id);
    const session = this.#batch.sessions.find(sessionId, request.owner);
    const common = session ? this.#cache.commonPrefix(session.sequence, tokens) : 0;
    // what parts from the history goes first: nothing is left that could be taken for another spelling of it
    if (session) this.#cache.truncate(session.sequence, common);
    this.#pending.set(request.id, want);
    try {
      this.#batch.submit(requestOf(want, tokens, sessionId));
    } catch (e) {
      this.#pending.delete(request.id);
      if (!(e instanceof LongmindError)) throw e;
      return 0;
    }
    return tokens.length - common;
  }

  #end(id: number, done: boolean): void {
    const want = this.#pending.get(id);
    if (want) want.done = done;
    this.#pending.delete(id);
  }
}

/** Each field by itself: what else a request may bring (its session, names, adapter, grammar) is the model's business. */
function requestOf({ r, count }: Want, tokens: Int32Array, sessionId: string): EngineRequest {
  const { id, sampling, stopTokens, owner } = r.request;
  return {
    id,
    tokens,
    sampling: { ...sampling, logprobs: null },
    limits: { maxTokens: count, minTokens: 0, stop: [], stopTokens: [], ignoreEos: false },
    stopTokens,
    sessionId,
    continuation: null,
    priority: 0,
    owner,
    grammar: null,
    forkOf: null,
  };
}
