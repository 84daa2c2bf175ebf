/** Collects states, edges, calls and rules, then removes what leads nowhere. */
import { type Budget, limits } from './errors.js';
import { DOCUMENT_END, EDGE_PLAIN, type Grammar, RULE_END, type Tag, UNCOUNTED } from './types.js';

interface RuleStart {
  state: number;
  min: number;
  max: number;
}

export class GrammarBuilder {
  /** Per state: lo, hi, to, flag. */
  private readonly edges: number[][] = [];
  /** Per state: rule, to. */
  private readonly calls: number[][] = [];
  private readonly alt: number[] = [];
  private readonly final: number[] = [];
  private readonly rules: RuleStart[][] = [];
  private size = 0;

  constructor(private readonly budget: Budget) {}

  get states(): number {
    return this.alt.length;
  }

  state(final = false, alt = -1): number {
    if (this.alt.length >= limits.states) throw this.budget.tooLarge(`it needs more than ${limits.states} states`, '');
    this.edges.push([]);
    this.calls.push([]);
    this.alt.push(alt);
    this.final.push(final ? RULE_END : 0);
    return this.alt.length - 1;
  }

  /** A state in which the document may end; only outside of all rules. */
  documentEnd(): number {
    const s = this.state();
    this.final[s] = DOCUMENT_END;
    return s;
  }

  edge(from: number, lo: number, hi: number, to: number, flag: number = EDGE_PLAIN): void {
    this.grow();
    this.edges[from].push(lo, hi, to, flag);
  }

  call(from: number, rule: number, to: number): void {
    this.grow();
    this.calls[from].push(rule, to);
  }

  /** `from` also behaves as `to`; at most one such state. */
  also(from: number, to: number): void {
    this.alt[from] = to;
  }

  /** States that spell `text` one after another; returns the last one. */
  spell(from: number, text: string, to?: number): number {
    const bytes = Buffer.from(text, 'utf8');
    let at = from;
    for (let i = 0; i < bytes.length; i++) {
      const next = i === bytes.length - 1 && to !== undefined ? to : this.state();
      this.edge(at, bytes[i], bytes[i], next);
      at = next;
    }
    return at;
  }

  rule(): number {
    return this.rules.push([]) - 1;
  }

  begin(rule: number, state: number, min = 0, max = UNCOUNTED): void {
    this.rules[rule].push({ state, min, max });
  }

  starts(rule: number): readonly RuleStart[] {
    return this.rules[rule];
  }

  private grow(): void {
    this.size++;
    if (this.size > limits.edges) throw this.budget.tooLarge(`it needs more than ${limits.edges} edges`, '');
  }

  /** True if the rule can be satisfied. */
  canEnd(rule: number): boolean {
    return this.productive().rules[rule] === 1;
  }

  /** Rules and states from which an end can be reached. Least fixpoint, so endless recursion is not productive. */
  private productive(): { states: Uint8Array; rules: Uint8Array } {
    const states = new Uint8Array(this.states);
    const rules = new Uint8Array(this.rules.length);
    // reverse dependencies, each visited once per event
    const users: number[][] = Array.from({ length: this.states }, () => []);
    const callers: [number, number][][] = Array.from({ length: this.rules.length }, () => []);
    const begunBy: number[][] = Array.from({ length: this.states }, () => []);
    for (let s = 0; s < this.states; s++) {
      const e = this.edges[s];
      for (let i = 0; i < e.length; i += 4) users[e[i + 2]].push(s);
      if (this.alt[s] >= 0) users[this.alt[s]].push(s);
      const c = this.calls[s];
      for (let i = 0; i < c.length; i += 2) callers[c[i]].push([s, c[i + 1]]);
    }
    const returns: [number, number][][] = Array.from({ length: this.states }, () => []);
    for (let r = 0; r < this.rules.length; r++) {
      for (const { state } of this.rules[r]) begunBy[state].push(r);
      for (const [s, to] of callers[r]) returns[to].push([s, r]);
    }
    const todo: number[] = [];
    const mark = (s: number) => {
      if (states[s]) return;
      states[s] = 1;
      todo.push(s);
    };
    for (let s = 0; s < this.states; s++) if (this.final[s]) mark(s);
    while (todo.length > 0) {
      const s = todo.pop() as number;
      for (const u of users[s]) mark(u);
      for (const [from, rule] of returns[s]) if (rules[rule]) mark(from);
      for (const rule of begunBy[s]) {
        if (rules[rule]) continue;
        rules[rule] = 1;
        for (const [from, to] of callers[rule]) if (states[to]) mark(from);
      }
    }
    return { states, rules };
  }

  /** The finished grammar, or null if no document exists. */
  finish(root: number, sharedStates: number, tags: readonly Tag[]): Grammar | null {
    const live = this.productive();
    if (!live.states[root]) return null;
    const n = this.states;
    const edgeStart = new Int32Array(n + 1);
    const callStart = new Int32Array(n + 1);
    const lo: number[] = [];
    const hi: number[] = [];
    const to: number[] = [];
    const flag: number[] = [];
    const callRule: number[] = [];
    const callTo: number[] = [];
    const alt = new Int32Array(n);
    for (let s = 0; s < n; s++) {
      const e = this.edges[s];
      for (let i = 0; i < e.length; i += 4) {
        if (!live.states[e[i + 2]]) continue;
        lo.push(e[i]);
        hi.push(e[i + 1]);
        to.push(e[i + 2]);
        flag.push(e[i + 3]);
      }
      const c = this.calls[s];
      for (let i = 0; i < c.length; i += 2) {
        if (!live.rules[c[i]] || !live.states[c[i + 1]]) continue;
        callRule.push(c[i]);
        callTo.push(c[i + 1]);
      }
      edgeStart[s + 1] = to.length;
      callStart[s + 1] = callTo.length;
      alt[s] = this.alt[s] >= 0 && live.states[this.alt[s]] ? this.alt[s] : -1;
    }
    const ruleStart = new Int32Array(this.rules.length + 1);
    const starts: RuleStart[] = [];
    for (let r = 0; r < this.rules.length; r++) {
      for (const b of this.rules[r]) if (live.states[b.state]) starts.push(b);
      ruleStart[r + 1] = starts.length;
    }
    return {
      version: 1,
      sharedStates,
      tags,
      root,
      edgeStart,
      edgeLo: Uint8Array.from(lo),
      edgeHi: Uint8Array.from(hi),
      edgeTo: Int32Array.from(to),
      edgeFlag: Uint8Array.from(flag),
      callStart,
      callRule: Int32Array.from(callRule),
      callTo: Int32Array.from(callTo),
      alt,
      final: Uint8Array.from(this.final),
      ruleStart,
      ruleState: Int32Array.from(starts, (b) => b.state),
      ruleMin: Int32Array.from(starts, (b) => b.min),
      ruleMax: Int32Array.from(starts, (b) => b.max),
    };
  }
}
