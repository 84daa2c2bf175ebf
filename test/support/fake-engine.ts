/**
 * An Engine without a model, for tests of what stands above it. A token is a code unit; the answer is a script. Sessions,
 * cached tokens, limits, aborts and failures behave as the interface promises.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ReasoningSplitter } from '../../src/base/reasoning.js';
import { errors } from '../../src/errors.js';
import type {
  ChatRequest,
  Checkpoint,
  CompletionRequest,
  EmbeddingRequest,
  EmbeddingResult,
  Engine,
  EngineInfo,
  EngineSnapshot,
  EngineStats,
  FinishReason,
  ForkOrigin,
  Generation,
  GenerationResult,
  KvSources,
  RequestOptions,
  SessionInfo,
  TokenEvent,
} from '../../src/types.js';

export interface FakeOptions {
  /** The answer to a prompt; default: 'You said: ' and the last line of the prompt. */
  answer?: (prompt: string, request: RequestOptions) => string;
  /** Between tokens. */
  delayMs?: number;
  /** Before the first token. */
  firstDelayMs?: number;
  /** Throws instead of token number i. */
  failAt?: number;
  failWith?: Error;
  /** Longer prompts are refused. */
  sessionLen?: number;
  /** What it says of itself beside the usual. */
  info?: Partial<EngineInfo>;
  /** The tags of tool calls are special tokens; in `answer`, U+E000 opens and U+E001 closes. */
  tags?: boolean;
  /** Of a model that thinks: what the prompt leaves to it (default: it may begin to think). */
  thinking?: 'before' | 'inside';
  /** Where it says that KV came from. */
  kv?: Partial<KvSources>;
  /** More requests at a time are refused. */
  maxRunning?: number;
}

interface FakeCall {
  kind: 'chat' | 'complete';
  request: ChatRequest | CompletionRequest;
  generation: FakeGeneration;
}

class FakeGeneration implements Generation {
  prompt: Generation['prompt'] = null;
  aborted = false;
  produced = 0;
  readonly #stop = new AbortController();
  #result: Promise<GenerationResult> | null = null;
  readonly #queue: TokenEvent[] = [];
  #wake: (() => void) | null = null;
  #listener: ((event: TokenEvent) => void) | null = null;
  #over = false;
  #error: unknown = null;

  constructor(
    readonly id: string,
    private readonly text: string,
    private readonly cachedTokens: number,
    private readonly request: RequestOptions,
    private readonly options: FakeOptions,
    private readonly done: (text: string | null) => void,
    private readonly again: (more: RequestOptions) => Generation,
    private readonly splits: boolean,
  ) {
    request.signal?.addEventListener('abort', () => this.abort(), { once: true });
    this.#result = this.#run();
    this.#result.catch(() => {});
  }

  fork(more: { seed?: number | null } = {}): Generation {
    return this.again(more);
  }

  abort(): void {
    this.aborted = true;
    this.#stop.abort();
  }

  result(): Promise<GenerationResult> {
    return this.#result!;
  }

