/**
 * Runs a grammar. One Level is the set of places where one open rule may be; a Place is a stack of Levels. Because entering
 * and leaving a rule is visible in the bytes, all alternatives have the same height: the stack is shared, and Levels can be
 * made deterministic on demand, each byte once.
 */
import { invariant } from './errors.js';
import { FIELDS, forget, Level, MAX_LEVELS, type Memory, Place, type Step } from './level.js';
import { CLASSES, classOf } from './trie.js';
import { DOCUMENT_END, EDGE_CHAR, EDGE_CLOSE, type Grammar, RULE_END, UNCOUNTED } from './types.js';

export class Network {
  readonly memory: Memory = { generation: 0, levels: new Map(), places: 0 };
  private readonly starts = new Map<number, Place>();

  constructor(readonly grammar: Grammar) {}

  /** Where a document is that has just begun in this state. */
  begin(state: number): Place {
    let start = this.starts.get(state);
    if (!start) {
      start = new Place(null, null, []).push(this.canonical([state, 0, 0, UNCOUNTED, 0]).level, this.memory);
      this.starts.set(state, start);
    }
    return start;
  }

  /** Place after one byte, or null if it is not allowed (or only known to what is below a hole). */
  step(place: Place, byte: number): Place | null {
    for (let at = place; ; ) {
      const level = at.level;
      if (!level) return null;
      const step = this.look(level, byte);
      if (step) {
        if (step.level === level && !step.restrict && !step.caller) return at;
        const below = step.restrict ? this.keep(at.below as Place, step.restrict, true) : (at.below as Place);
        return step.caller
          ? below.push(step.caller, this.memory).push(step.level, this.memory)
          : below.push(step.level, this.memory);
      }
      if (level.ends.length === 0) return null;
      at = this.keep(at.below as Place, level.ends, false);
    }
  }

  /** True if the document may end here. */
  complete(place: Place): boolean {
    for (let at = place; ; ) {
      const level = at.level;
      if (!level) return false;
      if (level.done) return true;
      if (level.ends.length === 0) return false;
      at = this.keep(at.below as Place, level.ends, false);
    }
  }

  /** True if one of these states may be where the document is, rules that may end here left behind. */
  isAt(place: Place, states: readonly number[]): boolean {
    const { alt } = this.grammar;
    for (let at = place; ; ) {
      const level = at.level;
      if (!level) return false;
      for (let i = 0; i < level.items.length; i += FIELDS) {
        for (let s = level.items[i]; s >= 0; s = alt[s]) if (states.includes(s)) return true;
      }
      if (level.ends.length === 0) return false;
      at = this.keep(at.below as Place, level.ends, false);
    }
  }

  /** Groups of the hole to which the rules may return here without another byte. */
  leaves(place: Place): readonly number[] {
    for (let at = place; ; ) {
      const level = at.level;
      if (!level || level.ends.length === 0) return NONE;
      const below = at.below as Place;
      if (!below.level) {
        const hole = below.hole as readonly number[];
        return level.ends.map((g) => hole[g]);
      }
      at = this.keep(below, level.ends, false);
    }
  }

  /** The place restricted to some call groups: still waiting (`calling`), or gone on after their calls. */
  keep(place: Place, groups: readonly number[], calling: boolean): Place {
    const level = place.level;
    if (!level) {
      const hole = place.hole as readonly number[];
      // the ground of a document has no groups
      return hole.length === 0
        ? place
        : new Place(
            null,
            null,
            groups.map((g) => hole[g]),
          );
    }
    this.refresh(level);
    const key = `${calling ? 1 : 0}${groups.join()}`;
    let subset = level.subsets.get(key);
    if (!subset) {
      const items: number[] = [];
      for (let i = 0; i < level.items.length; i += FIELDS) {
        const group = groups.indexOf(level.items[i + 4]);
        if (group < 0) continue;
        items.push(level.items[i], level.items[i + 1], level.items[i + 2], level.items[i + 3], calling ? group : 0);
      }
      subset = this.canonical(items, level.groups);
      level.subsets.set(key, subset);
    }
    const below = place.below as Place;
    return (subset.restrict ? this.keep(below, subset.restrict, true) : below).push(subset.level, this.memory);
  }

