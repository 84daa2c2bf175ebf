/** What can be seen of a cache manager from outside: figures, a picture, and every invariant from first principles. */
import { invariant } from '../errors.js';
import type { TokenArena } from './memory.js';
import { type BlockPool, LEFT, type PendingCopies, RIGHT } from './pool.js';
import type { SequenceBlocks } from './sequence-blocks.js';
import {
  ACTIVE,
  FREE,
  type Namespaces,
  type Retention,
  S,
  type SequenceList,
  type SequenceStore,
} from './sequences.js';
import type { TokenRuns } from './token-runs.js';
import type { BlockTree } from './tree.js';
import type { CacheConfig, CacheSnapshot, CacheStats } from './types.js';

/** What a manager is made of. */
export interface Parts {
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
}

const MAX_ORDER = 4096;

/** A picture of the block map. O(blocks + sequences). */
export function snapshotOf(m: Parts): CacheSnapshot {
  const { pool, sequences: q } = m;
  const { blockLen } = pool;
  const state = new Uint8Array(pool.blocks);
  const sequence = new Float64Array(pool.blocks).fill(-1);
  const fill = new Uint16Array(pool.blocks);
  for (let b = 0; b < pool.touched; b++) {
    state[b] = pool.isFree(b) ? 1 : pool.isCached(b) ? 2 : 3;
    if (pool.isNode(b)) fill[b] = Math.min(0xffff, pool.end(b) - pool.start(b));
  }
  for (let s = 0; s < q.high; s++) {
    if (q.get(s, S.STATE) === FREE) continue;
    const id = q.idOf(s);
    for (let d = 0; d < q.get(s, S.BLOCKS); d++) {
      const b = q.block(s, d);
      sequence[b] = id;
      if (d >= q.get(s, S.NODES)) {
        fill[b] = Math.min(0xffff, blockLen, Math.max(0, q.get(s, S.COMPUTED) - d * blockLen));
      }
    }
  }
  const order = new Int32Array(Math.min(MAX_ORDER, m.tree.policy.size));
  const count = m.tree.policy.order(order);
  return { blockLen, state, sequence, fill, evictionOrder: order.subarray(0, count) };
}

/** What matches found and steps computed, counted as it happens. */
export type CacheCounters = Pick<
  CacheStats,
  | 'hits'
  | 'partialHits'
  | 'misses'
  | 'tokensReused'
  | 'tokensRecomputed'
  | 'tokensComputed'
  | 'tokensPrefixReused'
  | 'forks'
>;

export function statsOf(m: Parts, counters: CacheCounters): CacheStats {
  const { pool, sequences: q, tree, retention } = m;
  const cached = tree.policy.size;
  const free = pool.free + pool.blocks - pool.grown;
  return {
    blocks: { total: pool.blocks, free, cached, active: pool.blocks - free - cached, grown: pool.grown },
    sequences: { total: q.size, active: q.active.size, cached: q.cached, evicted: q.inactive.size - q.cached },
    tokensKept: retention.tokens,
    ...counters,
    sequencesDropped: retention.dropped,
    copies: m.blocks.copiesMade,
    blocksEvicted: tree.blocksEvicted,
    tokensEvicted: tree.tokensEvicted,
    growRefusals: pool.refusals,
  };
}

/** Every invariant. O(blocks + tokens + sequences); for tests and a debug option. */
export function checkAll(m: Parts): void {
  const holders = countHolders(m);
  checkBlocks(m, holders);
  checkTree(m);
  checkLastBlocks(m);
  checkRuns(m);
  m.tree.policy.check();
  m.copies.check();
  const { arena } = m;
  invariant(arena.unitsUsed + arena.countFree() === arena.unitsReserved, 'the token arena lost memory');
}

/** Walks all sequences; returns how many active ones use each block. */
function countHolders(m: Parts): Int32Array {
  const { sequences: q, pool } = m;
  const uses = new Int32Array(pool.blocks);
  let tokens = 0;
  let cached = 0;
  let used = 0;
  for (let s = 0; s < q.high; s++) {
    if (q.get(s, S.STATE) === FREE) continue;
    used++;
    tokens += q.get(s, S.KNOWN);
    const active = q.get(s, S.STATE) === ACTIVE;
    if (!active && q.get(s, S.NODES) > 0) cached++;
    checkSequence(m, s, active);
    if (active) for (let d = 0; d < q.get(s, S.BLOCKS); d++) uses[q.block(s, d)]!++;
  }
  invariant(used === q.size && used === q.active.size + q.inactive.size, 'a sequence is lost');
  invariant(listLength(m, q.active) === q.active.size, 'the list of active sequences is broken');
  invariant(listLength(m, q.inactive) === q.inactive.size, 'the list of inactive sequences is broken');
  invariant(tokens === m.retention.tokens, `${tokens} tokens kept, ${m.retention.tokens} counted`);
  invariant(cached === q.cached, `${cached} sequences cached, ${q.cached} counted`);
  invariant(used <= m.config.maxSequences, `${used} sequences, more than maxSequences`);
  return uses;
}

