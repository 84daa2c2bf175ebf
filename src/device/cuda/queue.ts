/**
 * Steps in flight. A step and its attention tasks go up in one copy, its result comes back in one; between them the chain of
 * kernels. Steps of few tokens are graphs, kept by their rounded sizes: rows that only fill up touch nothing.
 */
import { errors, invariant } from '../../errors.js';
import {
  createResult,
  type MutableResult,
  type Step,
  type StepLimits,
  type StepResult,
  type Ticket,
} from '../device.js';
import type { ChainShape } from './chain.js';
import { checkStep } from './check-step.js';
import { type Address, unlessLost } from './driver.js';
import type { Ranks } from './load-ranks.js';
import { type Plan, up } from './plan.js';
import { OWNED_TILE, ownsLogits } from './products.js';
import { createTaskLists, planTasks, type TaskLists, type TaskRules, type Tasks } from './tasks.js';
import { sizesOf, type Upload, UploadLayout, type UploadSizes, writeUpload } from './upload.js';
import { stepBytes } from './workspace.js';

export interface QueueParts {
  /** GPUs that run each step together; results are the first one's. */
  ranks: Ranks;
  limits: StepLimits;
  /** Of the first rank. */
  plan: Plan;
  blockLen: number;
  /** Name of the buffer of logits. */
  logits: string;
  cancel: Int32Array;
  depth: number;
}

/** Where a step in flight lies. */
interface Place {
  upload: Upload;
  result: MutableResult;
  /** On each GPU. */
  on: { upload: Address; result: Address; results: Address; event: Address }[];
  graphs: Map<string, Graph>;
  /** False: it was cancelled before it was launched. */
  launched: boolean;
  step: Step | null;
}

/** A step of these rounded sizes, ready to run. */
interface Graph {
  layout: UploadLayout;
  /** One for each GPU. */
  graphs: Address[];
}

