/** Texts as vectors of length 1, for the APIs that ask for them. */
import { setMaxListeners } from 'node:events';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { checkPriority, type EmbeddingResult, errors, type Pooling } from '../index.js';
import { adapterOption } from './chat.js';
import type { ServerContext } from './context.js';

/** Texts of one request that are in the engine at a time: others want to be served, too. */
const AT_A_TIME = 32;

export interface EmbedOptions {
  pooling?: Pooling | null;
  /** The vector is cut to so many numbers, and scaled again. */
  dimensions?: number | null;
  priority?: number | null;
  /** May name an adapter. */
  model?: string | null;
}

export interface Embedded {
  vectors: Float32Array[];
  promptTokens: number;
}

/** Ends when the client goes away. @throws LongmindError */
export async function embedAll(
  ctx: ServerContext,
  prompts: readonly (string | number[])[],
  { pooling, dimensions, priority, model }: EmbedOptions,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Embedded> {
  const { dim } = ctx.engine.info.dims;
  if ((dimensions ?? dim) > dim)
    throw errors.invalidRequest(`'dimensions' must be at most ${dim}, those of this model`, 'dimensions');
  const level = checkPriority(priority ?? 0, ctx.maxPriority);
  const gone = new AbortController();
  setMaxListeners(0, gone.signal);
  const leave = () => gone.abort();
  reply.raw.once('close', leave);
  ctx.onDrain.push(leave);
  const endpoint = request.routeOptions.url ?? 'none';
  const out: Embedded = { vectors: [], promptTokens: 0 };
  const options = {
    ...adapterOption(ctx, model),
    pooling: pooling ?? 'last',
    priority: level,
    owner: request.owner,
    signal: gone.signal,
  };
  try {
    for (let i = 0; i < prompts.length; i += AT_A_TIME) {
      const some = prompts.slice(i, i + AT_A_TIME).map((prompt) => ctx.engine.embed({ prompt, ...options }));
      for (const { embedding, usage } of await settled(some, leave)) {
        ctx.metrics.embedded(usage, endpoint);
        out.vectors.push(unit(embedding.subarray(0, dimensions ?? dim)));
        out.promptTokens += usage.promptTokens;
      }
    }
    return out;
  } catch (e) {
    ctx.metrics.failed(endpoint);
    throw e;
  } finally {
    reply.raw.off('close', leave);
    ctx.onDrain.splice(ctx.onDrain.indexOf(leave), 1);
  }
}

/** One that fails ends the others. */
async function settled(all: Promise<EmbeddingResult>[], end: () => void): Promise<EmbeddingResult[]> {
  try {
    return await Promise.all(all);
  } catch (e) {
    end();
    await Promise.allSettled(all);
    throw e;
  }
}

/** Scaled to length 1; nothing but zeros stays as it is. */
function unit(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  return vector.map((x) => (length > 0 ? x / length : x));
}