  /** The level whose counters are cut at `cap`: no token is long enough to see the difference. */
  cut(level: Level, cap: number): Level {
    this.refresh(level);
    if (level.capped) return level.capped;
    const items = level.items.slice();
    for (let i = 0; i < items.length; i += FIELDS) {
      if (items[i + 3] === UNCOUNTED) continue;
      items[i + 2] = Math.min(items[i + 2], cap);
      items[i + 3] = Math.min(items[i + 3], cap);
    }
    level.capped = this.canonical(items, level.groups).level;
    return level.capped;
  }

  /**
   * Byte classes (as bits, see trie.ts) of which any byte leaves `level` as it is, but for counters that go down by one.
   * Every byte below 0x80 of such a class is a whole character, so `level.room` bytes of them may come.
   */
  loops(level: Level): number {
    if (level.loops >= 0) return level.loops;
    let loops = (1 << CLASSES) - 1;
    for (let byte = 0; byte < 256; byte++) {
      const bit = 1 << classOf(byte);
      if (loops & bit && !this.isLoop(level, byte)) loops &= ~bit;
    }
    level.loops = loops;
    return loops;
  }

  private isLoop(level: Level, byte: number): boolean {
    const step = this.look(level, byte);
    if (!step || step.restrict || step.caller || step.level.ends.length > 0) return false;
    if (step.level === level) return true;
    // the same items with room for one character less
    const a = level.items;
    const b = step.level.items;
    if (a.length !== b.length || level.room === UNCOUNTED || level.room === 0) return false;
    for (let i = 0; i < a.length; i += FIELDS) {
      if (a[i] !== b[i] || a[i + 1] !== b[i + 1] || a[i + 4] !== b[i + 4]) return false;
      if (a[i + 3] === UNCOUNTED ? b[i + 3] !== UNCOUNTED || a[i + 2] !== b[i + 2] : a[i + 3] !== b[i + 3] + 1)
        return false;
    }
    return true;
  }

  /** True if any `length` bytes of these classes are allowed from `level` on, in whatever order, inside of this rule. */
  runs(level: Level, classes: number, length: number): boolean {
    if (length === 0) return true;
    this.refresh(level);
    let known = level.runs.get(classes);
    if (!known) {
      known = { yes: 0, no: UNCOUNTED };
      level.runs.set(classes, known);
    }
    if (length <= known.yes) return true;
    if (length >= known.no) return false;
    for (let c = 0; c < CLASSES; c++) {
      if (!(classes & (1 << c))) continue;
      const to = this.target(level, c);
      if (!to || (to !== level && !this.runs(to, classes, length - 1))) {
        known.no = Math.min(known.no, length);
        return false;
      }
    }
    known.yes = length;
    return true;
  }

  private target(level: Level, c: number): Level | null {
    const known = level.targets[c];
    if (known !== undefined) return known;
    let to: Level | null | undefined;
    for (let byte = 0; byte < 256 && to !== null; byte++) {
      if (classOf(byte) !== c) continue;
      const step = this.look(level, byte);
      const one = step && !step.restrict && !step.caller && step.level.ends.length === 0 ? step.level : null;
      to = to === undefined || to === one ? one : null;
    }
    level.targets[c] = to ?? null;
    return level.targets[c] as Level | null;
  }

  private look(level: Level, byte: number): Step | null {
    this.refresh(level);
    let step = level.next[byte];
    if (step === undefined) {
      step = this.make(level, byte);
      level.next[byte] = step;
    }
    return step;
  }

  private refresh(level: Level): void {
    if (level.generation === this.memory.generation) return;
    level.generation = this.memory.generation;
    level.next = new Array(256);
    level.subsets.clear();
    level.capped = null;
    level.targets = [];
    level.runs.clear();
  }

