/**
 * The live event stream: one poller for all listeners, running only while there are any. A listener who is behind misses
 * pictures and gets a whole one when it has caught up, so that nothing queues.
 */
import type { FastifyReply } from 'fastify';
import { LongmindError } from '../../index.js';
import type { ServerContext } from '../context.js';
import { StreamWriter } from '../sse.js';
import { LiveEncoder } from './encode.js';

/** Milliseconds from one snapshot to the next, and after one that failed. */
const PERIOD_MS = 250;
const FAILED_MS = 2_000;
const MAX_LISTENERS = 32;

interface Listener {
  owner: number;
  writer: StreamWriter;
  /** Needs a whole picture next. */
  behind: boolean;
}

export class LiveFeed {
  readonly #listeners = new Set<Listener>();
  #encoder = new LiveEncoder();
  #timer: NodeJS.Timeout | undefined;
  #polling = false;
  #closed = false;

  constructor(private readonly ctx: ServerContext) {}

  get listeners(): number {
    return this.#listeners.size;
  }

  /** Takes the reply over. Throws too_many_listeners (429) when the page is open too often. */
  listen(owner: number, reply: FastifyReply): void {
    if (this.#listeners.size >= MAX_LISTENERS || this.#closed) {
      throw new LongmindError(
        'too_many_listeners',
        429,
        `${MAX_LISTENERS} listeners follow the engine already; close a page that shows it`,
      );
    }
    const listener: Listener = { owner, writer: new StreamWriter(reply, this.ctx.timing), behind: true };
    this.#listeners.add(listener);
    reply.raw.once('close', () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#stop();
    });
    listener.writer.start();
    const picture = this.#encoder.whole(owner);
    if (picture !== null) {
      // others listen already: the last picture is at most a period old
      listener.behind = false;
      listener.writer.write(eventOf(picture));
    } else if (!this.#polling) {
      clearTimeout(this.#timer);
      void this.#poll();
    }
  }

  /** Ends every stream: the server closes. */
  close(): void {
    this.#closed = true;
    this.#stop();
    for (const l of this.#listeners) l.writer.end('');
  }

  #stop(): void {
    clearTimeout(this.#timer);
    // the next listener starts from scratch; an old picture would be kept for nothing
    this.#encoder = new LiveEncoder();
  }

  async #poll(): Promise<void> {
    this.#polling = true;
    const started = performance.now();
    let pause = PERIOD_MS;
    try {
      const snapshot = await this.ctx.engine.snapshot();
      const { count, sum } = this.ctx.metrics.ttft;
      this.#tell(this.#encoder.next(snapshot, { count, sum }));
    } catch (error) {
      pause = FAILED_MS;
      const text = error instanceof LongmindError ? error.message : 'the engine does not answer';
      this.#send(() => `event: problem\ndata: ${JSON.stringify({ message: text })}\n\n`);
      for (const l of this.#listeners) l.behind = true;
    }
    this.#polling = false;
    if (this.#listeners.size === 0 || this.#closed) return;
    // a busy engine is asked less often
    const spent = performance.now() - started;
    this.#timer = setTimeout(() => void this.#poll(), Math.max(pause - spent, pause / 2));
  }

  #tell(changed: boolean): void {
    const wholes = new Map<number, string>();
    const changes = new Map<number, string>();
    const tick = `event: tick\ndata: {"at":${Date.now()}}\n\n`;
    this.#send((l) => {
      if (l.behind) {
        l.behind = false;
        return dataOf(wholes, l.owner, () => this.#encoder.whole(l.owner)!);
      }
      return changed ? dataOf(changes, l.owner, () => this.#encoder.change(l.owner)) : tick;
    });
  }

  #send(textFor: (l: Listener) => string): void {
    for (const l of this.#listeners) {
      if (l.writer.congested) l.behind = true;
      else l.writer.write(textFor(l));
    }
  }
}

const eventOf = (message: string): string => `event: engine\ndata: ${message}\n\n`;

/** One text for all listeners of an owner. */
function dataOf(made: Map<number, string>, owner: number, make: () => string): string {
  let text = made.get(owner);
  if (text === undefined) {
    text = eventOf(make());
    made.set(owner, text);
  }
  return text;
}
