/**
 * The engine worker: owns device, cache manager and batch. Between steps it drains its mailbox without going back to the
 * event loop; idle, it sleeps on a message.
 */
import os from 'node:os';
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { type Grammar, prepareVocabulary } from 'longmind-grammar';
import { MemoryPromises, promisesFolder } from '../base/memory-promises.js';
import { type Answers, answer, begin, typed } from '../base/worker.js';
import { gpuOf } from '../config.js';
import { createCpuDevice, hostMemoryLevels } from '../device/cpu/index.js';
import { createCudaDevice } from '../device/cuda/index.js';
import type { Device } from '../device/device.js';
import { createNullDevice } from '../device/null/index.js';
import { errors, invariant, type LongmindError } from '../errors.js';
import type { TokenLogprob } from '../types.js';
import type { BatchEvents } from './batch.js';
import { Core } from './core.js';
import { openDraft } from './draft.js';
import type { Begun, Calls, FromWorker, Ready, ToWorker, WorkerData, WorkerStart } from './protocol.js';
import type { EngineRequest, FinishedRequest } from './request.js';
import type { DraftModel } from './speculation/draft-model.js';

/** Collects the events of one step into one message. */
class Outbox implements BatchEvents {
  #begun: Begun[] = [];
  #tokens: number[] = [];
  #logprobs: (TokenLogprob | null)[] = [];
  #anyLogprobs = false;
  #finished: FinishedRequest[] = [];
  #failed: { id: number; error: ReturnType<LongmindError['toJSON']> }[] = [];

  constructor(private readonly port: MessagePort) {}

  begun(begun: Begun): void {
    this.#begun.push(begun);
  }

  token(request: { id: number }, tokenId: number, logprob: TokenLogprob | null): void {
    this.#tokens.push(request.id, tokenId);
    this.#logprobs.push(logprob);
    this.#anyLogprobs ||= logprob !== null;
  }

  finished(result: FinishedRequest): void {
    this.#finished.push(result);
  }

  failed(id: number, error: LongmindError): void {
    this.#failed.push({ id, error: error.toJSON() });
  }

