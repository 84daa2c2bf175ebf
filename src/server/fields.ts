/**
 * The fields of a generation request: which are understood and by which option, and which are known and cannot be honoured
 * (those may only hold the value that changes nothing). Checks, messages and /openapi.json are made from these tables.
 */
import { limitOptions, type OptionSpec, samplingOptions } from '../index.js';

export type Schema = Readonly<Record<string, unknown>>;

const optionTable = { ...samplingOptions, ...limitOptions };
type RequestOptionName = keyof typeof optionTable;

/** Field of the API → option of the engine. */
export const optionFields = {
  temperature: 'temperature',
  top_p: 'topP',
  top_k: 'topK',
  min_p: 'minP',
  repetition_penalty: 'repetitionPenalty',
  presence_penalty: 'presencePenalty',
  frequency_penalty: 'frequencyPenalty',
  seed: 'seed',
  logit_bias: 'logitBias',
  stop: 'stop',
  stop_token_ids: 'stopTokens',
  ignore_eos: 'ignoreEos',
  min_tokens: 'minTokens',
} as const satisfies Record<string, RequestOptionName>;

export const optionOf = (name: RequestOptionName): OptionSpec<unknown> => optionTable[name] as OptionSpec<unknown>;

/** Allows null beside what the schema allows: clients send null for "not given". */
export function nullable(schema: Schema): Schema {
  const { description, anyOf, enum: values, ...rest } = schema;
  const note = description === undefined ? {} : { description };
  if (Array.isArray(anyOf)) return { ...note, ...rest, anyOf: [...anyOf, { type: 'null' }] };
  if (Array.isArray(values)) return { ...note, ...rest, enum: [...values, null] };
  return { ...note, anyOf: [rest, { type: 'null' }] };
}

function optionSchema(name: RequestOptionName): Schema {
  const spec = optionOf(name);
  return nullable({ ...spec.schema, description: spec.help });
}

export const tokenCount = (description: string): Schema => nullable({ ...optionOf('maxTokens').schema, description });

const sessionName = { type: 'string', minLength: 1, maxLength: 256 };

export const functionName = { type: 'string', minLength: 1, maxLength: 128 };
const anyObject = { type: 'object' };

const responseFormat: Schema = {
  type: 'object',
  required: ['type'],
  properties: {
    type: { enum: ['text', 'json_object', 'json_schema'] },
    json_schema: nullable({
      type: 'object',
      required: ['schema'],
      properties: {
        name: nullable({ type: 'string', maxLength: 256 }),
        description: nullable({ type: 'string' }),
        schema: { ...anyObject, description: 'JSON Schema; what cannot be enforced is refused' },
        strict: nullable({ type: 'boolean', description: 'the schema is enforced in either case' }),
      },
      additionalProperties: false,
    }),
  },
  additionalProperties: false,
  description: 'what the answer must be; enforced while it is written',
};

const toolFields: Record<string, Schema> = {
  tools: nullable({
    type: 'array',
    maxItems: 128,
    description: 'functions that the model may call',
    items: {
      type: 'object',
      required: ['type', 'function'],
      properties: {
        type: { enum: ['function'] },
        function: {
          type: 'object',
          required: ['name'],
          properties: {
            name: { ...functionName, pattern: '^[A-Za-z0-9_.-]+$' },
            description: nullable({ type: 'string' }),
            parameters: nullable({ ...anyObject, description: 'JSON Schema of the arguments' }),
            strict: nullable({ type: 'boolean', description: 'the schema is enforced in either case' }),
          },
          additionalProperties: false,
        },
      },
      additionalProperties: false,
    },
  }),
  tool_choice: nullable({
    anyOf: [
      { enum: ['none', 'auto', 'required'] },
      {
        type: 'object',
        required: ['type', 'function'],
        properties: {
          type: { enum: ['function'] },
          function: {
            type: 'object',
            required: ['name'],
            properties: { name: functionName },
            additionalProperties: false,
          },
        },
        additionalProperties: false,
      },
    ],
  }),
  parallel_tool_calls: nullable({ type: 'boolean', description: 'more than one call in a message; default true' }),
};

