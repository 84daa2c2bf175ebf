/** The engine without its thread: device, cache manager and batch, made to fit each other. */
import type { MemoryPromises, Room } from '../base/memory-promises.js';
import { createCacheManager } from '../cache/index.js';
import type { CacheManager } from '../cache/types.js';
import type { EngineConfig } from '../config.js';
import type { Device, KvLayout, LoadedMemory, Program, StepLimits } from '../device/device.js';
import { errors, type LongmindError } from '../errors.js';
import { createJournal, type Journal } from '../journal/journal.js';
import { Tiers } from '../tiers/index.js';
import type { EngineSnapshot, EngineStats, MemorySplit } from '../types.js';
import type { Admission } from './admission.js';
import { type BatchEvents, PersistentBatch } from './batch.js';

import { splitMemory } from './memory.js';
import { MemoryClaim } from './memory-claim.js';
import { type AdapterId, adapterIds } from './namespaces.js';
import type { CoreInfo, Vocabulary, WorkerData } from './protocol.js';
import { restoreSessions } from './restore.js';
import type { Point, Session } from './session.js';
import { takeSnapshot } from './snapshot.js';
import type { DraftModel } from './speculation/draft-model.js';
import { type Budget, fixedBudget, StepBudget } from './step-budget.js';

/** A step on the CPU should not take longer: whoever waits for a token waits for the step. */
const TARGET_STEP_MS = 250;
/** Step size that the workspace is made for when the budget is measured. */
const MEASURED_MAX_TOKENS = 1024;

/** KV memory of the machine is taken in pieces of about so much: some milliseconds each, and what nobody needs stays free. */
const CHUNK_BYTES = 32 * 2 ** 20;

/**
 * Logits in one step beside one for each sequence, at most: of guessed tokens (one sequence may have long guesses, or several
 * have short ones), and of all tokens of a text whose hidden states are wanted.
 */
const MORE_LOGITS = 32;

export interface ModelPlan {
  sessionLen: number;
  kv: KvLayout;
  limits: StepLimits;
  memory: MemorySplit;
}

/** All sizes, before anything is allocated. Used by `inspect` too. */
export function planModel(
  program: Program,
  weightBytes: number,
  config: EngineConfig,
  device: Device,
  room: Room = { free: device.info.memoryFree, promised: 0 },
): ModelPlan {
  const { dims, adapters = [] } = program;
  if (adapters.length > 0 && !device.info.adapters) throw errors.noAdapters(device.info.name);
  if (dims.headDim % 16 !== 0)
    throw errors.unsupportedModel(`its heads have ${dims.headDim} dimensions; only multiples of 16 can be computed`);
  const sessionLen = config.sessionLen === 0 ? dims.contextLength : config.sessionLen;
  if (sessionLen > dims.contextLength) {
    throw errors.invalidOption('sessionLen', sessionLen, `at most the model's context length, ${dims.contextLength}`);
  }
  // 0 = one slot per sequence; a block is stored in tiles of 16 tokens
  const blockLen = config.cacheBlockSeqLen === 0 ? Math.ceil(sessionLen / 16) * 16 : config.cacheBlockSeqLen;
  const kv: KvLayout = {
    layers: dims.layers,
    kvHeads: dims.kvHeads,
    headDim: dims.headDim,
    blockLen,
    bits: config.quantPolicy === 0 ? 16 : config.quantPolicy,
  };
  const maxTokens = config.maxPrefillTokenNum || Math.min(MEASURED_MAX_TOKENS, Math.max(sessionLen, 16));
  const limits: StepLimits = {
    maxTokens: Math.max(maxTokens, config.maxBatchSize),
    maxRows: config.maxBatchSize,
    maxBlocksPerRow: Math.ceil(sessionLen / blockLen),
    maxLogits: config.maxBatchSize + MORE_LOGITS,
    vocab: dims.vocab,
  };
  const workspaceBytes = device.workspaceBytes(program, limits);
  const memory = splitMemory({ room, weightBytes, workspaceBytes, kv, size: config.cacheMaxEntryCount });
  const { gpus = 1 } = device.info;
  return { sessionLen, kv, limits, memory: gpus > 1 ? { ...memory, gpus } : memory };
}

