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
import { createTaskLists, planTasks, type TaskLists, type TaskRules, type Tasks } from './tasks.js';
import { sizesOf, type Upload, UploadLayout, type UploadSizes, writeUpload } from './upload.js';
import type { Weights } from './weights.js';
import { splitLen, stepBytes, type Workspace } from './workspace.js';

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
  upload: Upload;
  device: Address;
  result: MutableResult;
  resultDevice: Address;
  event: Address;
  graphs: Map<string, Graph>;
  /** False: it was cancelled before it was launched. */
  launched: boolean;
  step: Step | null;
}

/** A step of these rounded sizes, ready to run. */
interface Graph {
  layout: UploadLayout;
  graph: Address;
}

/** Sizes that graphs are made for. */
const BUCKETS = [1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256];
const MOST_GRAPHS = 64;

export class StepQueue {
  readonly #places: Place[];
  readonly #rules: TaskRules;
  readonly #lists: TaskLists;
  #submitted = 0;
  #ended = 0;
  /** Logit rows of the step submitted last. */
  #drawn = 0;
  /** A step in flight was cancelled: none behind it runs. */
  #broken = false;

  constructor(private readonly parts: QueueParts) {
    const { limits, dims, depth, chain, work, blockLen } = parts;
    const { prefillTokens } = chain;
    const group = dims.heads / dims.kvHeads;
    this.#rules = { blockLen, group, prefillTokens, partialRows: work.partialRows, splitLen: splitLen(dims) };
    this.#lists = createTaskLists(limits.maxTokens, limits.maxRows);
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
      for (const { graph } of graphs.values()) driver.destroyGraph(graph);
      driver.destroyEvent(event);
    }
  }

  #makePlace(bytes: number): Place {
    const { driver, memory, limits } = this.parts;
    const result = createResult(limits, (n) => memory.host(n).buffer);
    const resultDevice = memory.take(result.bytes.length, 'the results');
    return {
      upload: this.#makeUpload(bytes),
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
    for (const { graph } of place.graphs.values()) driver.destroyGraph(graph);
    place.graphs.clear();
    memory.releaseHost(place.upload.bytes);
    memory.release(place.device);
    place.upload = this.#makeUpload(bytes);
    place.device = memory.take(bytes, 'the steps');
  }

  #makeUpload(length: number): Upload {
    const bytes = this.parts.memory.host(length);
    return { bytes, words: new Int32Array(bytes.buffer) };
  }

  #launch(step: Step, place: Place): void {
    const { driver, stream, limits, kernels } = this.parts;
    const tasks = planTasks(step, this.#rules, this.#lists);
    const sizes = sizesOf(step, tasks, limits);
    const rounded = kernels.debug ? null : this.#rounded(sizes, tasks);
    const known = rounded && this.#known(place, rounded, tasks.splits);
    const layout = known?.layout ?? new UploadLayout(rounded ?? sizes);
    if (layout.bytes > place.upload.bytes.length) this.#enlarge(place, up(2 * layout.bytes, 4096));
    writeUpload(step, tasks, this.#lists, layout, place.upload);
    driver.upload(place.device, place.upload.bytes.subarray(0, layout.bytes), stream);
    kernels.restart();
    if (!rounded) this.#run(place, layout, { ...sizes, tasks });
    else {
      const graph = known ?? this.#capture(place, layout, { ...rounded, tasks: { ...tasks, decode: rounded.decode } });
      driver.launchGraph(graph.graph, stream);
    }
    const from = place.result.tokens.byteOffset;
    driver.download(place.result.bytes.subarray(from), place.resultDevice + from, stream);
    driver.record(place.event, stream);
  }

  #run(place: Place, layout: UploadLayout, shape: ChainShape): void {
    const { chain, weights, work, pool, depth } = this.parts;
    const before = this.#places[(this.#submitted + depth - 1) % depth]!;
    const where = { upload: place.device, layout, result: place.resultDevice, before: before.resultDevice };
    chain.run(shape, where, place.result, weights, work, pool);
  }

  /** Sizes of the graph for a step; null if it is none that comes again. */
  #rounded(sizes: UploadSizes, { prefill, firstToken, splits }: Tasks): UploadSizes | null {
    const { limits, work, blockLen } = this.parts;
    const { tokens, logits, copies, columns } = sizes;
    if (prefill > 0 || copies > 0 || tokens === 0 || firstToken > 0) return null;
    const t = BUCKETS.find((n) => n >= tokens);
    const l = logits === 0 ? 0 : BUCKETS.find((n) => n >= logits);
    if (t === undefined || l === undefined || t > limits.maxTokens || l > limits.maxLogits) return null;
    if (t * splits > work.partialRows) return null;
    const seen = Math.min(columns, Math.ceil((splits * this.#rules.splitLen) / blockLen));
    return { ...sizes, tokens: t, logits: l, rows: t, decode: t, columns: seen };
  }

  #known(place: Place, sizes: UploadSizes, splits: number): Graph | undefined {
    return place.graphs.get(keyOf(sizes, splits));
  }

  #capture(place: Place, layout: UploadLayout, shape: ChainShape): Graph {
    const { driver, stream } = this.parts;
    if (place.graphs.size >= MOST_GRAPHS) {
      const [oldest, { graph }] = place.graphs.entries().next().value!;
      driver.destroyGraph(graph);
      place.graphs.delete(oldest);
    }
    const graph = { layout, graph: driver.capture(stream, () => this.#run(place, layout, shape)) };
    place.graphs.set(keyOf(layout.sizes, shape.tasks.splits), graph);
    return graph;
  }
}

/** Everything in a graph's launches follows from these. */
const keyOf = ({ tokens, logits, bias, history, masks }: UploadSizes, splits: number): string =>
  `${tokens},${logits},${splits},${bias},${history},${masks}`;