/** What /v1/chat/completions and /v1/completions have in common. */
export const commonFields: Record<string, Schema> = {
  model: nullable({ type: 'string', description: 'the served model; may be left out' }),
  stream: nullable({ type: 'boolean', description: 'send tokens as server-sent events' }),
  stream_options: nullable({
    type: 'object',
    properties: {
      include_usage: nullable({ type: 'boolean', description: 'one more chunk with the usage at the end' }),
      include_obfuscation: nullable({ type: 'boolean', enum: [false] }),
    },
    additionalProperties: false,
  }),
  max_tokens: tokenCount('tokens to generate at most'),
  ...Object.fromEntries(Object.entries(optionFields).map(([field, option]) => [field, optionSchema(option)])),
  user: nullable({ type: 'string', maxLength: 512, description: 'accepted for compatibility; changes nothing' }),
  session_id: nullable({ ...sessionName, description: 'names a conversation that is kept after the request' }),
  session_append: nullable({
    type: 'boolean',
    description: 'with session_id: the request holds only what is new; otherwise it holds the whole history',
  }),
  session_length: nullable({
    type: 'integer',
    minimum: 0,
    maximum: 2 ** 31 - 1,
    description:
      'with session_append: what is new follows the first so many tokens of the session, and what stands behind them is ' +
      'cut; a request that is sent again is then the same as once',
  }),
  priority: nullable({
    type: 'integer',
    minimum: -1000,
    maximum: 1000,
    description: 'higher goes first, within --max-priority; default 0',
  }),
  n: nullable({ type: 'integer', minimum: 1, maximum: 16, description: 'choices for each prompt; they share its KV' }),
  response_format: nullable(responseFormat),
};

const textPart = {
  type: 'object',
  required: ['type', 'text'],
  properties: { type: { enum: ['text'] }, text: { type: 'string' } },
  additionalProperties: false,
};

const toolCall: Schema = {
  type: 'object',
  required: ['id', 'type', 'function'],
  properties: {
    id: { type: 'string', minLength: 1, maxLength: 256 },
    type: { enum: ['function'] },
    function: {
      type: 'object',
      required: ['name', 'arguments'],
      properties: { name: functionName, arguments: { type: 'string', description: 'a JSON object, as text' } },
      additionalProperties: false,
    },
    // streaming clients send back what they have put together
    index: { type: 'integer', minimum: 0 },
  },
  additionalProperties: false,
};

const message: Schema = {
  type: 'object',
  required: ['role'],
  properties: {
    role: { enum: ['system', 'developer', 'user', 'assistant', 'tool'] },
    content: {
      description: 'may be left out where there are tool_calls',
      anyOf: [{ type: 'string' }, { type: 'array', minItems: 1, maxItems: 1024, items: textPart }, { type: 'null' }],
    },
    name: nullable({ type: 'string', maxLength: 256, description: 'given to the chat template' }),
    refusal: { type: 'null' },
    audio: { type: 'null' },
    function_call: { type: 'null' },
    tool_calls: nullable({ type: 'array', maxItems: 128, items: toolCall, description: "the assistant's" }),
    tool_call_id: nullable({ type: 'string', minLength: 1, maxLength: 256, description: "of the role 'tool'" }),
    annotations: nullable({ type: 'array', maxItems: 0 }),
    reasoning_content: nullable({
      type: 'string',
      description: "what the assistant thought before; whether it is shown again, the model's chat template decides",
    }),
  },
  additionalProperties: false,
};

export const isNull: Schema = { type: 'null' };

/** How much a model thinks: `none` turns it off, where its chat template can. */
export const effortField: Schema = nullable({
  enum: ['none', 'minimal', 'low', 'medium', 'high', 'xhigh'],
  description:
    'none: the model does not think before it answers; anything else: it does, and is told how much if its template has a place ' +
    'for it. A model that never thinks takes any value',
});

/** Hints that change nothing here, whatever they say: one tier, one cache, no storing. */
export const hintFields: Record<string, Schema> = {
  metadata: nullable({
    type: 'object',
    maxProperties: 64,
    additionalProperties: { type: 'string' },
    description: 'accepted; kept nowhere',
  }),
  service_tier: nullable({ enum: ['auto', 'default', 'flex'], description: 'accepted; there is one tier' }),
  cache_prompt: nullable({ type: 'boolean', description: 'accepted; what is cached gives the same bits' }),
  prompt_cache_retention: nullable({
    enum: ['in_memory', 'in-memory', '24h'],
    description: 'accepted; KV stays while there is room',
  }),
};

/** Known, not honoured: only the value that asks for nothing is let through. */
const neutralChatFields: Record<string, Schema> = {
  functions: nullable({ type: 'array', maxItems: 0 }),
  function_call: nullable({ enum: ['none', 'auto'] }),
  audio: isNull,
  modalities: nullable({ type: 'array', minItems: 1, maxItems: 1, items: { enum: ['text'] } }),
  prediction: isNull,
  verbosity: nullable({ enum: ['medium'] }),
  web_search_options: isNull,
};