/** Blocks to take at a time (CacheConfig.chunkSize). A device of its own memory takes all at start, so that others see it. */
export function chunkOf(config: EngineConfig, device: Device, blockBytes: number): number {
  if (config.cacheChunkSize !== 'auto') return config.cacheChunkSize;
  return device.info.ownMemory ? -1 : Math.max(1, Math.floor(CHUNK_BYTES / blockBytes));
}

/** Whom to tell of what takes long, and of what went wrong without being a request's fault. */
export interface CoreNews {
  progress?: (what: string, done: number, total: number) => void;
  problem?: (problem: string) => void;
  /** There is work again for an engine that sleeps. */
  wake?: () => void;
}

export class Core {
  batch!: PersistentBatch;
  cache!: CacheManager;
  readonly info: CoreInfo;
  readonly #plan: ModelPlan;
  readonly #budget: Budget;
  readonly #admission: Admission;
  /** Null until the sessions of an earlier process are restored: they need not be written again. */
  #journal: Journal | null = null;
  #storeFailure: string | null = null;
  /** Sessions in it whose adapter is not here; they outlive the batch. */
  readonly #waiting = new Map<string, string>();
  readonly #tiers: Tiers | null;
  readonly #claim: MemoryClaim;
  readonly #adapters: AdapterId[];

