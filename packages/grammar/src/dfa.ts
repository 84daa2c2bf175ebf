/** Deterministic automata over Unicode scalar values: what patterns, formats and sets of strings become. */
import { type Budget, limits } from './errors.js';
import { ALL } from './ranges.js';
import { PatternError } from './regex.js';

/** Start is state 0. `next[s]`: sorted disjoint ranges, each with its target; a character without a range is refused. */
export interface Dfa {
  accept: boolean[];
  next: (readonly [lo: number, hi: number, to: number])[][];
}

/** Explores states named by strings from a start; shared by all constructions. */
export class Explorer<S> {
  readonly dfa: Dfa = { accept: [], next: [] };
  private readonly ids = new Map<string, number>();
  private readonly todo: [S, number][] = [];

  constructor(
    private readonly budget: Budget,
    private readonly key: (s: S) => string,
    private readonly cap: number,
  ) {}

  id(s: S): number {
    const key = this.key(s);
    const known = this.ids.get(key);
    if (known !== undefined) return known;
    const id = this.dfa.accept.push(false) - 1;
    if (id >= this.cap) throw new PatternError(`it needs more than ${this.cap} states`);
    this.dfa.next.push([]);
    this.ids.set(key, id);
    this.todo.push([s, id]);
    return id;
  }

  run(start: S, accept: (s: S) => boolean, moves: (s: S) => [number, number, S][]): Dfa {
    this.id(start);
    for (let item = this.todo.pop(); item; item = this.todo.pop()) {
      const [s, id] = item;
      this.budget.spend(1);
      this.dfa.accept[id] = accept(s);
      const next: [number, number, number][] = [];
      for (const [lo, hi, target] of moves(s)) {
        this.budget.spend(1);
        const to = this.id(target);
        const last = next.at(-1);
        if (last && last[2] === to && last[1] + 1 === lo) last[1] = hi;
        else next.push([lo, hi, to]);
      }
      this.dfa.next[id] = next;
    }
    return this.dfa;
  }
}

/** Exactly these strings. */
export function dfaOfStrings(strings: Iterable<string>, budget: Budget): Dfa {
  const maps: Map<number, number>[] = [new Map()];
  const accept = [false];
  for (const s of strings) {
    let at = 0;
    for (const ch of s) {
      budget.spend(1);
      const c = ch.codePointAt(0) as number;
      let to = maps[at].get(c);
      if (to === undefined) {
        to = maps.push(new Map()) - 1;
        accept.push(false);
        maps[at].set(c, to);
      }
      at = to;
    }
    accept[at] = true;
  }
  return {
    accept,
    next: maps.map((m) => [...m].sort((a, b) => a[0] - b[0]).map(([c, to]) => [c, c, to] as const)),
  };
}

/** Strings of min … max characters. */
export function dfaOfLength(min: number, max: number, budget: Budget): Dfa {
  const last = max === Number.POSITIVE_INFINITY ? min : max;
  if (last > limits.patternStates)
    throw new PatternError(`lengths above ${limits.patternStates} are not supported here`);
  const explorer = new Explorer<number>(budget, String, limits.patternStates + 1);
  return explorer.run(
    0,
    (n) => n >= min,
    (n) =>
      n === last && max !== Number.POSITIVE_INFINITY ? [] : ALL.map(([lo, hi]) => [lo, hi, Math.min(n + 1, last)]),
  );
}

export function intersect(a: Dfa, b: Dfa, budget: Budget): Dfa {
  type S = readonly [number, number];
  const explorer = new Explorer<S>(budget, (s) => `${s[0]},${s[1]}`, limits.patternStates * 4);
  const product = explorer.run(
    [0, 0],
    ([x, y]) => a.accept[x] && b.accept[y],
    ([x, y]) => {
      const out: [number, number, S][] = [];
      const p = a.next[x];
      const q = b.next[y];
      for (let i = 0, j = 0; i < p.length && j < q.length; ) {
        const lo = Math.max(p[i][0], q[j][0]);
        const hi = Math.min(p[i][1], q[j][1]);
        if (lo <= hi) out.push([lo, hi, [p[i][2], q[j][2]]]);
        if (p[i][1] < q[j][1]) i++;
        else j++;
      }
      return out;
    },
  );
  return tidy(product, budget);
}

