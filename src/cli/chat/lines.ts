/** Lines of input to messages: a backslash at the end of a line goes on in the next one, """ holds until the next """. */

const FENCE = '"""';

export class LineJoiner {
  #lines: string[] = [];
  #open: 'fence' | 'backslash' | null = null;

  /** A message has begun and is not whole yet. */
  get pending(): boolean {
    return this.#open !== null;
  }

  /** The message that this line completes; null if more must come. */
  push(line: string): string | null {
    if (this.#open === null && line.startsWith(FENCE)) {
      this.#open = 'fence';
      return this.#fenced(line.slice(FENCE.length), true);
    }
    if (this.#open === 'fence') return this.#fenced(line, false);
    // an even number of them is meant as it stands
    if ((/\\+$/.exec(line)?.[0].length ?? 0) % 2 === 1) {
      this.#open = 'backslash';
      this.#lines.push(line.slice(0, -1));
      return null;
    }
    this.#lines.push(line);
    return this.take();
  }

  /** What there is, whole or not. */
  take(): string {
    const text = this.#lines.join('\n');
    this.#lines = [];
    this.#open = null;
    return text;
  }

  #fenced(line: string, first: boolean): string | null {
    const end = line.trimEnd();
    if (end.endsWith(FENCE)) {
      const last = end.slice(0, -FENCE.length);
      if (last !== '' || first) this.#lines.push(last);
      return this.take();
    }
    if (line !== '' || !first) this.#lines.push(line);
    return null;
  }
}
