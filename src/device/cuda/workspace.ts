/** Activations and what else a step needs on the device: sizes first, then addresses. */
import { createResult, type StepLimits } from '../device.js';
import type { Address } from './driver.js';
import { meetingBytes } from './meeting.js';
import type { DeviceMemory } from './memory.js';
import { type Plan, type PlanBuffer, up } from './plan.js';
import { uploadBytes } from './upload.js';

/** Sums of split attention; what needs more takes the kernel that keeps them to itself: the same bits. */
const MOST_PARTIAL_BYTES = 256 * 2 ** 20;
const MIB = 2 ** 20;

/** f32 or f16 values from row to row, or tiles in a row of tiles. */
export const strideOf = ({ kind, width }: PlanBuffer): number =>
  kind === 'tiles' ? Math.ceil(width / 64) : up(width, kind === 'f32' ? 4 : 8);

function bufferBytes(buffer: PlanBuffer, limits: StepLimits): number {
  const rows = up(buffer.perLogit ? limits.maxLogits : limits.maxTokens, 64);
  if (buffer.kind === 'tiles') return rows * strideOf(buffer) * 128;
  return rows * strideOf(buffer) * (buffer.kind === 'f32' ? 4 : 2);
}

/** Bytes of a step's upload, with room for lists that grow. */
export const stepBytes = (limits: StepLimits): number => up(uploadBytes(limits), 256) + MIB;

interface Sizes {
  partialRows: number;
  splits: number;
  scratch: number;
  angles: number;
  arrived: number;
  step: number;
  result: number;
}

function sizesOf(plan: Plan, limits: StepLimits): Sizes {
  const { dims } = plan;
  const splits = Math.ceil(dims.contextLength / plan.splitLen);
  const row = dims.heads * (dims.headDim + 2) * 4;
  const most = Math.max(1, Math.floor(MOST_PARTIAL_BYTES / row));
  const parts = Math.ceil(dims.heads / dims.kvHeads / 16);
  return {
    partialRows: Math.min(most, splits * up(limits.maxTokens, 64)),
    splits,
    scratch: up(limits.maxLogits, 64) * up(limits.vocab, 4) * 4,
    angles: up(limits.maxTokens, 64) * plan.rope.dims * 4,
    arrived: limits.maxTokens * dims.kvHeads * parts * 4,
    step: stepBytes(limits),
    result: createResult(limits).bytes.length,
  };
}

export function workspaceBytes(plan: Plan, limits: StepLimits): number {
  const { dims } = plan;
  const s = sizesOf(plan, limits);
  const buffers = [...plan.buffers.values()].reduce((sum, b) => sum + bufferBytes(b, limits), 0);
  return (
    buffers +
    s.partialRows * dims.heads * (dims.headDim + 2) * 4 +
    s.scratch +
    s.angles +
    s.arrived +
    2 * (s.step + s.result) +
    meetingBytes(plan, limits)
  );
}

export class Workspace {
  readonly buffers = new Map<string, Address>();
  /** (rows · splits, heads, headDim) f32 sums, (rows · splits, heads, 2) maxima and weights, and how many splits there is room for. */
  readonly partial: Address;
  readonly partialWeights: Address;
  readonly partialRows: number;
  readonly arrived: Address;
  readonly scratch: { address: Address; bytes: number };
  readonly angles: Address;
  readonly inverse: Address;

  constructor(memory: DeviceMemory, plan: Plan, limits: StepLimits, stream: Address) {
    const { dims } = plan;
    const s = sizesOf(plan, limits);
    const take = (bytes: number): Address => {
      const address = memory.take(bytes, 'the workspace');
      // columns that no kernel writes count as zeros
      memory.driver.fill(address, 0, Math.max(256, bytes), stream);
      return address;
    };
    for (const [name, buffer] of plan.buffers) this.buffers.set(name, take(bufferBytes(buffer, limits)));
    this.partialRows = s.partialRows;
    this.partial = take(s.partialRows * dims.heads * dims.headDim * 4);
    this.partialWeights = take(s.partialRows * dims.heads * 8);
    this.arrived = take(s.arrived);
    this.scratch = { address: take(s.scratch), bytes: s.scratch };
    this.angles = take(s.angles);
    const frequencies = plan.rope.inverseFrequencies;
    this.inverse = take(frequencies.byteLength);
    memory.driver.upload(this.inverse, new Uint8Array(frequencies.slice().buffer), stream);
    memory.driver.synchronize(stream);
  }
}