  constructor(
    private readonly data: WorkerData,
    readonly device: Device,
    private readonly events: BatchEvents,
    private readonly news: CoreNews = {},
    /** Closed with the core. */
    private readonly draft: DraftModel | null = null,
    /** Of the machine's memory, where other engines are told. */
    promises: MemoryPromises | null = null,
  ) {
    const { config, program, weights } = data;
    const names = (program.adapters ?? []).map((a) => a.name);
    this.#adapters = adapterIds(names, data.adapterKeys ?? []);
    this.#claim = new MemoryClaim(device, promises, 'model');
    this.#plan = this.#claim.settle(({ free, promised }) => {
      // KV of the draft model is counted on, but may not be taken yet
      const room = { free: Math.min(free, draft?.freeBytes ?? Number.POSITIVE_INFINITY), promised };
      return planModel(program, device.weightBytes(program, weights), config, device, room);
    });
    const { kv, limits, memory, sessionLen } = this.#plan;
    const loaded = device.load(program, weights, {
      limits,
      kv,
      maxBlocks: memory.kvBlocks,
      debug: config.debugOps,
      onProgress: (done, total) => {
        this.#claim.loaded(done, total);
        news.progress?.('loading weights', done, total);
      },
    });
    this.#claim.loaded(1, 1);
    this.#budget = config.maxPrefillTokenNum
      ? fixedBudget(config.maxPrefillTokenNum)
      : new StepBudget(limits.maxTokens, TARGET_STEP_MS, 1);
    const nothing = { bytes: new Uint8Array(0), offsets: new Int32Array(limits.vocab + 1) };
    this.#admission = {
      vocab: limits.vocab,
      tokenBytes: { ...nothing, special: new Uint8Array(limits.vocab) },
      endOfTurn: new Set(),
    };
    this.#tiers = Tiers.open(device, {
      host: config.cacheHost,
      disk: config.cacheDisk,
      model: data.modelKey,
      kv,
      groups: Object.fromEntries(this.#adapters.map(({ tag }, i) => [tag, data.adapterKeys?.[i] ?? ''])),
      sessionLen,
      blocks: memory.kvBlocks,
      onProblem: (problem) => news.problem?.(problem),
      onWake: () => news.wake?.(),
      diskProgram: data.diskProgram,
    });
    this.#build();
    if (config.sessionStore && !data.shared) this.#journal = this.#openJournal(config.sessionStore);
    this.info = {
      device: device.info,
      memory: withLoaded(memory, loaded),
      tiers: this.#tiers?.info ?? null,
      draft: draft?.plan.memory ?? null,
      embeddings: device.hidden !== undefined,
      sessionLen,
      stepBudget: this.#budget.tokens(0),
    };
  }

  setVocabulary({ tokenBytes, endOfTurn }: Vocabulary): void {
    this.#admission.tokenBytes = tokenBytes;
    this.#admission.endOfTurn = new Set(endOfTurn);
  }

  /**
   * After a failure of our own code: batch and cache are made anew; what was in flight fails, and sessions are as they were
   * before it.
   */
  restart(error: LongmindError): void {
    const { batch, cache } = this;
    this.news.problem?.(`${error.message}\nthe requests in flight fail, sessions go on`);
    batch.drain();
    const { running, waiting } = batch.view();
    const inFlight = [...running, ...waiting];
    const turns = new Map(inFlight.map((r) => [r.turn?.session as Readonly<Session> | undefined, r.turn]));
    const sessions = [...batch.sessions.all()]
      .filter((s) => !turns.get(s)?.opened)
      .map((s) => {
        const { keep, replaced } = turns.get(s) ?? { keep: cache.known(s.sequence), replaced: new Int32Array(0) };
        const tokens = new Int32Array(keep + replaced.length);
        cache.readTokens(s.sequence, 0, keep, tokens, 0);
        tokens.set(replaced, keep);
        return { ...s, tokens };
      });
    this.#build();
    for (const s of sessions.reverse()) {
      const restored = this.batch.sessions.restore(s.id, s.owner, s.tokens, s.adapter);
      restored.ofPoints = s.ofPoints;
      for (const p of s.points) this.batch.sessions.points.add(restored, p);
    }
    for (const r of inFlight) this.events.failed(r.request.id, error);
  }

  stats(): EngineStats {
    return { ...statsOf(this.batch, this.cache, this.#budget.tokens(0)), sessionStoreFailure: this.#storeFailure };
  }

  snapshot(): EngineSnapshot {
    return takeSnapshot(this.batch, this.cache, this.stats());
  }

  /** Ends what it holds; what was journalled is on the disk then. */
  async close(): Promise<void> {
    this.batch.drain();
    await this.#tiers?.close();
    this.device.close();
    this.draft?.close();
    // a store that failed has said so
    await this.#journal?.close().catch(() => {});
  }

  /** Gives back what it holds, when batch and cache are in no state to be closed. Never rejects. */
  async abandon(): Promise<void> {
    const parts = [
      () => this.batch.drain(),
      () => this.#tiers?.close(),
      () => this.device.close(),
      () => this.#journal?.close(),
    ];
    // each on its own: what is broken must not keep the others open
    for (const close of parts)
      await Promise.resolve()
        .then(close)
        .catch(() => {});
  }

  #openJournal(dir: string): Journal {
    const onFailure = ({ message }: Error) => {
      this.#storeFailure ??= message;
      this.news.problem?.(
        `${message}; serving goes on, and what is said from now on is written when the disk takes it again`,
      );
    };
    const onRecovery = () => {
      this.#storeFailure = null;
      this.news.problem?.('the session store is written again, and holds all that was said in the meantime');
    };
    const journal = createJournal({ dir, fingerprint: this.data.fingerprint, onFailure, onRecovery });
    if (journal.putAside)
      this.news.problem?.(
        `the sessions in '${dir}' are another model's, or damaged: they are in '${journal.putAside}' now, and it begins anew`,
      );
    const { limits, sessionLen } = this.#plan;
    const names = this.#adapters.map((a) => a.name);
    const { impossible } = restoreSessions(journal.recovered, this.batch.sessions, limits.vocab, sessionLen, names);
    for (const s of impossible) {
      journal.drop(s.sessionId, s.owner);
      this.news.problem?.(`session '${s.sessionId}' in the session store has a token that is none, and is dropped`);
    }
    return journal;
  }

  #write(session: Readonly<Session>, from: number): void {
    if (!this.#journal) return;
    const adapter = this.batch.sessions.adapterName(session.adapter);
    if (from === 0 && adapter !== null) this.#journal.adapter(session.id, session.owner, adapter);
    const ids = new Int32Array(this.cache.known(session.sequence) - from);
    this.cache.readTokens(session.sequence, from, from + ids.length, ids, 0);
    this.#journal.append(session.id, session.owner, from, ids);
  }

  #mark({ session, ...point }: Readonly<Point>): void {
    const own = session.ofPoints;
    const before = session.points.at(-2);
    this.#journal?.mark(session.id, session.owner, { ...point, own }, before && { ...before, own });
  }

  #build(): void {
    const { config } = this.data;
    const { kv, limits, memory, sessionLen } = this.#plan;
    this.cache = createCacheManager({
      blocks: memory.kvBlocks,
      blockLen: kv.blockLen,
      sessionLen,
      chunkSize: chunkOf(config, this.device, memory.blockBytes),
      policy: config.cachePolicy,
      prefixCaching: config.enablePrefixCaching,
      // requests without a session have a sequence too, while they wait and run
      maxSequences: config.maxSessions + config.maxQueue + config.maxBatchSize,
      maxTokens: config.maxSessionTokens,
      grow: (total) => this.#claim.grow(total),
      tiers: this.#tiers?.config,
    });
    this.draft?.reset();
    const mover = this.#tiers?.serve(this.cache) ?? null;
    const options = {
      limits,
      maxQueue: config.maxQueue,
      sessions: {
        max: config.maxSessions,
        // as many as the token ids take
        maxNoteBytes: 4 * config.maxSessionTokens,
        copies: this.data.shared,
        shareAcrossOwners: !config.isolateOwners,
        adapters: this.#adapters,
        waiting: this.#waiting,
        onChange: (session: Readonly<Session>, from: number) => this.#write(session, from),
        onKept: (point: Readonly<Point>) => this.#mark(point),
        onUnnamed: (session: Readonly<Session>, name: string) => this.#journal?.unmark(session.id, session.owner, name),
        onGone: (id: string, owner: number) => this.#journal?.drop(id, owner),
      },
      budget: this.#budget,
      mover,
      speculation: config.speculation,
      draft: this.draft,
      admission: this.#admission,
    };
    this.batch = new PersistentBatch(this.device, this.cache, options, this.events);
  }
}

