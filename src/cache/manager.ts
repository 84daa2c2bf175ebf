/** The KV cache manager: see types.ts for what each operation promises, ARCHITECTURE.md for the picture. */
import { errors, InvariantError, invariant } from '../errors.js';
import { BlockPool } from './block-pool.js';
import { BlockTree } from './block-tree.js';
import { checkAll } from './check.js';
import { PendingCopies } from './copies.js';
import { Domains } from './domains.js';
import { snapshotOf } from './inspect.js';
import { createPolicy } from './policies.js';
import { PrefixIndex } from './prefix-index.js';
import { ACTIVE, INACTIVE, S, SequenceStore } from './sequence-store.js';
import { createCursor, TokenArena } from './token-arena.js';
import { TokenRuns } from './token-runs.js';
import type { CacheConfig, CacheManager, CacheSnapshot, CacheStats, SequenceId, SequenceState } from './types.js';

export class Manager implements CacheManager {
  readonly config: Readonly<CacheConfig>;
  readonly arena: TokenArena;
  readonly runs: TokenRuns;
  readonly sequences: SequenceStore;
  readonly pool: BlockPool;
  readonly tree: BlockTree;
  readonly domains: Domains;
  readonly copies: PendingCopies;
  tokensKept = 0;
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
    copies: 0,
    sequencesDropped: 0,
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
    this.domains = new Domains((d) => this.#index.addDomain(d));
    const policy = createPolicy(config.policy, this.pool);
    this.tree = new BlockTree(this.pool, policy, this.#index, this.runs, this.sequences, this.domains);
    this.copies = new PendingCopies(this.pool);
    if (chunk === -1 && !this.pool.growTo(blocks)) {
      throw errors.invalidOption('cacheMaxEntryCount', blocks, 'a number of KV blocks that the device can provide');
    }
  }

  // ---------------------------------------------------------------- sequence store

  create(options: { owner?: number; shared?: boolean } = {}): SequenceId {
    this.#makeRoom(1, 0, -1);
    const { owner = 0, shared = true } = options;
    const domain = this.config.prefixCaching ? this.domains.of(shared ? null : owner) : this.domains.private();
    this.domains.join(domain);
    return this.sequences.idOf(this.sequences.create(domain, this.runs.createRoot()));
  }

  append(seq: SequenceId, ids: ArrayLike<number>, from = 0, to = ids.length): void {
    const q = this.sequences;
    const s = q.slot(seq);
    if (to <= from) return;
    const known = q.get(s, S.KNOWN) + to - from;
    if (known > this.config.sessionLen) throw errors.promptTooLong(known, this.config.sessionLen);
    this.#makeRoom(0, to - from, s);
    this.runs.append(q.get(s, S.RUN), ids, from, to);
    this.#addKnown(s, to - from);
  }

  appendOne(seq: SequenceId, id: number): void {
    const q = this.sequences;
    const s = q.slot(seq);
    const known = q.get(s, S.KNOWN) + 1;
    if (known > this.config.sessionLen) throw errors.promptTooLong(known, this.config.sessionLen);
    if (this.tokensKept >= this.config.maxTokens) this.#dropInactive(0, 1, s);
    this.runs.appendOne(q.get(s, S.RUN), id);
    this.#addKnown(s, 1);
  }

  #addKnown(s: number, count: number): void {
    const q = this.sequences;
    q.add(s, S.KNOWN, count);
    this.tokensKept += count;
    if (q.get(s, S.STATE) === INACTIVE && q.inactive.last !== s) {
      q.unlink(q.inactive, s);
      q.link(q.inactive, s);
    }
  }

  known(seq: SequenceId): number {
    return this.sequences.get(this.sequences.slot(seq), S.KNOWN);
  }

  computed(seq: SequenceId): number {
    return this.sequences.get(this.sequences.slot(seq), S.COMPUTED);
  }

  state(seq: SequenceId): SequenceState {
    const q = this.sequences;
    const s = q.slot(seq);
    if (q.get(s, S.STATE) === ACTIVE) return 'active';
    return q.get(s, S.NODES) > 0 ? 'cached' : 'evicted';
  }

