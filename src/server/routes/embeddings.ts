/** /v1/embeddings, and /v1/rerank, which no model here can serve. */
import type { FastifyInstance } from 'fastify';
import type { ServerContext } from '../context.js';
import { type EmbedOptions, embedAll } from '../embed.js';
import { serverErrors } from '../errors.js';
import { commonFields, nullable, type Schema, tokenId } from '../fields.js';
import { answers } from '../responses.js';

interface EmbeddingsBody extends EmbedOptions {
  model?: string | null;
  input: string | string[] | number[] | number[][];
  encoding_format?: 'float' | 'base64' | null;
}

const text = { type: 'string', minLength: 1 };

/** How APIs that know no pooling may ask for it. */
export const poolingField: Schema = nullable({
  enum: ['last', 'mean'],
  description: 'the hidden state of the last token (default), or the mean of all',
});

const embeddingsBody = (vocab: number, dim: number): Schema => {
  const ids = { type: 'array', minItems: 1, items: tokenId(vocab) };
  return {
    type: 'object',
    required: ['input'],
    properties: {
      model: commonFields.model,
      input: {
        description: 'a text, token ids, or several of either',
        anyOf: [
          text,
          ids,
          { type: 'array', minItems: 1, maxItems: 2048, items: text },
          { type: 'array', minItems: 1, maxItems: 2048, items: ids },
        ],
      },
      encoding_format: nullable({ enum: ['float', 'base64'], description: 'base64: of 32-bit floats, little endian' }),
      dimensions: nullable({ type: 'integer', minimum: 1, maximum: dim, description: 'the vector is cut to so many' }),
      pooling: poolingField,
      user: commonFields.user,
      priority: commonFields.priority,
    },
    additionalProperties: false,
  };
};

const rerankBody: Schema = {
  type: 'object',
  required: ['query', 'documents'],
  properties: {
    model: commonFields.model,
    query: text,
    documents: { type: 'array', minItems: 1, items: text },
    top_n: nullable({ type: 'integer', minimum: 1 }),
    return_documents: nullable({ type: 'boolean' }),
  },
  additionalProperties: false,
};

export function embeddingsRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const { vocab, dim } = ctx.engine.info.dims;
  const tags = ['embeddings'];
  const embeddings = {
    tags,
    summary: 'Texts as vectors of length 1',
    body: embeddingsBody(vocab, dim),
    response: answers('Embeddings'),
  };
  app.post<{ Body: EmbeddingsBody }>('/v1/embeddings', { schema: embeddings }, async (request, reply) => {
    const { body } = request;
    const model = ctx.models.resolve(body.model);
    const { vectors, promptTokens } = await embedAll(ctx, promptsOf(body.input), body, request, reply);
    const base64 = body.encoding_format === 'base64';
    return {
      object: 'list',
      data: vectors.map((v, index) => ({ object: 'embedding', index, embedding: base64 ? base64Of(v) : [...v] })),
      model,
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    };
  });

  const rerank = {
    tags,
    summary: 'Refused: no model here is a reranker',
    body: rerankBody,
    response: answers('Error'),
  };
  app.post<{ Body: { model?: string | null } }>('/v1/rerank', { schema: rerank }, async (request) => {
    throw serverErrors.noRerank(ctx.models.resolve(request.body.model));
  });
}

function promptsOf(input: EmbeddingsBody['input']): (string | number[])[] {
  const one = typeof input === 'string' || typeof input[0] === 'number';
  return (one ? [input] : input) as (string | number[])[];
}

function base64Of(vector: Float32Array): string {
  const bytes = Buffer.alloc(4 * vector.length);
  vector.forEach((x, i) => {
    bytes.writeFloatLE(x, 4 * i);
  });
  return bytes.toString('base64');
}