function withLoaded(memory: MemorySplit, loaded: LoadedMemory): MemorySplit {
  return { ...memory, weightBytes: loaded.weightBytes, workspaceBytes: loaded.workspaceBytes };
}

function statsOf(
  batch: PersistentBatch,
  cache: CacheManager,
  stepBudget: number,
): Omit<EngineStats, 'sessionStoreFailure'> {
  const c = batch.counters;
  const stats = cache.stats();
  return {
    requests: {
      waiting: batch.waiting,
      running: batch.running,
      finished: c.finished,
      aborted: c.aborted,
      failed: c.failed,
    },
    tokens: { prompt: c.prompt, cached: c.cached, generated: c.generated, recomputed: stats.tokensRecomputed },
    steps: c.steps,
    preemptions: c.preemptions,
    drafts: batch.speculator?.counts() ?? { verified: 0, accepted: 0, byModel: { verified: 0, accepted: 0 } },
    lastStepMs: batch.lastStepMs,
    lastStepJsMs: batch.lastStepJsMs,
    stepTimes: batch.stepTimes.read(),
    stepBudget,
    sessions: batch.sessions.size,
    sessionStates: sessionStates(batch, cache),
    cache: stats,
  };
}

/** All sequences but those of requests without a session. */
function sessionStates(batch: PersistentBatch, cache: CacheManager): EngineStats['sessionStates'] {
  const { active, cached, evicted } = cache.stats().sequences;
  const states = { active, cached, evicted };
  const { running, waiting } = batch.view();
  for (const list of [running, waiting])
    for (const r of list)
      if (r.request.sessionId === null && cache.exists(r.sequence)) states[cache.state(r.sequence)]--;
  return states;
}
