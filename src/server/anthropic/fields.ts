/** The bodies of POST /v1/messages and /v1/messages/count_tokens. */
import { commonFields, functionName, isNull, nullable, type Schema } from '../fields.js';

const text = { type: 'string' };
const object = (required: string[], properties: Record<string, Schema>): Schema => ({
  type: 'object',
  required,
  properties,
  additionalProperties: false,
});
const of = (type: string): Schema => ({ type: 'string', enum: [type] });
const list = (items: Schema): Schema => ({ type: 'array', maxItems: 65536, items });

/** Equal beginnings are shared whether they are marked or not. */
const cacheControl: Schema = nullable({
  ...object(['type'], {
    type: of('ephemeral'),
    ttl: nullable({ enum: ['5m', '1h'] }),
    scope: nullable({ type: 'string', maxLength: 64 }),
  }),
  description: 'accepted; equal beginnings are always shared',
});
const marked = { cache_control: cacheControl };

const textBlock = object(['type', 'text'], {
  type: of('text'),
  text,
  citations: nullable({ type: 'array', maxItems: 0 }),
  ...marked,
});
const id = { type: 'string', minLength: 1, maxLength: 256 };

const block: Schema = {
  anyOf: [
    textBlock,
    object(['type', 'id', 'name', 'input'], {
      type: of('tool_use'),
      id,
      name: functionName,
      input: { type: 'object' },
      caller: nullable({ type: 'object' }),
      ...marked,
    }),
    object(['type', 'tool_use_id'], {
      type: of('tool_result'),
      tool_use_id: id,
      content: nullable({ anyOf: [text, list(textBlock)] }),
      is_error: nullable({ type: 'boolean' }),
      ...marked,
    }),
    {
      ...object(['type', 'thinking'], { type: of('thinking'), thinking: text, signature: nullable(text) }),
      description: "earlier thinking; whether it is shown again, the model's chat template decides",
    },
    object(['type', 'data'], { type: of('redacted_thinking'), data: text }),
  ],
};

const message = object(['role', 'content'], {
  role: { enum: ['user', 'assistant'] },
  content: { anyOf: [text, list(block)] },
});

const tool = object(['name', 'input_schema'], {
  type: nullable({ enum: ['custom'] }),
  name: { ...functionName, pattern: '^[A-Za-z0-9_.-]+$' },
  description: nullable(text),
  input_schema: { type: 'object', description: 'JSON Schema of the input; enforced' },
  strict: nullable({ type: 'boolean', description: 'the schema is enforced in either case' }),
  eager_input_streaming: nullable({ type: 'boolean' }),
  defer_loading: nullable({ type: 'boolean', enum: [false] }),
  ...marked,
});

const parallel = {
  disable_parallel_tool_use: nullable({ type: 'boolean', description: 'at most one call in an answer' }),
};

const format = nullable(
  object(['type', 'schema'], {
    type: of('json_schema'),
    schema: { type: 'object', description: 'JSON Schema; enforced while the answer is written' },
  }),
);

/** What a prompt is made of. */
const promptFields: Record<string, Schema> = {
  model: commonFields.model!,
  messages: { type: 'array', minItems: 1, maxItems: 65536, items: message },
  system: nullable({ anyOf: [text, list(textBlock)], description: 'the system message' }),
  tools: nullable({ type: 'array', maxItems: 128, items: tool, description: 'functions that the model may call' }),
  tool_choice: nullable({
    anyOf: [
      object(['type'], { type: { enum: ['auto', 'any'] }, ...parallel }),
      object(['type'], { type: of('none') }),
      object(['type', 'name'], { type: of('tool'), name: functionName, ...parallel }),
    ],
  }),
  thinking: nullable({
    anyOf: [
      object(['type'], { type: of('disabled') }),
      object(['type', 'budget_tokens'], {
        type: of('enabled'),
        budget_tokens: {
          type: 'integer',
          minimum: 1024,
          maximum: 2 ** 24,
          description: 'less than max_tokens; accepted: nothing but max_tokens ends a thinking',
        },
        display: nullable({ enum: ['summarized', 'omitted'] }),
      }),
      object(['type'], { type: of('adaptive'), display: nullable({ enum: ['summarized', 'omitted'] }) }),
    ],
    description:
      'left out: as the model does by itself; enabled is refused for one that does not think, disabled for one that always does',
  }),
  output_config: nullable(
    object([], {
      effort: nullable({
        enum: ['low', 'medium', 'high', 'xhigh', 'max'],
        description: 'accepted; there is no effort to set',
      }),
      format,
    }),
  ),
  output_format: format,
  ...marked,
};

const body = (required: string[], properties: Record<string, Schema>): Schema => ({
  type: 'object',
  required,
  properties,
  additionalProperties: false,
});

export const countTokensBody = body(['messages'], promptFields);

export const messagesBody = body(['messages', 'max_tokens'], {
  ...promptFields,
  max_tokens: { type: 'integer', minimum: 1, maximum: 2 ** 24, description: 'tokens to generate at most' },
  stop_sequences: nullable({
    type: 'array',
    maxItems: 16,
    items: { type: 'string', minLength: 1, maxLength: 256 },
    description: 'ends the answer before one of these',
  }),
  ...Object.fromEntries(
    ['stream', 'temperature', 'top_p', 'top_k', 'seed', 'priority'].map((f) => [f, commonFields[f]!]),
  ),
  metadata: nullable({
    ...object([], { user_id: nullable({ type: 'string', maxLength: 512 }) }),
    description: 'accepted; kept nowhere',
  }),
  service_tier: nullable({ enum: ['auto', 'standard_only'], description: 'accepted; there is one tier' }),
  container: isNull,
  mcp_servers: nullable({ type: 'array', maxItems: 0 }),
  context_management: isNull,
});
