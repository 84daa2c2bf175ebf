/**
 * A naive reference for the cache manager: arrays of tokens, and a fake device whose blocks hold, for each position, the
 * whole text up to there. Whatever the manager claims as computed must be found there, letter by letter.
 */
import assert from 'node:assert/strict';
import { createCacheManager } from '../../src/cache/index.js';
import type { Manager } from '../../src/cache/manager.js';
import { S } from '../../src/cache/sequences.js';
import type { CacheConfig, SequenceId } from '../../src/cache/types.js';
import { InvariantError, LongmindError } from '../../src/errors.js';
import { FakeMover } from './mover.js';

export interface Reference {
  id: SequenceId;
  tokens: number[];
  active: boolean;
  /** null: shared. */
  owner: number | null;
  /** Sequences that came from one another, for prefixCaching: false. */
  family: number;
  /** Tokens reserved and not yet run. */
  reserved: number;
  /** It is being restored: what must be computed in the end, if no load fails, and how many had failed at its beginning. */
  restoring: { expected: number; failed: number } | null;
}

const textOf = (tokens: ArrayLike<number>, length: number) => Array.from(tokens).slice(0, length).join(',');

export class World {
  readonly manager: Manager;
  /** null: there is nothing below the device. */
  readonly mover: FakeMover | null;
  /** (blocks, blockLen) */
  readonly memory: (string | undefined)[];
  readonly sequences: Reference[] = [];
  /** Inactive ones, least recently used first. */
  recency: Reference[] = [];
  /** So many more times the device gives memory. */
  grants = Infinity;
  granted = 0;
  /** What was seen, so that a test can tell that it happens. */
  refusedReserves = 0;
  followers = 0;
  restores = 0;
  refusedRestores = 0;
  #families = 0;

  constructor(config: Partial<CacheConfig>) {
    const full: CacheConfig = {
      blocks: 8,
      blockLen: 4,
      sessionLen: 24,
      chunkSize: -1,
      policy: 'lru',
      prefixCaching: true,
      maxSequences: 1000,
      maxTokens: 100_000,
      grow: (total) => {
        if (this.grants-- <= 0) return false;
        this.granted = total;
        return true;
      },
      ...config,
    };
    this.manager = createCacheManager(full) as Manager;
    this.memory = new Array(full.blocks * full.blockLen);
    this.mover = this.manager.tiers ? new FakeMover(this.manager, this.memory) : null;
  }

  get config(): Readonly<CacheConfig> {
    return this.manager.config;
  }

  // ---------------------------------------------------------------- operations

  create(owner: number | null, tokens: number[]): Reference | null {
    const room = this.#expectRoom(1, 0, null);
    try {
      const id = this.manager.create(owner === null ? {} : { owner, shared: false });
      assert.ok(room, 'create() succeeded beyond the limits');
      const r = { id, tokens: [], active: false, owner, family: this.#families++, reserved: 0, restoring: null };
      this.sequences.push(r);
      this.recency.push(r);
      this.append(r, tokens);
      return this.sequences.includes(r) ? r : null;
    } catch (e) {
      this.#expectRefusal(e, room, 'too_many_sessions');
      return null;
    }
  }

  append(r: Reference, tokens: number[]): void {
    if (tokens.length === 0) return;
    const fits = r.tokens.length + tokens.length <= this.config.sessionLen;
    const room = fits && this.#expectRoom(0, tokens.length, r);
    try {
      this.manager.append(r.id, [9, ...tokens, 9], 1, 1 + tokens.length);
      assert.ok(room, 'append() succeeded beyond the limits');
      r.tokens.push(...tokens);
      if (!r.active) this.#touch(r);
    } catch (e) {
      this.#expectRefusal(e, room, fits ? 'too_many_sessions' : 'prompt_too_long');
    }
  }

  fork(r: Reference, length: number): Reference | null {
    const room = this.#expectRoom(1, length, r);
    try {
      const before = this.manager.computed(r.id);
      const id = this.manager.fork(r.id, length);
      assert.ok(room, 'fork() succeeded beyond the limits');
      const f = { ...r, id, tokens: r.tokens.slice(0, length), active: false, reserved: 0, restoring: null };
      this.sequences.push(f);
      this.recency.push(f);
      assert.ok(this.manager.computed(id) <= Math.min(before, length));
      return f;
    } catch (e) {
      this.#expectRefusal(e, room, 'too_many_sessions');
      return null;
    }
  }

  truncate(r: Reference, length: number): void {
    this.manager.truncate(r.id, length);
    if (length < r.tokens.length) r.restoring = null;
    r.tokens.length = Math.min(length, r.tokens.length);
    r.reserved = 0;
  }

  match(r: Reference): number {
    if (r.restoring) return this.#matchRestored(r, r.restoring);
    const { manager } = this;
    const own = Math.min(manager.computed(r.id), Math.max(0, r.tokens.length - 1));
    const best = this.#longestShared(r);
    // blocks that match() itself uses: the shared ones, the copy's source and target, other copies' sources
    const uses = Math.ceil(Math.max(own, best) / this.config.blockLen) + 2 + manager.copies.count;
    const room = this.grants === Infinity && manager.available() > uses;
    const computed = manager.match(r.id);
    if (!r.active) this.recency = this.recency.filter((x) => x !== r);
    r.active = true;
    r.reserved = 0;
    assert.ok(computed >= own && computed <= Math.max(own, best), `match ${computed}: own ${own}, shared ${best}`);
    const { blockLen } = this.config;
    if (room) assert.equal(computed, Math.max(own, best), 'the longest shared part is not used');
    assert.ok(computed >= Math.floor(best / blockLen) * blockLen, 'a full shared block is not used');
    assert.equal(manager.match(r.id), computed, 'match() is not idempotent');
    return computed;
  }

  /** Nothing changes while it waits; then all that was ordered is computed, unless a load failed. */
  #matchRestored(r: Reference, { expected, failed }: NonNullable<Reference['restoring']>): number {
    const { manager } = this;
    const before = manager.computed(r.id);
    const waits = manager.restoring(r.id);
    const computed = manager.match(r.id);
    assert.ok(computed >= before);
    if (waits) assert.equal(computed, before, 'match() of a sequence that is being restored');
    else {
      if (this.mover!.failedLoads === failed) assert.ok(computed >= expected, `${computed} restored, not ${expected}`);
      r.restoring = null;
      if (manager.copies.count === 0) this.checkMemory(r);
      assert.equal(manager.match(r.id), computed, 'match() is not idempotent');
    }
    return computed;
  }

