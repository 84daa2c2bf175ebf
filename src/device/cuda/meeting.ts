/** What the GPUs of one model hold for each other: shares of sums are pushed into it, and flags say that they are there (native/cuda/ranks.h). */
import { invariant } from '../../errors.js';
import type { StepLimits } from '../device.js';
import type { Address, Driver } from './driver.js';
import type { DeviceMemory } from './memory.js';
import { type Plan, type PlanOp, SLOTS, up } from './plan.js';
import { vocabularyOf } from './shard.js';

/** Shares of one product may still be read while those of the next arrive. */
const TURNS = 2;

/** Bytes from one rank's share to the next one's. */
function shareBytes(plan: Plan, limits: StepLimits): number {
  const streams = plan.ops.flatMap((op) => (op.op === 'reduce' ? [plan.buffers.get(op.x)!] : []));
  invariant(streams.length % TURNS === 0, 'the shares of a step do not take turns');
  return Math.max(0, ...streams.map(({ width }) => 4 * up(width, 4) * up(limits.maxTokens, 64)));
}
const flagBytes = ({ meetings, shard }: Plan): number => 4 * meetings * shard.ranks;

/** Bytes of a `Meeting`, tables of addresses left out. */
export const meetingBytes = (plan: Plan, limits: StepLimits): number =>
  plan.shard.ranks === 1 ? 0 : TURNS * plan.shard.ranks * shareBytes(plan, limits) + flagBytes(plan);

type Reduce = Extract<PlanOp, { op: 'reduce' }>;
/** The buffer that a GPU hands its rows on in. */
const handedOn = ({ x, norm }: Reduce): string => norm?.out ?? x;

export class Meeting {
  readonly shareBytes: number;
  readonly flags: Address;
  /** Memory of this rank that shares arrive in, by turns; and where those of this rank go: addresses in memory of the device. */
  readonly turns: { shares: Address; outs: Address }[];
  readonly peers: Address;
  readonly logitsOuts: Address;
  /** By buffer: where it is on each GPU. */
  readonly #rows = new Map<string, Address>();

  constructor(
    memory: DeviceMemory,
    readonly plan: Plan,
    limits: StepLimits,
    stream: Address,
  ) {
    const { ranks } = plan.shard;
    const what = 'the shares of the other GPUs';
    this.shareBytes = shareBytes(plan, limits);
    const table = () => memory.take(8 * ranks, what);
    this.flags = memory.take(flagBytes(plan), what);
    memory.driver.fill(this.flags, 0, flagBytes(plan), stream);
    this.turns = Array.from({ length: TURNS }, () => ({
      shares: memory.take(ranks * this.shareBytes, what),
      outs: table(),
    }));
    this.peers = table();
    this.logitsOuts = table();
    for (const op of plan.ops)
      if (op.op === 'reduce' && !this.#rows.has(handedOn(op))) this.#rows.set(handedOn(op), table());
  }

  turn(slot: number): { shares: Address; outs: Address } {
    return this.turns[(slot / SLOTS) % TURNS]!;
  }

  /** Where rows that a GPU owns go on all of them. */
  rowsOf(op: Reduce): Address {
    return this.#rows.get(handedOn(op))!;
  }

  /** Writes the addresses of all ranks' memory into this one's. */
  introduce(
    all: { meeting: Meeting; buffers: Map<string, Address>; logits: Address }[],
    driver: Driver,
    stream: Address,
  ): void {
    const { shard, dims } = this.plan;
    const put = (to: Address, addresses: Address[]): void => {
      driver.upload(to, new Uint8Array(BigInt64Array.from(addresses, BigInt).buffer), stream);
      driver.synchronize(stream);
    };
    put(
      this.peers,
      all.map(({ meeting }) => meeting.flags),
    );
    this.turns.forEach(({ outs }, i) => {
      put(
        outs,
        all.map(({ meeting }) => meeting.turns[i]!.shares + shard.rank * this.shareBytes),
      );
    });
    for (const [name, table] of this.#rows)
      put(
        table,
        all.map(({ buffers }) => buffers.get(name)!),
      );
    const { first } = vocabularyOf(dims.vocab, shard);
    put(
      this.logitsOuts,
      all.map(({ logits }) => logits + 4 * first),
    );
  }
}
