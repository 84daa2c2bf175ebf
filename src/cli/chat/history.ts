/** What was typed in earlier chats, for the arrow keys: a file of this user alone, one message a line. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const MOST = 1000;

export class History {
  /** The newest first, as readline has them. */
  readonly lines: string[] = [];
  #works = true;

  /** `file`: null keeps nothing. */
  constructor(private readonly file: string | null) {
    try {
      if (file) this.lines = readFileSync(file, 'utf8').split('\n').filter(Boolean).reverse().slice(0, MOST);
    } catch {
      // there is none yet
    }
  }

  /** One that spans lines is not kept. A file that cannot be written is given up: a chat is not about its history. */
  add(line: string): void {
    if (line.trim() === '' || line.includes('\n') || line === this.lines[0]) return;
    this.lines.unshift(line);
    this.lines.length = Math.min(this.lines.length, MOST);
    if (!this.file || !this.#works) return;
    try {
      mkdirSync(path.dirname(this.file), { recursive: true, mode: 0o700 });
      writeFileSync(this.file, `${[...this.lines].reverse().join('\n')}\n`, { mode: 0o600 });
      chmodSync(this.file, 0o600);
    } catch {
      this.#works = false;
    }
  }
}

export function historyFile(env: Record<string, string | undefined>): string {
  const state = env.XDG_STATE_HOME || path.join(env.HOME || os.homedir(), '.local', 'state');
  return path.join(state, 'longmind', 'chat-history');
}