  async *[Symbol.asyncIterator](): AsyncIterator<TokenEvent> {
    for (;;) {
      while (this.#queue.length > 0) yield this.#queue.shift()!;
      if (this.#over) break;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#error) throw this.#error;
  }

  async #run(): Promise<GenerationResult> {
    const start = performance.now();
    const { stop = [], logprobs = null } = this.request;
    const limit = this.request.maxTokens ?? 4096;
    const answer = (this.options.answer ?? defaultAnswer)(this.text, this.request);
    const ids: number[] = [];
    let text = '';
    let raw = '';
    let reasoning = '';
    let reasoningTokens = 0;
    const { info, thinking = 'before' } = this.options;
    const splits = info?.reasoning && this.splits ? new ReasoningSplitter(info.reasoning, thinking) : null;
    let finishReason: FinishReason = 'stop';
    let stopString: string | null = null;
    let first = 0;
    try {
      if (this.text.length >= (this.options.sessionLen ?? 100_000))
        throw errors.promptTooLong(this.text.length, this.options.sessionLen!);
      await this.#pause(this.options.firstDelayMs ?? 0);
      for (const char of answer.split('')) {
        if (ids.length >= limit) {
          finishReason = 'length';
          break;
        }
        if (this.options.failAt === ids.length) throw this.options.failWith ?? errors.engineFailed('as the test asked');
        await this.#pause(this.options.delayMs ?? 0);
        if (this.aborted) break;
        first ||= performance.now();
        this.prompt ??= { promptTokens: this.text.length, cachedTokens: this.cachedTokens };
        const id = char.charCodeAt(0);
        ids.push(id);
        raw += char;
        const was = splits?.thinking;
        const said = splits?.push(isTag(id) ? '' : char) ?? { reasoning: '', text: char };
        const belongs =
          splits !== null &&
          (was || splits.thinking || (splits.began && text === '' && said.text === '' && !isTag(id)));
        if (belongs) reasoningTokens = ids.length;
        reasoning += said.reasoning;
        text += said.text;
        stopString = stop.find((s) => text.endsWith(s)) ?? null;
        if (stopString) {
          text = text.slice(0, -stopString.length);
          raw = raw.slice(0, -stopString.length);
          break;
        }
        this.produced++;
        this.#push({
          tokenId: id,
          text: isTag(id) ? '' : said.text,
          reasoning: belongs ? said.reasoning : null,
          logprob: logprobs === null ? null : logprobOf(id, logprobs),
        });
      }
      if (this.aborted) finishReason = 'abort';
      const rest = splits?.end() ?? { reasoning: '', text: '' };
      text += rest.text;
      reasoning += rest.reasoning;
      if (rest.text + rest.reasoning !== '')
        this.#push({ tokenId: -1, text: rest.text, reasoning: rest.reasoning || null, logprob: null });
      return {
        text,
        reasoning: splits?.began ? reasoning : null,
        tokenIds: ids,
        finishReason,
        stopString,
        usage: {
          promptTokens: this.text.length,
          cachedTokens: this.cachedTokens,
          completionTokens: ids.length,
          reasoningTokens,
          acceptedDraftTokens: 0,
        },
        kv: { restoredTokens: 0, recomputedTokens: 0, ...this.options.kv },
        timings: {
          queue: 0,
          ttft: first - start,
          perToken: ids.length > 1 ? (performance.now() - first) / (ids.length - 1) : 0,
          total: performance.now() - start,
        },
        logprobs: logprobs === null ? null : ids.map((id) => logprobOf(id, logprobs)),
      };
    } catch (error) {
      this.#error = error;
      throw error;
    } finally {
      this.#over = true;
      this.done(this.#error ? null : raw);
      this.#wake?.();
    }
  }

  async #pause(ms: number): Promise<void> {
    if (ms === 0) await new Promise((resolve) => setImmediate(resolve));
    else await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  onToken(listener: (event: TokenEvent) => void): void {
    this.#listener = listener;
    for (const event of this.#queue.splice(0)) listener(event);
  }

  #push(event: TokenEvent): void {
    if (this.#listener) this.#listener(event);
    else this.#queue.push(event);
    this.#wake?.();
  }
}

const FIRST_TAG = 0xe000;
const TAGS = ['<tool_call>', '</tool_call>'];
const isTag = (id: number): boolean => id >= FIRST_TAG && id < FIRST_TAG + TAGS.length;

const defaultAnswer = (prompt: string): string => `You said: ${prompt.trimEnd().split('\n').at(-1)}`;

const logprobOf = (id: number, n: number) => ({
  tokenId: id,
  logprob: -0.25,
  top: Array.from({ length: n }, (_, i) => ({ tokenId: i === 0 ? id : 65 + i, logprob: -0.25 - i })),
});

interface FakeSession {
  info: SessionInfo;
  owner: number;
  text: string;
}

interface FakePoint {
  text: string;
  turns: Checkpoint[];
}

export class FakeEngine implements Engine {
  readonly calls: FakeCall[] = [];
  readonly kept = new Map<string, FakeSession>();
  readonly points = new Map<string, FakePoint>();
  running = 0;
  /** Calls that are forks of others. */
  forks = 0;
  closed = false;
  /** Makes stats() fail, as a dead worker would. */
  broken = false;
  storeFailure: string | null = null;
  problem: (text: string) => void = () => {};
  readonly info: EngineInfo;

  constructor(readonly options: FakeOptions = {}) {
    this.info = { ...fakeInfo(), ...options.info };
  }

  complete(request: CompletionRequest): Generation {
    const { prompt } = request;
    const text = typeof prompt === 'string' ? prompt : String.fromCharCode(...Array.from(prompt));
    return this.#start('complete', request, text);
  }

  chat(request: ChatRequest): Generation {
    const text = request.messages.map((m) => `${m.role}: ${m.content}\n`).join('');
    return this.#start('chat', request, text);
  }

  #start(kind: FakeCall['kind'], request: ChatRequest | CompletionRequest, text: string): Generation {
    if (this.closed) throw errors.engineClosed();
    if (this.running >= (this.options.maxRunning ?? 1e9)) throw errors.queueFull(this.options.maxRunning!);
    const { sessionId, owner = 0, after, keepAs } = request;
    const old = sessionId === undefined ? undefined : this.kept.get(`${owner}/${sessionId}`);
    const before = after === undefined ? undefined : this.#point(after, owner);
    const prompt = before ? before.text + text : request.sessionAppend ? (old?.text ?? '') + text : text;
    const cached = commonLength(before?.text ?? old?.text ?? '', prompt);
    const tokens = Int32Array.from(text.split(''), (c) => c.charCodeAt(0));
    const note = typeof keepAs?.note === 'function' ? keepAs.note(tokens) : (keepAs?.note ?? '');
    this.running++;
    const done = (answer: string | null) => {
      this.running--;
      if (keepAs && answer !== null && !generation.aborted) {
        const turn = {
          ...keepAs,
          note,
          start: before?.text.length ?? 0,
          prompt: prompt.length,
          end: prompt.length + answer.length,
          cachedTokens: cached,
          finishReason: 'stop' as const,
        };
        const turns = [...(before?.turns ?? []), turn];
        this.points.set(`${owner}/${keepAs.name}`, { text: prompt + answer, turns });
      }
      if (sessionId !== undefined && answer !== null) this.#keep(sessionId, owner, `${prompt}${answer}`);
    };
    const again = (more: RequestOptions) => {
      this.forks++;
      return this.#start(kind, { ...request, ...more }, text);
    };
    const generation = new FakeGeneration(
      `g${this.calls.length}`,
      prompt,
      cached,
      request,
      this.options,
      done,
      again,
      kind === 'chat',
    );
    this.calls.push({ kind, request, generation });
    return generation;
  }

  #point(name: string, owner = 0): FakePoint {
    const point = this.points.get(`${owner}/${name}`);
    if (!point) throw errors.checkpointUnknown(name);
    return point;
  }

