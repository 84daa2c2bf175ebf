/** The engine as the main thread sees it: requests go to the worker, token events come back, one message a step. */
import { randomInt, randomUUID } from 'node:crypto';
import type { Grammar } from 'longmind-grammar';
import { promisesFolder, withdrawPromise } from '../base/memory-promises.js';
import { WorkerClient } from '../base/worker.js';
import { errors, LongmindError, reviveError } from '../errors.js';
import type { MeasuredStore } from '../store/index.js';
import type {
  ChatMessage,
  ChatRequest,
  Checkpoint,
  CompletionRequest,
  EmbeddingRequest,
  EmbeddingResult,
  Engine,
  EngineSnapshot,
  EngineStats,
  Generation,
  KeepAs,
  Pooling,
  RequestOptions,
  SessionInfo,
} from '../types.js';
import { RunningGeneration } from './generation.js';
import { Outgoing } from './outgoing.js';
import { type Encoded, encodeChat, encodePrompt, type TextSide } from './prompt.js';
import type { Calls, CoreInfo, FromWorker, Ready, ToWorker, WorkerData, WorkerStart } from './protocol.js';
import type { FinishedRequest } from './request.js';
import { readOptions } from './request-options.js';
import { KeptSessions } from './shared/kept-sessions.js';
import { SharedSessions, type Unsent } from './shared/shared-sessions.js';

type OnProgress = (what: string, done: number, total: number) => void;
type Thread = WorkerClient<Calls, Ready, ToWorker, FromWorker>;

/** A thread that ends is started anew, but not more often than so within a minute: then the engine has failed. */
const RESTARTS = 3;
const RESTARTS_WITHIN_MS = 60_000;
/** Problems kept for the first who listens. */
const UNTOLD = 20;

export class EngineClient {
  #thread: Thread;
  readonly #generations = new Map<number, RunningGeneration>();
  readonly #onProblem: ((problem: string) => void)[] = [];
  /** Problems that came before anybody listened. */
  #untold: string[] = [];
  #outgoing = this.#emptyOutgoing();
  #nextId = 1;
  readonly #engineId = randomUUID();
  /** The first thread was ready: from now on one that ends is started anew. */
  #started = false;
  /** When threads were started anew, within the last minute. */
  #restarts: number[] = [];
  #cancel: Int32Array | null = null;
  /** Calls that are not answered yet. */
  #calls = 0;
  #closing: Promise<void> | null = null;
  #dead: LongmindError | null = null;
  #text!: TextSide;

  readonly sessions: Engine['sessions'];
  readonly checkpoints: Engine['checkpoints'];
  readonly #shared: SharedSessions | null = null;

  private constructor(
    private readonly data: WorkerData,
    onProgress?: OnProgress,
    store: MeasuredStore | null = null,
  ) {
    this.#thread = this.#open(onProgress);
    this.sessions = this.#ownSessions;
    this.checkpoints = this.#ownCheckpoints;
    if (store) {
      const leaseMs = 1000 * data.config.sessionLease;
      this.#shared = this.#openShared(store, leaseMs);
      const { list, get, delete: forget } = this.#ownSessions;
      const copies = {
        list,
        get: (id: string, owner: number) => get(id, owner).catch(() => null),
        // one that is in use is forgotten when it is next asked for
        forget: (id: string, owner: number) => forget(id, owner).catch(() => {}),
      };
      const kept = new KeptSessions(store, leaseMs, copies);
      this.sessions = kept.sessions;
      this.checkpoints = kept.checkpoints;
    }
  }

