/** What can be seen of a cache manager from outside: figures, a picture, and every invariant from first principles. */
import { invariant } from '../errors.js';
import type { Place } from './lower-tree.js';
import type { TokenArena } from './memory.js';
import { type BlockPool, LEFT, type NodeRecords, type PendingCopies, RIGHT } from './pool.js';
import type { PrefixIndex } from './prefix-index.js';
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
import { IDLE, READING, type Tiers, WAITING, WRITING } from './tiers.js';
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
  readonly tiers: Tiers | null;
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
  const evictionOrder = order.subarray(0, count);
  return { blockLen, state, sequence, fill, evictionOrder, ...(m.tiers && { tiers: m.tiers.lower.snapshot() }) };
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
  const { tiers } = m;
  const cached = tree.policy.size + (tiers?.leavingBlocks() ?? 0);
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
    tokensRestored: tiers?.tokensRestored ?? 0,
    tiers: tiers?.stats() ?? null,
  };
}

/** Every invariant. O(blocks + tokens + sequences); for tests and a debug option. */
export function checkAll(m: Parts): void {
  const holders = countHolders(m);
  checkBlocks(m, holders);
  checkTrees(m);
  checkLastBlocks(m);
  checkRuns(m);
  m.tree.policy.check();
  m.copies.check();
  if (m.tiers) checkTiers(m, m.tiers);
  const { arena } = m;
  invariant(arena.unitsUsed + arena.countFree() === arena.unitsReserved, 'the token arena lost memory');
}

/** Walks all sequences; returns how many active ones, or loads, use each block. */
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
  if (m.tiers) for (const b of m.tiers.lower.target) if (b !== -1) uses[b]!++;
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
    invariant(
      pool.uses(b) === uses[b],
      `block ${b}: ${pool.uses(b)} uses, ${uses[b]} active sequences or loads have it`,
    );
    const leaving = uses[b] === 0 && !pool.isNode(b) && pool.isSaving(b);
    const places = Number(pool.isFree(b)) + Number(pool.isCached(b)) + Number(uses[b]! > 0) + Number(leaving);
    invariant(places === 1, `block ${b} is in ${places} places`);
    if (pool.isCached(b)) cached++;
    if (pool.isCached(b)) invariant(pool.isNode(b), `cached block ${b} is not in the tree`);
    if (!pool.isNode(b) && uses[b]! > 0) invariant(uses[b] === 1, `private block ${b} has ${uses[b]} users`);
    if (pool.isFree(b)) free--;
  }
  invariant(cached === m.tree.policy.size, `${cached} blocks cached, the policy has ${m.tree.policy.size}`);
  invariant(free === pool.blocks - pool.touched, 'free + cached + active is not the total');
}

/** A tree of nodes and where their tokens are: of the device, or of what lies below. */
interface Tree {
  nodes: NodeRecords;
  index: PrefixIndex;
  runs: TokenRuns;
}

/** Every node can be reached once, children in order. Calls back with each node and its parent. */
function walk(tree: Tree, m: Parts, visit: (node: number, parent: number) => void): number {
  const { nodes, index } = tree;
  const seen = new Uint8Array(nodes.count);
  let reached = 0;
  const below = (parent: number, root: number) => {
    const stack: number[] = [];
    let b = root;
    let previous = -1;
    let siblings = 0;
    while (b !== -1 || stack.length > 0) {
      while (b !== -1) {
        stack.push(b);
        b = index.sibling(b, LEFT);
      }
      b = stack.pop()!;
      invariant(!seen[b] && nodes.isNode(b) && nodes.parent(b) === parent, `node ${b} hangs wrongly in the tree`);
      seen[b] = 1;
      reached++;
      siblings++;
      invariant(parent < 0 || nodes.isFull(parent), `node ${b}: its parent is not full`);
      visit(b, parent);
      if (previous !== -1) invariant(inOrder(tree, previous, b), `nodes ${previous} and ${b} are out of order`);
      previous = b;
      const child = nodes.child(b);
      if (child !== -1) below(b, child);
      b = index.sibling(b, RIGHT);
    }
    invariant(root === -1 || nodes.isAlone(root) === (siblings === 1), `node ${root}: alone among ${siblings}`);
  };
  for (let d = 0; d < m.namespaces.high; d++) if (m.namespaces.members(d) > 0) below(-1 - d, index.root(-1 - d));
  return reached;
}