/** Sizes that graphs are made for. */
const BUCKETS = [1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256];
const MOST_GRAPHS = 64;
/** Operations that are launched on one GPU before the next gets them: a stream that is full waits for those that others have to do. */
const OPS_AT_ONCE = 16;
/** Of the step's header, the word that its number goes into: the hash of the layout means nothing on the device. */
const STEP_WORD = 0;

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
    const { limits, plan, depth, ranks, blockLen } = parts;
    const { chain, work } = ranks[0];
    const { prefillTokens } = chain;
    const group = plan.dims.heads / plan.dims.kvHeads;
    this.#rules = { blockLen, group, prefillTokens, partialRows: work.partialRows, splitLen: plan.splitLen };
    this.#lists = createTaskLists(limits.maxTokens, limits.maxRows);
    this.#places = Array.from({ length: depth }, () => this.#makePlace(stepBytes(limits)));
  }

  submit(step: Step): Ticket {
    const { depth, cancel, limits, blockLen, ranks } = this.parts;
    const { pool } = ranks[0];
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
    if (!place.launched) return result;
    this.parts.ranks.forEach(({ driver }, i) => {
      driver.eventWait(place.on[i]!.event);
    });
    return result;
  }

  /** Of the last step that ended, while none is in flight. */
  logits(i: number): Float32Array {
    const { ranks, logits, limits } = this.parts;
    const owner = ownsLogits(ranks.length, this.#drawn) ? Math.floor(i / OWNED_TILE) % ranks.length : 0;
    const { driver, work, stream } = ranks[owner]!;
    if (!(i >= 0 && i < limits.maxLogits)) throw errors.native(-1, `there is no row ${i} of logits`);
    const out = new Float32Array(limits.vocab);
    const from = work.buffers.get(logits)! + 4 * i * up(limits.vocab, 4);
    driver.download(new Uint8Array(out.buffer), from, stream);
    driver.synchronize(stream);
    return out;
  }

  close(): void {
    const { ranks } = this.parts;
    for (const { driver, stream } of ranks) unlessLost(() => driver.synchronize(stream));
    for (const { graphs, on } of this.#places) {
      for (const graph of graphs.values()) this.#destroy(graph);
      ranks.forEach(({ driver }, i) => {
        unlessLost(() => driver.destroyEvent(on[i]!.event));
      });
    }
  }

  #destroy({ graphs }: Graph): void {
    this.parts.ranks.forEach(({ driver }, i) => {
      unlessLost(() => driver.destroyGraph(graphs[i]!));
    });
  }

  #makePlace(bytes: number): Place {
    const { ranks, limits } = this.parts;
    const result = createResult(limits, (n) => ranks[0].memory.host(n).buffer);
    const on = ranks.map(({ driver, memory }) => ({
      upload: memory.take(bytes, 'the steps'),
      result: memory.take(result.bytes.length, 'the results'),
      results: 0,
      event: driver.event(),
    }));
    if (ranks.length > 1)
      ranks.forEach(({ driver, memory, stream }, i) => {
        on[i]!.results = memory.take(8 * ranks.length, 'the results');
        const all = BigInt64Array.from(on, (o) => BigInt(o.result));
        driver.upload(on[i]!.results, new Uint8Array(all.buffer), stream);
        driver.synchronize(stream);
      });
    return {
      upload: this.#makeUpload(bytes),
      result,
      on,
      graphs: new Map(),
      launched: false,
      step: null,
    };
  }

  /** More room for steps whose lists have grown. */
  #enlarge(place: Place, bytes: number): void {
    const { ranks } = this.parts;
    for (const { driver, stream } of ranks) driver.synchronize(stream);
    for (const graph of place.graphs.values()) this.#destroy(graph);
    place.graphs.clear();
    ranks[0].memory.releaseHost(place.upload.bytes);
    place.upload = this.#makeUpload(bytes);
    ranks.forEach(({ memory }, i) => {
      const on = place.on[i]!;
      memory.release(on.upload);
      on.upload = memory.take(bytes, 'the steps');
    });
  }

  #makeUpload(length: number): Upload {
    const bytes = this.parts.ranks[0].memory.host(length);
    return { bytes, words: new Int32Array(bytes.buffer) };
  }

  #launch(step: Step, place: Place): void {
    const { ranks, limits } = this.parts;
    const tasks = planTasks(step, this.#rules, this.#lists);
    const sizes = sizesOf(step, tasks, limits);
    const rounded = ranks[0].kernels.debug ? null : this.#rounded(sizes, tasks);
    const known = rounded && this.#known(place, rounded, tasks.splits);
    const layout = known?.layout ?? new UploadLayout(rounded ?? sizes);
    if (layout.bytes > place.upload.bytes.length) this.#enlarge(place, up(2 * layout.bytes, 4096));
    writeUpload(step, tasks, this.#lists, layout, ranks[0].pool.blocks, place.upload);
    place.upload.words[STEP_WORD] = (this.#submitted + 1) | 0;
    // what could take its time comes before the first GPU begins and waits for the others
    const graph =
      rounded && (known ?? this.#capture(place, layout, { ...rounded, tasks: { ...tasks, decode: rounded.decode } }));
    ranks.forEach(({ driver, stream, kernels }, i) => {
      driver.upload(place.on[i]!.upload, place.upload.bytes.subarray(0, layout.bytes), stream);
      kernels.restart();
      if (graph) driver.launchGraph(graph.graphs[i]!, stream);
    });
    if (!graph) this.#runInTurn(place, layout, { ...sizes, tasks });
    const from = place.result.tokens.byteOffset;
    ranks.forEach(({ driver, stream }, i) => {
      const { result, event } = place.on[i]!;
      if (i === 0) driver.download(place.result.bytes.subarray(from), result + from, stream);
      driver.record(event, stream);
    });
  }

  /** On all GPUs, some operations on each in turn. */
  #runInTurn(place: Place, layout: UploadLayout, shape: ChainShape): void {
    const { ranks, plan } = this.parts;
    const runs = ranks.map((_, i) => this.#begin(place, i, layout, shape));
    for (let from = 0; from < plan.ops.length; from += OPS_AT_ONCE)
      for (const run of runs) run(from, from + OPS_AT_ONCE);
  }

  #begin(place: Place, i: number, layout: UploadLayout, shape: ChainShape): (from: number, to: number) => void {
    const { ranks, depth } = this.parts;
    const rank = ranks[i]!;
    const before = this.#places[(this.#submitted + depth - 1) % depth]!.on[i]!;
    const { upload, result, results } = place.on[i]!;
    const where = { upload, layout, result, results, before: before.result };
    return rank.chain.begin(shape, where, place.result, rank);
  }

  /** Sizes of the graph for a step; null if it is none that comes again. */
  #rounded(sizes: UploadSizes, { prefill, firstToken, splits }: Tasks): UploadSizes | null {
    const { limits, ranks, blockLen } = this.parts;
    const { work } = ranks[0];
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
    if (place.graphs.size >= MOST_GRAPHS) {
      const [oldest, graph] = place.graphs.entries().next().value!;
      this.#destroy(graph);
      place.graphs.delete(oldest);
    }
    const { ranks, plan } = this.parts;
    const graphs = ranks.map(({ driver, stream, kernels }, i) => {
      kernels.restart();
      const run = this.#begin(place, i, layout, shape);
      return driver.capture(stream, () => run(0, plan.ops.length));
    });
    const graph = { layout, graphs };
    place.graphs.set(keyOf(layout.sizes, shape.tasks.splits), graph);
    return graph;
  }
}

/** Everything in a graph's launches follows from these. */
const keyOf = ({ tokens, logits, bias, history, masks }: UploadSizes, splits: number): string =>
  `${tokens},${logits},${splits},${bias},${history},${masks}`;