  #openShared(store: MeasuredStore, leaseMs: number): SharedSessions {
    const { maxSessions, maxSessionTokens, sessionTtl } = this.data.config;
    return new SharedSessions(store, {
      leaseMs,
      // token ids of four bytes, and as much for what is said of them
      bounds: { sessions: maxSessions, bytes: 8 * maxSessionTokens, idleMs: 1000 * sessionTtl },
      adapters: (this.data.program.adapters ?? []).length > 0,
      onLost: (id, error) => {
        this.#fail(id, error, false);
        this.#abort(id);
      },
      onProblem: (problem) => this.#tell(problem),
    });
  }

  /** `opening`: the tokenizer, which starts while the weights load. It and `store` are closed with the engine, also if that fails to start. */
  static async start(
    data: WorkerData,
    opening: TextSide | Promise<TextSide>,
    onProgress?: OnProgress,
    store: MeasuredStore | null = null,
  ): Promise<{ client: EngineClient; info: CoreInfo }> {
    const client = new EngineClient(data, onProgress, store);
    const thread = client.#thread;
    try {
      client.#text = await opening;
      client.#sendVocabulary();
      const { info, cancel } = await thread.ready;
      client.#cancel = cancel;
      client.#started = true;
      client.#stay();
      return { client, info };
    } catch (e) {
      const closed = Promise.resolve(opening).then((text) => text.close());
      await Promise.all([thread.terminate(), closed.catch(() => {}), client.#shared?.close()]);
      client.#withdraw();
      throw e;
    }
  }

  /** Never throws, like `chat`: what is wrong with a request is how its generation ends. */
  complete(request: CompletionRequest): Generation {
    const { prompt: _, ...options } = request;
    return this.#start(options, null, () => encodePrompt(this.#text, request));
  }

  /** `opening`: the messages as their conversation begins. */
  chat(request: ChatRequest, opening: (messages: ChatMessage[]) => ChatMessage[]): Generation {
    const { messages: _, ...options } = request;
    return this.#start(options, null, () => encodeChat(this.#text, request, opening));
  }

  /** A prompt that nothing is generated from. */
  async embed({ prompt, pooling = 'last', ...options }: EmbeddingRequest): Promise<EmbeddingResult> {
    const running = this.#start(options, null, () => encodePrompt(this.#text, { prompt }), pooling);
    const { usage, finishReason } = await running.result();
    const { embedding } = running as RunningGeneration;
    if (finishReason === 'abort' || !embedding) throw errors.aborted();
    return { embedding, usage };
  }

  /** `forkOf`: a request with the same prompt, which `encode` gives too. */
  #start(
    options: RequestOptions,
    forkOf: number | null,
    encode: () => Promise<Encoded>,
    embed: Pooling | null = null,
  ): Generation {
    const read = readOptions(options);
    if (read instanceof LongmindError) return this.#refused(read);
    const { sampling, limits } = read;
    const adapter = this.#adapterOf(options);
    if (adapter instanceof LongmindError) return this.#refused(adapter);
    const id = this.#nextId++;
    if (this.#dead || this.#closing) return this.#refused(this.#dead ?? errors.engineClosed());
    const { signal } = options;
    const onSignal = () => generation.abort();
    const generation = new RunningGeneration(id, limits, this.#text.createDecoder(), {
      abort: () => this.#abort(id),
      fork: (other) => {
        if (options.sessionId !== undefined || options.keepAs)
          return this.#refused(errors.invalidRequest('several answers cannot be one session', 'session_id'));
        return this.#start({ ...options, ...other }, id, () => encoded);
      },
    });
    this.#generations.set(id, generation);
    this.#stay();
    const forget = () => {
      signal?.removeEventListener('abort', onSignal);
      this.#stay();
    };
    generation.result().then(forget, forget);
    signal?.addEventListener('abort', onSignal, { once: true });
    if (signal?.aborted) this.#endUnsent(id);
    const encoded = encode();
    encoded.then(
      ({ tokens, continuation, reasoning }) => {
        const grammar = options.grammar as Grammar | undefined;
        // one that knows of no thinking covers the whole answer
        const splits = reasoning !== undefined && (grammar === undefined || Boolean(grammar.thinking));
        if (splits) generation.split(this.#text.reasoning!, reasoning, this.#text.tokenBytes);
        const request: Unsent = {
          id,
          tokens,
          sampling: { ...sampling, seed: sampling.seed ?? randomInt(2 ** 47) },
          limits,
          stopTokens: [...(limits.ignoreEos ? [] : this.#text.endTokens), ...limits.stopTokens],
          // what is kept is a session, by its first turn's name where it has no other
          sessionId: options.sessionId ?? (options.after === undefined ? options.keepAs?.name : null) ?? null,
          continuation,
          sessionLength: options.sessionLength ?? null,
          priority: options.priority ?? 0,
          owner: options.owner ?? 0,
          adapter,
          grammarStart: splits && reasoning !== 'after' ? reasoning : 'document',
          forkOf,
          after: options.after ?? null,
          keepAs: options.keepAs ? { ...options.keepAs, note: noteOf(options.keepAs, continuation ?? tokens) } : null,
          embed,
        };
        this.#send(request, grammar);
      },
      (e) => this.#fail(id, e),
    );
    return generation;
  }

  /** A session that several servers share is fetched first. */
  #send(request: Unsent, grammar: Grammar | undefined): void {
    // the worker keeps few: it is named when it is sent
    const send = (r: Unsent) => this.#outgoing.send({ ...r, grammar: this.#outgoing.grammar(grammar) });
    const shared = this.#shared;
    if (!shared || (request.sessionId === null && !request.after)) {
      send(request);
      return;
    }
    shared.prepare(request).then(
      (prepared) => {
        if (this.#generations.has(request.id)) send(prepared);
        else void shared.release(request.id);
      },
      (e) => this.#fail(request.id, e),
    );
  }

  /** Its index, -1: none is wanted, null: nothing is said of one. */
  #adapterOf({ adapter }: RequestOptions): number | null | LongmindError {
    if (adapter == null) return adapter === null ? -1 : null;
    const names = (this.data.program.adapters ?? []).map((a) => a.name);
    const i = names.indexOf(adapter);
    return i >= 0 ? i : errors.unknownAdapter(adapter, names);
  }

  /** A request that ended before it began. */
  #refused(error: LongmindError): Generation {
    const none = () => this.#refused(error);
    const generation = new RunningGeneration(this.#nextId++, { stop: [], minTokens: 0 }, this.#text.createDecoder(), {
      abort() {},
      fork: none,
    });
    generation.fail(error);
    return generation;
  }

  readonly #ownSessions = {
    list: (owner = 0): Promise<SessionInfo[]> => this.#call('listSessions', { owner }),
    get: (id: string, owner = 0): Promise<SessionInfo> => this.#call('getSession', { id, owner }),
    tokens: (id: string, owner = 0): Promise<Int32Array> => this.#call('sessionTokens', { id, owner }),
    fork: (id: string, newId: string, options: { length?: number; owner?: number } = {}): Promise<SessionInfo> =>
      this.#call('forkSession', { id, newId, length: options.length ?? null, owner: options.owner ?? 0 }),
    truncate: (id: string, length: number, owner = 0): Promise<SessionInfo> =>
      this.#call('truncateSession', { id, length, owner }),
    delete: async (id: string, owner = 0): Promise<void> => {
      await this.#call('deleteSession', { id, owner });
    },
  };

  readonly #ownCheckpoints = {
    get: (name: string, owner = 0): Promise<Checkpoint> => this.#call('checkpoint', { name, owner }),
    path: (name: string, owner = 0): Promise<{ turns: Checkpoint[]; tokens: Int32Array }> =>
      this.#call('checkpointPath', { name, owner }),
    delete: async (name: string, owner = 0): Promise<void> => {
      await this.#call('deleteCheckpoint', { name, owner });
    },
  };

  onProblem(listener: (problem: string) => void): void {
    this.#onProblem.push(listener);
    for (const problem of this.#untold.splice(0)) listener(problem);
  }

  async stats(): Promise<EngineStats> {
    const stats = await this.#call('stats', null);
    const store = this.#shared?.store;
    return store ? { ...stats, sessionStoreFailure: store.failure, store: store.stats() } : stats;
  }

  snapshot(): Promise<EngineSnapshot> {
    return this.#call('snapshot', null);
  }

  async check(): Promise<void> {
    await this.#call('check', null);
  }

  /** Ends what runs, frees the device, ends the worker. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    this.#stay();
    return this.#closing;
  }

  // ---------------------------------------------------------------- inside

  async #close(): Promise<void> {
    for (const id of [...this.#generations.keys()]) this.#fail(id, errors.engineClosed());
    if (!this.#dead) {
      if (this.#cancel) Atomics.store(this.#cancel, 0, 1);
      this.#thread.post({ type: 'close' });
      await this.#thread.ended;
    }
    await this.#shared?.close();
    await this.#text.close();
  }

  /** The process stays while something is asked for or being closed; an idle engine keeps none alive. */
  #stay(): void {
    this.#thread.hold(this.#closing !== null || this.#generations.size + this.#calls > 0);
  }

  #abort(id: number): void {
    if (!this.#outgoing.sent.has(id)) this.#endUnsent(id);
    else {
      this.#thread.post({ type: 'abort', id });
      // the only request there is: do not even finish the step
      if (this.#outgoing.sent.size === 1 && this.#cancel) Atomics.store(this.#cancel, 0, 1);
    }
  }

  /** Aborted before the worker heard of it. */
  #endUnsent(id: number): void {
    this.#generations.get(id)?.finish({
      id,
      reason: 'abort',
      promptTokens: 0,
      cachedTokens: 0,
      acceptedDraftTokens: 0,
      completionTokens: 0,
      stopString: null,
      restoredTokens: 0,
      recomputedTokens: 0,
      queueMs: 0,
    });
    this.#generations.delete(id);
    void this.#shared?.release(id);
  }

  /** `ended`: the engine's thread is through with it. */
  #fail(id: number, e: unknown, ended = true): void {
    const error = e instanceof LongmindError ? e : errors.engineFailed(e instanceof Error ? e.message : String(e));
    this.#generations.get(id)?.fail(error);
    this.#generations.delete(id);
    if (!ended) return;
    this.#outgoing.sent.delete(id);
    void this.#shared?.release(id);
  }

  #receive({ begun, tokens, logprobs, finished, failed }: Extract<FromWorker, { type: 'step' }>): void {
    for (const b of begun) this.#generations.get(b.id)?.begun(b, !this.#shared?.unkept(b.id));
    for (let i = 0; i < tokens.length; i += 2) {
      this.#generations.get(tokens[i]!)?.token(tokens[i + 1]!, logprobs?.[i / 2] ?? null);
    }
    for (const f of finished) {
      this.#outgoing.sent.delete(f.id);
      if (this.#shared?.holds(f.id)) void this.#commit(this.#shared, f);
      else this.#finish(f);
    }
    for (const f of failed) void this.#failed(f.id, reviveError(f.error));
  }

  /** What the store has not taken has not ended. */
  async #commit(shared: SharedSessions, f: FinishedRequest): Promise<void> {
    try {
      await shared.commit(f.id, f.change ?? null);
      this.#finish(f);
    } catch (e) {
      this.#fail(f.id, e);
    }
  }

  /** Who is told may ask again at once, of any server. */
  async #failed(id: number, error: LongmindError): Promise<void> {
    if (this.#shared?.holds(id)) await this.#shared.release(id);
    this.#fail(id, error);
  }

  #finish(f: FinishedRequest): void {
    this.#generations.get(f.id)?.finish(f);
    this.#generations.delete(f.id);
  }

  #call<N extends keyof Calls>(name: N, args: Calls[N]['args']): Promise<Calls[N]['result']> {
    if (this.#dead || this.#closing) return Promise.reject(this.#dead ?? errors.engineClosed());
    this.#calls++;
    this.#stay();
    return this.#thread.call(name, args).finally(() => {
      this.#calls--;
      this.#stay();
    });
  }

  #open(onProgress?: OnProgress): Thread {
    const script = new URL('./worker.js', import.meta.url);
    return new WorkerClient(
      script,
      { data: { ...this.data, engineId: this.#engineId } satisfies WorkerStart },
      {
        onMessage: (m) => {
          if (m.type === 'step') this.#receive(m);
          else if (m.type === 'progress') onProgress?.(m.what, m.done, m.total);
          else this.#tell(m.problem);
        },
        onEnd: ({ error, detail }) => this.#ended(error, detail),
      },
    );
  }

  #emptyOutgoing(): Outgoing {
    return new Outgoing(
      (m) => this.#thread.post(m),
      (id) => this.#generations.has(id),
    );
  }

  #sendVocabulary(): void {
    const { tokenBytes, endTokens } = this.#text;
    this.#thread.post({ type: 'vocabulary', vocabulary: { tokenBytes, endOfTurn: endTokens } });
  }

  #tell(problem: string): void {
    if (this.#onProblem.length === 0) this.#untold = [...this.#untold, problem].slice(-UNTOLD);
    for (const tell of this.#onProblem) tell(problem);
  }

  /** The worker is gone: everything in flight fails, and another one is started. */
  #ended(error: LongmindError, detail: string): void {
    if (!this.#started || this.#closing) {
      this.#die(error);
      return;
    }
    const now = performance.now();
    this.#restarts = [...this.#restarts.filter((t) => t > now - RESTARTS_WITHIN_MS), now];
    if (this.#restarts.length > RESTARTS) {
      const failed = errors.engineFailed(
        `its thread ended ${RESTARTS + 1} times within a minute, the last time: ${detail}`,
      );
      this.#tell(failed.message);
      this.#die(failed);
      return;
    }
    const kept =
      this.data.config.sessionStore !== '' ? 'sessions come back from the session store' : 'sessions are lost';
    this.#tell(`the engine's thread is started anew (${detail}); the requests in flight fail, ${kept}`);
    this.#failAll(errors.engineFailed(detail));
    this.#restart();
  }

  /** What comes meanwhile waits in the new thread's mailbox until it has loaded the weights. */
  #restart(): void {
    this.#cancel = null;
    this.#outgoing = this.#emptyOutgoing();
    const thread = this.#open();
    this.#thread = thread;
    this.#sendVocabulary();
    this.#stay();
    thread.ready.then(
      ({ cancel }) => {
        if (this.#thread === thread) this.#cancel = cancel;
      },
      // one that ended without a word has told onEnd
      (e: LongmindError) => {
        if (this.#thread === thread && !this.#dead) this.#ended(e, e.message);
      },
    );
  }

  #die(error: LongmindError): void {
    this.#dead ??= error;
    this.#withdraw();
    this.#failAll(this.#dead);
  }

  /** The memory that was promised to a thread that could not say itself that it needs it no more. */
  #withdraw(): void {
    withdrawPromise(promisesFolder(process.env), this.#engineId);
  }

  #failAll(error: LongmindError): void {
    for (const id of [...this.#generations.keys()]) this.#fail(id, error);
  }
}

const noteOf = ({ note }: KeepAs, tokens: Int32Array): string => (typeof note === 'string' ? note : note(tokens));