/** The trees: every node reachable once, an active node's parent active; namespaces count what is in them. */
function checkTrees(m: Parts): void {
  const { pool, tiers } = m;
  const members = new Int32Array(m.namespaces.high);
  const device = { nodes: pool, index: m.tree.index, runs: m.runs };
  const reached = walk(device, m, (b, parent) => {
    if (parent < 0) members[-1 - parent]!++;
    else invariant(pool.uses(b) <= pool.uses(parent), `block ${b}: its parent is not in use`);
  });
  let nodes = 0;
  for (let b = 0; b < pool.touched; b++) if (pool.isNode(b)) nodes++;
  invariant(nodes === reached, `${nodes} nodes, ${reached} can be reached: orphans`);
  if (tiers) {
    const below = walk(tiers.lower, m, (_, parent) => {
      if (parent < 0) members[-1 - parent]!++;
    });
    invariant(
      below + tiers.lower.free.size === tiers.lower.nodes.count,
      `${below} nodes below, ${tiers.lower.free.size} free`,
    );
    invariant(below === tiers.lower.runs.size, `${below} nodes below, ${tiers.lower.runs.size} texts`);
    const { unitsUsed, unitsReserved } = tiers.lower.arena;
    invariant(unitsUsed + tiers.lower.arena.countFree() === unitsReserved, 'the arena of the tiers lost memory');
  }
  for (let s = 0; s < m.sequences.high; s++) {
    if (m.sequences.get(s, S.STATE) !== FREE) members[m.sequences.get(s, S.NAMESPACE)]!++;
  }
  members[0]!++;
  for (let d = 0; d < m.namespaces.high; d++) {
    invariant(m.namespaces.members(d) === members[d], `namespace ${d} has ${members[d]} members`);
  }
}

