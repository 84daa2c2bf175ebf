/**
 * One stream of server-sent events. Knows whether its reader keeps up, tells when it does again, keeps silent streams
 * open with comments, and cuts off a reader that takes nothing.
 */
import type { FastifyReply } from 'fastify';
import type { ServerTiming } from './context.js';

export class SseWriter {
  started = false;
  /** The reader is behind: hold text back until `onDrain`. */
  congested = false;
  onDrain: () => void = () => {};
  #stall: NodeJS.Timeout | undefined;
  #ping: NodeJS.Timeout | undefined;
  #early: NodeJS.Timeout | undefined;

  constructor(
    private readonly reply: FastifyReply,
    private readonly timing: ServerTiming,
  ) {
    this.#early = setTimeout(() => this.start(), timing.headersAfterMs);
    reply.raw.once('close', () => this.#clear());
  }

  /** Sends the headers; from here on errors are events. */
  start(): void {
    clearTimeout(this.#early);
    if (this.started || this.reply.raw.destroyed) return;
    this.started = true;
    const { raw } = this.reply;
    this.reply.hijack();
    raw.writeHead(200, {
      ...(this.reply.getHeaders() as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    });
    raw.flushHeaders();
    raw.on('drain', () => {
      this.congested = false;
      clearTimeout(this.#stall);
      this.onDrain();
    });
    this.#ping = setInterval(() => {
      if (!this.congested) this.write(': ping\n\n');
    }, this.timing.pingMs);
  }

  write(text: string): void {
    this.start();
    const { raw } = this.reply;
    if (raw.destroyed) return;
    if (raw.write(text) || this.congested) return;
    this.congested = true;
    this.#stall = setTimeout(() => this.cut(), this.timing.stallMs);
  }

  end(text: string): void {
    this.start();
    this.#clear();
    if (this.reply.raw.destroyed) return;
    // what is still buffered must go out too, but not for ever
    const late = setTimeout(() => this.cut(), this.timing.stallMs);
    this.reply.raw.once('close', () => clearTimeout(late));
    this.reply.raw.end(text);
  }

  /** Nothing was sent: the answer will be a plain one. */
  cancel(): void {
    this.#clear();
  }

  /** Closes the connection without more ado; the 'close' event makes the generation stop. */
  cut(): void {
    this.#clear();
    this.reply.raw.destroy();
  }

  #clear(): void {
    clearTimeout(this.#early);
    clearTimeout(this.#stall);
    clearInterval(this.#ping);
  }
}
