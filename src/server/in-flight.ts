/** What is being served now: running generations by request id, and open responses, so that a drain can wait for them. */
import type { ServerResponse } from 'node:http';
import type { Generation } from '../index.js';

interface Entry {
  owner: number;
  generations: Generation[];
}

export class InFlight {
  readonly #requests = new Map<string, Entry>();
  readonly #responses = new Set<ServerResponse>();
  #waiting: (() => void)[] = [];
  /** Set by abortAll: an abort now is the server's doing, not the client's. */
  shuttingDown = false;

  get generations(): number {
    let n = 0;
    for (const e of this.#requests.values()) n += e.generations.length;
    return n;
  }

  add(id: string, owner: number, generations: Generation[]): void {
    this.#requests.set(id, { owner, generations });
  }

  remove(id: string): void {
    this.#requests.delete(id);
  }

  /** false: there is no such request of this owner. */
  abort(id: string, owner: number): boolean {
    const entry = this.#requests.get(id);
    if (!entry || entry.owner !== owner) return false;
    for (const g of entry.generations) g.abort();
    return true;
  }

  abortAll(): void {
    this.shuttingDown = true;
    for (const entry of this.#requests.values()) for (const g of entry.generations) g.abort();
  }

  opened(response: ServerResponse): void {
    this.#responses.add(response);
    response.once('close', () => {
      this.#responses.delete(response);
      if (this.#responses.size > 0) return;
      for (const wake of this.#waiting.splice(0)) wake();
    });
  }

  /** Resolves to true once no response is open, to false after `ms`. */
  async idle(ms: number): Promise<boolean> {
    if (this.#responses.size === 0) return true;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter((w) => w !== wake);
        resolve(false);
      }, ms);
      const wake = () => {
        clearTimeout(timer);
        resolve(true);
      };
      this.#waiting.push(wake);
    });
  }
}
