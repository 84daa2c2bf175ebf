/** The body of POST /v1/responses. */
import {
  commonFields,
  effortField,
  functionName,
  hintFields,
  isNull,
  nullable,
  type Schema,
  tokenCount,
} from '../fields.js';

const text = { type: 'string' };
const ignored = (description: string): Schema => nullable({ description, ...text, maxLength: 512 });
const object = (required: string[], properties: Record<string, Schema>): Schema => ({
  type: 'object',
  required,
  properties,
  additionalProperties: false,
});
const of = (type: string): Schema => ({ type: 'string', enum: [type] });

/** What a client sends back of an answer: taken, and not looked at. */
const sentBack: Record<string, Schema> = {
  id: nullable({ type: 'string', maxLength: 256 }),
  status: nullable({ enum: ['in_progress', 'completed', 'incomplete'] }),
  phase: nullable({ type: 'string', maxLength: 64 }),
};

const anyList: Schema = nullable({ type: 'array', maxItems: 65536 });
const textParts = (types: string[]): Schema => ({
  type: 'array',
  maxItems: 1024,
  items: object(['type', 'text'], { type: { enum: types }, text, annotations: anyList, logprobs: anyList }),
});

const message = object(['role', 'content'], {
  type: of('message'),
  role: { enum: ['user', 'assistant', 'system', 'developer'] },
  content: {
    anyOf: [text, { ...textParts(['input_text', 'output_text', 'text']), minItems: 1 }],
  },
  ...sentBack,
});

const callId = { type: 'string', minLength: 1, maxLength: 256 };

const inputItem: Schema = {
  anyOf: [
    message,
    object(['type', 'call_id', 'name', 'arguments'], {
      type: of('function_call'),
      call_id: callId,
      name: functionName,
      arguments: { ...text, description: 'a JSON object, as text' },
      ...sentBack,
    }),
    object(['type', 'call_id', 'output'], {
      type: of('function_call_output'),
      call_id: callId,
      output: { anyOf: [text, textParts(['input_text', 'output_text'])] },
      ...sentBack,
    }),
    {
      ...object(['type'], {
        type: of('reasoning'),
        summary: nullable(textParts(['summary_text'])),
        content: nullable(textParts(['reasoning_text'])),
        encrypted_content: nullable(text),
        ...sentBack,
      }),
      description: "earlier thinking; whether it is shown again, the model's chat template decides",
    },
    {
      ...object(['type', 'id'], { type: of('item_reference'), id: { type: 'string', minLength: 1, maxLength: 256 } }),
      description: 'an item of a response that is kept',
    },
  ],
};

const tool = object(['type', 'name'], {
  type: of('function'),
  name: { ...functionName, pattern: '^[A-Za-z0-9_.-]+$' },
  description: nullable(text),
  parameters: nullable({ type: 'object', description: 'JSON Schema of the arguments' }),
  strict: nullable({ type: 'boolean', description: 'the schema is enforced in either case' }),
});

const format: Schema = {
  description: 'what the answer must be; enforced while it is written',
  anyOf: [
    object(['type'], { type: { enum: ['text', 'json_object'] } }),
    object(['type', 'schema'], {
      type: of('json_schema'),
      name: nullable({ type: 'string', maxLength: 256 }),
      description: nullable(text),
      schema: { type: 'object', description: 'JSON Schema; what cannot be enforced is refused' },
      strict: nullable({ type: 'boolean', description: 'the schema is enforced in either case' }),
    }),
  ],
};

/** Fields of chats that are fields here too, under the same name. */
export const sharedFields = [
  ...['model', 'stream', 'user', 'priority', 'temperature', 'top_p', 'top_k', 'min_p', 'seed', 'repetition_penalty'],
  ...['presence_penalty', 'frequency_penalty', 'logit_bias'],
] as const;

const items = { type: 'array', maxItems: 65536, items: inputItem };

const conversationId = { type: 'string', minLength: 1, maxLength: 256 };
const metadata: Schema = nullable({
  type: 'object',
  maxProperties: 16,
  propertyNames: { maxLength: 64 },
  additionalProperties: { type: 'string', maxLength: 512 },
});