  readonly checkpoints: Engine['checkpoints'] = {
    get: async (name, owner) => this.#point(name, owner).turns.at(-1)!,
    path: async (name, owner) => {
      const { text, turns } = this.#point(name, owner);
      return { turns, tokens: await this.encode(text) };
    },
    delete: async (name, owner = 0) => {
      this.#point(name, owner);
      this.points.delete(`${owner}/${name}`);
    },
  };

  /** Two numbers: how long the text is, and what its first token is. */
  async embed({ prompt }: EmbeddingRequest): Promise<EmbeddingResult> {
    const ids = typeof prompt === 'string' ? await this.encode(prompt) : Array.from(prompt);
    const usage = {
      promptTokens: ids.length,
      cachedTokens: 0,
      completionTokens: 0,
      reasoningTokens: 0,
      acceptedDraftTokens: 0,
    };
    return { embedding: Float32Array.of(ids.length, ids[0] ?? 0), usage };
  }

  #keep(id: string, owner: number, text: string, origin?: ForkOrigin): SessionInfo {
    const forkedFrom = origin ?? this.kept.get(`${owner}/${id}`)?.info.forkedFrom ?? null;
    const info: SessionInfo = {
      id,
      state: 'cached',
      tokens: text.length,
      cachedTokens: text.length,
      lastUsed: Date.now(),
      forkedFrom,
    };
    this.kept.set(`${owner}/${id}`, { info, owner, text });
    return info;
  }

  #find(id: string, owner = 0): FakeSession {
    const s = this.kept.get(`${owner}/${id}`);
    if (!s) throw errors.sessionUnknown(id);
    return s;
  }

  async encodeChat({ messages }: Pick<ChatRequest, 'messages'>): Promise<Int32Array> {
    return this.encode(messages.map((m) => `${m.role}: ${m.content}\n`).join(''));
  }

  async encode(text: string, options: { special?: boolean } = {}): Promise<Int32Array> {
    const tag = this.options.tags && options.special ? TAGS.indexOf(text) : -1;
    if (tag >= 0) return Int32Array.of(FIRST_TAG + tag);
    return Int32Array.from(text.split(''), (c) => c.charCodeAt(0));
  }

  decode(ids: ArrayLike<number>, options: { special?: boolean } = {}): string {
    if (!options.special) return String.fromCharCode(...Array.from(ids).filter((id) => !isTag(id)));
    return Array.from(ids, (id) => (isTag(id) ? TAGS[id - FIRST_TAG]! : String.fromCharCode(id))).join('');
  }

  readonly sessions: Engine['sessions'] = {
    list: async (owner = 0) => [...this.kept.values()].filter((s) => s.owner === owner).map((s) => s.info),
    get: async (id, owner) => this.#find(id, owner).info,
    tokens: async (id, owner) => this.encode(this.#find(id, owner).text),
    fork: async (id, newId, options = {}) => {
      const s = this.#find(id, options.owner);
      const tokens = options.length ?? s.text.length;
      return this.#keep(newId, s.owner, s.text.slice(0, tokens), { id, tokens });
    },
    truncate: async (id, length, owner) => {
      const s = this.#find(id, owner);
      if (length > s.text.length) throw errors.invalidRequest(`session '${id}' has ${s.text.length} tokens`, 'length');
      return this.#keep(id, s.owner, s.text.slice(0, length));
    },
    delete: async (id, owner = 0) => {
      this.#find(id, owner);
      this.kept.delete(`${owner}/${id}`);
    },
  };

  async stats(): Promise<EngineStats> {
    if (this.broken) throw errors.engineFailed('the worker is gone');
    return { ...fakeStats(this.running, this.calls.length), sessionStoreFailure: this.storeFailure };
  }

  async snapshot(): Promise<EngineSnapshot> {
    const sessions = [...this.kept.values()];
    return {
      step: 30,
      blockLen: 64,
      state: Uint8Array.of(3, 2, 1),
      sequence: Float64Array.of(0, 1, -1),
      fill: Uint16Array.of(10, 64, 0),
      evictionOrder: Int32Array.of(1),
      sequences: sessions.map((s, i) => ({
        sequence: i,
        sessionId: s.info.id,
        owner: s.owner,
        state: 'cached',
        known: s.info.tokens,
        computed: s.info.tokens,
      })),
      batch: [],
      waiting: [],
      stats: await this.stats(),
    };
  }

  async check(): Promise<void> {}

  onProblem(listener: (problem: string) => void): void {
    this.problem = listener;
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const c of this.calls) c.generation.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function commonLength(a: string, b: string): number {
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  return i;
}

function fakeInfo(): EngineInfo {
  return {
    modelName: 'fake',
    modelPath: '/nowhere/fake.gguf',
    architecture: 'llama',
    dims: { layers: 2, dim: 8, heads: 2, kvHeads: 1, headDim: 4, ffDim: 16, vocab: 65536 },
    parameters: 1000,
    quantisation: 'Q8_0',
    contextLength: 100_000,
    sessionLen: 100_000,
    device: { name: 'fake', isa: 'none', threads: 1 },
    memory: {
      freeBytes: 2 ** 30,
      promisedBytes: 0,
      weightBytes: 2 ** 20,
      workspaceBytes: 2 ** 20,
      kvBytes: 2 ** 24,
      kvBlocks: 64,
      blockBytes: 2 ** 18,
      blockLen: 64,
      bytesPerToken: 2 ** 12,
      arithmetic: '0.8 x what is left',
    },
    tiers: null,
    stepBudget: 64,
    loadMs: 1,
  };
}

function fakeStats(running: number, started: number): EngineStats {
  return {
    requests: { waiting: 0, running, finished: started - running, aborted: 0, failed: 0 },
    tokens: { prompt: 10, cached: 4, generated: 20, recomputed: 0 },
    steps: 30,
    drafts: { verified: 0, accepted: 0 },
    preemptions: 0,
    lastStepMs: 2,
    lastStepJsMs: 0.1,
    stepTimes: { boundsMs: [1, 10], counts: [5, 20, 5], sumMs: 90 },
    stepBudget: 64,
    sessions: 1,
    sessionStates: { active: 0, cached: 1, evicted: 0 },
    sessionStoreFailure: null,
    cache: {
      blocks: { total: 64, free: 60, cached: 3, active: 1, grown: 64 },
      sequences: { total: 2, active: 1, cached: 1, evicted: 0 },
      tokensKept: 100,
      hits: 1,
      partialHits: 0,
      misses: 1,
      tokensReused: 4,
      tokensRecomputed: 0,
      tokensComputed: 20,
      tokensPrefixReused: 0,
      blocksEvicted: 0,
      tokensEvicted: 0,
      forks: 0,
      copies: 0,
      sequencesDropped: 0,
      growRefusals: 0,
      tokensRestored: 0,
      tiers: null,
    },
  };
}