  exists(seq: SequenceId): boolean {
    return this.sequences.find(seq) !== -1;
  }

  tokenAt(seq: SequenceId, index: number): number {
    const s = this.#slotWith(seq, index + 1);
    return this.runs.token(this.sequences.get(s, S.RUN), index);
  }

  readTokens(seq: SequenceId, from: number, to: number, out: Int32Array, offset: number): void {
    const s = this.#slotWith(seq, to);
    this.runs.read(this.sequences.get(s, S.RUN), from, to, out, offset);
  }

  #slotWith(seq: SequenceId, tokens: number): number {
    const s = this.sequences.slot(seq);
    const known = this.sequences.get(s, S.KNOWN);
    if (tokens <= 0 || tokens > known) throw new InvariantError(`token ${tokens - 1} of a sequence of ${known}`);
    return s;
  }

  commonPrefix(seq: SequenceId, ids: ArrayLike<number>): number {
    const q = this.sequences;
    const s = q.slot(seq);
    const limit = Math.min(q.get(s, S.KNOWN), ids.length);
    return this.runs.common(q.get(s, S.RUN), 0, limit, ids, 0);
  }

  // ---------------------------------------------------------------- limits

  /** Drops inactive sequences until there is room, or throws; then nothing was dropped. */
  #makeRoom(sequences: number, tokens: number, except: number): void {
    const { maxSequences, maxTokens } = this.config;
    const q = this.sequences;
    if (q.size + sequences <= maxSequences && this.tokensKept + tokens <= maxTokens) return;
    let droppable = q.inactive.size;
    let kept = 0;
    for (let s = q.active.first; s !== -1; s = q.get(s, S.NEXT)) kept += q.get(s, S.KNOWN);
    if (except !== -1 && q.get(except, S.STATE) === INACTIVE) {
      droppable--;
      kept += q.get(except, S.KNOWN);
    }
    const fits = q.size - droppable + sequences <= maxSequences && kept + tokens <= maxTokens;
    if (!fits) throw errors.tooManySessions(maxSequences);
    this.#dropInactive(sequences, tokens, except);
  }

  #dropInactive(sequences: number, tokens: number, except: number): void {
    const q = this.sequences;
    const { maxSequences, maxTokens } = this.config;
    let s = q.inactive.first;
    while (s !== -1 && (q.size + sequences > maxSequences || this.tokensKept + tokens > maxTokens)) {
      const next = q.get(s, S.NEXT);
      if (s !== except) {
        this.#forget(s);
        this.#counters.sequencesDropped++;
      }
      s = next;
    }
  }

  // ---------------------------------------------------------------- match

  match(seq: SequenceId): number {
    const q = this.sequences;
    const s = q.slot(seq);
    const wasActive = q.get(s, S.STATE) === ACTIVE;
    if (!wasActive) this.#activate(s);
    const limit = Math.max(0, q.get(s, S.KNOWN) - 1);
    if (q.get(s, S.COMPUTED) > limit) this.#cut(s, limit);
    const own = q.get(s, S.COMPUTED);
    if (!wasActive) q.set(s, S.OWN_HIT, own);
    if (this.config.prefixCaching) this.#extend(s, limit);
    const computed = q.get(s, S.COMPUTED);
    q.add(s, S.PREFIX_HIT, computed - own);
    return computed;
  }

  #activate(s: number): void {
    const q = this.sequences;
    if (q.get(s, S.NODES) > 0) q.cached--;
    q.unlink(q.inactive, s);
    q.link(q.active, s);
    q.set(s, S.STATE, ACTIVE);
    q.set(s, S.PREFIX_HIT, 0);
    q.set(s, S.RESERVED, 0);
    q.add(s, S.VERSION, 1);
    const nodes = q.get(s, S.NODES);
    const c = this.#cursor;
    for (let i = 0; i < nodes; ) {
      q.locateBlock(s, i, c);
      const { data, at } = c;
      const n = Math.min(c.span, nodes - i);
      this.pool.warm(data, at, at + n);
      for (let k = 0; k < n; k++) {
        this.tree.pin(data[at + k]!);
        this.tree.policy.reused(data[at + k]!);
      }
      i += n;
    }
  }

  /** Node or root below which block `index` of the sequence hangs. */
  #parentOf(s: number, index: number): number {
    return index === 0 ? -1 - this.sequences.get(s, S.DOMAIN) : this.sequences.block(s, index - 1);
  }

  /** Extends the computed tokens of an active sequence through the prefix index, up to `limit`. */
  #extend(s: number, limit: number): void {
    const q = this.sequences;
    const run = q.get(s, S.RUN);
    const known = q.get(s, S.KNOWN);
    this.#extendOnward(s, limit);
    for (;;) {
      const computed = q.get(s, S.COMPUTED);
      const d = Math.floor(computed / this.#blockLen);
      const start = d * this.#blockLen;
      if (computed >= limit) return;
      const parent = this.#parentOf(s, d);
      if (this.#index.root(parent) === -1) return;
      this.#index.load(run, start, Math.min(known, start + this.#blockLen));
      this.#index.find(parent);
      const { best } = this.#index;
      const reach = Math.min(limit, start + this.#index.bestLength);
      if (reach <= computed) return;
      if (d === q.get(s, S.BLOCKS) || q.block(s, d) !== best) {
        if (reach < start + this.#blockLen) {
          this.#copyPart(s, d, best, reach);
          return;
        }
        this.#adopt(s, d, best);
        this.tree.policy.reused(best);
      }
      q.set(s, S.COMPUTED, reach);
    }
  }

  /** The common case: full blocks after the sequence's last, of which it has none of its own. */
  #extendOnward(s: number, limit: number): void {
    const q = this.sequences;
    const { tree } = this;
    const run = q.get(s, S.RUN);
    const before = q.get(s, S.NODES);
    if (q.get(s, S.BLOCKS) !== before || q.get(s, S.COMPUTED) !== before * this.#blockLen) return;
    let nodes = before;
    let parent = this.#parentOf(s, nodes);
    for (; (nodes + 1) * this.#blockLen <= limit; nodes++) {
      const b = this.#index.findFull(parent, run, nodes * this.#blockLen);
      if (b === -1) break;
      tree.pin(b);
      tree.policy.reused(b);
      q.pushBlock(s, b);
      parent = b;
    }
    if (nodes === before) return;
    this.#setTip(s, nodes);
    q.set(s, S.COMPUTED, nodes * this.#blockLen);
  }

  /** Block d of the sequence becomes the full node `b`. */
  #adopt(s: number, d: number, b: number): void {
    this.tree.pin(b);
    this.#replace(s, d, b);
    this.#setTip(s, d + 1);
  }

  /** Tokens up to `reach` of block d will be copied out of node `source`. */
  #copyPart(s: number, d: number, source: number, reach: number): void {
    const { tree } = this;
    tree.pin(source);
    const idle = this.copies.idleSources();
    const target = tree.canTake(1 + idle) ? tree.takeForCopy() : -1;
    tree.unpin(source);
    if (target === -1) return;
    tree.policy.reused(source);
    this.#replace(s, d, target);
    this.#setTip(s, d);
    this.#copy(s, d, source, target, reach - d * this.#blockLen);
    this.sequences.set(s, S.COMPUTED, reach);
  }

  #copy(s: number, d: number, source: number, target: number, tokens: number): void {
    this.copies.add(source, target, tokens);
    this.sequences.set(s, S.COPY, d);
    this.#counters.copies++;
  }

  /** Puts block b (pinned already) at table index d; what was there is let go. */
  #replace(s: number, d: number, b: number): void {
    const q = this.sequences;
    if (d === q.get(s, S.BLOCKS)) {
      q.pushBlock(s, b);
      return;
    }
    const old = q.block(s, d);
    if (d < q.get(s, S.NODES)) {
      this.#setTip(s, d);
      this.#letGo(old);
    } else {
      this.#discard(s, d, old);
    }
    q.setBlock(s, d, b);
    q.add(s, S.VERSION, 1);
  }

  /** Sets how many leading blocks of the table are nodes; the last of them is the sequence's end. */
  #setTip(s: number, nodes: number): void {
    const q = this.sequences;
    const before = q.get(s, S.NODES);
    if (before === nodes) return;
    if (before > 0) this.tree.detach(s, this.#tip(s, before));
    q.set(s, S.NODES, nodes);
    this.tree.attach(s, nodes > 0 ? q.block(s, nodes - 1) : -1);
  }

  #tip(s: number, nodes: number): number {
    return nodes > 0 ? this.sequences.block(s, nodes - 1) : -1;
  }

  /** An active sequence leaves a node, of which it is no tip any more. */
  #letGo(b: number): void {
    this.tree.unpin(b);
    this.#freeIfUseless(b);
  }

  /** Without the prefix index nobody could find a node that no sequence ends in or passes through. */
  #freeIfUseless(b: number): boolean {
    if (this.config.prefixCaching) return false;
    if (!this.pool.isCached(b) || this.pool.hasChildren(b) || this.pool.tips(b) !== -1) return false;
    this.tree.policy.remove(b);
    this.pool.setCached(b, false);
    this.tree.unpublish(b);
    this.pool.give(b);
    return true;
  }

  /** Frees a private block of a sequence, with the copy that was to fill it. */
  #discard(s: number, d: number, b: number): void {
    if (this.sequences.get(s, S.COPY) === d) {
      this.copies.cancel(b);
      this.sequences.set(s, S.COPY, -1);
    }
    this.pool.give(b);
  }

  /** Rewinds the computed tokens to `computed`. */
  #cut(s: number, computed: number): void {
    const q = this.sequences;
    q.set(s, S.COMPUTED, computed);
    const keep = Math.ceil(computed / this.#blockLen);
    const blocks = q.get(s, S.BLOCKS);
    const nodes = q.get(s, S.NODES);
    if (keep >= blocks) return;
    const active = q.get(s, S.STATE) === ACTIVE;
    if (keep < nodes) this.#setTip(s, keep);
    for (let d = blocks - 1; d >= keep; d--) {
      const b = q.block(s, d);
      if (d >= nodes) this.#discard(s, d, b);
      else if (active) this.#letGo(b);
      else this.#freeIfUseless(b);
    }
    q.resizeTable(s, keep);
    if (active) q.add(s, S.VERSION, 1);
    else if (keep === 0) q.cached--;
  }

  leader(seq: SequenceId): SequenceId | -1 {
    if (!this.config.prefixCaching) return -1;
    const q = this.sequences;
    const s = q.slot(seq);
    invariant(q.get(s, S.STATE) === ACTIVE, 'leader() of a sequence that is not active');
    const d = Math.floor(q.get(s, S.COMPUTED) / this.#blockLen);
    const start = d * this.#blockLen;
    const end = start + this.#blockLen;
    if (q.get(s, S.KNOWN) < end) return -1;
    const parent = this.#parentOf(s, d);
    let loaded = false;
    for (let l = q.active.first; l !== s; l = q.get(l, S.NEXT)) {
      const computed = q.get(l, S.COMPUTED);
      if (computed < start || computed >= end || q.get(l, S.KNOWN) < end || this.#parentOf(l, d) !== parent) continue;
      if (!loaded) this.#index.load(q.get(s, S.RUN), start, end);
      loaded = true;
      if (this.runs.common(q.get(l, S.RUN), start, end, this.#index.query, 0) === this.#blockLen) return q.idOf(l);
    }
    return -1;
  }

  // ---------------------------------------------------------------- reserve and commit

  needed(seq: SequenceId, length: number): number {
    const q = this.sequences;
    const s = q.slot(seq);
    const more = Math.max(0, Math.ceil(length / this.#blockLen) - q.get(s, S.BLOCKS));
    return more + (this.#mustCopy(s, length) && !this.#mayKeep(s, more) ? 1 : 0);
  }

  /** The next token would be written into a node that others may read. */
  #mustCopy(s: number, length: number): boolean {
    const q = this.sequences;
    const nodes = q.get(s, S.NODES);
    const computed = q.get(s, S.COMPUTED);
    if (length <= computed || computed >= nodes * this.#blockLen) return false;
    const b = q.block(s, nodes - 1);
    const uses = q.get(s, S.STATE) === ACTIVE ? 1 : 0;
    return this.pool.uses(b) > uses || !this.tree.isOnlyTip(s, b) || this.pool.hasChildren(b);
  }

  /** … but no active one does, and there is no block for a copy: the inactive ones must give it up. */
  #mayKeep(s: number, more: number): boolean {
    const b = this.#tip(s, this.sequences.get(s, S.NODES));
    const uses = this.sequences.get(s, S.STATE) === ACTIVE ? 1 : 0;
    return this.pool.uses(b) === uses && more >= this.tree.available();
  }

  reserve(seq: SequenceId, length: number): boolean {
    const q = this.sequences;
    const s = q.slot(seq);
    invariant(q.get(s, S.STATE) === ACTIVE, 'reserve() for a sequence that is not active');
    if (!(length <= this.config.sessionLen))
      throw new InvariantError(`${length} tokens reserved, but the session length is shorter`);
    const more = Math.max(0, Math.ceil(length / this.#blockLen) - q.get(s, S.BLOCKS));
    const copy = this.#mustCopy(s, length);
    if (copy || more > 0) {
      const idle = copy ? this.copies.idleSources() : 0;
      if (copy && this.tree.canTake(Math.max(more + 1, 1 + idle))) this.#copyOnWrite(s);
      else if (!this.tree.canTake(more) || (copy && !this.#mayKeep(s, more))) return false;
    }
    if (more > 0) this.#takeBlocks(s, more);
    if (length > q.get(s, S.COMPUTED) && q.get(s, S.COMPUTED) < q.get(s, S.NODES) * this.#blockLen) this.#takeBack(s);
    q.set(s, S.RESERVED, Math.max(length, q.get(s, S.RESERVED)));
    if (q.get(s, S.OWN_HIT) >= 0) this.#countMatch(s);
    return true;
  }

  #takeBlocks(s: number, count: number): void {
    const q = this.sequences;
    const first = q.get(s, S.BLOCKS);
    q.resizeTable(s, first + count);
    this.pool.warmFree(count);
    for (let d = first; d < first + count; d++) q.setBlock(s, d, this.tree.take());
  }

  /** The sequence's last node is partly its own, and read by others: it goes on in a copy. */
  #copyOnWrite(s: number): void {
    const q = this.sequences;
    const d = q.get(s, S.NODES) - 1;
    const old = q.block(s, d);
    const tokens = q.get(s, S.COMPUTED) - d * this.#blockLen;
    const target = this.tree.takeForCopy();
    this.#setTip(s, d);
    q.setBlock(s, d, target);
    q.add(s, S.VERSION, 1);
    this.#copy(s, d, old, target, tokens);
    this.#letGo(old);
  }

  /** The sequence's last node leaves the tree, so that it can be written. Inactive sequences that end in it lose it. */
  #takeBack(s: number): void {
    const q = this.sequences;
    const nodes = q.get(s, S.NODES);
    const b = q.block(s, nodes - 1);
    this.#setTip(s, nodes - 1);
    this.tree.dropTips(b);
    this.tree.unpublish(b);
  }

  #countMatch(s: number): void {
    const q = this.sequences;
    const c = this.#counters;
    const own = q.get(s, S.OWN_HIT);
    const prefix = q.get(s, S.PREFIX_HIT);
    const had = Math.min(q.get(s, S.STORED), q.get(s, S.KNOWN) - 1);
    if (had > 0) {
      if (own + prefix >= had) c.hits++;
      else if (own + prefix > 0) c.partialHits++;
      else c.misses++;
    }
    c.tokensReused += own;
    c.tokensPrefixReused += prefix;
    q.set(s, S.OWN_HIT, -1);
  }

  commit(seq: SequenceId, computed: number): void {
    const q = this.sequences;
    const s = q.slot(seq);
    const before = q.get(s, S.COMPUTED);
    invariant(q.get(s, S.STATE) === ACTIVE, 'commit() for a sequence that is not active');
    if (!(computed >= before && computed <= q.get(s, S.KNOWN) && computed <= q.get(s, S.BLOCKS) * this.#blockLen))
      throw new InvariantError(`commit of ${computed} tokens: ${before} were computed, ${q.get(s, S.KNOWN)} are known`);
    const copy = q.get(s, S.COPY);
    if (copy !== -1) {
      this.copies.cancel(q.block(s, copy));
      q.set(s, S.COPY, -1);
    }
    q.set(s, S.RESERVED, 0);
    if (computed === before) return;
    const stored = q.get(s, S.STORED);
    this.#counters.tokensComputed += computed - before;
    this.#counters.tokensRecomputed += Math.max(0, Math.min(stored, computed) - before);
    q.set(s, S.STORED, Math.max(stored, computed));
    q.set(s, S.COMPUTED, computed);
    for (let d = Math.floor(before / this.#blockLen); (d + 1) * this.#blockLen <= computed; d++) this.#publish(s, d);
  }

  /** Block d is full: from now on others may use it. The same text stored before takes its place. */
  #publish(s: number, d: number): void {
    const q = this.sequences;
    const b = q.block(s, d);
    const end = (d + 1) * this.#blockLen;
    const parent = this.#parentOf(s, d);
    if (q.get(s, S.NODES) !== d) throw new InvariantError(`block ${d} of a sequence is published twice`);
    const alone = this.#index.root(parent) === -1;
    if (!alone || this.tree.policy.wantsHashes) this.#index.load(q.get(s, S.RUN), end - this.#blockLen, end);
    if (!alone) {
      this.#index.find(parent);
      if (this.#index.bestLength === this.#blockLen) {
        this.#adopt(s, d, this.#index.best);
        return;
      }
    }
    this.tree.publish(b, parent, q.get(s, S.RUN), end);
    this.#setTip(s, d + 1);
  }

  // ---------------------------------------------------------------- release

  release(seq: SequenceId, mode: 'keep' | 'drop'): void {
    const s = this.sequences.slot(seq);
    if (this.sequences.get(s, S.STATE) === ACTIVE) this.#deactivate(s, mode === 'drop');
    if (mode === 'drop') this.#forget(s);
  }

  #deactivate(s: number, drop: boolean): void {
    const q = this.sequences;
    const copy = q.get(s, S.COPY);
    if (copy !== -1) this.#cut(s, Math.min(q.get(s, S.COMPUTED), copy * this.#blockLen));
    this.#cut(s, q.get(s, S.COMPUTED));
    if (drop && !this.config.prefixCaching) {
      this.#cut(s, Math.min(q.get(s, S.COMPUTED), q.get(s, S.NODES) * this.#blockLen));
    }
    this.#keepPart(s);
    const nodes = q.get(s, S.NODES);
    for (let d = nodes - 1; d >= 0; d--) {
      const b = q.block(s, d);
      this.tree.unpin(b, drop && d === nodes - 1 && !this.pool.isFull(b) && this.tree.isOnlyTip(s, b));
    }
    q.unlink(q.active, s);
    q.link(q.inactive, s);
    q.set(s, S.STATE, INACTIVE);
    q.set(s, S.OWN_HIT, -1);
    if (nodes > 0) q.cached++;
  }

  /** The partly filled private block at the end becomes a node: it may be evicted, forked, copied from. */
  #keepPart(s: number): void {
    const q = this.sequences;
    const d = q.get(s, S.NODES);
    const computed = q.get(s, S.COMPUTED);
    if (computed <= d * this.#blockLen) return;
    this.#index.load(q.get(s, S.RUN), d * this.#blockLen, computed);
    this.tree.publish(q.block(s, d), this.#parentOf(s, d), q.get(s, S.RUN), computed);
    this.#setTip(s, d + 1);
  }

  /** Drops an inactive sequence. */
  #forget(s: number): void {
    const q = this.sequences;
    const nodes = q.get(s, S.NODES);
    this.#setTip(s, 0);
    for (let d = nodes - 1; d >= 0 && this.#freeIfUseless(q.block(s, d)); d--);
    if (nodes > 0) q.cached--;
    this.tokensKept -= q.get(s, S.KNOWN);
    this.runs.disown(q.get(s, S.RUN));
    this.domains.leave(q.get(s, S.DOMAIN));
    q.unlink(q.inactive, s);
    q.free(s);
  }

  truncate(seq: SequenceId, length: number): void {
    const q = this.sequences;
    const s = q.slot(seq);
    const known = q.get(s, S.KNOWN);
    if (length < 0) throw new InvariantError(`truncate to ${length}`);
    if (length >= known) return;
    if (q.get(s, S.COMPUTED) > length) this.#cut(s, length);
    q.set(s, S.RUN, this.runs.rewind(q.get(s, S.RUN), length));
    q.set(s, S.KNOWN, length);
    q.set(s, S.STORED, Math.min(q.get(s, S.STORED), length));
    this.tokensKept -= known - length;
  }

  fork(seq: SequenceId, length?: number): SequenceId {
    const q = this.sequences;
    const s = q.slot(seq);
    const known = length ?? q.get(s, S.KNOWN);
    if (!(known >= 0 && known <= q.get(s, S.KNOWN)))
      throw new InvariantError(`fork at ${known} of ${q.get(s, S.KNOWN)} tokens`);
    this.#makeRoom(1, known, s);
    const domain = q.get(s, S.DOMAIN);
    const f = q.create(domain, this.runs.branch(q.get(s, S.RUN), known));
    this.domains.join(domain);
    q.set(f, S.KNOWN, known);
    this.tokensKept += known;
    this.#shareBlocks(s, f, known);
    q.set(f, S.STORED, Math.min(q.get(s, S.STORED), known));
    this.#counters.forks++;
    return q.idOf(f);
  }

  /** The new sequence f ends where s has computed to, at most at `limit`. */
  #shareBlocks(s: number, f: number, limit: number): void {
    const q = this.sequences;
    let computed = Math.min(limit, q.get(s, S.COMPUTED));
    const copy = q.get(s, S.COPY);
    const full = q.get(s, S.NODES) * this.#blockLen;
    // a block that is about to be written cannot be shared
    if (copy !== -1) computed = Math.min(computed, copy * this.#blockLen);
    else if (q.get(s, S.RESERVED) > q.get(s, S.COMPUTED)) computed = Math.min(computed, full);
    else if (computed > full) this.#keepPart(s);
    const nodes = Math.ceil(computed / this.#blockLen);
    q.set(f, S.COMPUTED, computed);
    q.resizeTable(f, nodes);
    for (let d = 0; d < nodes; d++) q.setBlock(f, d, q.block(s, d));
    this.#setTip(f, nodes);
    if (nodes > 0) q.cached++;
  }

  // ---------------------------------------------------------------- tables and figures

  blockTable(seq: SequenceId, out: Int32Array, offset: number, first = 0): number {
    const s = this.sequences.slot(seq);
    const blocks = this.sequences.get(s, S.BLOCKS);
    this.sequences.readTable(s, first, blocks, out, offset + first, this.#cursor);
    return blocks;
  }

  tableVersion(seq: SequenceId): number {
    return this.sequences.get(this.sequences.slot(seq), S.VERSION);
  }

  takeCopies(out: Int32Array): number {
    return this.copies.take(out);
  }

  available(): number {
    return this.tree.available();
  }

  stats(): CacheStats {
    const { pool, sequences: q } = this;
    const cached = this.tree.policy.size;
    const free = pool.free + pool.blocks - pool.grown;
    return {
      blocks: { total: pool.blocks, free, cached, active: pool.blocks - free - cached, grown: pool.grown },
      sequences: {
        total: q.size,
        active: q.active.size,
        cached: q.cached,
        evicted: q.inactive.size - q.cached,
      },
      tokensKept: this.tokensKept,
      ...this.#counters,
      blocksEvicted: this.tree.blocksEvicted,
      tokensEvicted: this.tree.tokensEvicted,
      growRefusals: pool.refusals,
    };
  }

  snapshot(): CacheSnapshot {
    return snapshotOf(this);
  }

  check(): void {
    checkAll(this);
  }
}
