/**
 * Steps in flight. A step and its attention tasks go up in one copy, its result comes back in one; between them the chain of
 * kernels. Steps of few tokens are graphs, kept by their rounded sizes: rows that only fill up touch nothing.
 */
import { errors, invariant } from '../../errors.js';
import type { ModelDims } from '../../types.js';
import {
  createResult,
  type MutableResult,
  type Step,
  type StepLimits,
  type StepResult,
  type Ticket,
} from '../device.js';
import type { Chain, ChainShape } from './chain.js';
import { checkStep } from './check-step.js';
import type { Address, Driver } from './driver.js';
import type { KernelSet } from './kernel-set.js';
import type { DeviceMemory, KvPool } from './memory.js';
import { up } from './plan.js';
import { planTasks, taskOffsets } from './tasks.js';
import type { Weights } from './weights.js';
import { extraBytes, splitLen, stepBytes, type Workspace } from './workspace.js';

export interface QueueParts {
  driver: Driver;
  memory: DeviceMemory;
  kernels: KernelSet;
  chain: Chain;
  weights: Weights;
  work: Workspace;
  pool: KvPool;
  stream: Address;
  limits: StepLimits;
  dims: ModelDims;
  blockLen: number;
  /** Name of the buffer of logits. */
  logits: string;
  cancel: Int32Array;
  depth: number;
}

/** Where a step in flight lies. */
interface Place {
  host: Uint8Array;
  words: Int32Array;
  device: Address;
  result: MutableResult;
  resultDevice: Address;
  event: Address;
  graphs: Map<string, Address>;
  /** False: it was cancelled before it was launched. */
  launched: boolean;
  step: Step | null;
}

/** Sizes that graphs are made for. */
const BUCKETS = [1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256];
const MOST_GRAPHS = 64;

export class StepQueue {
  readonly #places: Place[];
  readonly #extra: number;
  readonly #group: number;
  #submitted = 0;
  #ended = 0;
  /** Logit rows of the step submitted last. */
  #drawn = 0;
  /** A step in flight was cancelled: none behind it runs. */
  #broken = false;

  constructor(private readonly parts: QueueParts) {
    const { limits, dims, depth } = parts;
    this.#extra = extraBytes(limits);
    this.#group = dims.heads / dims.kvHeads;
    this.#places = Array.from({ length: depth }, () => this.#makePlace(stepBytes(limits)));
  }