function listLength(m: Parts, list: SequenceList): number {
  let n = 0;
  for (let s = list.first; s !== -1 && n <= list.size; s = m.sequences.get(s, S.NEXT)) n++;
  return n;
}

function checkSequence(m: Parts, s: number, active: boolean): void {
  const { sequences: q, pool, runs } = m;
  const { blockLen } = pool;
  const known = q.get(s, S.KNOWN);
  const computed = q.get(s, S.COMPUTED);
  const blocks = q.get(s, S.BLOCKS);
  const nodes = q.get(s, S.NODES);
  const run = q.get(s, S.RUN);
  invariant(
    known === runs.end(run) && known <= m.config.sessionLen,
    `sequence ${s}: ${known} tokens are not its run's`,
  );
  invariant(computed <= known && computed <= blocks * blockLen, `sequence ${s}: ${computed} computed of ${known}`);
  invariant(nodes <= blocks && nodes <= Math.ceil(computed / blockLen), `sequence ${s}: ${nodes} nodes`);
  if (active) invariant(computed < (nodes + 1) * blockLen, `sequence ${s}: a full block is not published`);
  else invariant(nodes === blocks && nodes === Math.ceil(computed / blockLen), `sequence ${s}: inactive, but not tidy`);
  const mine = new Int32Array(known);
  if (known > 0) runs.read(run, 0, known, mine, 0);
  for (let d = 0; d < blocks; d++) {
    const b = q.block(s, d);
    invariant(pool.isNode(b) === d < nodes, `sequence ${s}: block ${b} at ${d} of ${nodes} nodes is wrongly a node`);
    if (d >= nodes) continue;
    const parent = d === 0 ? -1 - q.get(s, S.NAMESPACE) : q.block(s, d - 1);
    invariant(pool.parent(b) === parent, `sequence ${s}: block ${b} hangs elsewhere`);
    invariant(pool.start(b) === d * blockLen, `sequence ${s}: block ${b} is of another depth`);
    invariant(pool.isFull(b) || d === nodes - 1, `sequence ${s}: a hole after block ${b}`);
    const end = Math.min(computed, (d + 1) * blockLen);
    invariant(pool.end(b) >= end, `sequence ${s}: block ${b} ends before its computed tokens`);
    const equal = runs.common(pool.run(b), d * blockLen, end, mine, d * blockLen);
    invariant(equal === end - d * blockLen, `sequence ${s}: block ${b} holds other tokens`);
  }
}

function checkBlocks(m: Parts, uses: Int32Array): void {
  const { pool } = m;
  let free = pool.check();
  let cached = 0;
  for (let b = 0; b < pool.touched; b++) {
    invariant(pool.uses(b) === uses[b], `block ${b}: ${pool.uses(b)} uses, ${uses[b]} active sequences have it`);
    const places = Number(pool.isFree(b)) + Number(pool.isCached(b)) + Number(uses[b]! > 0);
    invariant(places === 1, `block ${b} is in ${places} places`);
    if (pool.isCached(b)) cached++;
    if (pool.isCached(b)) invariant(pool.isNode(b), `cached block ${b} is not in the tree`);
    if (!pool.isNode(b) && uses[b]! > 0) invariant(uses[b] === 1, `private block ${b} has ${uses[b]} users`);
    if (pool.isFree(b)) free--;
  }
  invariant(cached === m.tree.policy.size, `${cached} blocks cached, the policy has ${m.tree.policy.size}`);
  invariant(free === pool.blocks - pool.touched, 'free + cached + active is not the total');
}

