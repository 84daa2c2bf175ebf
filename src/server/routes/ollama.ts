/** Ollama's API, which many desktop tools speak: /api/chat, generate, embed, tags, show, ps, version. */
import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { RequestOptions } from '../../index.js';
import { chatLimits, commonOptions, decoder, formatGrammar, newId, prepareChat } from '../chat.js';
import type { ServerContext } from '../context.js';
import { type EmbedOptions, embedAll } from '../embed.js';
import { type Job, serveJob } from '../generate.js';
import { chatBody, embedBody, generateBody, showBody } from '../ollama/fields.js';
import { chatSpelling, generateSpelling, loaded, ollamaError, ollamaFormat, type Spelling } from '../ollama/format.js';
import {
  chatBodyOf,
  commonFieldsOf,
  FIELD_NAMES,
  generateBodyOf,
  type OllamaChat,
  type OllamaGenerate,
} from '../ollama/translate.js';
import { answers } from '../responses.js';

const config = { errorForm: ollamaError };
const tags = ['ollama'];
const described = (summary: string, answer: string, stream = false) => ({
  tags,
  summary,
  response: answers(answer, { error: 'OllamaError', ...(stream ? { stream: 'application/x-ndjson' } : {}) }),
});

export function ollamaRoutes(app: FastifyInstance, ctx: ServerContext, version: string): void {
  generationRoutes(app, ctx);
  embedRoutes(app, ctx);
  modelRoutes(app, ctx);
  app.get('/api/version', { config, schema: described('The version of longmind', 'OllamaVersion') }, async () => ({
    version,
  }));
}

/** 'memo:latest' is 'memo'. */
function resolve({ models }: ServerContext, name: string): string {
  const plain = name.replace(/:latest$/, '');
  models.resolve(models.names.includes(plain) ? plain : name);
  return name;
}

function generationRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const serve = async (
    spelling: Spelling,
    body: OllamaChat | OllamaGenerate,
    chat: { start: () => ReturnType<ServerContext['engine']['chat']>; tools: Job['tools'] },
    request: FastifyRequest,
    reply: FastifyReply,
  ) => {
    const job = {
      id: newId('ollama-'),
      stream: body.stream !== false,
      tools: chat.tools,
      model: body.model,
      n: 1,
      starts: [chat.start],
      format: () => ollamaFormat(body.model, spelling, decoder(ctx)),
    };
    return serveJob(ctx, job, request, reply);
  };

  const chat = { ...described('Answer a conversation', 'OllamaAnswer', true), body: chatBody };
  app.post<{ Body: OllamaChat }>('/api/chat', { config, schema: chat }, async (request, reply) => {
    const { body, owner } = request;
    const model = resolve(ctx, body.model);
    if (body.messages.length === 0) return loaded(model, chatSpelling);
    const prepared = await prepareChat(ctx, chatBodyOf(body), owner, { names: FIELD_NAMES });
    const start = () => ctx.engine.chat(prepared.chat);
    return serve(chatSpelling, body, { start, tools: prepared.tools }, request, reply);
  });

  const generate = { ...described('Answer a prompt', 'OllamaAnswer', true), body: generateBody };
  app.post<{ Body: OllamaGenerate }>('/api/generate', { config, schema: generate }, async (request, reply) => {
    const { body, owner } = request;
    const model = resolve(ctx, body.model);
    const { prompt } = body;
    if (!prompt) return loaded(model, generateSpelling);
    if (body.raw) {
      const options = await rawOptions(ctx, body, owner);
      const start = () => ctx.engine.complete({ prompt, ...options });
      return serve(generateSpelling, body, { start, tools: null }, request, reply);
    }
    const prepared = await prepareChat(ctx, generateBodyOf(body), owner, { names: FIELD_NAMES });
    const start = () => ctx.engine.chat(prepared.chat);
    return serve(generateSpelling, body, { start, tools: null }, request, reply);
  });
}

async function rawOptions(ctx: ServerContext, body: OllamaGenerate, owner: number): Promise<RequestOptions> {
  const fields = commonFieldsOf(body);
  const grammar = await formatGrammar(ctx, fields);
  return {
    ...commonOptions(ctx, fields, owner),
    ...chatLimits(fields),
    ...(grammar ? { grammar } : {}),
  };
}

function embedRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const embed = { ...described('Texts as vectors of length 1', 'OllamaEmbeddings'), body: embedBody };
  app.post<{ Body: EmbedOptions & { model: string; input: string | string[] } }>(
    '/api/embed',
    { config, schema: embed },
    async (request, reply) => {
      const { body } = request;
      const began = performance.now();
      const model = resolve(ctx, body.model);
      const { vectors, promptTokens } = await embedAll(ctx, [body.input].flat(), body, request, reply);
      return {
        model,
        embeddings: vectors.map((v) => [...v]),
        total_duration: Math.round((performance.now() - began) * 1e6),
        load_duration: 0,
        prompt_eval_count: promptTokens,
      };
    },
  );
}

function modelRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const { info } = ctx.engine;
  const { dims, architecture, parameters, memory } = info;
  const modified = new Date(ctx.created * 1000).toISOString();
  const details = {
    parent_model: '',
    format: 'gguf',
    family: architecture,
    families: [architecture],
    parameter_size: parameters >= 1e9 ? `${(parameters / 1e9).toFixed(1)}B` : `${(parameters / 1e6).toFixed(1)}M`,
    quantization_level: info.quantisation,
  };
  const all = [
    ...ctx.models.names.map((id) => ({ id, tag: `${id}:latest` })),
    ...ctx.models.withAdapters().map(({ id }) => ({ id, tag: id })),
  ];
  const model = ({ id: name, tag }: (typeof all)[number]) => ({
    name: tag,
    model: tag,
    modified_at: modified,
    size: memory.weightBytes,
    digest: createHash('sha256')
      .update(JSON.stringify([name, info.modelName, parameters, info.quantisation]))
      .digest('hex'),
    details,
  });

  app.get(
    '/api/tags',
    { config, schema: described('The served model, by each of its names', 'OllamaModels') },
    async () => ({
      models: all.map(model),
    }),
  );

  app.get('/api/ps', { config, schema: described('The same: it is loaded', 'OllamaModels') }, async () => ({
    models: all.map((name) => ({
      ...model(name),
      size_vram: memory.weightBytes + memory.kvBytes,
      context_length: info.sessionLen,
    })),
  }));

  const show = { ...described('The served model', 'OllamaModel'), body: showBody };
  app.post<{ Body: { model?: string; name?: string } }>('/api/show', { config, schema: show }, async (request) => {
    resolve(ctx, request.body.model ?? request.body.name ?? ctx.models.first);
    return {
      modelfile: '',
      parameters: '',
      template: '',
      details,
      modified_at: modified,
      model_info: {
        'general.architecture': architecture,
        'general.basename': info.modelName,
        'general.parameter_count': parameters,
        [`${architecture}.context_length`]: info.sessionLen,
        [`${architecture}.embedding_length`]: dims.dim,
        [`${architecture}.block_count`]: dims.layers,
        [`${architecture}.attention.head_count`]: dims.heads,
        [`${architecture}.attention.head_count_kv`]: dims.kvHeads,
      },
      capabilities: [
        ...['completion', 'tools'],
        ...(info.embeddings ? ['embedding'] : []),
        ...(info.reasoning ? ['thinking'] : []),
      ],
    };
  });
}
