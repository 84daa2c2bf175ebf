/** Looks for stop strings in a growing text; holds back what may still become one. */
export class StopScanner {
  #held = '';
  /** The stop string that was found. */
  found: string | null = null;

  constructor(private readonly stops: readonly string[]) {}

  /**
   * Adds text; returns what may be shown now. After a stop was found nothing more is. `early`: a stop string that ends in
   * this text is text like any other.
   */
  push(text: string, early = false): string {
    if (this.found !== null) return '';
    if (this.stops.length === 0) return text;
    const all = this.#held + text;
    let at = -1;
    for (const stop of early ? [] : this.stops) {
      const k = all.indexOf(stop);
      if (k >= 0 && (at < 0 || k < at)) {
        at = k;
        this.found = stop;
      }
    }
    if (at >= 0) {
      this.#held = '';
      return all.slice(0, at);
    }
    const hold = this.#longestOpenEnd(all);
    this.#held = all.slice(all.length - hold);
    return all.slice(0, all.length - hold);
  }

  /** The generation ended: what was held back is text after all. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    return this.found === null ? rest : '';
  }

  /** Length of the longest end of `text` that begins some stop string. */
  #longestOpenEnd(text: string): number {
    let longest = 0;
    for (const stop of this.stops) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text.endsWith(stop.slice(0, n))) {
          longest = n;
          break;
        }
      }
    }
    return longest;
  }
}
