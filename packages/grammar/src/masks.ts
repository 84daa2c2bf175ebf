/** Which tokens may come next: a walk over the vocabulary trie for each Level, remembered within a budget. */
import { type Level, Place } from './level.js';
import { Network } from './network.js';
import { type Trie, trieOf } from './trie.js';
import type { Grammar, TokenBytes } from './types.js';

/** What a Level says about tokens whatever is below it. */
interface LevelMask {
  /** Bits of a mask row, where many tokens are allowed; else null. */
  dense: Int32Array | null;
  /** Token ids, where few are. */
  sparse: Int32Array | null;
  /** Nodes where the level may be left before the token ends, with the groups it returns to. */
  exits: { node: number; groups: readonly number[] }[];
  bytes: number;
}

/** Bytes of masks that are remembered for one grammar, and for the states that all grammars share. */
const MASK_BYTES = 8 << 20;

/** Nodes of a subtree from which on it is worth asking whether all of it is allowed. */
const BIG_SUBTREE = 12;

/** Least recently used masks go first. */
class MaskCache {
  private readonly masks = new Map<string, LevelMask>();
  private bytes = 0;

  get(key: string): LevelMask | undefined {
    const mask = this.masks.get(key);
    if (mask) {
      this.masks.delete(key);
      this.masks.set(key, mask);
    }
    return mask;
  }

  set(key: string, mask: LevelMask): void {
    this.masks.set(key, mask);
    this.bytes += mask.bytes;
    for (const [oldest, old] of this.masks) {
      if (this.bytes <= MASK_BYTES || oldest === key) break;
      this.masks.delete(oldest);
      this.bytes -= old.bytes;
    }
  }
}

const sharedMasks = new WeakMap<Trie, MaskCache>();
const maskers = new WeakMap<Grammar, WeakMap<Trie, Masker>>();

/** The runner of a grammar over a vocabulary; matchers of the same two share it and what it has learned. */
export function maskerOf(grammar: Grammar, table: TokenBytes): Masker {
  const trie = trieOf(table);
  let byTrie = maskers.get(grammar);
  if (!byTrie) {
    byTrie = new WeakMap();
    maskers.set(grammar, byTrie);
  }
  let masker = byTrie.get(trie);
  if (!masker) {
    masker = new Masker(grammar, trie);
    byTrie.set(trie, masker);
  }
  return masker;
}

export class Masker {
  readonly network: Network;
  private readonly own = new MaskCache();
  private readonly common: MaskCache;

  constructor(
    grammar: Grammar,
    readonly trie: Trie,
  ) {
    this.network = new Network(grammar);
    let common = sharedMasks.get(trie);
    if (!common) {
      common = new MaskCache();
      sharedMasks.set(trie, common);
    }
    this.common = common;
  }

  /** Sets the bits of all tokens that may follow `place`. */
  or(place: Place, out: Int32Array, offset: number): void {
    const level = place.level;
    if (!level) return;
    const mask = this.levelMask(level);
    if (mask.dense) {
      for (let w = 0; w < mask.dense.length; w++) out[offset + w] |= mask.dense[w];
    } else if (mask.sparse) setBits(mask.sparse, out, offset);
    const below = place.below as Place;
    if (below.level) {
      place.leaving ??= this.leaving(below, mask);
      setBits(place.leaving, out, offset);
      for (const { node, groups } of mask.exits) {
        if (node === 0) this.or(this.network.keep(below, groups, false), out, offset);
      }
    }
  }

  private levelMask(level: Level): LevelMask {
    const cut = this.network.cut(level, this.trie.maxDepth + 1);
    const cache = cut.shared ? this.common : this.own;
    let mask = cache.get(cut.signature);
    if (!mask) {
      mask = this.walk(cut);
      cache.set(cut.signature, mask);
    }
    return mask;
  }

  /** All tokens from `level` on with nothing known below it. */
  private walk(level: Level): LevelMask {
    const { trie, network } = this;
    const hole = new Place(
      null,
      null,
      Array.from({ length: level.groups }, (_, g) => g),
    );
    const start = hole.push(level, network.memory);
    const stack: Place[] = new Array(trie.maxDepth + 1);
    stack[0] = start;
    const dense = new Int32Array(trie.words);
    let count = 0;
    const allow = (from: number, to: number) => {
      count += to - from;
      for (let t = from; t < to; t++) dense[tokens[t] >> 5] |= 1 << (tokens[t] & 31);
    };
    const exits: LevelMask['exits'] = [];
    if (level.ends.length > 0) exits.push({ node: 0, groups: network.leaves(start) });
    const { byte, depth, end, tokenStart, tokens } = trie;
    for (let node = 1; node < trie.nodes; ) {
      const d = depth[node];
      const parent = stack[d - 1];
      const place = network.step(parent, byte[node]);
      if (!place) {
        node = end[node];
        continue;
      }
      stack[d] = place;
      if (end[node] > node + 1 && this.allowsAll(place.level as Level, node, place === parent)) {
        allow(tokenStart[node], tokenStart[end[node]]);
        node = end[node];
        continue;
      }
      allow(tokenStart[node], tokenStart[node + 1]);
      if (end[node] > node + 1 && place.level && place.level.ends.length > 0) {
        const groups = network.leaves(place);
        if (groups.length > 0) exits.push({ node, groups });
      }
      node++;
    }
    const size = 256 + exits.length * 80;
    if (count <= trie.words) {
      const sparse = bitsOf(dense, count);
      return { dense: null, sparse, exits, bytes: size + sparse.byteLength };
    }
    return { dense, sparse: null, exits, bytes: size + dense.byteLength };
  }

  /** True if whatever is below a node is allowed and stays in the rule. May be false where it is true. */
  private allowsAll(level: Level, node: number, looped: boolean): boolean {
    const { classes, height, end } = this.trie;
    if (level.ends.length > 0) return false;
    if (level.loops > 0 || (level.loops < 0 && looped)) {
      if ((classes[node] & ~this.network.loops(level)) === 0 && height[node] <= level.room) return true;
    }
    return end[node] - node > BIG_SUBTREE && this.network.runs(level, classes[node], height[node]);
  }

  /** Tokens that leave the level half-way, where the levels below are known. */
  private leaving(below: Place, mask: LevelMask): Int32Array {
    const { trie, network } = this;
    const { byte, depth, end, tokenStart, tokens } = trie;
    const out: number[] = [];
    const stack: Place[] = [];
    for (const exit of mask.exits) {
      if (exit.node === 0) continue;
      const base = depth[exit.node];
      stack[0] = network.keep(below, exit.groups, false);
      for (let node = exit.node + 1; node < end[exit.node]; ) {
        const place = network.step(stack[depth[node] - base - 1], byte[node]);
        if (!place) {
          node = end[node];
          continue;
        }
        stack[depth[node] - base] = place;
        for (let t = tokenStart[node]; t < tokenStart[node + 1]; t++) out.push(tokens[t]);
        node++;
      }
    }
    return Int32Array.from(out);
  }
}

function setBits(ids: ArrayLike<number>, out: Int32Array, offset: number): void {
  for (let i = 0; i < ids.length; i++) out[offset + (ids[i] >> 5)] |= 1 << (ids[i] & 31);
}

/** The numbers of the bits that are set; `count` of them. */
function bitsOf(row: Int32Array, count: number): Int32Array {
  const out = new Int32Array(count);
  let n = 0;
  for (let w = 0; w < row.length; w++) {
    for (let bits = row[w]; bits !== 0; bits &= bits - 1) out[n++] = w * 32 + 31 - Math.clz32(bits & -bits);
  }
  return out;
}