function inOrder({ nodes, runs }: Tree, a: number, b: number): boolean {
  const start = nodes.start(a);
  const left = new Int32Array(nodes.end(a) - start);
  runs.read(nodes.run(a), start, nodes.end(a), left, 0);
  const shorter = Math.min(left.length, nodes.end(b) - start);
  const equal = runs.common(nodes.run(b), start, start + shorter, left, 0);
  if (equal < shorter) return left[equal]! < runs.token(nodes.run(b), start + equal);
  if (left.length !== nodes.end(b) - start) return left.length === shorter;
  return a < b && left.length < nodes.blockLen;
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

function checkTiers(m: Parts, t: Tiers): void {
  const { pool } = m;
  const users = { host: new Int32Array(t.lower.host.slots), disk: new Int32Array(t.lower.disk.slots) };
  const erased = new Set<number>(t.lower.forgets);
  const saving = new Set<number>();
  const reading = new Set<number>();
  let writes = 0;
  for (const o of t.orders.values()) {
    if (o.host !== -1) users.host[o.host]!++;
    if (o.disk !== -1 && o.kind !== 'forget') users.disk[o.disk]!++;
    if (o.kind === 'save' || o.kind === 'demote') writes++;
    if (o.kind === 'save' && o.block !== -1) saving.add(o.block);
    if (o.kind === 'load') {
      // nobody waits for it any longer
      if (o.block === -1) continue;
      const phase = t.phase[o.node];
      const reads = phase === WRITING || (phase === READING && o.disk !== -1);
      invariant(t.lower.target[o.node] === o.block && reads, `order ${o.id}: another block is loaded`);
      invariant(!reading.has(o.node), `node ${o.node} is loaded twice`);
      reading.add(o.node);
    }
    if (o.kind !== 'forget') continue;
    invariant(!erased.has(o.disk), `slot ${o.disk} is erased twice`);
    erased.add(o.disk);
  }
  invariant(writes <= t.maxWrites, `${writes} saves under way`);
  for (const n of t.loads)
    (t.fromDisk[n] ? users.disk : users.host)[(t.fromDisk[n] ? t.lower.diskOf : t.lower.hostOf)[n]!]!++;
  checkPlace(t, t.lower.host, t.lower.hostOf, users.host, new Set(), 'host');
  checkPlace(t, t.lower.disk, t.lower.diskOf, users.disk, erased, 'disk');
  for (let b = 0; b < pool.blocks; b++) {
    invariant(
      pool.isSaving(b) === saving.has(b) && t.saving.has(b) === saving.has(b),
      `block ${b}: is it saved or not`,
    );
    if (saving.has(b)) invariant(!pool.isFree(b) && (pool.isNode(b) || pool.uses(b) === 0), `block ${b} is written`);
    if (t.saves.has(b)) invariant(pool.isNode(b), `block ${b} waits to be saved, and is no node`);
    const n = t.lower.nodeOf[b]!;
    if (n !== -1) checkLink(m, t, b, n);
  }
  const waiters = new Int32Array(t.lower.nodes.count);
  for (const [s, r] of t.restoring) {
    invariant(m.sequences.get(s, S.STATE) === ACTIVE, `sequence ${s} is restored, but not active`);
    for (const n of r.nodes) waiters[n]!++;
  }
  for (let n = 0; n < t.lower.nodes.count; n++) checkNode(m, t, n, waiters[n]!, reading.has(n));
}

/** A slot is free, or to be erased, or has a node that knows it, and is listed before the slot of the node's parent. */
function checkPlace(t: Tiers, p: Place, of: Int32Array, users: Int32Array, erased: Set<number>, name: string): void {
  const listed = new Uint8Array(p.slots);
  let count = 0;
  for (let slot = p.first; slot !== -1; slot = p.next[slot]!) {
    const parent = t.lower.nodes.parent(p.node[slot]!);
    invariant(!listed[slot], `${name} slot ${slot} is listed twice`);
    invariant(parent < 0 || of[parent] === -1 || !listed[of[parent]!], `${name} slot ${slot} goes after its parent`);
    listed[slot] = 1;
    count++;
  }
  invariant(count === p.used, `${count} ${name} slots listed, ${p.used} counted`);
  for (let slot = 0; slot < p.slots; slot++) {
    const n = p.node[slot]!;
    const places = Number(p.free.has(slot)) + Number(erased.has(slot)) + Number(n !== -1);
    invariant(places === 1, `${name} slot ${slot} is in ${places} places`);
    invariant((n !== -1) === (listed[slot] === 1) && (n === -1 || of[n] === slot), `${name} slot ${slot}: wrong node`);
    invariant(p.users[slot] === users[slot], `${name} slot ${slot}: ${p.users[slot]} users, ${users[slot]} orders`);
    invariant(n === -1 || p.good[slot] === 1 || users[slot]! > 0, `${name} slot ${slot} holds nothing`);
  }
}

/** A block and the node below that is linked with it are the same text. */
function checkLink(m: Parts, t: Tiers, b: number, n: number): void {
  const { pool } = m;
  invariant(
    t.lower.blockOf[n] === b && t.lower.nodes.isNode(n) && pool.isNode(b),
    `block ${b} is linked with node ${n}`,
  );
  invariant(pool.end(b) === t.lower.nodes.end(n), `block ${b} and node ${n} end elsewhere`);
  const above = pool.parent(b);
  invariant(
    (above < 0 ? above : t.lower.nodeOf[above]) === t.lower.nodes.parent(n),
    `block ${b} and node ${n} hang elsewhere`,
  );
  const start = pool.start(b);
  const text = new Int32Array(pool.end(b) - start);
  m.runs.read(pool.run(b), start, pool.end(b), text, 0);
  const equal = t.lower.runs.common(t.lower.nodes.run(n), start, pool.end(b), text, 0);
  invariant(equal === text.length, `block ${b} and node ${n} are of different text`);
}

function checkNode(m: Parts, t: Tiers, n: number, waiters: number, reading: boolean): void {
  const [target, phase] = [t.lower.target[n]!, t.phase[n]!];
  invariant(t.lower.waiters[n] === waiters, `node ${n}: ${t.lower.waiters[n]} wait for it, ${waiters} sequences`);
  invariant((target !== -1) === (phase !== IDLE), `node ${n}: phase ${phase}, block ${target}`);
  const underWay = phase === READING || phase === WRITING;
  invariant(underWay === reading && (phase === WAITING) === t.loads.has(n), `node ${n}: a load is lost`);
  if (target !== -1 && phase !== WRITING) invariant(waiters > 0, `node ${n} is loaded for nobody`);
  if (target !== -1)
    invariant(m.pool.uses(target) === 1 && !m.pool.isNode(target) && !m.pool.isSource(target), `load into ${target}`);
  if (!t.lower.nodes.isNode(n)) {
    invariant(
      t.lower.hostOf[n] === -1 && t.lower.diskOf[n] === -1 && t.lower.blockOf[n] === -1,
      `node ${n} is gone, but has copies`,
    );
    invariant(waiters === 0 && target === -1, `node ${n} is gone, but waited for`);
    return;
  }
  const held =
    t.lower.hostOf[n] !== -1 ||
    t.lower.diskOf[n] !== -1 ||
    t.lower.nodes.hasChildren(n) ||
    waiters > 0 ||
    target !== -1;
  invariant(held, `node ${n} is kept for nothing`);
  if (t.lower.blockOf[n] !== -1)
    invariant(t.lower.nodeOf[t.lower.blockOf[n]!] === n, `node ${n}: its block does not know it`);
}
