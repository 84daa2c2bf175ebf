/** The vocabulary as a trie, in depth-first order, so that a walk is a scan that skips subtrees. Shared by all grammars. */
import type { TokenBytes } from './types.js';

export interface Trie {
  vocab: number;
  /** Words of a mask row: ceil(vocab / 32). */
  words: number;
  nodes: number;
  /** (nodes) byte that leads here. Node 0 is the empty beginning. */
  byte: Uint8Array;
  /** (nodes) bytes from the root. */
  depth: Uint16Array;
  /** (nodes) first node after this one's subtree. */
  end: Int32Array;
  /** (nodes + 1) into `tokens`: tokens that end at a node. */
  tokenStart: Int32Array;
  tokens: Int32Array;
  maxDepth: number;
  /** (nodes) classes of the bytes below a node (not of its own), as bits; see `classOf`. */
  classes: Uint16Array;
  /** (nodes) longest way down. */
  height: Uint16Array;
}

/** Byte classes: where a level does not care which byte of a class comes, whole subtrees are decided at once. */
export const CLASSES = 11;
const CLASS_OF = Uint8Array.from({ length: 256 }, (_, b) => {
  const c = String.fromCharCode(b);
  if (b >= 0x80) return 0;
  if (b < 0x20) return 1;
  if (c === '"') return 2;
  if (c === '\\') return 3;
  if (c === ' ') return 4;
  if (c >= '0' && c <= '9') return 5;
  if (c >= 'a' && c <= 'z') return 6;
  if (c >= 'A' && c <= 'Z') return 7;
  if (c === '<') return 8;
  return '_-'.includes(c) ? 9 : 10;
});

export function classOf(byte: number): number {
  return CLASS_OF[byte];
}

const tries = new WeakMap<TokenBytes, Trie>();

/** The trie of a vocabulary; built once per table (about 100 ms for 49 k tokens). Tokens without bytes are left out. */
export function trieOf(table: TokenBytes): Trie {
  let trie = tries.get(table);
  if (!trie) {
    trie = buildTrie(table);
    tries.set(table, trie);
  }
  return trie;
}

function buildTrie(table: TokenBytes): Trie {
  const { bytes, offsets, special } = table;
  const vocab = offsets.length - 1;
  const ids: number[] = [];
  for (let t = 0; t < vocab; t++) {
    // no real token is longer; a node's depth has 16 bits
    const length = offsets[t + 1] - offsets[t];
    if (!special[t] && length > 0 && length < 0xffff) ids.push(t);
  }
  const compare = (a: number, b: number): number => {
    const n = Math.min(offsets[a + 1] - offsets[a], offsets[b + 1] - offsets[b]);
    for (let i = 0; i < n; i++) {
      const d = bytes[offsets[a] + i] - bytes[offsets[b] + i];
      if (d !== 0) return d;
    }
    return offsets[a + 1] - offsets[a] - (offsets[b + 1] - offsets[b]) || a - b;
  };
  ids.sort(compare);
  const capacity = ids.reduce((n, t) => n + offsets[t + 1] - offsets[t], 1);
  const byte = new Uint8Array(capacity);
  const depth = new Uint16Array(capacity);
  const end = new Int32Array(capacity);
  const tokenStart = new Int32Array(capacity + 1);
  /** Open nodes from the root. */
  const path: number[] = [0];
  let nodes = 1;
  let maxDepth = 0;
  ids.forEach((t, i) => {
    const from = offsets[t];
    const length = offsets[t + 1] - from;
    let common = 0;
    if (i > 0) {
      const last = ids[i - 1];
      const lastLength = offsets[last + 1] - offsets[last];
      while (common < length && common < lastLength && bytes[from + common] === bytes[offsets[last] + common]) common++;
    }
    while (path.length - 1 > common) end[path.pop() as number] = nodes;
    for (let k = common; k < length; k++) {
      byte[nodes] = bytes[from + k];
      depth[nodes] = k + 1;
      // ids are in order of nodes: nothing before this token belongs to a later node
      tokenStart[nodes] = i;
      path.push(nodes++);
    }
    maxDepth = Math.max(maxDepth, length);
  });
  for (const n of path) end[n] = nodes;
  tokenStart[nodes] = ids.length;
  const classes = new Uint16Array(nodes);
  const height = new Uint16Array(nodes);
  // children come after their parents
  for (let n = nodes - 1; n >= 0; n--) {
    for (let child = n + 1; child < end[n]; child = end[child]) {
      classes[n] |= classes[child] | (1 << CLASS_OF[byte[child]]);
      height[n] = Math.max(height[n], height[child] + 1);
    }
  }
  return {
    vocab,
    words: Math.ceil(vocab / 32),
    nodes,
    byte: byte.slice(0, nodes),
    depth: depth.slice(0, nodes),
    end: end.slice(0, nodes),
    tokenStart: tokenStart.slice(0, nodes + 1),
    tokens: Int32Array.from(ids),
    maxDepth,
    classes,
    height,
  };
}