  submit(step: Step): Ticket {
    const { depth, cancel, limits, blockLen, pool } = this.parts;
    const inFlight = this.#submitted - this.#ended;
    invariant(inFlight < depth, `${depth} steps are in flight already`);
    invariant(!this.#places.some((p) => p.step === step), 'the buffer of a step in flight is submitted again');
    if (inFlight === 0) {
      Atomics.store(cancel, 0, 0);
      this.#broken = false;
    }
    this.#broken ||= Atomics.load(cancel, 0) !== 0;
    const place = this.#places[this.#submitted % depth]!;
    if (!this.#broken) {
      checkStep(step, { limits, blockLen, blocks: pool.blocks, drawn: this.#drawn });
      this.#launch(step, place);
    }
    place.launched = !this.#broken;
    place.step = step;
    this.#drawn = place.launched ? step.logitCount : 0;
    return this.#submitted++;
  }

  wait(ticket: Ticket): StepResult {
    invariant(ticket === this.#ended && ticket < this.#submitted, `ticket ${ticket} is not the oldest in flight`);
    const place = this.#places[ticket % this.parts.depth]!;
    this.#ended++;
    const { step, result } = place;
    place.step = null;
    result.completed = place.launched;
    result.logitCount = step!.logitCount;
    if (place.launched) this.parts.driver.eventWait(place.event);
    return result;
  }

  /** Of the last step that ended, while none is in flight. */
  logits(i: number): Float32Array {
    const { driver, work, logits, limits, stream } = this.parts;
    if (!(i >= 0 && i < limits.maxLogits)) throw errors.native(-1, `there is no row ${i} of logits`);
    const out = new Float32Array(limits.vocab);
    const from = work.buffers.get(logits)! + 4 * i * up(limits.vocab, 4);
    driver.download(new Uint8Array(out.buffer), from, stream);
    driver.synchronize(stream);
    return out;
  }

  close(): void {
    const { driver, stream } = this.parts;
    driver.synchronize(stream);
    for (const { graphs, event } of this.#places) {
      for (const graph of graphs.values()) driver.destroyGraph(graph);
      driver.destroyEvent(event);
    }
  }

  #makePlace(bytes: number): Place {
    const { driver, memory, limits } = this.parts;
    const host = memory.host(bytes);
    const result = createResult(limits, (n) => memory.host(n).buffer);
    const resultDevice = memory.take(result.bytes.length, 'the results');
    return {
      host,
      words: new Int32Array(host.buffer),
      device: memory.take(bytes, 'the steps'),
      result,
      resultDevice,
      event: driver.event(),
      graphs: new Map(),
      launched: false,
      step: null,
    };
  }

  /** More room for steps whose lists have grown. */
  #enlarge(place: Place, bytes: number): void {
    const { driver, memory, stream } = this.parts;
    driver.synchronize(stream);
    for (const graph of place.graphs.values()) driver.destroyGraph(graph);
    place.graphs.clear();
    memory.releaseHost(place.host);
    memory.release(place.device);
    place.host = memory.host(bytes);
    place.words = new Int32Array(place.host.buffer);
    place.device = memory.take(bytes, 'the steps');
  }

  #launch(step: Step, place: Place): void {
    const { driver, stream, limits, chain, work, kernels, dims } = this.parts;
    const bytes = this.#extra + step.bytes.length;
    if (bytes > place.host.length) this.#enlarge(place, up(2 * bytes, 4096));
    place.host.set(step.bytes, this.#extra);
    const rules = {
      maxTokens: limits.maxTokens,
      group: this.#group,
      prefillTokens: chain.prefillTokens,
      partialRows: work.partialRows,
      splitLen: splitLen(dims),
    };
    const tasks = planTasks(step, rules, place.words);
    const shape: ChainShape = { tokens: step.tokenCount, logits: step.logitCount, tasks, copies: step.copyCount };
    const rounded = kernels.debug ? null : this.#rounded(shape);
    if (rounded) this.#fillUp(step, place, shape, rounded);
    driver.upload(place.device, place.host.subarray(0, bytes), stream);
    kernels.restart();
    if (rounded) driver.launchGraph(this.#graph(step, place, rounded), stream);
    else this.#run(step, place, shape);
    const from = place.result.tokens.byteOffset;
    driver.download(place.result.bytes.subarray(from), place.resultDevice + from, stream);
    driver.record(place.event, stream);
  }

  #run(step: Step, place: Place, shape: ChainShape): void {
    const { chain, weights, work, pool, depth } = this.parts;
    const before = this.#places[(this.#submitted + depth - 1) % depth]!;
    const where = {
      extra: place.device,
      step: place.device + this.#extra,
      result: place.resultDevice,
      before: before.resultDevice,
    };
    chain.run(shape, where, step, place.result, weights, work, pool);
  }

  /** Sizes of the graph for a step; null if it is none that comes again. */
  #rounded({ tokens, logits, tasks, copies }: ChainShape): ChainShape | null {
    const { limits, work } = this.parts;
    if (tasks.prefill > 0 || copies > 0 || tokens === 0 || tasks.firstToken > 0) return null;
    const t = BUCKETS.find((n) => n >= tokens);
    const l = logits === 0 ? 0 : BUCKETS.find((n) => n >= logits);
    if (t === undefined || l === undefined || t > limits.maxTokens || l > limits.maxLogits) return null;
    if (t * tasks.splits > work.partialRows) return null;
    return { tokens: t, logits: l, copies: 0, tasks: { ...tasks, decode: t } };
  }

  /** What stands where the step has nothing: harmless values. */
  #fillUp(step: Step, place: Place, shape: ChainShape, rounded: ChainShape): void {
    const { words } = place;
    const base = this.#extra / 4;
    const clear = (array: Int32Array, from: number, to: number) => {
      const at = base + array.byteOffset / 4;
      words.fill(0, at + from, at + to);
    };
    clear(step.tokens, shape.tokens, rounded.tokens);
    clear(step.positions, shape.tokens, rounded.tokens);
    clear(step.logitRows, shape.logits, rounded.logits);
    const tasks = taskOffsets(this.parts.limits.maxTokens).decode;
    words.fill(0, tasks + 4 * shape.tasks.decode, tasks + 4 * rounded.tasks.decode);
  }

  #graph(step: Step, place: Place, shape: ChainShape): Address {
    const { driver, stream } = this.parts;
    const { tokens, logits, tasks } = shape;
    const layout = [step.historyTokens, step.historyCounts, step.biasTokens, step.biasValues, step.masks];
    const key = [tokens, logits, tasks.splits, ...layout.map((a) => a.byteOffset)].join();
    const known = place.graphs.get(key);
    if (known !== undefined) return known;
    if (place.graphs.size >= MOST_GRAPHS) {
      const [oldest, graph] = place.graphs.entries().next().value!;
      driver.destroyGraph(graph);
      place.graphs.delete(oldest);
    }
    const graph = driver.capture(stream, () => this.#run(step, place, shape));
    place.graphs.set(key, graph);
    return graph;
  }
}
