/** The bodies of Ollama's API. */
import { commonFields, functionName, isNull, nullable, type Schema } from '../fields.js';
import { poolingField } from '../routes/embeddings.js';

const text = { type: 'string' };
const object = (required: string[], properties: Record<string, Schema>): Schema => ({
  type: 'object',
  required,
  properties,
  additionalProperties: false,
});
const integer = { type: 'integer' };

/** Option of Ollama → field of /v1/chat/completions. */
export const OPTION_FIELDS = {
  temperature: 'temperature',
  top_k: 'top_k',
  top_p: 'top_p',
  min_p: 'min_p',
  seed: 'seed',
  stop: 'stop',
  repeat_penalty: 'repetition_penalty',
  presence_penalty: 'presence_penalty',
  frequency_penalty: 'frequency_penalty',
} as const;

/** How a model is run is the server's business. */
const hint = (schema: Schema): Schema =>
  nullable({ ...schema, description: 'accepted; the server was told at its start' });
const HINTS = ['num_ctx', 'num_batch', 'num_gpu', 'main_gpu', 'num_thread', 'num_keep'];
const FLAGS = ['numa', 'low_vram', 'f16_kv', 'logits_all', 'vocab_only', 'use_mmap', 'use_mlock', 'embedding_only'];

const options = nullable(
  object([], {
    ...Object.fromEntries(Object.entries(OPTION_FIELDS).map(([name, field]) => [name, commonFields[field]!])),
    num_predict: nullable({
      anyOf: [
        { ...integer, enum: [-1, -2] },
        { ...integer, minimum: 1, maximum: 2 ** 24 },
      ],
      description: 'tokens to generate at most; below 0: as many as fit',
    }),
    repeat_last_n: nullable({ ...integer, description: 'accepted; the whole text counts' }),
    penalize_newline: nullable({ type: 'boolean', description: 'accepted; a newline is a token like any other' }),
    mirostat: nullable({ ...integer, enum: [0] }),
    mirostat_tau: hint({ type: 'number' }),
    mirostat_eta: hint({ type: 'number' }),
    tfs_z: nullable({ type: 'number', enum: [1] }),
    typical_p: nullable({ type: 'number', enum: [1] }),
    ...Object.fromEntries(HINTS.map((name) => [name, hint(integer)])),
    ...Object.fromEntries(FLAGS.map((name) => [name, hint({ type: 'boolean' })])),
  }),
);

const model: Schema = {
  type: 'string',
  minLength: 1,
  description: 'one of the names; :latest may be left out or added',
};
const keepAlive = nullable({ anyOf: [text, { type: 'number' }], description: 'accepted; the model stays' });

const common: Record<string, Schema> = {
  model,
  stream: nullable({ type: 'boolean', description: 'a line of JSON for each piece; default true' }),
  format: nullable({
    anyOf: [
      { enum: ['json', ''] },
      { type: 'object', description: 'JSON Schema; enforced while the answer is written' },
    ],
  }),
  think: nullable({
    anyOf: [{ type: 'boolean' }, { enum: ['low', 'medium', 'high'] }],
    description: 'whether the model thinks before it answers; left out: as it does by itself',
  }),
  logprobs: nullable({ type: 'boolean', description: 'return the log-probability of each token' }),
  top_logprobs: nullable({ type: 'integer', minimum: 0, maximum: 20, description: 'alternatives for each token' }),
  keep_alive: keepAlive,
  options,
  priority: commonFields.priority!,
};

const noImages = nullable({ type: 'array', maxItems: 0, description: 'images are not supported by this model' });

const message = object(['role'], {
  role: { enum: ['system', 'user', 'assistant', 'tool'] },
  content: nullable(text),
  thinking: nullable(text),
  images: noImages,
  tool_calls: nullable({
    type: 'array',
    maxItems: 128,
    items: object(['function'], {
      id: nullable(text),
      type: nullable({ enum: ['function'] }),
      function: object(['name', 'arguments'], {
        index: nullable(integer),
        name: functionName,
        description: nullable(text),
        arguments: { type: 'object' },
      }),
    }),
  }),
  tool_name: nullable(text),
  tool_call_id: nullable(text),
});

const tool = object(['function'], {
  type: nullable({ enum: ['function'] }),
  function: object(['name'], {
    name: { ...functionName, pattern: '^[A-Za-z0-9_.-]+$' },
    description: nullable(text),
    parameters: nullable({ type: 'object', description: 'JSON Schema of the arguments' }),
    type: nullable(text),
    strict: nullable({ type: 'boolean' }),
  }),
});

export const chatBody = object(['model', 'messages'], {
  ...common,
  messages: { type: 'array', maxItems: 65536, items: message, description: 'none: the model is loaded, which it is' },
  tools: nullable({ type: 'array', maxItems: 128, items: tool, description: 'functions that the model may call' }),
});

export const generateBody = object(['model'], {
  ...common,
  prompt: nullable({ ...text, description: 'none: the model is loaded, which it is' }),
  system: nullable({ ...text, description: 'the system message' }),
  raw: nullable({ type: 'boolean', description: 'the prompt is continued as it is, without the chat template' }),
  suffix: nullable({ ...text, maxLength: 0 }),
  template: nullable({ ...text, maxLength: 0 }),
  context: nullable({ type: 'array', maxItems: 0 }),
  images: noImages,
  width: isNull,
  height: isNull,
  steps: isNull,
});

export const showBody = object([], {
  model,
  name: model,
  verbose: nullable({ type: 'boolean' }),
  system: nullable(text),
  template: nullable(text),
  options: nullable({ type: 'object' }),
});

export const embedBody = object(['model', 'input'], {
  model,
  input: {
    anyOf: [
      { type: 'string', minLength: 1 },
      { type: 'array', maxItems: 2048, items: { type: 'string', minLength: 1 } },
    ],
  },
  truncate: nullable({ type: 'boolean', description: 'accepted; a text that is too long is refused' }),
  dimensions: nullable({ type: 'integer', minimum: 1, description: 'the vector is cut to so many' }),
  pooling: poolingField,
  priority: commonFields.priority!,
  keep_alive: keepAlive,
  options: nullable({ type: 'object' }),
});
