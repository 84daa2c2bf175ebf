/**
 * One stream of events. Knows whether its reader keeps up, tells when it does again, keeps silent streams
 * open with comments, and cuts off a reader that takes nothing.
 */
import type { FastifyReply } from 'fastify';
import type { ServerTiming } from './context.js';

/** How an API frames its streams. */
export interface StreamStyle {
  contentType: string;
  /** What keeps a silent stream open; null: nothing that its readers would understand. */
  ping: string | null;
}

export const sseStyle: StreamStyle = { contentType: 'text/event-stream; charset=utf-8', ping: ': ping\n\n' };

export class StreamWriter {
  started = false;
  /** The reader is behind: hold text back until `onDrain`. */
  congested = false;
  onDrain: () => void = () => {};
  #stall: NodeJS.Timeout | undefined;
  #ping: NodeJS.Timeout | undefined;
  #early: NodeJS.Timeout | undefined;
  /** We frame the chunks of the body: Node would send each in four pieces. */
  #framed = false;
  #cancelled = false;

  constructor(
    private readonly reply: FastifyReply,
    private readonly timing: ServerTiming,
    private readonly style: StreamStyle = sseStyle,
  ) {
    this.#early = setTimeout(() => this.start(), timing.headersAfterMs);
    reply.raw.once('close', () => this.#clear());
  }

  /** Sends the headers; from here on errors are events. */
  start(): void {
    clearTimeout(this.#early);
    if (this.started || this.#cancelled || this.reply.raw.destroyed) return;
    this.started = true;
    const { raw } = this.reply;
    this.reply.hijack();
    raw.writeHead(200, {
      ...(this.reply.getHeaders() as Record<string, string>),
      'content-type': this.style.contentType,
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    });
    raw.flushHeaders();
    this.#framed = raw.chunkedEncoding;
    raw.chunkedEncoding = false;
    raw.on('drain', () => {
      this.congested = false;
      clearTimeout(this.#stall);
      this.onDrain();
    });
    const { ping } = this.style;
    if (ping === null) return;
    this.#ping = setInterval(() => {
      if (!this.congested) this.write(ping);
    }, this.timing.pingMs);
  }

  /** As long as none were sent. */
  header(name: string, value: string): void {
    if (!this.started) this.reply.header(name, value);
  }

  write(text: string): void {
    // an empty chunk would be the last
    if (text === '') return;
    this.start();
    const { raw } = this.reply;
    if (this.#cancelled || raw.destroyed) return;
    if (this.#send(text) || this.congested) return;
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
    if (text !== '') this.#send(text);
    this.reply.raw.end(this.#framed ? '0\r\n\r\n' : undefined);
  }

  /** False: the reader is behind. */
  #send(text: string): boolean {
    const { raw } = this.reply;
    const bytes = Buffer.byteLength(text);
    const encoding = bytes === text.length ? 'latin1' : 'utf8';
    return raw.write(this.#framed ? `${bytes.toString(16)}\r\n${text}\r\n` : text, encoding);
  }

  /** Nothing was sent, and nothing will be: the answer is a plain one. Other choices may still end. */
  cancel(): void {
    this.#cancelled = true;
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
