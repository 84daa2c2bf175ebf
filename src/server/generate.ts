/** From an HTTP request to generations and back: whole answers, streams, aborts, failures. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import {
  errors,
  type Generation,
  type GenerationResult,
  type TokenEvent,
  type TokenLogprob,
  type ToolSpec,
  type Usage,
} from '../index.js';
import type { ServerContext } from './context.js';
import { toLongmindError } from './errors.js';
import { type Answer, type Finished, type Format, sumUsage } from './format.js';
import { StreamWriter } from './sse.js';
import { ToolOutput, toolMessage } from './tool-output.js';

export interface Job {
  /** Of the answer; by it a client can abort the request. */
  id: string;
  stream: boolean;
  /** What the model may call; null: nothing. */
  tools: readonly ToolSpec[] | null;
  /** What the answer calls the model. */
  model: string;
  /** Choices for each prompt. */
  n: number;
  /** Starts the generations, one a choice, those of a prompt in a row. May throw what the engine refuses. */
  starts: (() => Generation)[];
  format: (answer: Answer) => Format;
  /** Keeps what was said elsewhere too, before the answer says that it has ended. */
  keep?: (said: Finished[]) => Promise<void> | void;
  /** Ends the generations as if their client had gone. */
  signal?: AbortSignal;
  /** The id of a call in the answer; by default made up. */
  callId?: (index: number) => string;
}

