/** The KV cache manager: see types.ts for what each operation promises, ARCHITECTURE.md for the picture. */
import { errors, InvariantError, invariant } from '../errors.js';
import { checkAll, snapshotOf, statsOf } from './inspect.js';
import { createCursor, TokenArena } from './memory.js';
import { LruPolicy } from './policy/policy.js';
import { BlockPool, PendingCopies } from './pool.js';
import { PrefixIndex } from './prefix-index.js';
import { Leaders, PrefixMatch, Prober, SequenceBlocks } from './sequence-blocks.js';
import { ACTIVE, Namespaces, Retention, S, SequenceStore } from './sequences.js';
import { Tiers } from './tiers.js';
import { TokenRuns } from './token-runs.js';
import { BlockTree } from './tree.js';
import type {
  AdoptedNode,
  CacheConfig,
  CacheManager,
  CacheSnapshot,
  CacheStats,
  Probe,
  RestoreCost,
  SequenceId,
  SequenceState,
  TransferOrder,
} from './types.js';

export class Manager implements CacheManager {
  readonly config: Readonly<CacheConfig>;
  readonly arena: TokenArena;
  readonly runs: TokenRuns;
  readonly sequences: SequenceStore;
  readonly pool: BlockPool;
  readonly tree: BlockTree;
  readonly namespaces: Namespaces;
  readonly copies: PendingCopies;
  readonly blocks: SequenceBlocks;
  readonly retention: Retention;
  /** null: there is no place below the device. */
  readonly tiers: Tiers | null;
  readonly #match: PrefixMatch;
  readonly #leaders: Leaders;
  readonly #probe: Prober;
  readonly #index: PrefixIndex;
  readonly #blockLen: number;
  readonly #cursor = createCursor();
  readonly #counters = {
    hits: 0,
    partialHits: 0,
    misses: 0,
    tokensReused: 0,
    tokensRecomputed: 0,
    tokensComputed: 0,
    tokensPrefixReused: 0,
    forks: 0,
  };

  constructor(config: CacheConfig) {
    this.config = Object.freeze({ ...config });
    const { blocks, blockLen, sessionLen, maxTokens } = config;
    this.#blockLen = blockLen;
    const blocksPerSequence = Math.ceil(sessionLen / blockLen);
    this.arena = new TokenArena(Math.max(sessionLen, blocksPerSequence), maxTokens);
    this.runs = new TokenRuns(this.arena, sessionLen);
    this.sequences = new SequenceStore(this.arena, config.maxSequences, blocksPerSequence);
    const chunk = config.chunkSize === 0 ? Math.ceil(Math.sqrt(blocks)) : config.chunkSize;
    this.pool = new BlockPool(blocks, blockLen, chunk === -1 ? blocks : chunk, config.grow);
    this.#index = new PrefixIndex(this.pool, this.runs);
    this.namespaces = new Namespaces((d) => {
      this.#index.addNamespace(d);
      this.tiers?.lower.index.addNamespace(d);
    });
    const policy = new LruPolicy(this.pool);
    this.tree = new BlockTree(this.pool, policy, this.#index, this.runs, this.sequences, this.namespaces);
    this.copies = new PendingCopies(this.pool);
    const { pool, tree, sequences, runs, copies, namespaces } = this;
    const index = this.#index;
    this.blocks = new SequenceBlocks(pool, tree, index, sequences, copies, config.prefixCaching, blocksPerSequence);
    this.retention = new Retention(config, sequences, runs, namespaces, (s) => this.blocks.leave(s));
    this.#match = new PrefixMatch(pool, tree, index, sequences, runs, copies, this.blocks, blocksPerSequence);
    this.#leaders = new Leaders(blockLen, sequences, runs, index, this.blocks);
    this.#probe = new Prober(pool, tree, index, sequences, this.#leaders, config.prefixCaching);
    const { tiers } = config;
    this.tiers = tiers && tiers.host + tiers.disk > 0 ? new Tiers(tiers, this) : null;
    this.tree.below = this.tiers;
    if (chunk === -1 && !this.pool.growTo(blocks)) {
      throw errors.invalidOption('cacheMaxEntryCount', blocks, 'a number of KV blocks that the device can provide');
    }
  }

  // ---------------------------------------------------------------- sequence store

  create(options: { owner?: number; shared?: boolean; alone?: boolean } = {}): SequenceId {
    this.retention.makeRoom(1, 0, -1);
    const { owner = 0, shared = true, alone = false } = options;
    const namespace =
      this.config.prefixCaching && !alone ? this.namespaces.of(shared ? null : owner) : this.namespaces.private();
    const s = this.retention.create(namespace);
    this.sequences.set(s, S.RUN, this.runs.createRoot(s));
    return this.sequences.idOf(s);
  }

  append(seq: SequenceId, ids: ArrayLike<number>, from = 0, to = ids.length): void {
    const q = this.sequences;
    const s = q.indexOf(seq);
    if (to <= from) return;
    this.#checkLength(q.get(s, S.KNOWN) + to - from);
    this.retention.makeRoom(0, to - from, s);
    this.runs.append(q.get(s, S.RUN), ids, from, to);
    this.retention.addKnown(s, to - from);
  }

  appendOne(seq: SequenceId, id: number): void {
    const q = this.sequences;
    const s = q.indexOf(seq);
    this.#checkLength(q.get(s, S.KNOWN) + 1);
    this.retention.makeRoomForOne(s);
    this.runs.appendOne(q.get(s, S.RUN), id);
    this.retention.addKnown(s, 1);
  }

  #checkLength(tokens: number): void {
    if (tokens > this.config.sessionLen) throw errors.promptTooLong(tokens, this.config.sessionLen);
  }

  known(seq: SequenceId): number {
    return this.sequences.get(this.sequences.indexOf(seq), S.KNOWN);
  }

  computed(seq: SequenceId): number {
    return this.sequences.get(this.sequences.indexOf(seq), S.COMPUTED);
  }

  state(seq: SequenceId): SequenceState {
    const q = this.sequences;
    const s = q.indexOf(seq);
    if (q.get(s, S.STATE) === ACTIVE) return 'active';
    return q.get(s, S.NODES) > 0 ? 'cached' : 'evicted';
  }

  exists(seq: SequenceId): boolean {
    return this.sequences.find(seq) !== -1;
  }

  tokenAt(seq: SequenceId, index: number): number {
    const s = this.#indexWith(seq, index + 1);
    return this.runs.token(this.sequences.get(s, S.RUN), index);
  }

  readTokens(seq: SequenceId, from: number, to: number, out: Int32Array, offset: number): void {
    if (from === to) return;
    const s = this.#indexWith(seq, to);
    this.runs.read(this.sequences.get(s, S.RUN), from, to, out, offset);
  }

  #indexWith(seq: SequenceId, tokens: number): number {
    const s = this.sequences.indexOf(seq);
    const known = this.sequences.get(s, S.KNOWN);
    if (tokens <= 0 || tokens > known) throw new InvariantError(`token ${tokens - 1} of a sequence of ${known}`);
    return s;
  }

  commonPrefix(seq: SequenceId, ids: ArrayLike<number>): number {
    const q = this.sequences;
    const s = q.indexOf(seq);
    const limit = Math.min(q.get(s, S.KNOWN), ids.length);
    return this.runs.common(q.get(s, S.RUN), 0, limit, ids, 0);
  }

  // ---------------------------------------------------------------- match

  match(seq: SequenceId): number {
    const q = this.sequences;
    const s = q.indexOf(seq);
    const wasActive = q.get(s, S.STATE) === ACTIVE;
    if (wasActive && this.tiers !== null) {
      if (this.tiers.isRestoring(s)) return q.get(s, S.COMPUTED);
      this.tiers.endRestore(s);
    }
    if (!wasActive) this.blocks.activate(s);
    const limit = Math.max(0, q.get(s, S.KNOWN) - 1);
    if (q.get(s, S.COMPUTED) > limit) this.blocks.cut(s, limit);
    const own = q.get(s, S.COMPUTED);
    if (!wasActive) q.set(s, S.OWN_HIT, own);
    if (this.config.prefixCaching) this.#match.extend(s, limit);
    const computed = q.get(s, S.COMPUTED);
    q.add(s, S.PREFIX_HIT, computed - own);
    return computed;
  }

  probe(seq: SequenceId): Readonly<Probe> {
    const s = this.sequences.indexOf(seq);
    invariant(this.sequences.get(s, S.STATE) !== ACTIVE, 'probe() of a sequence that is active');
    return this.#probe.run(s);
  }

  leader(seq: SequenceId): SequenceId | -1 {
    if (!this.config.prefixCaching) return -1;
    const s = this.sequences.indexOf(seq);
    invariant(this.sequences.get(s, S.STATE) === ACTIVE, 'leader() of a sequence that is not active');
    const leader = this.#leaders.of(s);
    return leader === -1 ? -1 : this.sequences.idOf(leader);
  }

  // ---------------------------------------------------------------- reserve and commit

  needed(seq: SequenceId, length: number): number {
    const q = this.sequences;
    const s = q.indexOf(seq);
    const more = Math.max(0, Math.ceil(length / this.#blockLen) - q.get(s, S.BLOCKS));
    return more + (this.blocks.mustCopy(s, length) && !this.blocks.mayKeep(s, more) ? 1 : 0);
  }

  reserve(seq: SequenceId, length: number): boolean {
    const q = this.sequences;
    const s = q.indexOf(seq);
    invariant(q.get(s, S.STATE) === ACTIVE, 'reserve() for a sequence that is not active');
    invariant(!this.tiers?.restoring.has(s), 'reserve() for a sequence that is being restored');
    if (!(length <= this.config.sessionLen))
      throw new InvariantError(`${length} tokens reserved, but the session length is shorter`);
    const more = Math.max(0, Math.ceil(length / this.#blockLen) - q.get(s, S.BLOCKS));
    const copy = this.blocks.mustCopy(s, length);
    if (copy || more > 0) {
      const idle = copy ? this.copies.idleSources() : 0;
      if (copy && this.tree.canTake(Math.max(more + 1, 1 + idle))) this.blocks.copyOnWrite(s);
      else if (!this.tree.canTake(more) || (copy && !this.blocks.mayKeep(s, more))) return false;
    }
    if (more > 0) this.blocks.takeBlocks(s, more);
    if (length > q.get(s, S.COMPUTED) && q.get(s, S.COMPUTED) < q.get(s, S.NODES) * this.#blockLen)
      this.blocks.takeBack(s);
    q.set(s, S.RESERVED, Math.max(length, q.get(s, S.RESERVED)));
    if (q.get(s, S.OWN_HIT) >= 0) this.#countMatch(s);
    return true;
  }

  #countMatch(s: number): void {
    const q = this.sequences;
    const c = this.#counters;
    const own = q.get(s, S.OWN_HIT);
    const prefix = q.get(s, S.PREFIX_HIT);
    const had = Math.min(q.get(s, S.STORED), q.get(s, S.KNOWN) - 1);
    // what was restored is a hit, too
    const found = Math.max(own + prefix, q.get(s, S.COMPUTED));
    if (had > 0) {
      if (found >= had) c.hits++;
      else if (found > 0) c.partialHits++;
      else c.misses++;
    }
    c.tokensReused += own;
    c.tokensPrefixReused += prefix;
    q.set(s, S.OWN_HIT, -1);
  }

  commit(seq: SequenceId, computed: number, writing = 0): number {
    const q = this.sequences;
    const s = q.indexOf(seq);
    const before = q.get(s, S.COMPUTED);
    invariant(q.get(s, S.STATE) === ACTIVE, 'commit() for a sequence that is not active');
    invariant(!this.tiers?.restoring.has(s), 'commit() for a sequence that is being restored');
    if (!(computed >= before && computed <= q.get(s, S.KNOWN) && computed <= q.get(s, S.BLOCKS) * this.#blockLen))
      throw new InvariantError(`commit of ${computed} tokens: ${before} were computed, ${q.get(s, S.KNOWN)} are known`);
    const copy = q.get(s, S.COPY);
    if (copy !== -1) {
      this.copies.cancel(q.block(s, copy));
      q.set(s, S.COPY, -1);
    }
    q.set(s, S.RESERVED, writing > computed ? writing : 0);
    if (computed === before) return 0;
    const stored = q.get(s, S.STORED);
    this.#counters.tokensComputed += computed - before;
    const again = Math.max(0, Math.min(stored, computed) - before);
    this.#counters.tokensRecomputed += again;
    q.set(s, S.STORED, Math.max(stored, computed));
    q.set(s, S.COMPUTED, computed);
    this.blocks.publishAll(s, Math.floor(before / this.#blockLen), Math.floor(computed / this.#blockLen));
    return again;
  }

  // ---------------------------------------------------------------- release

  release(seq: SequenceId, mode: 'keep' | 'drop'): void {
    const s = this.sequences.indexOf(seq);
    if (this.sequences.get(s, S.STATE) === ACTIVE) {
      this.tiers?.endRestore(s);
      this.blocks.deactivate(s, mode === 'drop');
      this.tiers?.released(s, mode === 'drop');
    }
    if (mode === 'drop') this.retention.forget(s);
  }

  truncate(seq: SequenceId, length: number): void {
    const q = this.sequences;
    const s = q.indexOf(seq);
    const known = q.get(s, S.KNOWN);
    if (length < 0) throw new InvariantError(`truncate to ${length}`);
    if (length >= known) return;
    this.tiers?.endRestore(s);
    if (q.get(s, S.COMPUTED) > length) this.blocks.cut(s, length);
    q.set(s, S.RUN, this.runs.rewind(q.get(s, S.RUN), length));
    q.set(s, S.KNOWN, length);
    q.set(s, S.STORED, Math.min(q.get(s, S.STORED), length));
    this.retention.tokens -= known - length;
  }

  fork(seq: SequenceId, length?: number): SequenceId {
    const q = this.sequences;
    const s = q.indexOf(seq);
    const known = length ?? q.get(s, S.KNOWN);
    if (!(known >= 0 && known <= q.get(s, S.KNOWN)))
      throw new InvariantError(`fork at ${known} of ${q.get(s, S.KNOWN)} tokens`);
    this.retention.makeRoom(1, known, s);
    const f = this.retention.create(q.get(s, S.NAMESPACE));
    q.set(f, S.RUN, this.runs.branch(q.get(s, S.RUN), known, f));
    q.set(f, S.KNOWN, known);
    this.retention.tokens += known;
    this.blocks.shareBlocks(s, f, known);
    q.set(f, S.STORED, Math.min(q.get(s, S.STORED), known));
    this.#counters.forks++;
    return q.idOf(f);
  }

  // ---------------------------------------------------------------- tiers

  restorable(seq: SequenceId, cost?: RestoreCost): number {
    if (this.tiers !== null) return this.tiers.restorable(this.#activeIndex(seq), cost);
    if (cost) cost.host = cost.disk = 0;
    return 0;
  }

  restore(seq: SequenceId, tokens: number): boolean {
    return this.#below().restore(this.#activeIndex(seq), tokens);
  }

  restoring(seq: SequenceId): boolean {
    return this.tiers?.isRestoring(this.sequences.indexOf(seq)) ?? false;
  }

  cancelRestore(seq: SequenceId): void {
    this.tiers?.endRestore(this.sequences.indexOf(seq));
  }

  #activeIndex(seq: SequenceId): number {
    const s = this.sequences.indexOf(seq);
    invariant(this.sequences.get(s, S.STATE) === ACTIVE, 'a sequence that is not active cannot be restored');
    return s;
  }

  #below(): Tiers {
    if (this.tiers === null) throw new InvariantError('there is no place below the device');
    return this.tiers;
  }

  takeOrders(out: TransferOrder[], max = Infinity): number {
    return this.tiers === null ? 0 : this.tiers.takeOrders(out, max);
  }

  orderDone(id: number, ok: boolean): void {
    this.#below().orderDone(id, ok);
  }

  loadArrived(id: number): boolean {
    return this.#below().loadArrived(id);
  }

  blockRead(id: number): void {
    this.#below().blockRead(id);
  }

  held(): number {
    return this.tree.heldBlocks();
  }

  ordersWaiting(): number {
    return this.tiers?.waiting ?? 0;
  }

  ordersOutstanding(): number {
    return this.tiers?.orders.size ?? 0;
  }

  prefixTokens(node: number, out: Int32Array): number {
    return this.#below().lower.prefixTokens(node, out);
  }

  namespaceOf(node: number): number {
    return this.#below().lower.namespaceOf(node);
  }

  adopt(nodes: readonly AdoptedNode[]): number {
    // without prefix caching texts are found by nobody but the conversations that made them
    return this.config.prefixCaching ? this.#below().lower.adopt(nodes) : 0;
  }

  // ---------------------------------------------------------------- tables and figures

  blockTable(seq: SequenceId, out: Int32Array, offset: number, first = 0): number {
    const s = this.sequences.indexOf(seq);
    const blocks = this.sequences.get(s, S.BLOCKS);
    this.sequences.readTable(s, first, blocks, out, offset + first, this.#cursor);
    return blocks;
  }

  tableVersion(seq: SequenceId): number {
    return this.sequences.get(this.sequences.indexOf(seq), S.VERSION);
  }

  takeCopies(out: Int32Array): number {
    return this.copies.take(out);
  }

  copiesRan(): void {
    this.copies.ran();
  }

  copiesLost(steps: number): void {
    this.copies.lost(steps);
  }

  available(): number {
    return this.tree.available();
  }

  stats(): CacheStats {
    return statsOf(this, this.#counters);
  }

  snapshot(): CacheSnapshot {
    return snapshotOf(this);
  }

  check(): void {
    checkAll(this);
  }
}
