/** The engine as the main thread sees it: requests go to the worker, token events come back, one message a step. */
import { randomInt, randomUUID } from 'node:crypto';
import type { Grammar } from 'longmind-grammar';
import { promisesFolder, withdrawPromise } from '../base/memory-promises.js';
import { WorkerClient } from '../base/worker.js';
import { errors, LongmindError, reviveError } from '../errors.js';
import type {
  ChatMessage,
  ChatRequest,
  Checkpoint,
  CompletionRequest,
  EmbeddingRequest,
  EmbeddingResult,
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
import { readOptions } from './request-options.js';

type OnProgress = (what: string, done: number, total: number) => void;
type Thread = WorkerClient<Calls, Ready, ToWorker, FromWorker>;

/** A thread that ends is started anew, but not more often than so within a minute: then the engine has failed. */
const RESTARTS = 3;
const RESTARTS_WITHIN_MS = 60_000;

export class EngineClient {
  #thread: Thread;
  readonly #generations = new Map<number, RunningGeneration>();
  readonly #onProblem: ((problem: string) => void)[] = [];
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

  private constructor(
    private readonly data: WorkerData,
    onProgress?: OnProgress,
  ) {
    this.#thread = this.#open(onProgress);
  }

  /** `opening`: the tokenizer, which starts while the weights load. Closed with the engine, also if that fails to start. */
  static async start(
    data: WorkerData,
    opening: TextSide | Promise<TextSide>,
    onProgress?: OnProgress,
  ): Promise<{ client: EngineClient; info: CoreInfo }> {
    const client = new EngineClient(data, onProgress);
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
      await Promise.all([thread.terminate(), closed.catch(() => {})]);
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
        this.#outgoing.send({
          id,
          tokens,
          sampling: { ...sampling, seed: sampling.seed ?? randomInt(2 ** 47) },
          limits,
          stopTokens: [...(limits.ignoreEos ? [] : this.#text.endTokens), ...limits.stopTokens],
          // what is kept is a session, by its first turn's name where it has no other
          sessionId: options.sessionId ?? (options.after === undefined ? options.keepAs?.name : null) ?? null,
          continuation,
          priority: options.priority ?? 0,
          owner: options.owner ?? 0,
          grammar: this.#outgoing.grammar(grammar),
          grammarStart: splits && reasoning !== 'after' ? reasoning : 'document',
          forkOf,
          after: options.after ?? null,
          keepAs: options.keepAs ? { ...options.keepAs, note: noteOf(options.keepAs, continuation ?? tokens) } : null,
          embed,
        });
      },
      (e) => this.#fail(id, e),
    );
    return generation;
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

  readonly sessions = {
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

  readonly checkpoints = {
    get: (name: string, owner = 0): Promise<Checkpoint> => this.#call('checkpoint', { name, owner }),
    path: (name: string, owner = 0): Promise<{ turns: Checkpoint[]; tokens: Int32Array }> =>
      this.#call('checkpointPath', { name, owner }),
    delete: async (name: string, owner = 0): Promise<void> => {
      await this.#call('deleteCheckpoint', { name, owner });
    },
  };

  onProblem(listener: (problem: string) => void): void {
    this.#onProblem.push(listener);
  }

  stats(): Promise<EngineStats> {
    return this.#call('stats', null);
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
  }

  #fail(id: number, e: unknown): void {
    const error = e instanceof LongmindError ? e : errors.engineFailed(e instanceof Error ? e.message : String(e));
    this.#generations.get(id)?.fail(error);
    this.#generations.delete(id);
    this.#outgoing.sent.delete(id);
  }

  #receive({ begun, tokens, logprobs, finished, failed }: Extract<FromWorker, { type: 'step' }>): void {
    for (const b of begun) this.#generations.get(b.id)?.begun(b);
    for (let i = 0; i < tokens.length; i += 2) {
      this.#generations.get(tokens[i]!)?.token(tokens[i + 1]!, logprobs?.[i / 2] ?? null);
    }
    for (const f of finished) {
      this.#generations.get(f.id)?.finish(f);
      this.#generations.delete(f.id);
      this.#outgoing.sent.delete(f.id);
    }
    for (const f of failed) this.#fail(f.id, reviveError(f.error));
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
    const kept = this.data.config.sessionStore ? 'sessions come back from the session store' : 'sessions are lost';
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
