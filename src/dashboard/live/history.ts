/** Rates over time, from the engine's counters: what the charts draw. */
import type { Picture } from './picture.js';

/** Seconds that are kept, and the least time between two points. */
const KEPT_S = 120;
const EVERY_S = 0.9;

export interface History {
  /** Seconds since the epoch, ascending. */
  time: number[];
  /** Tokens a second since the point before. */
  generated: number[];
  prefill: number[];
  recomputed: number[];
  /** Mean milliseconds to the first token of the requests that ended since the point before; null: none did. */
  ttft: (number | null)[];
}

interface Counts {
  at: number;
  generated: number;
  computed: number;
  recomputed: number;
  firsts: number;
  firstSeconds: number;
}

const countsOf = (p: Picture): Counts => ({
  at: p.at / 1000,
  generated: p.stats.tokens.generated,
  computed: p.stats.cache.tokensComputed,
  recomputed: p.stats.cache.tokensRecomputed,
  firsts: p.ttft.count,
  firstSeconds: p.ttft.sum,
});

export class Rates {
  readonly history: History = { time: [], generated: [], prefill: [], recomputed: [], ttft: [] };
  #last: Counts | null = null;

  /** True when a point was added. `at` in milliseconds: also a time at which nothing happened is a point. */
  add(picture: Picture, at: number): boolean {
    const now = { ...countsOf(picture), at: at / 1000 };
    const last = this.#last;
    if (!last || now.generated < last.generated) {
      this.#last = now;
      return false;
    }
    const seconds = now.at - last.at;
    if (seconds < EVERY_S) return false;
    this.#last = now;
    const h = this.history;
    const generated = now.generated - last.generated;
    const recomputed = now.recomputed - last.recomputed;
    // every generated token but a sequence's last is computed a step later; the rest of what was computed is prefill
    const prefill = Math.max(0, now.computed - last.computed - generated - recomputed);
    const firsts = now.firsts - last.firsts;
    h.time.push(now.at);
    h.generated.push(generated / seconds);
    h.prefill.push(prefill / seconds);
    h.recomputed.push(recomputed / seconds);
    h.ttft.push(firsts > 0 ? ((now.firstSeconds - last.firstSeconds) / firsts) * 1000 : null);
    while (h.time.length > 0 && (h.time[0] as number) < now.at - KEPT_S) {
      for (const list of Object.values(h) as (number | null)[][]) list.shift();
    }
    return true;
  }
}
