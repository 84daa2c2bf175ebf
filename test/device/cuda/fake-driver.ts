/**
 * A driver without a GPU that believes nothing: every address must lie in living memory, every launch must have the block, the
 * shared memory and the parameters that native/cuda/kernels.json says, and what products read and write must fit.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Compile, Driver, GpuInfo, LaunchConfig } from '../../../src/device/cuda/index.js';

type Entry = {
  entry: string;
  block: string;
  shared: string;
  grid: string[];
  params: [string, string][];
  macros: string[];
};
const table = JSON.parse(readFileSync(new URL('../../../../native/cuda/kernels.json', import.meta.url), 'utf8')) as {
  kernels: Record<string, Entry>;
};
const UNIT: Record<number, [number, number]> = {
  2: [64, 576],
  3: [64, 640],
  8: [64, 1088],
  12: [256, 2368],
  13: [256, 2880],
  14: [256, 3360],
};
const MAY_BE_NULL = new Set(['bias', 'index', 'outs', 'results']);

/** "Compiles" a kernel to its own name. */
export const fakeCompile: Compile = {
  load: (keys, onProgress) => {
    onProgress?.(keys.length, keys.length);
    return keys.map((key) => Buffer.from(JSON.stringify(key)));
  },
};

export interface Launched {
  kernel: string;
  macros: Record<string, number>;
  config: LaunchConfig;
  values: Record<string, number>;
}

export interface Order {
  order: 'upload' | 'download' | 'record' | 'wait';
  stream: number;
  event?: number;
  bytes?: number;
  at?: number;
}

export class FakeDriver implements Driver {
  version = 13000;
  info: GpuInfo = { name: 'fake', capability: 90, multiprocessors: 132, totalBytes: 2 ** 32, sharedBytes: 232448 };
  /** Bytes that may be allocated. */
  limit = 2 ** 32;
  /** Bytes of host memory that may be pinned at a time. */
  hostLimit = 2 ** 32;
  /** Whether what was begun is done. */
  idle = true;
  /** What the kernel that tests the matrix instructions says: a value for each of its ways. */
  bits = [0, 0, 1, 0, 0, 0, 0];
  #bitsAt = 0;
  readonly launches: Launched[] = [];
  /** Copies, and what waits for what. */
  readonly orders: Order[] = [];
  /** Launches, those of graphs among them. */
  readonly ran: Launched[] = [];
  /** GPUs that `gpus` lists, this one and others of its kind. */
  count = 1;
  /** Whether GPUs reach each other's memory. */
  peers = true;
  /** By their numbers: all that were opened. */
  all: FakeDriver[] = [];
  /** Launches of all of them, in order. */
  log: { gpu: number; kernel: string }[] = [];
  gpu = 0;
  readonly #reached = new Set<FakeDriver>();
  /** What was uploaded there last. */
  readonly #contents = new Map<number, Uint8Array>();
  graphLaunches = 0;
  graphsMade = 0;
  readonly #memory = new Map<number, number>();
  readonly #reserved = new Map<number, number>();
  readonly #mapped = new Map<number, number>();
  readonly #pinned = new Set<ArrayBufferLike>();
  readonly #handles = new Map<number, string>();
  readonly #kernels = new Map<number, { kernel: string; macros: Record<string, number>; shared: number }>();
  readonly #graphs = new Map<number, Launched[]>();
  #capturing: Launched[] | null = null;
  #open = false;
  #next = 2 ** 40;
  #used = 0;