/** As neutralChatFields, for completions too. */
const neutralFieldsOfBoth: Record<string, Schema> = {
  store: nullable({ type: 'boolean', enum: [false] }),
};

const neutralCompletionFields: Record<string, Schema> = {
  suffix: isNull,
  echo: nullable({ type: 'boolean', enum: [false] }),
  best_of: nullable({ type: 'integer', enum: [1] }),
};

/** Names that get "is not supported" instead of "must be …". */
export const neutralFields: ReadonlySet<string> = new Set([
  // of responses and conversations metadata are kept
  ...Object.keys(hintFields).filter((name) => name !== 'metadata'),
  ...Object.keys(neutralChatFields),
  ...Object.keys(neutralFieldsOfBoth),
  ...Object.keys(neutralCompletionFields),
  ...['thinking', 'think', 'truncation', 'background', 'container', 'mcp_servers', 'context_management'],
]);

/** What one field asks of another. `when` and `demand` are schemas of single fields. */
interface Rule {
  when: Record<string, Schema>;
  demand: Record<string, Schema>;
  message: string;
  param: string;
}

const needs = (param: string, when: Schema, other: string, demand: Schema, message: string): Rule => ({
  when: { [param]: when },
  demand: { [other]: demand },
  message,
  param,
});

const yes = { type: 'boolean', const: true };
const several = { type: 'integer', minimum: 2 };

/** In the order of `allOf` in the schemas, so that a violation is found by its place. */
export const rules: readonly Rule[] = [
  needs('stream_options', { type: 'object' }, 'stream', yes, "'stream_options' needs stream: true"),
  needs('session_append', yes, 'session_id', { type: 'string' }, "'session_append' needs a session_id"),
  needs('session_length', { type: 'integer' }, 'session_append', yes, "'session_length' needs session_append: true"),
  needs('top_logprobs', { type: 'integer' }, 'logprobs', yes, "'top_logprobs' needs logprobs: true"),
  { ...needs('n', several, 'session_id', isNull, 'several choices cannot be one session'), param: 'session_id' },
];

const allOf: readonly Schema[] = rules.map((r) => ({
  if: { type: 'object', properties: r.when, required: Object.keys(r.when) },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  then: {
    type: 'object',
    properties: r.demand,
    ...(Object.values(r.demand)[0] === isNull ? {} : { required: Object.keys(r.demand) }),
  },
}));

export const chatBody: Schema = {
  type: 'object',
  allOf,
  required: ['messages'],
  properties: {
    messages: { type: 'array', minItems: 1, maxItems: 65536, items: message },
    ...commonFields,
    max_completion_tokens: tokenCount('tokens to generate at most; the newer name of max_tokens'),
    logprobs: nullable({ type: 'boolean', description: 'return the log-probability of each token' }),
    top_logprobs: nullable({ type: 'integer', minimum: 0, maximum: 20, description: 'alternatives for each token' }),
    safety_identifier: nullable({ type: 'string', maxLength: 512, description: 'as user' }),
    prompt_cache_key: nullable({ type: 'string', maxLength: 512, description: 'equal beginnings are always shared' }),
    reasoning_effort: effortField,
    chat_template_kwargs: nullable({
      type: 'object',
      maxProperties: 64,
      description: 'more values for the chat template, such as {"enable_thinking": false}',
    }),
    ...toolFields,
    ...hintFields,
    ...neutralChatFields,
    ...neutralFieldsOfBoth,
  },
  additionalProperties: false,
};

/** Token ids of a vocabulary. */
export const tokenId = (vocab: number): Schema => ({ type: 'integer', minimum: 0, maximum: vocab - 1 });

export const completionBody = (vocab: number): Schema => ({
  type: 'object',
  allOf,
  required: ['prompt'],
  properties: {
    prompt: {
      description: 'text, token ids, or several of either (one choice each)',
      anyOf: [
        { type: 'string' },
        { type: 'array', minItems: 1, items: tokenId(vocab) },
        { type: 'array', minItems: 1, maxItems: 64, items: { type: 'string' } },
        { type: 'array', minItems: 1, maxItems: 64, items: { type: 'array', minItems: 1, items: tokenId(vocab) } },
      ],
    },
    ...commonFields,
    logprobs: nullable({ type: 'integer', minimum: 0, maximum: 20, description: 'alternatives for each token' }),
    reasoning_effort: effortField,
    ...hintFields,
    ...neutralCompletionFields,
    ...neutralFieldsOfBoth,
  },
  additionalProperties: false,
});
