/**
 * A device that computes everything but arithmetic. What it "stores" for a position is a hash of all tokens up to it,
 * made from what it finds stored before; what it "draws" is a hash over the whole stored context. So a wrong block
 * table, a block written while shared, KV kept past a truncation or a skipped position change the tokens that come out.
 *
 * It runs each step as late as it may: when it is waited for. A step that is touched while in flight, or a plan that knows
 * more than it can know, shows.
 */
import { errors, invariant } from '../../errors.js';
import type { TensorSource } from '../../types.js';
import {
  createResult,
  type Device,
  type DeviceInfo,
  type KvTransfers,
  type LoadedMemory,
  type LoadOptions,
  MAX_TOP_LOGPROBS,
  type MutableResult,
  type Program,
  type Step,
  type StepLimits,
  type StepResult,
  type Ticket,
  type Transfer,
} from '../device.js';

export interface NullDeviceOptions {
  /** Blocks it agrees to give; beyond that `growKv` refuses. */
  blockLimit?: number;
  /** Called when a step begins to run; may throw (a failing step) or set `cancel`. */
  onStep?: (step: Step) => void;
  /** Called when a step has run; may spoil what it drew. */
  onResult?: (step: Step, result: MutableResult) => void;
  /** Reads the whole context for each token (default); off, only the last position: for timing the engine alone. */
  thorough?: boolean;
  /** Draws among the first so many tokens only: a text that repeats itself now and then. */
  drawn?: number;
  memoryFree?: number;
  /** Steps that may be in flight (default 1). */
  depth?: number;
  /** How often `done` says no to a transfer before it is made (default 0: made at once). */
  transferDelay?: number;
}

