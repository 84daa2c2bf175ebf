/** Schemas of answers, for /openapi.json. Answers are written by JSON.stringify; these only describe them. */
import type { Schema } from './fields.js';

const string: Schema = { type: 'string' };
const count: Schema = { type: 'integer', minimum: 0 };
const amount: Schema = { type: 'number', minimum: 0 };
const object = (properties: Record<string, Schema>, optional: string[] = []): Schema => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((k) => !optional.includes(k)),
});
const list = (items: Schema): Schema => ({ type: 'array', items });
const orNull = (schema: Schema): Schema => ({ anyOf: [schema, { type: 'null' }] });
const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });

const chatToken = { token: string, logprob: { type: 'number' }, bytes: orNull(list(count)) };

export const components: Record<string, Schema> = {
  Error: object({
    error: object({ message: string, type: string, param: orNull(string), code: string }),
  }),
  Usage: object({
    prompt_tokens: count,
    completion_tokens: count,
    total_tokens: count,
    prompt_tokens_details: object({ cached_tokens: count }),
    completion_tokens_details: object({ reasoning_tokens: count, accepted_prediction_tokens: count }),
  }),
  ChatCompletion: object({
    id: string,
    object: { const: 'chat.completion' },
    created: count,
    model: string,
    choices: list(
      object({
        index: count,
        message: object(
          {
            role: { const: 'assistant' },
            content: orNull(string),
            refusal: { type: 'null' },
            reasoning_content: string,
            tool_calls: list(
              object({
                id: string,
                type: { const: 'function' },
                function: object({ name: string, arguments: string }),
              }),
            ),
          },
          ['reasoning_content', 'tool_calls'],
        ),
        logprobs: orNull(
          object({
            content: list(object({ ...chatToken, top_logprobs: list(object(chatToken)) })),
            refusal: { type: 'null' },
          }),
        ),
        finish_reason: { enum: ['stop', 'length', 'abort', 'tool_calls'] },
      }),
    ),
    usage: ref('Usage'),
    system_fingerprint: string,
  }),
  Completion: object({
    id: string,
    object: { const: 'text_completion' },
    created: count,
    model: string,
    choices: list(
      object({
        index: count,
        text: string,
        logprobs: orNull(
          object({
            tokens: list(string),
            token_logprobs: list({ type: 'number' }),
            top_logprobs: list({ type: 'object', additionalProperties: { type: 'number' } }),
            text_offset: list(count),
          }),
        ),
        finish_reason: { enum: ['stop', 'length', 'abort'] },
      }),
    ),
    usage: ref('Usage'),
    system_fingerprint: string,
  }),
  Response: object({
    id: string,
    object: { const: 'response' },
    created_at: count,
    status: { enum: ['completed', 'incomplete', 'cancelled'] },
    error: { type: 'null' },
    incomplete_details: orNull(object({ reason: string })),
    instructions: orNull(string),
    max_output_tokens: orNull(count),
    model: string,
    output: list(ref('OutputItem')),
    parallel_tool_calls: { type: 'boolean' },
    previous_response_id: orNull(string),
    store: { type: 'boolean' },
    temperature: { type: 'number' },
    top_p: { type: 'number' },
    text: object({ format: { type: 'object' }, verbosity: string }),
    tools: list({ type: 'object' }),
    usage: object({
      input_tokens: count,
      input_tokens_details: object({ cached_tokens: count }),
      output_tokens: count,
      output_tokens_details: object({ reasoning_tokens: count }),
      total_tokens: count,
    }),
    metadata: { type: 'object', additionalProperties: string },
  }),
  OutputItem: {
    anyOf: [
      object({
        type: { const: 'reasoning' },
        id: string,
        status: string,
        summary: list({}),
        content: list(object({ type: { const: 'reasoning_text' }, text: string })),
      }),
      object({
        type: { const: 'message' },
        id: string,
        status: string,
        role: { const: 'assistant' },
        content: list(
          object({
            type: { const: 'output_text' },
            text: string,
            annotations: list({}),
            logprobs: list({ type: 'object' }),
          }),
        ),
      }),
      object({
        type: { const: 'function_call' },
        id: string,
        status: string,
        call_id: string,
        name: string,
        arguments: string,
      }),
    ],
  },
  ResponseDeleted: object({ id: string, object: { const: 'response' }, deleted: { const: true } }),
  ItemList: object({
    object: { const: 'list' },
    data: list({ type: 'object' }),
    first_id: orNull(string),
    last_id: orNull(string),
    has_more: { type: 'boolean' },
  }),
  InputTokens: object({ object: { const: 'response.input_tokens' }, input_tokens: count }),
  Message: object({
    id: string,
    type: { const: 'message' },
    role: { const: 'assistant' },
    model: string,
    content: list({
      anyOf: [
        object({ type: { const: 'thinking' }, thinking: string, signature: string }),
        object({ type: { const: 'text' }, text: string }),
        object({ type: { const: 'tool_use' }, id: string, name: string, input: { type: 'object' } }),
      ],
    }),
    stop_reason: { enum: ['end_turn', 'max_tokens', 'stop_sequence', 'tool_use'] },
    stop_sequence: orNull(string),
    usage: object({
      input_tokens: count,
      cache_creation_input_tokens: count,
      cache_read_input_tokens: count,
      output_tokens: count,
      service_tier: string,
    }),
  }),
  MessageTokens: object({ input_tokens: count }),
  AnthropicError: object({
    type: { const: 'error' },
    error: object({ type: string, message: string }),
    request_id: orNull(string),
  }),
  Embeddings: object({
    object: { const: 'list' },
    data: list(
      object({
        object: { const: 'embedding' },
        index: count,
        embedding: { anyOf: [list({ type: 'number' }), string] },
      }),
    ),
    model: string,
    usage: object({ prompt_tokens: count, total_tokens: count }),
  }),
  OllamaAnswer: object(
    {
      model: string,
      created_at: string,
      message: object(
        { role: { const: 'assistant' }, content: string, thinking: string, tool_calls: list({ type: 'object' }) },
        ['thinking', 'tool_calls'],
      ),
      response: string,
      thinking: string,
      done: { const: true },
      done_reason: string,
      total_duration: count,
      load_duration: count,
      prompt_eval_count: count,
      prompt_eval_duration: count,
      eval_count: count,
      eval_duration: count,
      logprobs: list({ type: 'object' }),
    },
    [
      ...[
        'message',
        'response',
        'thinking',
        'total_duration',
        'load_duration',
        'prompt_eval_count',
        'prompt_eval_duration',
      ],
      ...['eval_count', 'eval_duration', 'logprobs'],
    ],
  ),
  OllamaEmbeddings: object({
    model: string,
    embeddings: list(list({ type: 'number' })),
    total_duration: count,
    load_duration: count,
    prompt_eval_count: count,
  }),
  OllamaModels: object({
    models: list(
      object({
        name: string,
        model: string,
        modified_at: string,
        size: count,
        digest: string,
        details: { type: 'object' },
      }),
    ),
  }),
  OllamaModel: object({
    details: { type: 'object' },
    modified_at: string,
    model_info: { type: 'object' },
    capabilities: list(string),
  }),
  OllamaVersion: object({ version: string }),
  OllamaError: object({ error: string }),
  Aborted: object({ id: string, aborted: { const: true } }),
  Model: object({ id: string, object: { const: 'model' }, created: count, owned_by: string, context_length: count }),
  ModelList: object({ object: { const: 'list' }, data: list(ref('Model')) }),
  Session: object({
    id: string,
    object: { const: 'session' },
    state: { enum: ['new', 'active', 'cached', 'evicted'] },
    tokens: count,
    cached_tokens: count,
    last_used: count,
    forked_from: orNull(object({ id: string, tokens: count })),
  }),
  SessionList: object({ object: { const: 'list' }, data: list(ref('Session')) }),
  RequestList: object({ object: { const: 'list' }, data: list(ref('Request')) }),
  Request: object({
    id: string,
    object: { const: 'request' },
    route: string,
    model: string,
    session_id: orNull(string),
    stream: { type: 'boolean' },
    state: { enum: ['running', 'finished', 'failed'] },
    created: count,
    duration_ms: amount,
    error: orNull(string),
    choices: list(
      object({
        index: count,
        finish_reason: { enum: ['stop', 'length', 'abort'] },
        queue_ms: amount,
        first_token_ms: amount,
        total_ms: amount,
        prompt_tokens: count,
        cached_tokens: count,
        restored_tokens: count,
        recomputed_tokens: count,
        completion_tokens: count,
        accepted_prediction_tokens: count,
      }),
    ),
  }),
  Deleted: object({ id: string, object: { const: 'session' }, deleted: { const: true } }),
  Tokens: object({ tokens: list(count), count }),
  Snapshot: object({
    step: count,
    blockLen: count,
    state: list(count),
    sequence: list({ type: 'integer' }),
    fill: list(count),
    evictionOrder: list(count),
    sequences: list({ type: 'object' }),
    batch: list({ type: 'object' }),
    waiting: list({ type: 'object' }),
    stats: { type: 'object' },
  }),
  Text: object({ text: string }),
  Health: object({ status: string, problems: list(string) }, ['problems']),
};

/** Responses of a route: 200 with the named body, and the error shape for everything else. */
export function answers(
  name: string,
  { stream = false as boolean | string, error = 'Error' } = {},
): Record<string, Schema> {
  return {
    200: {
      description: stream ? 'the answer; with stream: true, a stream of events' : 'the answer',
      content: {
        'application/json': { schema: ref(name) },
        ...(stream ? { [stream === true ? 'text/event-stream' : stream]: { schema: {} } } : {}),
      },
    },
    default: { description: 'an error', content: { 'application/json': { schema: ref(error) } } },
  };
}
