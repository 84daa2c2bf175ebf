/**
 * A device that computes everything but arithmetic. What it "stores" for a position is a hash of all tokens up to it,
 * made from what it finds stored before; what it "draws" is a hash over the whole stored context. So a wrong block
 * table, a block written while shared, KV kept past a truncation or a skipped position change the tokens that come out.
 */
import { errors, invariant } from '../../errors.js';
import type { TensorSource } from '../../types.js';
import {
  type Device,
  type DeviceInfo,
  type LoadedMemory,
  type LoadOptions,
  MAX_TOP_LOGPROBS,
  type Program,
  type Step,
  type StepLimits,
  type StepResult,
} from '../device.js';

export interface NullDeviceOptions {
  /** Blocks it agrees to give; beyond that `growKv` refuses. */
  blockLimit?: number;
  /** Called at the start of each step; may throw (a failing step) or set `cancel`. */
  onStep?: (step: Step) => void;
  /** Reads the whole context for each token (default); off, only the last position: for timing the engine alone. */
  thorough?: boolean;
  memoryFree?: number;
}

const mix = (a: number, b: number): number => {
  let h = Math.imul(a ^ b, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
};

class NullDevice implements Device {
  readonly info: DeviceInfo;
  readonly cancel = new Int32Array(new SharedArrayBuffer(4));
  #kv = new Uint32Array(0);
  #options!: LoadOptions;
  #result!: StepResult;
  #grown = 0;

  constructor(private readonly options: NullDeviceOptions) {
    this.info = { name: 'null', isa: 'none', threads: 1, memoryFree: options.memoryFree ?? 2 ** 30 };
  }

  workspaceBytes(_program: Program, limits: StepLimits): number {
    return 4 * limits.maxTokens;
  }

  weightBytes(): number {
    return 0;
  }

  load(_program: Program, _source: TensorSource, options: LoadOptions): LoadedMemory {
    const n = options.limits.maxLogits;
    this.#options = options;
    this.#result = {
      completed: false,
      logitCount: 0,
      tokens: new Int32Array(n),
      status: new Int32Array(n),
      logprobs: new Float32Array(n),
      scoreLogprobs: new Float32Array(n),
      topTokens: new Int32Array(n * MAX_TOP_LOGPROBS),
      topLogprobs: new Float32Array(n * MAX_TOP_LOGPROBS),
    };
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

  submit(step: Step): void {
    Atomics.store(this.cancel, 0, 0);
    this.options.onStep?.(step);
    this.#result.completed = Atomics.load(this.cancel, 0) === 0;
    this.#result.logitCount = step.logitCount;
    if (!this.#result.completed) return;
    this.#copyBlocks(step);
    for (let r = 0; r < step.rowCount; r++) this.#storeRow(step, r);
    let row = 0;
    for (let i = 0; i < step.logitCount; i++) {
      const at = step.logitRows[i]!;
      while (step.rowStart[row + 1]! <= at) row++;
      this.#draw(step, i, row, step.positions[at]!);
    }
  }

  wait(): StepResult {
    return this.#result;
  }

  logits(): Float32Array {
    throw errors.invalidRequest('the null device has no logits');
  }

  close(): void {
    this.#kv = new Uint32Array(0);
  }

  #copyBlocks(step: Step): void {
    const len = this.#options.kv.blockLen;
    for (let c = 0; c < step.copyCount; c++) {
      const from = step.copies[3 * c]!;
      const to = step.copies[3 * c + 1]!;
      invariant(from < this.#grown && to < this.#grown, `copy of block ${from} to ${to} beyond ${this.#grown}`);
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
    for (let t = step.rowStart[row]!; t < step.rowStart[row + 1]!; t++) {
      const position = step.positions[t]!;
      const before = position === 0 ? 0x1234567 : this.#kv[this.#at(step, row, position - 1)]!;
      this.#kv[this.#at(step, row, position)] = mix(before, step.tokens[t]! + 1);
    }
  }

  #draw(step: Step, i: number, row: number, position: number): void {
    const s = step.sampling;
    let hash = mix(position, 17);
    const first = this.options.thorough === false ? position : 0;
    for (let p = first; p <= position; p++) hash = mix(hash, this.#kv[this.#at(step, row, p)]!);
    if (s.temperature[i]! > 0) hash = mix(hash, mix(s.seed[2 * i]!, s.seed[2 * i + 1]!));
    const vocab = this.#options.limits.vocab;
    let token = hash % vocab;
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
    const out = this.#result;
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