  /** Brings back a share (0…1) of what lies below. */
  restore(r: Reference, share: number): void {
    const { manager, mover } = this;
    if (!r.active) this.match(r);
    if (r.restoring || !mover) return;
    const computed = this.match(r);
    const cost = { host: 0, disk: 0 };
    const tokens = manager.restorable(r.id, cost);
    this.#checkRestorable(r, computed, tokens);
    const wanted = Math.ceil(tokens * share);
    if (wanted === 0) return;
    const before = JSON.stringify(this.observe());
    const { available } = this;
    const copies = manager.copies.count;
    const refusals = manager.stats().growRefusals;
    if (!manager.restore(r.id, wanted)) {
      this.refusedRestores++;
      assert.equal(JSON.stringify(this.observe()), before, 'a failed restore changed something');
      const { blockLen } = this.config;
      // what is on the device or on its way is not evicted for it
      const enough = Math.ceil((computed + tokens) / blockLen) - Math.floor(computed / blockLen) <= available;
      assert.ok(copies > 0 || manager.stats().growRefusals > refusals || !enough, 'it would have fitted');
      return;
    }
    this.restores++;
    // of a block that is shared in part only one may get it
    const { blockLen } = this.config;
    const expected = Math.max(computed, computed + wanted - ((computed + wanted) % blockLen));
    r.restoring = { expected, failed: mover.failedLoads };
    r.reserved = 0;
    assert.throws(() => manager.reserve(r.id, r.tokens.length), InvariantError);
  }

  get available(): number {
    return this.manager.available();
  }

  cancelRestore(r: Reference): void {
    this.manager.cancelRestore(r.id);
    r.restoring = null;
    assert.equal(this.manager.restoring(r.id), false);
  }

  /** Without a gap, whole blocks at least; and never more than there is. */
  #checkRestorable(r: Reference, computed: number, tokens: number): void {
    const { manager, mover } = this;
    const { blockLen } = this.config;
    const t = manager.tiers!;
    const limit = r.tokens.length - 1;
    const below = mover!.reach(r.tokens, this.#root(r), computed, limit);
    // of parts of a block it looks at the longest only, which may not be there yet
    const whole = Math.max(computed, below - (below % blockLen));
    assert.ok(computed + tokens >= whole, `${tokens} after ${computed} restorable, but ${whole} tokens lie below`);
    const onItsWay = t.lower.target.some((b) => b !== -1) || t.lower.blockOf.some((b) => b !== -1);
    if (!onItsWay) assert.ok(computed + tokens <= below, `${tokens} after ${computed} restorable, ${below} lie below`);
  }

