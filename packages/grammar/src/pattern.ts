/** Patterns become automata: Thompson's construction with anchors, then sets of states. */
import { type Dfa, Explorer, tidy } from './dfa.js';
import { type Budget, limits } from './errors.js';
import { ALL, type Range } from './ranges.js';
import { PatternError, type Regex } from './regex.js';

interface Nfa {
  /** Per state: successors without a character. */
  free: number[][];
  /** Passed only before the first character / after the last one. */
  atStart: number[][];
  atEnd: number[][];
  chars: { ranges: readonly Range[]; to: number }[][];
}

class NfaBuilder {
  readonly nfa: Nfa = { free: [], atStart: [], atEnd: [], chars: [] };

  constructor(private readonly budget: Budget) {}

  state(): number {
    const { free, atStart, atEnd, chars } = this.nfa;
    if (free.length > limits.patternStates * 10) throw new PatternError('it is too large');
    this.budget.spend(1);
    atStart.push([]);
    atEnd.push([]);
    chars.push([]);
    return free.push([]) - 1;
  }

  /** Adds `r` after state `from`; returns the state after it. */
  add(r: Regex, from: number): number {
    switch (r.kind) {
      case 'set': {
        const to = this.state();
        this.nfa.chars[from].push({ ranges: r.ranges, to });
        return to;
      }
      case 'cat':
        return r.items.reduce((at, item) => this.add(item, at), from);
      case 'or': {
        const to = this.state();
        for (const item of r.items) this.nfa.free[this.add(item, from)].push(to);
        return to;
      }
      case 'start':
      case 'end': {
        const to = this.state();
        (r.kind === 'start' ? this.nfa.atStart : this.nfa.atEnd)[from].push(to);
        return to;
      }
      case 'repeat':
        return this.repeat(r, from);
    }
  }

  private repeat(r: Regex & { kind: 'repeat' }, from: number): number {
    let at = from;
    for (let i = 0; i < r.min; i++) at = this.add(r.item, at);
    const end = this.state();
    if (r.max === Number.POSITIVE_INFINITY) {
      const loop = this.state();
      this.nfa.free[at].push(loop);
      this.nfa.free[this.add(r.item, loop)].push(loop);
      this.nfa.free[loop].push(end);
      return end;
    }
    for (let i = r.min; i < r.max; i++) {
      this.nfa.free[at].push(end);
      // a fresh state, so that skipping cannot enter what belongs to an earlier round
      const next = this.state();
      this.nfa.free[at].push(next);
      at = this.add(r.item, next);
    }
    this.nfa.free[at].push(end);
    return end;
  }
}

/** Strings in which `r` matches somewhere, as `pattern` means it. */
export function dfaOfPattern(r: Regex, budget: Budget): Dfa {
  const b = new NfaBuilder(budget);
  const start = b.state();
  b.nfa.chars[start].push({ ranges: ALL, to: start });
  const entry = b.state();
  b.nfa.free[start].push(entry);
  const matched = b.add(r, entry);
  const end = b.state();
  b.nfa.free[matched].push(end);
  b.nfa.chars[end].push({ ranges: ALL, to: end });
  const { nfa } = b;

  const closure = (states: readonly number[], atStart: boolean, atEnd: boolean): number[] => {
    const seen = new Set(states);
    for (const s of seen) {
      budget.spend(1);
      for (const t of nfa.free[s]) seen.add(t);
      if (atStart) for (const t of nfa.atStart[s]) seen.add(t);
      if (atEnd) for (const t of nfa.atEnd[s]) seen.add(t);
    }
    return [...seen].sort((x, y) => x - y);
  };
  // a state of the automaton: the closed set, and whether nothing was read yet
  type S = { set: number[]; first: boolean };
  const make = (set: number[], first: boolean): S => {
    const closed = closure(set, first, false);
    return { set: closed.includes(end) ? [end] : closed, first };
  };
  const explorer = new Explorer<S>(budget, (s) => `${s.first}:${s.set.join()}`, limits.patternStates);
  const dfa = explorer.run(
    make([start], true),
    (s) => closure(s.set, s.first, true).includes(end),
    (s) => {
      const all = s.set.flatMap((x) => nfa.chars[x]);
      return split(all.flatMap((c) => c.ranges)).map(([lo, hi]): [number, number, S] => {
        budget.spend(all.length);
        const targets = all.filter((c) => contains(c.ranges, lo)).map((c) => c.to);
        return [lo, hi, make(targets, false)];
      });
    },
  );
  return tidy(dfa, budget);
}

/** Cuts overlapping ranges at all their ends. */
function split(ranges: readonly Range[]): Range[] {
  const cuts = [...new Set(ranges.flatMap(([lo, hi]) => [lo, hi + 1]))].sort((a, b) => a - b);
  const out: Range[] = [];
  for (let i = 0; i + 1 < cuts.length; i++) {
    if (ranges.some(([lo, hi]) => lo <= cuts[i] && cuts[i] <= hi)) out.push([cuts[i], cuts[i + 1] - 1]);
  }
  return out;
}

function contains(ranges: readonly Range[], c: number): boolean {
  return ranges.some(([lo, hi]) => lo <= c && c <= hi);
}
