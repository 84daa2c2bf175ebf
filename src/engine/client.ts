/** The engine as the main thread sees it: requests go to the worker, token events come back, one message a step. */
import { randomInt } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { limitOptions, parseOptions, samplingOptions } from '../config.js';
import { errors, invariant, LongmindError, reviveError } from '../errors.js';
import type { EngineSnapshot, EngineStats, Generation, RequestOptions, SessionInfo } from '../types.js';
import { RunningGeneration } from './generation.js';
import { Outgoing } from './outgoing.js';
import { type Encoded, encodePrompt, type Prompt, type TextSide } from './prompt.js';
import type { CallName, Calls, CoreInfo, FromWorker, ToWorker, WorkerData } from './protocol.js';

/** Request options beside the sampling and limit tables. */
const REQUEST_FIELDS = ['sessionId', 'sessionAppend', 'priority', 'owner', 'signal', 'grammar', 'tools'] as const;

export class EngineClient {
  readonly #generations = new Map<number, RunningGeneration>();
  readonly #calls = new Map<number, { resolve: (v: never) => void; reject: (e: unknown) => void }>();
  readonly #onProblem: ((problem: string) => void)[] = [];
  readonly #outgoing = new Outgoing(
    (m) => this.#post(m),
    (id) => this.#generations.has(id),
  );
  #nextId = 1;
  #cancel: Int32Array | null = null;
  #closing: Promise<void> | null = null;
  #onClosed: (() => void) | null = null;
  #dead: LongmindError | null = null;

  #text!: TextSide;

  private constructor(private readonly worker: Worker) {}

  /** `opening`: the tokenizer, which starts while the weights load. Closed with the engine, also if that fails to start. */
  static async start(
    data: WorkerData,
    opening: TextSide | Promise<TextSide>,
    onProgress?: (what: string, done: number, total: number) => void,
  ): Promise<{ client: EngineClient; info: CoreInfo }> {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: data });
    const client = new EngineClient(worker);
    const loading = client.#listen(onProgress);
    loading.catch(() => {});
    try {
      client.#text = await opening;
      const { tokenBytes, endTokens } = client.#text;
      client.#post({ type: 'vocabulary', vocabulary: { tokenBytes, endOfTurn: endTokens } });
      return { client, info: await loading };
    } catch (e) {
      await Promise.all([
        worker.terminate(),
        Promise.resolve(opening)
          .then((text) => text.close())
          .catch(() => {}),
      ]);
      throw e;
    }
  }

  /** Resolves when the worker is ready. */
  #listen(onProgress?: (what: string, done: number, total: number) => void): Promise<CoreInfo> {
    const { worker } = this;
    return new Promise<CoreInfo>((resolve, reject) => {
      worker.on('message', (m: FromWorker) => {
        if (m.type === 'progress') onProgress?.(m.what, m.done, m.total);
        else if (m.type === 'problem') for (const tell of this.#onProblem) tell(m.problem);
        else if (m.type === 'ready') {
          this.#cancel = m.cancel;
          resolve(m.info);
        } else if (m.type === 'fatal') reject(reviveError(m.error));
        else this.#receive(m);
      });
      const end = (error: LongmindError) => {
        reject(error);
        this.#die(error);
      };
      worker.on('error', (e) => end(errors.engineFailed(e.message)));
      worker.on('exit', () => {
        end(errors.engineClosed());
        this.#onClosed?.();
      });
    });
  }

  generate(prompt: Prompt, options: RequestOptions): Generation {
    return this.#start(options, null, () =>
      encodePrompt(this.#text, prompt, options.sessionAppend ?? false, options.tools),
    );
  }

  /** `forkOf`: a request with the same prompt, which `encode` gives too. */
  #start(options: RequestOptions, forkOf: number | null, encode: () => Promise<Encoded>): Generation {
    const id = this.#nextId++;
    const sampling = parseOptions(samplingOptions, pick(options, samplingOptions));
    const limits = parseOptions(limitOptions, pick(options, limitOptions));
    parseOptions({}, options as Record<string, unknown>, [
      ...REQUEST_FIELDS,
      ...Object.keys(samplingOptions),
      ...Object.keys(limitOptions),
    ]);
    const { signal } = options;
    const onSignal = () => generation.abort();
    const generation = new RunningGeneration(id, limits.stop, this.#text.createDecoder(), {
      abort: () => this.#abort(id),
      fork: (other) => {
        if (options.sessionId !== undefined)
          throw errors.invalidRequest('several answers cannot be one session', 'session_id');
        return this.#start({ ...options, ...other }, id, () => encoded);
      },
    });
    if (this.#dead || this.#closing) {
      generation.fail(this.#dead ?? errors.engineClosed());
      return generation;
    }
    this.#generations.set(id, generation);
    const forget = () => signal?.removeEventListener('abort', onSignal);
    generation.result().then(forget, forget);
    signal?.addEventListener('abort', onSignal, { once: true });
    if (signal?.aborted) this.#endUnsent(id);
    const encoded = encode();
    encoded.then(
      ({ tokens, continuation }) =>
        this.#outgoing.send({
          id,
          tokens,
          sampling: { ...sampling, seed: sampling.seed ?? randomInt(2 ** 47) },
          limits,
          stopTokens: [...(limits.ignoreEos ? [] : this.#text.endTokens), ...limits.stopTokens],
          sessionId: options.sessionId ?? null,
          continuation,
          priority: options.priority ?? 0,
          owner: options.owner ?? 0,
          grammar: this.#outgoing.grammar(options.grammar),
          forkOf,
        }),
      (e) => this.#fail(id, e),
    );
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
    return this.#closing;
  }

  // ---------------------------------------------------------------- inside

  async #close(): Promise<void> {
    for (const id of [...this.#generations.keys()]) this.#fail(id, errors.engineClosed());
    if (!this.#dead) {
      const closed = new Promise<void>((resolve) => {
        this.#onClosed = resolve;
      });
      if (this.#cancel) Atomics.store(this.#cancel, 0, 1);
      this.#post({ type: 'close' });
      await closed;
    }
    await this.#text.close();
  }

  #post(m: ToWorker): void {
    this.worker.postMessage(m);
  }

  #abort(id: number): void {
    if (!this.#outgoing.sent.has(id)) this.#endUnsent(id);
    else {
      this.#post({ type: 'abort', id });
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
      completionTokens: 0,
      stopString: null,
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

  #receive(m: FromWorker): void {
    if (m.type === 'step') {
      for (let i = 0; i < m.tokens.length; i += 2) {
        this.#generations.get(m.tokens[i]!)?.token(m.tokens[i + 1]!, m.logprobs?.[i / 2] ?? null);
      }
      for (const f of m.finished) {
        this.#generations.get(f.id)?.finish(f);
        this.#generations.delete(f.id);
        this.#outgoing.sent.delete(f.id);
      }
      for (const f of m.failed) this.#fail(f.id, reviveError(f.error));
    } else if (m.type === 'reply' || m.type === 'refused') {
      const call = this.#calls.get(m.call);
      invariant(call, `an answer to unknown call ${m.call}`);
      this.#calls.delete(m.call);
      if (m.type === 'reply') call.resolve(m.value as never);
      else call.reject(reviveError(m.error));
    }
  }

  #call<N extends CallName>(name: N, args: Calls[N]['args']): Promise<Calls[N]['result']> {
    if (this.#dead || this.#closing) return Promise.reject(this.#dead ?? errors.engineClosed());
    const call = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#post({ type: 'call', call, name, args });
    });
  }

  /** The worker is gone: everything in flight fails. */
  #die(error: LongmindError): void {
    this.#dead ??= error;
    for (const id of [...this.#generations.keys()]) this.#fail(id, this.#dead);
    for (const call of this.#calls.values()) call.reject(this.#dead);
    this.#calls.clear();
  }
}

function pick(options: object, table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name in table));
}