  /** Sorted, without duplicates, groups below numbered without gaps; the same items give the same Level. */
  private canonical(raw: readonly number[], groups = 1): { level: Level; restrict: readonly number[] | null } {
    if (raw.length === FIELDS) {
      const alone = raw[1] === 0 ? raw : [raw[0], 0, raw[2], raw[3], raw[4]];
      return { level: this.intern(alone, 1), restrict: groups === 1 ? null : [raw[1]] };
    }
    const rows: (readonly number[])[] = [];
    for (let i = 0; i < raw.length; i += FIELDS) rows.push(raw.slice(i, i + FIELDS));
    const used = [...new Set(rows.map((r) => r[1]))].sort((a, b) => a - b);
    const all = used.length === groups;
    const named = all ? rows : rows.map((r) => [r[0], used.indexOf(r[1]), r[2], r[3], r[4]]);
    named.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3] || a[4] - b[4]);
    const items: number[] = [];
    for (const [i, row] of named.entries()) {
      if (i > 0 && row.every((v, k) => v === named[i - 1][k])) continue;
      items.push(...row);
    }
    return { level: this.intern(items, used.length), restrict: all ? null : used };
  }

  private intern(items: readonly number[], groups: number): Level {
    const signature = items.join();
    let level = this.memory.levels.get(signature);
    if (level) return level;
    if (this.memory.levels.size >= MAX_LEVELS) forget(this.memory);
    const { final, alt, sharedStates } = this.grammar;
    const ends = new Set<number>();
    let shared = true;
    let done = false;
    for (let i = 0; i < items.length; i += FIELDS) {
      if (items[i] >= sharedStates) shared = false;
      for (let s = items[i]; s >= 0; s = alt[s]) {
        if (final[s] === RULE_END) ends.add(items[i + 1]);
        else if (final[s] === DOCUMENT_END) done = true;
      }
    }
    const sorted = [...ends].sort((a, b) => a - b);
    level = new Level(items, signature, groups, shared, sorted, done, this.memory.generation);
    this.memory.levels.set(signature, level);
    return level;
  }

  private make(level: Level, byte: number): Step | null {
    const g = this.grammar;
    const inside: number[] = [];
    const entered: number[] = [];
    const callers: number[] = [];
    const groupOf = new Map<number, number>();
    let calls = 0;
    for (let i = 0; i < level.items.length; i += FIELDS) {
      const group = level.items[i + 1];
      const min = level.items[i + 2];
      const max = level.items[i + 3];
      for (let s = level.items[i]; s >= 0; s = g.alt[s]) {
        this.edges(s, byte, group, min, max, inside);
        for (let c = g.callStart[s]; c < g.callStart[s + 1]; c++) {
          const rule = g.callRule[c];
          let called = groupOf.get(rule);
          if (called === undefined) {
            const before = entered.length;
            this.enter(rule, byte, calls, entered);
            called = entered.length > before ? calls++ : -1;
            groupOf.set(rule, called);
          }
          if (called >= 0) callers.push(g.callTo[c], group, min, max, called);
        }
      }
    }
    if (entered.length > 0) {
      invariant(
        inside.length === 0,
        'a byte both enters a rule and continues one: the grammar is not visible in height',
      );
      const caller = this.canonical(callers, level.groups);
      const top = this.canonical(entered, calls);
      return { level: top.level, restrict: caller.restrict, caller: caller.level };
    }
    if (inside.length === 0) return null;
    const { level: to, restrict } = this.canonical(inside, level.groups);
    return { level: to, restrict, caller: null };
  }

  private enter(rule: number, byte: number, group: number, out: number[]): void {
    const g = this.grammar;
    for (let r = g.ruleStart[rule]; r < g.ruleStart[rule + 1]; r++) {
      for (let s = g.ruleState[r]; s >= 0; s = g.alt[s]) this.edges(s, byte, group, g.ruleMin[r], g.ruleMax[r], out);
    }
  }

  private edges(s: number, byte: number, group: number, min: number, max: number, out: number[]): void {
    const g = this.grammar;
    for (let e = g.edgeStart[s]; e < g.edgeStart[s + 1]; e++) {
      if (byte < g.edgeLo[e] || byte > g.edgeHi[e]) continue;
      const flag = g.edgeFlag[e];
      if (flag === EDGE_CHAR) {
        if (max > 0) out.push(g.edgeTo[e], group, Math.max(0, min - 1), max - 1, 0);
      } else if (flag === EDGE_CLOSE) {
        // the string is over: nothing counts any more
        if (min === 0) out.push(g.edgeTo[e], group, 0, UNCOUNTED, 0);
      } else out.push(g.edgeTo[e], group, min, max, 0);
    }
  }
}

const NONE: readonly number[] = [];