const mix = (a: number, b: number): number => {
  let h = Math.imul(a ^ b, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
};

interface Flight {
  step: Step;
  result: MutableResult;
  error: unknown;
}

interface Copy {
  block: number;
  host: Uint8Array;
  write: boolean;
  /** What stood in line when a write began. */
  after: Flight | Copy | null;
  made: boolean;
  /** How often `done` still says no. */
  delay: number;
}

class NullDevice implements Device, KvTransfers {
  readonly info: DeviceInfo;
  readonly cancel = new Int32Array(new SharedArrayBuffer(4));
  #kv = new Uint32Array(0);
  #options!: LoadOptions;
  /** What was begun and has not run yet, in order. */
  readonly #queue: (Flight | Copy)[] = [];
  /** Steps in flight by ticket, modulo the depth. */
  readonly #flights: (Flight | null)[];
  #results: MutableResult[] = [];
  #submitted = 0;
  #ended = 0;
  /** A step ended early: those behind it do not run. */
  #broken = false;
  /** Tokens that the step before drew. */
  #drawn = new Int32Array(0);
  #drawnCount = 0;
  #grown = 0;
  readonly #copies: Copy[] = [];

  constructor(private readonly options: NullDeviceOptions) {
    const depth = options.depth ?? 1;
    const memoryFree = options.memoryFree ?? 2 ** 30;
    this.info = {
      name: 'null',
      isa: 'none',
      threads: 1,
      memoryFree,
      ownMemory: true,
      adapters: true,
      depth,
      kernels: 'null-1',
    };
    this.#flights = new Array<Flight | null>(depth).fill(null);
  }

  workspaceBytes(_program: Program, limits: StepLimits): number {
    return 4 * limits.maxTokens;
  }

  weightBytes(): number {
    return 0;
  }

  load(_program: Program, _source: TensorSource, options: LoadOptions): LoadedMemory {
    this.#options = options;
    this.#drawn = new Int32Array(options.limits.maxLogits);
    this.#results = this.#flights.map(() => createResult(options.limits));
    return { weightBytes: 0, workspaceBytes: 4 * options.limits.maxTokens };
  }

  growKv(total: number): boolean {
    if (total > Math.min(this.options.blockLimit ?? Infinity, this.#options.maxBlocks)) return false;
    if (total <= this.#grown) return true;
    const size = total * this.#options.kv.blockLen;
    if (size > this.#kv.length) {
      const bigger = new Uint32Array(Math.max(size, 2 * this.#kv.length));
      bigger.set(this.#kv);
      this.#kv = bigger;
    }
    this.#grown = total;
    return true;
  }

  submit(step: Step): Ticket {
    const { depth } = this.info;
    const inFlight = this.#submitted - this.#ended;
    invariant(inFlight < depth, `${depth} steps are in flight already`);
    invariant(!this.#flights.some((f) => f?.step === step), 'the buffer of a step in flight is submitted again');
    if (inFlight === 0) {
      Atomics.store(this.cancel, 0, 0);
      this.#broken = false;
    }
    const at = this.#submitted % depth;
    const flight = { step, result: this.#results[at]!, error: null };
    this.#flights[at] = flight;
    this.#queue.push(flight);
    return this.#submitted++;
  }

  wait(ticket: Ticket): StepResult {
    invariant(ticket === this.#ended && ticket < this.#submitted, `ticket ${ticket} is not the oldest in flight`);
    const at = ticket % this.info.depth;
    const flight = this.#flights[at]!;
    this.#runThrough(flight);
    this.#flights[at] = null;
    this.#ended++;
    if (flight.error) throw flight.error;
    return flight.result;
  }

  logits(): Float32Array {
    throw errors.invalidRequest('the null device has no logits');
  }

  close(): void {
    this.#kv = new Uint32Array(0);
  }

  // ---------------------------------------------------------------- KV

  get kv(): KvTransfers {
    return this;
  }

  get blockBytes(): number {
    return 4 * this.#options.kv.blockLen;
  }

  readonly writeRate = null;

  allocateHost(bytes: number): Uint8Array {
    return new Uint8Array(new SharedArrayBuffer(bytes));
  }

  read(block: number, host: Uint8Array): Transfer {
    return this.#transfer(block, host, false);
  }

  write(block: number, host: Uint8Array): Transfer {
    return this.#transfer(block, host, true);
  }

  done(transfer: Transfer): boolean {
    const copy = this.#copies[transfer];
    invariant(copy, `transfer ${transfer} was never started`);
    if (copy.delay-- > 0) return false;
    if (!copy.write) this.#runThrough(copy);
    else if (!copy.made) {
      // as late as it may be: nobody may count on it before
      if (copy.after) this.#runThrough(copy.after);
      this.#runCopy(copy);
      copy.made = true;
    }
    return true;
  }

  #transfer(block: number, host: Uint8Array, write: boolean): Transfer {
    if (!(block >= 0 && block < this.#grown) || host.length !== this.blockBytes)
      throw errors.native(-1, `block ${block} of ${this.#grown}, ${host.length} of ${this.blockBytes} bytes`);
    const after = this.#queue.at(-1) ?? null;
    const copy: Copy = { block, host, write, after, made: false, delay: this.options.transferDelay ?? 0 };
    if (!write) this.#queue.push(copy);
    return this.#copies.push(copy) - 1;
  }

  // ---------------------------------------------------------------- running

  /** Runs what was begun, in order, up to this. */
  #runThrough(last: Flight | Copy): void {
    for (let n = this.#queue.indexOf(last); n >= 0; n--) {
      const item = this.#queue.shift()!;
      if ('step' in item) this.#runStep(item);
      else this.#runCopy(item);
    }
  }

  #runCopy({ block, host, write }: Copy): void {
    const at = block * this.#options.kv.blockLen;
    const bytes = new Uint8Array(this.#kv.buffer, 4 * at, this.blockBytes);
    if (write) bytes.set(host);
    else host.set(bytes);
  }

  #runStep(flight: Flight): void {
    const { step, result } = flight;
    result.completed = false;
    result.logitCount = step.logitCount;
    if (this.#broken) return;
    try {
      result.completed = this.#run(step, result);
    } catch (e) {
      flight.error = e;
    }
    this.#broken = !result.completed;
    this.#drawnCount = result.completed ? step.logitCount : 0;
    this.#drawn.set(result.tokens);
  }

  #run(step: Step, result: MutableResult): boolean {
    this.options.onStep?.(step);
    if (Atomics.load(this.cancel, 0) !== 0) return false;
    this.#copyBlocks(step);
    for (let r = 0; r < step.rowCount; r++) this.#storeRow(step, r);
    let row = 0;
    for (let i = 0; i < step.logitCount; i++) {
      const at = step.logitRows[i]!;
      invariant(i === 0 || at > step.logitRows[i - 1]!, 'logit rows are not ascending');
      while (step.rowStart[row + 1]! <= at) row++;
      this.#draw(step, result, i, row, step.positions[at]!);
    }
    this.options.onResult?.(step, result);
    return true;
  }

  /** The token itself, or what the step before drew. */
  #token(token: number): number {
    if (token >= 0) return token;
    invariant(-1 - token < this.#drawnCount, `token ${token} refers to a row that drew nothing`);
    return Math.max(0, this.#drawn[-1 - token]!);
  }

  #copyBlocks(step: Step): void {
    const len = this.#options.kv.blockLen;
    for (let c = 0; c < step.copyCount; c++) {
      const from = step.copies[3 * c]!;
      const to = step.copies[3 * c + 1]!;
      invariant(from < this.#grown && to < this.#grown, `copy of block ${from} to ${to} beyond ${this.#grown}`);
      for (let k = 0; k < step.copyCount; k++) {
        invariant(step.copies[3 * k] !== to, `block ${to} is copied from and to`);
        invariant(k === c || step.copies[3 * k + 1] !== to, `block ${to} is copied to twice`);
      }
      this.#kv.copyWithin(to * len, from * len, from * len + step.copies[3 * c + 2]!);
    }
  }

  /** Index into the store of a position of the row's sequence. */
  #at(step: Step, row: number, position: number): number {
    const len = this.#options.kv.blockLen;
    const columns = this.#options.limits.maxBlocksPerRow;
    const block = step.blockTables[step.rowSlot[row]! * columns + Math.floor(position / len)]!;
    invariant(block >= 0 && block < this.#grown, `block ${block} of ${this.#grown} at position ${position}`);
    return block * len + (position % len);
  }

  #storeRow(step: Step, row: number): void {
    const adapter = step.rowAdapter[row]!;
    for (let t = step.rowStart[row]!; t < step.rowStart[row + 1]!; t++) {
      const position = step.positions[t]!;
      const before = position === 0 ? 0x1234567 : this.#kv[this.#at(step, row, position - 1)]!;
      this.#kv[this.#at(step, row, position)] = mix(before, this.#token(step.tokens[t]!) + 1 + (adapter + 1) * 2 ** 24);
    }
  }

  #draw(s: Step, out: MutableResult, i: number, row: number, position: number): void {
    let hash = mix(position, 17);
    const first = this.options.thorough === false ? position : 0;
    for (let p = first; p <= position; p++) hash = mix(hash, this.#kv[this.#at(s, row, p)]!);
    if (s.repetitionPenalty[i] !== 1 || s.presencePenalty[i] !== 0 || s.frequencyPenalty[i] !== 0)
      for (let h = s.historyStart[i]!; h < s.historyStart[i + 1]!; h++)
        hash = mix(hash, mix(s.historyTokens[h]!, s.historyCounts[h]!));
    if (s.temperature[i]! > 0) hash = mix(hash, mix(s.seed[2 * i]!, s.seed[2 * i + 1]!));
    const vocab = this.#options.limits.vocab;
    let token = hash % Math.min(vocab, this.options.drawn ?? vocab);
    const words = Math.ceil(vocab / 32);
    const banned = (t: number) => {
      const row = s.maskRow[i]!;
      if (row >= 0 && ((s.masks[row * words + (t >> 5)]! >>> (t & 31)) & 1) === 0) return true;
      for (let b = s.biasStart[i]!; b < s.biasStart[i + 1]!; b++) {
        if (s.biasTokens[b] === t && s.biasValues[b]! <= -100) return true;
      }
      return false;
    };
    let tried = 0;
    while (banned(token) && tried++ < vocab) token = (token + 1) % vocab;
    out.tokens[i] = token;
    out.status[i] = tried > vocab ? 1 : 0;
    out.logprobs[i] = -(hash >>> 8) / 2 ** 24;
    out.scoreLogprobs[i] = out.logprobs[i]!;
    for (let k = 0; k < s.topLogprobs[i]!; k++) {
      out.topTokens[i * MAX_TOP_LOGPROBS + k] = (token + k) % vocab;
      out.topLogprobs[i * MAX_TOP_LOGPROBS + k] = out.logprobs[i]! - k;
    }
  }
}

export function createNullDevice(options: NullDeviceOptions = {}): Device {
  return new NullDevice(options);
}