  #root(r: Reference): number {
    const { sequences } = this.manager;
    return -1 - sequences.get(sequences.indexOf(r.id), S.NAMESPACE);
  }

  reserve(r: Reference, length: number): boolean {
    if (r.restoring) {
      if (this.manager.restoring(r.id)) return false;
      this.match(r);
    }
    const { manager } = this;
    const before = JSON.stringify(this.observe());
    const needed = manager.needed(r.id, length);
    const available = manager.available();
    const copies = manager.copies.count;
    const device = () => `${manager.stats().growRefusals} ${manager.stats().blocks.grown}`;
    const deviceBefore = device();
    const ok = manager.reserve(r.id, length);
    if (!ok) this.refusedReserves++;
    if (!ok) assert.equal(JSON.stringify(this.observe()), before, 'a failed reserve changed something');
    if (copies === 0 && device() === deviceBefore) assert.equal(ok, needed <= available);
    if (!ok) return false;
    assert.equal(manager.needed(r.id, length), 0);
    r.reserved = Math.max(r.reserved, length);
    return true;
  }

  /** All active sequences that have blocks run. `fail`: 'cancelled' runs nothing and is tried again, 'broken' all leave. */
  step(fail: 'no' | 'cancelled' | 'broken'): void {
    const { manager } = this;
    const copies = new Int32Array(3 * 64);
    const count = manager.takeCopies(copies);
    assert.ok(count <= this.sequences.filter((r) => r.active).length);
    if (fail !== 'no') manager.copiesLost(1);
    if (fail === 'cancelled') return;
    if (fail === 'broken') {
      for (const r of this.sequences.filter((x) => x.active)) this.release(r, 'keep');
      return;
    }
    // in reverse, since their order must not matter
    for (let i = count - 1; i >= 0; i--) {
      const [from, to, tokens] = copies.subarray(3 * i, 3 * i + 3) as unknown as [number, number, number];
      for (let k = 0; k < tokens; k++) this.memory[this.#at(to) + k] = this.memory[this.#at(from) + k];
    }
    const rows = this.sequences.filter((r) => r.active && r.reserved > manager.computed(r.id));
    for (const r of rows) {
      const table = this.table(r);
      for (let p = manager.computed(r.id); p < r.reserved; p++) {
        this.memory[this.#at(table[Math.floor(p / this.config.blockLen)]!) + (p % this.config.blockLen)] = textOf(
          r.tokens,
          p + 1,
        );
      }
    }
    for (const r of this.sequences) if (r.active) this.checkMemory(r);
    manager.copiesRan();
    for (const r of rows) manager.commit(r.id, r.reserved);
    for (const r of this.sequences) r.reserved = 0;
  }

  /** As many cached blocks as can go. */
  evict(count: number): void {
    const { tree, pool } = this.manager;
    for (let n = 0; n < count; n++) {
      const b = tree.evict();
      if (b === -1) return;
      pool.give(b);
    }
  }

  release(r: Reference, mode: 'keep' | 'drop'): void {
    this.manager.release(r.id, mode);
    r.reserved = 0;
    r.restoring = null;
    if (mode === 'drop') this.#remove(r);
    else if (r.active) this.recency.push(r);
    r.active = false;
  }

  // ---------------------------------------------------------------- checks

  check(): void {
    const { manager } = this;
    manager.check();
    const { blocks } = manager.stats();
    assert.equal(blocks.free + blocks.cached + blocks.active, blocks.total);
    assert.ok(blocks.grown <= this.granted);
    const loading = manager.tiers ? manager.tiers!.lower.target.reduce((n, b) => n + Number(b !== -1), 0) : 0;
    if (this.sequences.every((r) => !r.active)) assert.equal(blocks.active, loading, 'idle, but blocks are active');
    assert.equal(manager.stats().sequences.total, this.sequences.length);
    for (const r of this.sequences) {
      assert.ok(manager.exists(r.id));
      assert.equal(manager.known(r.id), r.tokens.length);
      const out = new Int32Array(r.tokens.length + 1);
      if (r.tokens.length > 0) manager.readTokens(r.id, 0, r.tokens.length, out, 1);
      assert.deepEqual([...out.subarray(1)], r.tokens);
      if (!r.active) this.checkMemory(r);
    }
    this.#checkNodes();
    if (this.mover) this.#checkBelow(this.mover);
  }

  /** What the manager takes for a good copy is one: the text of the node, letter by letter. */
  #checkBelow(mover: FakeMover): void {
    const t = this.manager.tiers!;
    for (const [place, held] of [
      [t.lower.host, mover.host],
      [t.lower.disk, mover.disk],
    ] as const) {
      for (let slot = 0; slot < place.slots; slot++) {
        if (place.good[slot] === 0) continue;
        const n = place.node[slot]!;
        const tokens = new Int32Array(this.config.sessionLen);
        const end = this.manager.prefixTokens(n, tokens);
        for (let p = t.lower.nodes.start(n); p < end; p++) {
          assert.equal(
            held.get(slot)?.text[p - t.lower.nodes.start(n)],
            textOf(tokens, p + 1),
            `slot ${slot}, position ${p}`,
          );
        }
      }
    }
  }

  /** What the sequence claims as computed is in the blocks of its table. */
  checkMemory(r: Reference): void {
    const table = this.table(r);
    const computed = this.manager.computed(r.id);
    for (let p = 0; p < computed; p++) {
      const found = this.memory[this.#at(table[Math.floor(p / this.config.blockLen)]!) + (p % this.config.blockLen)];
      assert.equal(found, textOf(r.tokens, p + 1), `position ${p} of sequence ${r.id}`);
    }
  }

  /** All that the prefix index could hand out is there. */
  #checkNodes(): void {
    const { pool, runs } = this.manager;
    for (let b = 0; b < pool.touched; b++) {
      if (!pool.isNode(b)) continue;
      const tokens = new Int32Array(pool.end(b));
      runs.read(pool.run(b), 0, tokens.length, tokens, 0);
      for (let p = pool.start(b); p < pool.end(b); p++) {
        assert.equal(this.memory[this.#at(b) + p - pool.start(b)], textOf(tokens, p + 1), `block ${b}`);
      }
    }
  }

  table(r: Reference): number[] {
    const out = new Int32Array(1 + Math.ceil(this.config.sessionLen / this.config.blockLen));
    const n = this.manager.blockTable(r.id, out, 1);
    return [...out.subarray(1, 1 + n)];
  }

  /** All that an operation without effect must leave alone. */
  observe(): unknown {
    const { blocks } = this.manager.stats();
    return [
      blocks.free,
      blocks.cached,
      blocks.active,
      [...this.manager.snapshot().evictionOrder],
      this.sequences.map((r) => [r.id, this.manager.computed(r.id), this.manager.tableVersion(r.id), this.table(r)]),
    ];
  }

  /** Longest beginning of r's tokens (but the last) that is in the cache for it, by brute force. */
  #longestShared(r: Reference): number {
    if (!this.config.prefixCaching) return 0;
    const { pool, runs } = this.manager;
    const limit = r.tokens.length - 1;
    let best = 0;
    for (let b = 0; b < pool.touched; b++) {
      if (!pool.isNode(b) || !this.#sameNamespace(b, r)) continue;
      const tokens = new Int32Array(pool.end(b));
      runs.read(pool.run(b), 0, tokens.length, tokens, 0);
      let n = 0;
      while (n < tokens.length && n < limit && tokens[n] === r.tokens[n]) n++;
      best = Math.max(best, n);
    }
    return best;
  }

  #sameNamespace(block: number, r: Reference): boolean {
    const { pool, namespaces } = this.manager;
    let b = block;
    while (pool.parent(b) >= 0) b = pool.parent(b);
    return -1 - pool.parent(b) === namespaces.of(r.owner);
  }

  #at(block: number): number {
    return block * this.config.blockLen;
  }

  // ---------------------------------------------------------------- limits

  /** What the limits ask for: drops the least recently used inactive sequences from the reference. */
  #expectRoom(sequences: number, tokens: number, except: Reference | null): boolean {
    const { maxSequences, maxTokens } = this.config;
    const kept = () => this.sequences.reduce((n, r) => n + r.tokens.length, 0);
    const over = (n: number, t: number) => n + sequences > maxSequences || t + tokens > maxTokens;
    const stays = this.sequences.filter((r) => r.active || r === except);
    if (
      over(
        stays.length,
        stays.reduce((n, r) => n + r.tokens.length, 0),
      )
    ) {
      return !over(this.sequences.length, kept());
    }
    for (const r of [...this.recency]) {
      if (!over(this.sequences.length, kept())) break;
      if (r !== except) this.#remove(r);
    }
    return true;
  }

  #expectRefusal(e: unknown, room: boolean, code: string): void {
    if (!(e instanceof LongmindError)) throw e;
    assert.equal(room, false, `refused without need: ${e.message}`);
    assert.equal(e.code, code);
  }

  #remove(r: Reference): void {
    this.sequences.splice(this.sequences.indexOf(r), 1);
    this.recency = this.recency.filter((x) => x !== r);
  }

  #touch(r: Reference): void {
    this.recency = this.recency.filter((x) => x !== r);
    this.recency.push(r);
  }
}
