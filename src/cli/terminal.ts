/** What the command line writes, and where: results on stdout, everything else on stderr. */
import type { Readable, Writable } from 'node:stream';
import { formatBytes } from '../index.js';

export interface Io {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean; columns?: number };
  stderr: Writable & { isTTY?: boolean; columns?: number };
  env: Record<string, string | undefined>;
}

/** Redraws of a progress line at least so many milliseconds apart. */
const REDRAW_MS = 100;
const BAR = 24;

export class Terminal {
  #progress: { what: string; started: number; drawn: number; shown: boolean } | null = null;

  constructor(
    readonly io: Io,
    /** One JSON value on stdout, nothing on stderr but errors of the program itself. */
    readonly json: boolean,
  ) {}

  get interactive(): boolean {
    return this.io.stdin.isTTY === true && this.io.stdout.isTTY === true;
  }

  out(text: string): void {
    this.io.stdout.write(text);
  }

  line(text = ''): void {
    this.io.stdout.write(`${text}\n`);
  }

  value(value: unknown): void {
    this.io.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** What happens meanwhile; not part of the result. */
  note(text: string): void {
    if (this.json) return;
    this.endProgress();
    this.io.stderr.write(`${text}\n`);
  }

  dim(text: string): string {
    return this.#style(text, 2);
  }

  bold(text: string): string {
    return this.#style(text, 1);
  }

  #style(text: string, code: number): string {
    return this.#colours(this.io.stdout) ? `\x1b[${code}m${text}\x1b[0m` : text;
  }

  #colours(stream: { isTTY?: boolean }): boolean {
    return stream.isTTY === true && !this.io.env.NO_COLOR && this.io.env.TERM !== 'dumb';
  }

  /** Bytes (or steps) of a piece of work; one line that is redrawn on a terminal, one line per piece elsewhere. */
  readonly progress = (what: string, done: number, total: number): void => {
    if (this.json) return;
    const now = performance.now();
    if (this.#progress?.what !== what) {
      this.endProgress();
      this.#progress = { what, started: now, drawn: 0, shown: false };
      if (!this.io.stderr.isTTY)
        this.io.stderr.write(`${what.replace(/ …$/, '')}${total > 1 ? ` (${formatBytes(total)})` : ''} …\n`);
    }
    const p = this.#progress;
    if (!this.io.stderr.isTTY || (now - p.drawn < REDRAW_MS && done < total)) return;
    p.drawn = now;
    p.shown = true;
    const line = total > 1 ? barLine(p, done, total, now) : `${what.replace(/ …$/, '')} …`;
    this.io.stderr.write(`\r\x1b[K${line.slice(0, (this.io.stderr.columns ?? 80) - 1)}`);
    if (total > 1 && done >= total) this.endProgress();
  };

  endProgress(): void {
    if (this.#progress?.shown) this.io.stderr.write('\n');
    this.#progress = null;
  }
}

function barLine(p: { what: string; started: number }, done: number, total: number, now: number): string {
  const share = Math.min(1, done / total);
  const filled = Math.round(share * BAR);
  const rate = (done * 1000) / Math.max(1, now - p.started);
  const bar = '█'.repeat(filled) + '░'.repeat(BAR - filled);
  const left = rate > 0 && done < total ? `, ${Math.ceil((total - done) / rate)} s left` : '';
  return `${p.what} ${bar} ${Math.floor(share * 100)}%  ${formatBytes(done)} of ${formatBytes(total)}${left}`;
}

/** Columns as wide as their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, c) => Math.max(...rows.map((r) => r[c]!.length)));
  return rows
    .map((r) =>
      r
        .map((cell, c) => cell.padEnd(widths[c]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