  flush(): void {
    if (this.#tokens.length + this.#finished.length + this.#failed.length === 0) return;
    this.port.postMessage({
      type: 'step',
      begun: this.#begun,
      tokens: Int32Array.from(this.#tokens),
      logprobs: this.#anyLogprobs ? this.#logprobs : null,
      finished: this.#finished,
      failed: this.#failed,
    } satisfies FromWorker);
    this.#begun = [];
    this.#tokens = [];
    this.#logprobs = [];
    this.#anyLogprobs = false;
    this.#finished = [];
    this.#failed = [];
  }
}

function createDevice(data: WorkerData, say: (m: FromWorker) => void): Device {
  const { device, tp, threads, isa, nativeLibrary } = data.config;
  if (device === 'null') return createNullDevice();
  const gpu = gpuOf(device);
  if (gpu !== null) {
    const onBuild = (what: string, done: number, total: number) => say({ type: 'progress', what, done, total });
    return createCudaDevice({ gpu, tp, nvrtc: data.nvrtc, onBuild });
  }
  return createCpuDevice({
    threads: threads || undefined,
    isa,
    library: nativeLibrary || undefined,
    onBuild: (line) => say({ type: 'progress', what: line, done: 0, total: 0 }),
  });
}

/** While KV is on its way it is looked for so often. */
const WATCH_MS = 1;

const answers: Answers<Calls, Core> = {
  stats: (_, core) => core.stats(),
  snapshot: (_, core) => core.snapshot(),
  check: (_, core) => {
    core.batch.check();
    return null;
  },
  listSessions: ({ owner }, { batch }) => batch.sessions.list(owner),
  getSession: ({ id, owner }, { batch }) => batch.sessions.info(batch.sessions.get(id, owner)),
  sessionTokens: ({ id, owner }, { batch, cache }) => {
    const { sequence } = batch.sessions.get(id, owner);
    const out = new Int32Array(cache.known(sequence));
    cache.readTokens(sequence, 0, out.length, out, 0);
    return out;
  },
  forkSession: ({ id, newId, length, owner }, { batch, cache }) => {
    const from = batch.sessions.idle(id, owner);
    if (batch.sessions.find(newId, owner)) throw errors.invalidRequest(`there is a session '${newId}' already`, 'id');
    const known = cache.known(from.sequence);
    const keep = length ?? known;
    if (keep > known) throw errors.sessionTooShort(id, known, keep);
    const fork = () => cache.fork(from.sequence, keep);
    return batch.sessions.info(batch.sessions.adopt(newId, owner, fork, { id, tokens: keep }, from.adapter));
  },
  truncateSession: ({ id, length, owner }, { batch, cache }) => {
    const session = batch.sessions.idle(id, owner);
    const known = cache.known(session.sequence);
    if (length > known) throw errors.sessionTooShort(id, known, length);
    cache.truncate(session.sequence, length);
    batch.sessions.changed(session, length);
    return batch.sessions.info(session);
  },
  checkpoint: ({ name, owner }, { batch }) => batch.sessions.points.info(batch.sessions.point(name, owner)),
  checkpointPath: ({ name, owner }, { batch, cache }) => {
    const point = batch.sessions.point(name, owner);
    const tokens = new Int32Array(point.end);
    cache.readTokens(point.session.sequence, 0, point.end, tokens, 0);
    return { turns: batch.sessions.points.path(point).map((p) => batch.sessions.points.info(p)), tokens };
  },
  deleteCheckpoint: ({ name, owner }, { batch }) => {
    batch.sessions.deletePoint(name, owner);
    return null;
  },
  deleteSession: ({ id, owner }, { batch }) => {
    batch.sessions.delete(id, owner);
    return null;
  },
};

/** A failure of our own code costs the requests in flight, not the sessions. */
function stepOrRestart(core: Core): boolean {
  try {
    return core.batch.step();
  } catch (e) {
    core.restart(typed(e));
    return true;
  }
}

/**
 * What computes uses every processor it can get, and what serves needs one for a moment, often: it must not stand in line.
 * On Linux a nice value is a thread's, and the device's threads, which this one starts, inherit it.
 */
function giveWay(by: number): void {
  if (process.platform === 'linux' && by > 0) os.setPriority(Math.min(19, os.getPriority() + by));
}

/**
 * What all grammars share takes 100 ms to make. Done when the engine has nothing to do, so that neither the first token
 * after the start nor the first constrained request, nor those that run beside it, wait for it.
 */
const PREPARE_AFTER_MS = 500;

/**
 * Device, cache manager and batch, made, and a promise of the memory that they take; `wake` is called when there is work
 * again for an engine that sleeps.
 */
function openCore(
  port: MessagePort,
  data: WorkerStart,
  outbox: Outbox,
  promises: MemoryPromises,
  wake: () => void,
): Core {
  const say = (m: FromWorker) => port.postMessage(m);
  const device = createDevice(data, say);
  const news = {
    progress: (what: string, done: number, total: number) => say({ type: 'progress', what, done, total }),
    problem: (problem: string) => say({ type: 'problem', problem }),
    wake,
  };
  const { config, program } = data;
  const sessionLen = config.sessionLen || program.dims.contextLength;
  let draft: DraftModel | null = null;
  try {
    if (data.draft)
      draft = openDraft(data.draft, config, sessionLen, createDevice(data, say), news, undefined, promises);
    return new Core(data, device, outbox, news, draft, promises);
  } catch (e) {
    draft?.close();
    promises.withdraw();
    throw e;
  }
}

/** Steps while there is something to do, and takes in what is asked between two steps. */
class EngineThread {
  readonly #grammars = new Map<number, Grammar>();
  #closing = false;
  #closed: Promise<void> | null = null;
  /** Looks again for KV that is on its way. */
  #watch: NodeJS.Timeout | null = null;

  constructor(
    private readonly port: MessagePort,
    private readonly core: Core,
    private readonly outbox: Outbox,
    private readonly promises: MemoryPromises,
  ) {}

  /** Does all there is to do. */
  run(): void {
    const { core, outbox, port } = this;
    if (this.#closed) return;
    while (!this.#closing && stepOrRestart(core)) {
      outbox.flush();
      for (let m = receiveMessageOnPort(port); m; m = receiveMessageOnPort(port)) this.handle(m.message as ToWorker);
    }
    outbox.flush();
    if (this.#closing) {
      this.#closed = core.close().finally(() => {
        this.promises.withdraw();
        port.close();
      });
    } else if (core.batch.watching) this.#lookAgain();
  }

  #lookAgain(): void {
    this.#watch ??= setTimeout(() => {
      this.#watch = null;
      this.run();
    }, WATCH_MS).unref();
  }

  handle(m: ToWorker): void {
    const { core } = this;
    if (m.type === 'requests') for (const request of m.requests) this.#submit(request);
    else if (m.type === 'vocabulary') {
      core.setVocabulary(m.vocabulary);
      setTimeout(() => prepareVocabulary(m.vocabulary.tokenBytes), PREPARE_AFTER_MS).unref();
    } else if (m.type === 'grammar') {
      if (m.grammar) this.#grammars.set(m.id, m.grammar);
      else this.#grammars.delete(m.id);
    } else if (m.type === 'abort') core.batch.abort(m.id);
    else if (m.type === 'close') this.#closing = true;
    else answer(this.port, m, answers, core);
  }

  #submit(request: EngineRequest): void {
    try {
      const grammar = request.grammar === null ? null : this.#grammars.get(request.grammar);
      invariant(grammar !== undefined, `request ${request.id} names a grammar that was never sent`);
      this.core.batch.submit(request, grammar);
    } catch (e) {
      this.outbox.failed(request.id, typed(e));
    }
  }

  /**
   * Not only a step may fail. If making the engine anew fails too, the thread ends with what `end` is given, and another one
   * may be started.
   */
  rescue(e: Error, end: (cause: unknown) => void): void {
    if (this.#closing) return;
    try {
      this.core.restart(typed(e));
    } catch (cause) {
      this.#closing = true;
      this.outbox.flush();
      // what it holds would stay with the process: memory, threads, the lock of the session store
      this.#closed = this.core.abandon().finally(() => setImmediate(() => end(cause)));
      return;
    }
    this.run();
  }
}

function serve(port: MessagePort, data: WorkerStart): Ready {
  giveWay(data.config.engineNice);
  const outbox = new Outbox(port);
  let thread: EngineThread | null = null;
  const promises = new MemoryPromises({
    folder: promisesFolder(process.env),
    name: data.engineId,
    levels: hostMemoryLevels,
    onProblem: (problem) => port.postMessage({ type: 'problem', problem } satisfies FromWorker),
  });
  const core = openCore(port, data, outbox, promises, () => thread?.run());
  const opened = new EngineThread(port, core, outbox, promises);
  thread = opened;
  port.on('message', (m: ToWorker) => {
    opened.handle(m);
    opened.run();
  });
  const rescue = (e: Error): void =>
    opened.rescue(e, (cause) => {
      process.off('uncaughtException', rescue);
      throw cause;
    });
  process.on('uncaughtException', rescue);
  return { info: core.info, cancel: core.device.cancel };
}

begin((port) => ({ made: null, info: serve(port, workerData as WorkerStart) }));