/** Runs a job to its end. Sends the answer itself when it streams; otherwise returns the body. */
export async function serveJob(
  ctx: ServerContext,
  job: Job,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Record<string, unknown> | undefined> {
  const { id } = job;
  const now = Math.floor(Date.now() / 1000);
  const format = job.format({ id, created: now, model: job.model, systemFingerprint: ctx.systemFingerprint });
  const generations: Generation[] = [];
  const abort = () => {
    for (const g of generations) g.abort();
  };
  reply.raw.once('close', abort);
  job.signal?.addEventListener('abort', abort);
  try {
    for (const start of job.starts) generations.push(start());
    if (reply.raw.destroyed || job.signal?.aborted) abort();
    ctx.inFlight.add(id, request.owner, generations);
    const operation = COMPLETIONS.has(endpointOf(request)) ? 'text_completion' : 'chat';
    ctx.requests.follow({ id, model: job.model, stream: job.stream, operation }, request, generations);
    if (ctx.inFlight.shuttingDown) ctx.inFlight.abortAll();
    if (job.stream) await streamAnswer(ctx, job, format, generations, request, reply);
    else return await wholeAnswer(ctx, job, format, generations, request, reply);
  } catch (error) {
    ctx.metrics.failed(endpointOf(request));
    abort();
    throw error;
  } finally {
    reply.raw.off('close', abort);
    job.signal?.removeEventListener('abort', abort);
    ctx.inFlight.remove(id);
  }
}

async function wholeAnswer(
  ctx: ServerContext,
  job: Job,
  format: Format,
  generations: Generation[],
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Record<string, unknown>> {
  const results = await Promise.all(generations.map((g) => g.result()));
  for (const r of results) ctx.metrics.finished(r, false, endpointOf(request));
  if (!reply.raw.destroyed) checkShutdown(ctx, results);
  if (results.some((r) => r.kept === false)) reply.header(...NOT_KEPT);
  const whole = results.map((r) => finished(ctx, job, r));
  await job.keep?.(whole);
  return format.body(whole, usageOf(job, results));
}

/** The session store did not answer: the session that was named has nothing of this turn. */
const NOT_KEPT = ['x-session-kept', 'false'] as const;

function finished(ctx: ServerContext, job: Job, result: GenerationResult): Finished {
  const { text, reasoning, finishReason: reason, logprobs, stopString, timings, kept } = result;
  const rest = { reasoning, logprobs, stopString, timings, kept };
  if (!job.tools) return { text, calls: null, reason, ...rest };
  const said = toolMessage(result, job.tools, ctx, job.callId);
  return { ...said, reason: reasonOf(reason, said.calls.length > 0), ...rest };
}

/** Where a prompt is gone on with, as OpenTelemetry tells it from a conversation. */
const COMPLETIONS = new Set(['/v1/completions', '/api/generate']);

const endpointOf = (request: FastifyRequest): string => request.routeOptions.url ?? 'none';

/** A message that ends after calls wants their results. One that was cut off in a call does not. */
const reasonOf = (reason: string, called: boolean): string => (reason === 'stop' && called ? 'tool_calls' : reason);

const usageOf = (job: Job, results: GenerationResult[]): Usage =>
  sumUsage(
    results.map((r) => r.usage),
    job.n,
  );

/** An answer that our own shutdown cut short must not look like a finished one. */
function checkShutdown(ctx: ServerContext, results: GenerationResult[]): void {
  if (ctx.inFlight.shuttingDown && results.some((r) => r.finishReason === 'abort')) throw errors.engineClosed();
}

async function streamAnswer(
  ctx: ServerContext,
  job: Job,
  format: Format,
  generations: Generation[],
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const writer = new StreamWriter(reply, ctx.timing, format.style);
  try {
    const choices = generations.map((g, index) => new Choice(ctx, job, format, writer, g, index, endpointOf(request)));
    writer.onDrain = () => {
      for (const c of choices) c.flush();
    };
    const results = await Promise.all(choices.map((c) => c.run()));
    checkShutdown(ctx, results);
    const whole = results.map((r) => finished(ctx, job, r));
    await job.keep?.(whole);
    writer.end(format.end(whole, usageOf(job, results)));
  } catch (error) {
    if (!writer.started) {
      writer.cancel();
      throw error;
    }
    for (const g of generations) g.abort();
    ctx.metrics.failed(endpointOf(request));
    const known = toLongmindError(error, 0);
    request.log.error({ code: known.code, err: error }, 'a stream failed');
    writer.end(format.error(known));
  }
}

/** One choice of a stream. While the reader is behind, its text is joined into one chunk instead of queueing chunks. */
class Choice {
  #text = '';
  #reasoning = '';
  #logprobs: TokenLogprob[] | null = null;
  #opened = false;
  #last = 0;
  #due = false;
  readonly #tools: ToolOutput | null;

  constructor(
    private readonly ctx: ServerContext,
    job: Job,
    private readonly format: Format,
    private readonly writer: StreamWriter,
    private readonly generation: Generation,
    private readonly index: number,
    private readonly endpoint: string,
  ) {
    this.#tools = job.tools ? new ToolOutput(ctx.toolStyle.format, job.tools, ctx.toolTags, job.callId) : null;
  }

  async run(): Promise<GenerationResult> {
    this.generation.onToken((event) => this.#take(event));
    const result = await this.generation.result().catch((error) => {
      // what came before it still goes out
      this.flush();
      throw error;
    });
    this.ctx.metrics.finished(result, true, this.endpoint);
    if (!(this.ctx.inFlight.shuttingDown && result.finishReason === 'abort')) {
      this.#tools?.end();
      this.flush();
      this.#open();
      const reason = reasonOf(result.finishReason, this.#tools?.called ?? false);
      this.writer.write(this.format.finish(this.index, reason, result));
    }
    return result;
  }

  #take(event: TokenEvent): void {
    const now = performance.now();
    if (this.generation.kept === false) this.writer.header(...NOT_KEPT);
    if (this.#last > 0) this.ctx.metrics.interToken.observe((now - this.#last) / 1000);
    this.#last = now;
    if (event.reasoning !== null) this.#reasoning += event.reasoning;
    if (this.#tools) this.#tools.push(event.tokenId, event.text, event.reasoning !== null);
    else this.#text += event.text;
    if (event.logprob) {
      this.#logprobs ??= [];
      this.#logprobs.push(event.logprob);
    }
    if (!this.writer.congested) this.#flushSoon();
    else if (this.#waitingBytes() > this.ctx.timing.maxBufferedBytes) this.writer.cut();
  }

  /** Tokens that came together go out together: when this thread is behind, it must not fall further behind. */
  #flushSoon(): void {
    if (this.#due) return;
    this.#due = true;
    this.ctx.turns.add(this.#flushNow);
  }

  readonly #flushNow = (): void => {
    this.#due = false;
    if (!this.writer.congested) this.flush();
  };

  flush(): void {
    const said = this.#tools?.take();
    const text = said ? said.text : this.#text;
    let logprobs = this.#logprobs;
    const reasoning = this.#reasoning;
    this.#text = '';
    this.#reasoning = '';
    this.#logprobs = null;
    if (reasoning !== '') {
      this.#open();
      this.writer.write(this.format.think(this.index, reasoning, logprobs));
      logprobs = null;
    }
    if (text !== '' || (logprobs !== null && !said?.calls.length)) {
      this.#open();
      this.writer.write(this.format.delta(this.index, text, logprobs));
      logprobs = null;
    }
    for (const call of said?.calls ?? []) {
      this.#open();
      this.writer.write(this.format.call(this.index, call, logprobs));
      logprobs = null;
    }
  }

  #open(): void {
    if (this.#opened) return;
    this.#opened = true;
    const chunk = this.format.open(this.index, this.generation.prompt);
    if (chunk) this.writer.write(chunk);
  }

  /** Roughly what the held-back text and log-probabilities will take. */
  #waitingBytes(): number {
    const perToken = 200;
    const chars = this.#text.length + this.#reasoning.length + (this.#tools?.waiting ?? 0);
    return chars * 2 + (this.#logprobs?.reduce((sum, t) => sum + perToken * (1 + t.top.length), 0) ?? 0);
  }
}