/** All strings that `d` refuses. */
export function complement(d: Dfa, budget: Budget): Dfa {
  const sink = d.accept.length;
  const next = [...d.next, []].map((row) => {
    const out: [number, number, number][] = [];
    for (const [lo, hi] of ALL) {
      let from = lo;
      for (const [a, b, to] of row) {
        if (b < lo || a > hi) continue;
        if (a > from) out.push([from, a - 1, sink]);
        out.push([Math.max(a, lo), Math.min(b, hi), to]);
        from = b + 1;
      }
      if (from <= hi) out.push([from, hi, sink]);
      budget.spend(row.length + 1);
    }
    return out;
  });
  return tidy({ accept: [...d.accept.map((x) => !x), true], next }, budget);
}

/** No string at all. Automata out of `tidy` have only states that lead to an end, except perhaps the start. */
export function isEmpty(d: Dfa): boolean {
  return !d.accept.some(Boolean);
}

export function matches(d: Dfa, text: string): boolean {
  let at = 0;
  for (const ch of text) {
    const c = ch.codePointAt(0) as number;
    const edge = d.next[at].find(([lo, hi]) => lo <= c && c <= hi);
    if (!edge) return false;
    at = edge[2];
  }
  return d.accept[at];
}

/** True for states from which every string is accepted; after `tidy` there is at most one, and it leads to itself. */
export function universalStates(d: Dfa): boolean[] {
  return d.accept.map((_, s) => isTotal(d, s) && d.next[s].every(([, , to]) => to === s));
}

/** Accepts, and every character leads on. */
function isTotal(d: Dfa, s: number): boolean {
  if (!d.accept[s]) return false;
  let from = 0;
  for (const [lo, hi] of d.next[s]) {
    if (lo !== from) return false;
    from = hi + 1 === 0xd800 ? 0xe000 : hi + 1;
  }
  return from === 0x110000;
}

/**
 * Removes states that lead nowhere, so that no string gets stuck, and makes one of all states from which everything is
 * accepted. (Merging all equal states would save a few states and cost most of the time.)
 */
export function tidy(d: Dfa, budget: Budget): Dfa {
  const n = d.accept.length;
  const users: number[][] = Array.from({ length: n }, () => []);
  for (let s = 0; s < n; s++) for (const [, , to] of d.next[s]) users[to].push(s);
  const live = new Set<number>();
  for (let s = 0; s < n; s++) if (d.accept[s]) live.add(s);
  for (const s of live) for (const u of users[s]) live.add(u);
  budget.spend(n);
  if (!live.has(0)) return { accept: [false], next: [[]] };
  // all states that may be universal, less those from which another one is reached
  const partial = new Set<number>();
  for (let s = 0; s < n; s++) if (!isTotal(d, s)) partial.add(s);
  for (const s of partial) for (const u of users[s]) partial.add(u);
  const to: number[] = [];
  const members: number[] = [];
  let everything = -1;
  for (let s = 0; s < n; s++) {
    if (!live.has(s)) to.push(-1);
    else if (partial.has(s) || everything < 0) {
      if (!partial.has(s)) everything = members.length;
      to.push(members.push(s) - 1);
    } else to.push(everything);
  }
  return { accept: members.map((s) => d.accept[s]), next: members.map((s) => mergeRow(d.next[s], to)) };
}

function mergeRow(row: Dfa['next'][number], group: readonly number[]): [number, number, number][] {
  const out: [number, number, number][] = [];
  for (const [lo, hi, t] of row) {
    const to = group[t];
    if (to < 0) continue;
    const last = out.at(-1);
    if (last && last[2] === to && last[1] + 1 === lo) last[1] = hi;
    else out.push([lo, hi, to]);
  }
  return out;
}
