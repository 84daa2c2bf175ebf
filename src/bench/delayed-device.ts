/**
 * A device that takes several steps and computes each as late as it may, over one that takes a single step: what an engine
 * that runs ahead meets on a GPU, with the kernels of the CPU. A step that is touched while in flight is an error.
 */
import {
  createResult,
  type Device,
  type DeviceInfo,
  type KvTransfers,
  type LoadedMemory,
  type LoadOptions,
  type MutableResult,
  type Program,
  type Step,
  type StepLimits,
  type StepResult,
  type Ticket,
} from '../device/device.js';
import { invariant } from '../errors.js';
import type { TensorSource } from '../types.js';

interface Flight {
  step: Step;
  /** The step as it was submitted. */
  bytes: Buffer;
  result: MutableResult;
  error: unknown;
  ran: boolean;
}

export class DelayedDevice implements Device {
  readonly info: DeviceInfo;
  readonly #flights: Flight[] = [];
  #results: MutableResult[] = [];
  #submitted = 0;
  #ended = 0;
  /** A step did not complete: those behind it do not run. */
  #broken = false;

  constructor(
    private readonly device: Device,
    depth: number,
  ) {
    const { info } = device;
    this.info = {
      ...info,
      depth,
      get memoryFree() {
        return info.memoryFree;
      },
    };
  }

  get cancel(): Int32Array {
    return this.device.cancel;
  }

  get kv(): KvTransfers {
    const { kv } = this.device;
    return {
      blockBytes: kv.blockBytes,
      writeRate: kv.writeRate,
      allocateHost: (bytes) => kv.allocateHost(bytes),
      read: (block, host) => {
        this.#runAll();
        return kv.read(block, host);
      },
      write: (block, host) => {
        this.#runAll();
        return kv.write(block, host);
      },
      done: (transfer) => kv.done(transfer),
    };
  }

  workspaceBytes(program: Program, limits: StepLimits): number {
    return this.device.workspaceBytes(program, limits);
  }

  weightBytes(program: Program, source: TensorSource): number {
    return this.device.weightBytes(program, source);
  }

  load(program: Program, source: TensorSource, options: LoadOptions): LoadedMemory {
    this.#results = Array.from({ length: this.info.depth }, () => createResult(options.limits));
    return this.device.load(program, source, options);
  }

  growKv(total: number): boolean {
    return this.device.growKv(total);
  }

  submit(step: Step): Ticket {
    const inFlight = this.#flights.length;
    invariant(inFlight < this.info.depth, `${inFlight} steps are in flight already`);
    if (inFlight === 0) {
      Atomics.store(this.cancel, 0, 0);
      this.#broken = false;
    }
    const result = this.#results[this.#submitted % this.info.depth]!;
    this.#flights.push({ step, bytes: Buffer.from(step.bytes), result, error: null, ran: false });
    return this.#submitted++;
  }

  wait(ticket: Ticket): StepResult {
    invariant(ticket === this.#ended && ticket < this.#submitted, `ticket ${ticket} is not the oldest in flight`);
    const flight = this.#flights.shift()!;
    this.#ended++;
    this.#run(flight);
    if (flight.error) throw flight.error;
    return flight.result;
  }

  logits(i: number): Float32Array {
    return this.device.logits(i);
  }

  close(): void {
    this.device.close();
  }

  #runAll(): void {
    for (const flight of this.#flights) this.#run(flight);
  }

  #run(flight: Flight): void {
    if (flight.ran) return;
    flight.ran = true;
    const { step, bytes, result } = flight;
    invariant(bytes.equals(step.bytes), 'a step was changed while it was in flight');
    result.completed = false;
    if (this.#broken || Atomics.load(this.cancel, 0) !== 0) {
      this.#broken = true;
      return;
    }
    try {
      result.bytes.set(this.device.wait(this.device.submit(step)).bytes);
    } catch (e) {
      flight.error = e;
    }
    this.#broken = !result.completed;
  }
}