/** The tree of nodes: every node reachable once, children in order, an active node's parent active. */
function checkTree(m: Parts): void {
  const { pool } = m;
  const seen = new Uint8Array(pool.blocks);
  let reached = 0;
  const namespaceRoots = new Int32Array(m.namespaces.high);
  const visit = (parent: number, root: number) => {
    const stack: number[] = [];
    let b = root;
    let previous = -1;
    let siblings = 0;
    while (b !== -1 || stack.length > 0) {
      while (b !== -1) {
        stack.push(b);
        b = m.tree.index.sibling(b, LEFT);
      }
      b = stack.pop()!;
      invariant(!seen[b] && pool.isNode(b) && pool.parent(b) === parent, `block ${b} hangs wrongly in the tree`);
      seen[b] = 1;
      reached++;
      siblings++;
      if (parent < 0) namespaceRoots[-1 - parent]!++;
      else invariant(pool.uses(b) <= pool.uses(parent) && pool.isFull(parent), `block ${b}: its parent is not in use`);
      if (previous !== -1) invariant(inOrder(m, previous, b), `blocks ${previous} and ${b} are out of order`);
      previous = b;
      const child = pool.child(b);
      if (child !== -1) visit(b, child);
      b = m.tree.index.sibling(b, RIGHT);
    }
    invariant(root === -1 || pool.isAlone(root) === (siblings === 1), `block ${root}: alone among ${siblings}`);
  };
  for (let d = 0; d < m.namespaces.high; d++) if (m.namespaces.members(d) > 0) visit(-1 - d, m.tree.index.root(-1 - d));
  let nodes = 0;
  for (let b = 0; b < pool.touched; b++) if (pool.isNode(b)) nodes++;
  invariant(nodes === reached, `${nodes} nodes, ${reached} can be reached: orphans`);
  for (let s = 0; s < m.sequences.high; s++) {
    if (m.sequences.get(s, S.STATE) !== FREE) namespaceRoots[m.sequences.get(s, S.NAMESPACE)]!++;
  }
  namespaceRoots[0]!++;
  for (let d = 0; d < m.namespaces.high; d++) {
    invariant(m.namespaces.members(d) === namespaceRoots[d], `namespace ${d} has ${namespaceRoots[d]} members`);
  }
}

function inOrder(m: Parts, a: number, b: number): boolean {
  const { pool, runs } = m;
  const start = pool.start(a);
  const left = new Int32Array(pool.end(a) - start);
  runs.read(pool.run(a), start, pool.end(a), left, 0);
  const shorter = Math.min(left.length, pool.end(b) - start);
  const equal = runs.common(pool.run(b), start, start + shorter, left, 0);
  if (equal < shorter) return left[equal]! < runs.token(pool.run(b), start + equal);
  if (left.length !== pool.end(b) - start) return left.length === shorter;
  return a < b && left.length < pool.blockLen;
}

/** Each sequence is in the list of its last block, and nobody else is. */
function checkLastBlocks(m: Parts): void {
  const { pool, sequences: q } = m;
  const lastOf = new Map<number, number>();
  for (let b = 0; b < pool.touched; b++) {
    if (!pool.isNode(b)) continue;
    let previous = -1;
    for (let s = pool.endingIn(b); s !== -1; s = q.get(s, S.PEER_NEXT)) {
      invariant(
        !lastOf.has(s) && q.get(s, S.PEER_PREVIOUS) === previous,
        `sequence ${s}: broken list of its last block`,
      );
      lastOf.set(s, b);
      previous = s;
    }
  }
  for (let s = 0; s < q.high; s++) {
    if (q.get(s, S.STATE) === FREE) continue;
    const nodes = q.get(s, S.NODES);
    const last = nodes > 0 ? q.block(s, nodes - 1) : undefined;
    invariant(lastOf.get(s) === last, `sequence ${s} ends in block ${last}, listed at ${lastOf.get(s)}`);
    lastOf.delete(s);
  }
  invariant(lastOf.size === 0, 'a sequence that is gone is still listed at its last block');
}

function checkRuns(m: Parts): void {
  const refs = new Map<number, number>();
  const add = (run: number) => refs.set(run, (refs.get(run) ?? 0) + 1);
  let units = 0;
  for (let b = 0; b < m.pool.touched; b++) if (m.pool.isNode(b)) add(m.pool.run(b));
  const owners = new Map<number, number>();
  for (let s = 0; s < m.sequences.high; s++) {
    if (m.sequences.get(s, S.STATE) === FREE) continue;
    const run = m.sequences.get(s, S.RUN);
    invariant(!owners.has(run), `two sequences write run ${run}`);
    owners.set(run, s);
    add(run);
    units += m.sequences.tableUnits(s);
  }
  let count = 0;
  m.runs.forEach((_run, _refs, parent) => {
    if (parent !== -1) add(parent);
  });
  m.runs.forEach((run, n, _parent, u, owner) => {
    invariant(refs.get(run) === n, `run ${run}: ${n} references, ${refs.get(run)} holders`);
    invariant(owner === (owners.get(run) ?? -1), `run ${run}: wrong owner`);
    units += u;
    count++;
  });
  invariant(count === m.runs.size && refs.size === count, 'a token run is lost');
  invariant(units === m.arena.unitsUsed, `${units} units held, ${m.arena.unitsUsed} in use`);
}