export const responsesBody: Schema = {
  type: 'object',
  properties: {
    ...Object.fromEntries(sharedFields.map((name) => [name, commonFields[name]!])),
    input: nullable({
      description: 'text of the user, or items; may be missing where items of a conversation wait for an answer',
      anyOf: [text, { ...items, minItems: 1 }],
    }),
    instructions: nullable({
      ...text,
      description: 'the system message; that of an earlier response is not carried over',
    }),
    previous_response_id: nullable({
      type: 'string',
      minLength: 1,
      maxLength: 256,
      description: 'goes on from a response that is kept; an older one branches',
    }),
    store: nullable({ type: 'boolean', description: 'keep the response; default true' }),
    stream_options: nullable(object([], { include_obfuscation: nullable({ type: 'boolean', enum: [false] }) })),
    max_output_tokens: tokenCount('tokens to generate at most'),
    text: nullable(object([], { format: nullable(format), verbosity: nullable({ enum: ['medium'] }) })),
    tools: nullable({ type: 'array', maxItems: 128, items: tool, description: 'functions that the model may call' }),
    tool_choice: nullable({
      anyOf: [
        { enum: ['none', 'auto', 'required'] },
        object(['type', 'name'], { type: of('function'), name: functionName }),
      ],
    }),
    parallel_tool_calls: nullable({ type: 'boolean', description: 'more than one call in an answer; default true' }),
    max_tool_calls: nullable({ type: 'integer', minimum: 1, description: 'accepted; there are no built-in tools' }),
    reasoning: nullable({
      ...object([], {
        effort: effortField,
        summary: nullable({ enum: ['auto', 'concise', 'detailed'] }),
        generate_summary: nullable({ enum: ['auto', 'concise', 'detailed'] }),
      }),
      description: 'how much the model thinks; summaries are not made, thinking comes whole',
    }),
    include: nullable({
      type: 'array',
      maxItems: 16,
      items: { enum: ['message.output_text.logprobs', 'reasoning.encrypted_content'] },
    }),
    top_logprobs: nullable({ type: 'integer', minimum: 0, maximum: 20, description: 'alternatives for each token' }),
    metadata: { ...metadata, description: 'kept with the response' },
    service_tier: hintFields.service_tier!,
    safety_identifier: ignored('as user'),
    prompt_cache_key: ignored('equal beginnings are always shared'),
    prompt_cache_retention: hintFields.prompt_cache_retention!,
    truncation: nullable({ enum: ['disabled'] }),
    background: nullable({ type: 'boolean', enum: [false] }),
    conversation: nullable({
      anyOf: [conversationId, object(['id'], { id: conversationId })],
      description: 'a conversation whose items come before the input, and which the input and the answer are added to',
    }),
    prompt: isNull,
  },
  additionalProperties: false,
};

const id: Schema = { type: 'string', minLength: 1, maxLength: 256 };
export const responseParams: Schema = { type: 'object', required: ['id'], properties: { id } };

/** Queries hold text. */
export const itemsQuery: Schema = {
  type: 'object',
  properties: {
    limit: { type: 'string', description: 'items at most: 1 to 100; default 20' },
    order: { type: 'string', enum: ['asc', 'desc'], description: 'default desc: the last first' },
    after: { ...id, description: 'the id of an item' },
  },
};

/** The body of POST /v1/conversations; it may be left out. */
export const conversationBody: Schema = {
  type: ['object', 'null'],
  properties: { items: { ...nullable(items), description: 'what the conversation begins with' }, metadata },
  additionalProperties: false,
};

export const conversationChange: Schema = {
  type: 'object',
  required: ['metadata'],
  properties: { metadata: { ...metadata, description: 'in place of what there is' } },
  additionalProperties: false,
};

export const conversationItems: Schema = {
  type: 'object',
  required: ['items'],
  properties: { items: { ...items, minItems: 1, description: 'added to the end' } },
  additionalProperties: false,
};

export const conversationItemParams: Schema = {
  type: 'object',
  required: ['id', 'item'],
  properties: { id, item: id },
};