  gpus(): GpuInfo[] {
    return Array.from({ length: this.count }, () => this.info);
  }
  open(gpu: number): void {
    assert.ok(gpu < this.count);
    this.gpu = gpu;
    this.all[gpu] = this;
    this.#open = true;
  }
  another(gpu: number): FakeDriver {
    const { version, info, limit, count, peers, all, log, bits } = this;
    const other = Object.assign(new FakeDriver(), { version, info, limit, count, peers, all, log, bits });
    other.#next = 2 ** 40 * (1 + gpu);
    other.open(gpu);
    return other;
  }
  reach(other: FakeDriver): boolean {
    assert.ok(other !== this && this.#open && other.#open);
    this.#reached.add(other);
    return this.peers;
  }
  /** Everything must have been given back. */
  close(): void {
    const live = [...this.#handles.values()].filter((kind) => kind !== 'kernel');
    assert.deepEqual(
      {
        memory: this.#memory.size,
        mapped: this.#mapped.size,
        reserved: this.#reserved.size,
        pinned: this.#pinned.size,
        live,
      },
      { memory: 0, mapped: 0, reserved: 0, pinned: 0, live: [] },
    );
    this.#open = false;
  }

  memory() {
    return { free: this.limit - this.#used, total: this.limit };
  }
  allocate(bytes: number): number | null {
    assert.ok(this.#open && Number.isInteger(bytes) && bytes > 0);
    assert.equal(this.#capturing, null, 'memory is allocated while a graph is made');
    if (this.#used + bytes > this.limit) return null;
    this.#used += bytes;
    return this.#put(this.#memory, bytes);
  }
  release(address: number): void {
    this.#used -= this.#take(this.#memory, address);
  }
  fill(address: number, _byte: number, bytes: number, stream: number): void {
    this.#check(address, bytes, 'fill');
    this.#is(stream, 'stream');
  }

  reserve(bytes: number): number {
    assert.equal(bytes % this.granularity(), 0);
    return this.#put(this.#reserved, bytes);
  }
  unreserve(address: number, bytes: number): void {
    assert.equal(this.#take(this.#reserved, address), bytes);
  }
  granularity(): number {
    return 2 ** 21;
  }
  map(address: number, bytes: number): boolean {
    assert.ok(bytes > 0 && bytes % this.granularity() === 0 && address % this.granularity() === 0);
    const range = [...this.#reserved].find(([from, size]) => address >= from && address + bytes <= from + size);
    assert.ok(range, 'memory is mapped outside of what was reserved');
    if (this.#used + bytes > this.limit) return false;
    this.#used += bytes;
    this.#mapped.set(address, bytes);
    return true;
  }
  unmap(address: number, bytes: number): void {
    assert.equal(this.#take(this.#mapped, address), bytes);
    this.#used -= bytes;
  }

  get pinnedBytes(): number {
    return [...this.#pinned].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  pin(host: Uint8Array): boolean {
    if (host.length > this.hostLimit) return false;
    assert.ok(host.buffer instanceof SharedArrayBuffer && !this.#pinned.has(host.buffer));
    this.#pinned.add(host.buffer);
    return true;
  }
  unpin(host: Uint8Array): void {
    assert.ok(this.#pinned.delete(host.buffer));
  }
  upload(to: number, from: Uint8Array, stream: number): void {
    this.#check(to, from.length, 'upload');
    this.#is(stream, 'stream');
    this.orders.push({ order: 'upload', stream, bytes: from.length, at: to });
    if (from.length <= 2 ** 25) this.#contents.set(to, from.slice());
  }
  download(to: Uint8Array, from: number, stream: number): void {
    this.#check(from, to.length, 'download');
    this.#is(stream, 'stream');
    this.orders.push({ order: 'download', stream, bytes: to.length, at: from });
    if (from === this.#bitsAt)
      for (let way = 0; way < to.length / 16384; way++) to.fill(this.bits[way]!, 16384 * way, 16384 * (way + 1));
  }

  stream = () => this.#handle('stream');
  destroyStream = (stream: number) => this.#drop(stream, 'stream');
  synchronize = (stream: number) => this.#is(stream, 'stream');
  event = () => this.#handle('event');
  destroyEvent = (event: number) => this.#drop(event, 'event');
  record(event: number, stream: number): void {
    this.#is(event, 'event');
    this.#is(stream, 'stream');
    this.orders.push({ order: 'record', stream, event });
  }
  streamWait(stream: number, event: number): void {
    this.#is(event, 'event');
    this.#is(stream, 'stream');
    this.orders.push({ order: 'wait', stream, event });
  }
  eventDone(event: number): boolean {
    this.#is(event, 'event');
    return this.idle;
  }
  eventWait = (event: number) => this.#is(event, 'event');

  kernel(cubin: Uint8Array, entry: string, shared: number): number {
    const { kernel, macros } = JSON.parse(Buffer.from(cubin).toString());
    assert.equal(table.kernels[kernel]!.entry, entry);
    const allowed = table.kernels[kernel]!.macros;
    for (const name of Object.keys(macros)) assert.ok(allowed.includes(name), `${kernel} has no macro ${name}`);
    assert.ok(shared <= this.info.sharedBytes, `${kernel} asks for ${shared} bytes of shared memory`);
    const handle = this.#handle('kernel');
    this.#kernels.set(handle, { kernel, macros, shared });
    return handle;
  }

  launch(handle: number, config: LaunchConfig, params: Uint8Array, stream: number): void {
    this.#is(stream, 'stream');
    const { kernel, macros, shared } = this.#kernels.get(handle)!;
    const launched = { kernel, macros, config, values: decode(table.kernels[kernel]!.params, params) };
    assert.ok(config.shared <= shared, `${kernel} was made ready for less shared memory`);
    this.#examine(launched);
    (this.#capturing ?? this.launches).push(launched);
    if (this.#capturing) return;
    this.#begin(launched);
  }
  /** Bytes that were uploaded before. */
  contents(address: number, length: number): Uint8Array {
    for (const [from, bytes] of this.#contents)
      if (address >= from && address + length <= from + bytes.length)
        return bytes.subarray(address - from, address - from + length);
    return assert.fail(`nothing was uploaded to ${address}`);
  }
  /** A table of addresses. */
  addresses(at: number, count: number): number[] {
    const bytes = this.contents(at, 8 * count).slice();
    return [...new BigInt64Array(bytes.buffer)].map(Number);
  }
  #begin(launched: Launched): void {
    this.ran.push(launched);
    this.log.push({ gpu: this.gpu, kernel: launched.kernel });
    if (launched.kernel === 'repack') this.repacked.push(this.#rowsOf(launched.values));
  }
  /** Beginnings of the rows that were repacked. */
  readonly repacked: { dst: number; first: number; rows: string[]; in: number }[] = [];
  #rowsOf({ src, dst, rowBytes, rows, first, in: inputs }: Record<string, number>) {
    const begins = Array.from({ length: rows! }, (_, r) =>
      Buffer.from(this.contents(src! + r * rowBytes!, 8)).toString('hex'),
    );
    return { dst: dst!, first: first!, rows: begins, in: inputs! };
  }
  capture(stream: number, work: () => void): number {
    this.#is(stream, 'stream');
    const launches: Launched[] = [];
    this.#capturing = launches;
    try {
      work();
    } finally {
      this.#capturing = null;
    }
    assert.equal(launches[0]!.config.early, false, 'the first kernel follows a copy');
    const graph = this.#handle('graph');
    this.#graphs.set(graph, launches);
    this.graphsMade++;
    return graph;
  }
  launchGraph(graph: number, stream: number): void {
    this.#is(graph, 'graph');
    this.#is(stream, 'stream');
    for (const launched of this.#graphs.get(graph)!) this.#examine(launched);
    for (const launched of this.#graphs.get(graph)!) this.#begin(launched);
    this.graphLaunches++;
  }
  destroyGraph = (graph: number) => this.#drop(graph, 'graph');

  #examine({ kernel, macros, config, values }: Launched): void {
    const entry = table.kernels[kernel]!;
    const names = { ...macros, ...values, ...derived(macros) };
    assert.equal(config.block, evaluate(entry.block, names), `${kernel}: threads`);
    assert.equal(config.shared, evaluate(entry.shared, names), `${kernel}: shared memory`);
    for (const n of config.grid)
      assert.ok(Number.isInteger(n) && n > 0 && n < 2 ** 31, `${kernel}: grid ${config.grid}`);
    assert.ok(config.grid[1] < 65536 && config.grid[2] < 65536);
    for (const [name, type] of entry.params) {
      if (type !== 'pointer' || kernel === 'attention_decode') continue;
      const address = values[name]!;
      const unused = /^attention_(mma|wgmma)$/.test(kernel) && /^(partial|weights|arrived)$/.test(name);
      const noNorm = /^gemm/.test(kernel) && !macros.NORM && /^(x|norm)$/.test(name);
      const sumsOnly = kernel === 'reduce' && !macros.NORM && /^(weight|out)$/.test(name);
      if (address === 0 && (unused || noNorm || sumsOnly || MAY_BE_NULL.has(name))) continue;
      this.#check(address, 4, `${kernel}: ${name}`);
      assert.equal(address % (name === 'tasks' || name === 'weights' ? 16 : 4), 0, `${kernel}: ${name} is not aligned`);
    }
    if (/^gemm/.test(kernel)) this.#examineProduct(macros, values);
    if (kernel === 'reduce' || kernel === 'meet') this.#examineMeeting(macros, values);
    if (kernel === 'sample') this.#examineSample(macros, values);
    if (kernel === 'dequantise') this.#examineDequantise(macros, values);
    if (kernel === 'bits') {
      this.#bitsAt = values.out!;
      this.#check(values.out!, 16384 * config.grid[0], 'the test of the matrix instructions writes');
    }
  }

  #examineProduct(macros: Record<string, number>, v: Record<string, number>): void {
    const tiles = (rows: number, k64: number) => Math.ceil(rows / 64) * k64 * 8192;
    const [qk, unit] = UNIT[macros.TYPE!] ?? [0, 0];
    const weights = unit ? (Math.ceil(v.n! / 64) * 4 * v.k64! * 64 * unit) / qk : tiles(v.n!, v.k64!);
    this.#check(v.weights!, weights, 'a product reads weights');
    this.#check(v.in!, tiles(v.rows!, v.k64!), 'a product reads activations');
    if (v.bias) this.#check(v.bias, 4 * Math.ceil(v.n! / 64) * 64, 'a product reads its bias');
    const value = macros.EPI === 0 ? 2 : 4;
    const out = macros.EPI === 2 ? tiles(v.rows!, v.stride!) : value * ((v.rows! - 1) * v.stride! + v.n!);
    this.#check(v.out!, out, 'a product writes');
    const { RANKS = 1, PARTS = 1 } = macros;
    assert.equal(RANKS > 1, v.outs !== 0, 'where shares go');
    if (RANKS > 1)
      this.addresses(v.outs!, RANKS).forEach((address, rank) => {
        this.#checkPeer(rank, address, out, 'a product pushes its share');
      });
    assert.equal((v.k64! * 64) % (PARTS * Math.max(64, qk)), 0, 'parts of K are whole units');
    assert.ok(macros.EPI === 2 || (v.stride! % 4 === 0 && v.stride! >= v.n!) || macros.EPI === 0);
    if (macros.NORM) {
      assert.ok(v.rows! <= 8 && macros.BN === 8 && v.k64! * 64 === macros.NORM && v.eps! > 0);
      this.#check(v.x!, 4 * ((v.rows! - 1) * v.xStride! + macros.NORM), 'a product reads rows of the residual stream');
      this.#check(v.norm!, 4 * macros.NORM, 'a product reads the weights of a norm');
    }
    if (macros.WHOLE) assert.equal((v.k64! / PARTS) % macros.KT!, 0);
  }

  #examineMeeting({ RANKS = 1, NORM, WIDTH, OWNED }: Record<string, number>, v: Record<string, number>): void {
    assert.equal(v.rank, this.gpu - this.all.findIndex(Boolean));
    const flags = (v.slot! + 1) * RANKS * 4;
    this.addresses(v.peers!, RANKS).forEach((address, rank) => {
      this.#checkPeer(rank, address, flags, 'a flag is raised');
      if (rank === v.rank) assert.equal(address, v.flags);
    });
    if (v.x === undefined) return;
    const bytes = 4 * ((v.rows! - 1) * v.stride! + WIDTH!);
    this.#check(v.x, bytes, 'the residual stream');
    for (let rank = 0; rank < RANKS; rank++) this.#check(v.shares! + 4 * rank * v.shareStride!, bytes, 'a share');
    const tiles = Math.ceil(v.rows! / 64) * v.k64! * 8192;
    assert.equal(OWNED === 1, v.outs !== 0, 'where rows go that a GPU owns');
    if (OWNED)
      this.addresses(v.outs!, RANKS).forEach((address, rank) => {
        this.#checkPeer(rank, address, NORM ? tiles : bytes, 'rows are handed on');
        if (rank === v.rank) assert.equal(address, NORM ? v.out : v.x);
      });
    if (!NORM) return;
    this.#check(v.weight!, 4 * WIDTH!, 'weights of a norm');
    this.#check(v.out!, tiles, 'a norm writes');
  }

  #examineSample({ RANKS = 1, OWNED }: Record<string, number>, v: Record<string, number>): void {
    assert.equal(OWNED === 1, v.results !== 0, 'where results go');
    if (!OWNED) return;
    const results = this.addresses(v.results!, RANKS);
    assert.ok(v.tokens! >= results[v.rank!]!);
    results.forEach((address, rank) => {
      this.#checkPeer(rank, address + v.topLogprobsOut! - results[v.rank!]!, 4, 'results are handed on');
    });
  }

  /** Memory of a GPU, by its place among those of the model. */
  #checkPeer(rank: number, address: number, bytes: number, what: string): void {
    const owner = this.all[this.all.findIndex(Boolean) + rank]!;
    assert.ok(owner === this || this.#reached.has(owner), `${what}: its memory was never made reachable`);
    owner.#check(address, bytes, what, false);
  }

  #examineDequantise(macros: Record<string, number>, v: Record<string, number>): void {
    const [qk, unit] = UNIT[macros.TYPE!]!;
    this.#check(v.src!, (v.strips! * v.k64! * 64 * unit) / qk, 'weights are dequantised');
    this.#check(v.dst!, (v.strips! / 4) * v.k64! * 8192, 'tiles are written');
  }

  #check(address: number, bytes: number, what: string, mapped = true): void {
    for (const ranges of mapped ? [this.#memory, this.#mapped] : [this.#memory])
      for (const [from, size] of ranges) if (address >= from && address + bytes <= from + size) return;
    assert.fail(`${what}: ${bytes} bytes at ${address} are not in living memory`);
  }
  #put(ranges: Map<number, number>, bytes: number): number {
    const address = this.#next;
    // a gap, so that what runs over an end is seen
    this.#next += Math.ceil(bytes / 2 ** 21) * 2 ** 21 + 2 ** 22;
    ranges.set(address, bytes);
    return address;
  }
  #take(ranges: Map<number, number>, address: number): number {
    const bytes = ranges.get(address);
    assert.ok(bytes !== undefined, `${address} was not given out`);
    ranges.delete(address);
    return bytes;
  }
  #handle(kind: string): number {
    this.#next += 2 ** 22;
    this.#handles.set(this.#next - 2 ** 22, kind);
    return this.#next - 2 ** 22;
  }
  #is(handle: number, kind: string): void {
    assert.equal(this.#handles.get(handle), kind);
  }
  #drop(handle: number, kind: string): void {
    this.#is(handle, kind);
    this.#handles.delete(handle);
  }
}

function decode(params: [string, string][], bytes: Uint8Array): Record<string, number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const values: Record<string, number> = {};
  let at = 0;
  for (const [name, type] of params) {
    const size = type === 'pointer' || type === 'i64' ? 8 : 4;
    at += (size - (at % size)) % size;
    values[name] =
      size === 8
        ? Number(view.getBigInt64(at, true))
        : type === 'f32'
          ? view.getFloat32(at, true)
          : view.getInt32(at, true);
    at += size;
  }
  assert.equal(Math.ceil(at / 8) * 8, bytes.length);
  return values;
}

/** Names that the table's formulas use beside macros. */
function derived(m: Record<string, number>): Record<string, number> {
  const [QK, UNIT_] = UNIT[m.TYPE!] ?? [0, 0];
  const row = (m.HD! * m.KV_BITS!) / 8;
  return { QK, UNIT: UNIT_, GROUP: m.HEADS! / m.KV_HEADS!, TILE: 64 * (2 * row + (m.KV_BITS === 16 ? 0 : 8)) };
}
function evaluate(formula: string, names: Record<string, number>): number {
  const all = { ...names, ceil: Math.ceil, min: Math.min, ceil1024: (n: number) => Math.ceil(n / 1024) * 1024 };
  const usable = Object.entries(all).filter(([name]) => name !== 'in');
  return new Function(...usable.map(([name]) => name), `return ${formula}`)(...usable.map(([, value]) => value));
}
