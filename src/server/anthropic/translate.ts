/** A request of Anthropic's Messages API in the fields of /v1/chat/completions, and errors in its form. */
import { errors, type LongmindError } from '../../index.js';
import type { ChatBody } from '../chat.js';
import type { ApiMessage } from '../messages.js';

interface Block {
  type: string;
  text?: string;
  thinking?: string;
  id?: string;
  name?: string;
  input?: object;
  tool_use_id?: string;
  content?: string | { text: string }[] | null;
}

interface Format {
  schema: object;
}

/** As the schemas of fields.ts let it through. */
export interface MessagesBody {
  model?: string | null;
  messages: { role: 'user' | 'assistant'; content: string | Block[] }[];
  system?: string | { text: string }[] | null;
  tools?: { name: string; description?: string | null; input_schema: object }[] | null;
  tool_choice?: {
    type: 'auto' | 'any' | 'none' | 'tool';
    name?: string;
    disable_parallel_tool_use?: boolean | null;
  } | null;
  max_tokens?: number;
  stop_sequences?: string[] | null;
  stream?: boolean | null;
  thinking?: { type: 'enabled' | 'disabled' | 'adaptive'; budget_tokens?: number } | null;
  output_config?: { format?: Format | null } | null;
  output_format?: Format | null;
  [field: string]: unknown;
}

const SHARED = ['stream', 'temperature', 'top_p', 'top_k', 'seed', 'priority'];

/** @throws LongmindError 400 for a conversation that ends with the assistant's words */
export function chatBodyOf(body: MessagesBody): ChatBody {
  const last = body.messages.length - 1;
  if (body.messages[last]!.role === 'assistant')
    throw errors.invalidRequest(
      `'messages[${last}]' is the assistant's: an answer cannot be begun for the model; end with a message of the user`,
      `messages[${last}]`,
    );
  const { tools, tool_choice: choice, stop_sequences: stop } = body;
  const format = body.output_config?.format ?? body.output_format;
  const messages = body.messages.flatMap((m, i) => messagesOf(m, `messages[${i}]`));
  return {
    ...Object.fromEntries(SHARED.filter((f) => f in body).map((f) => [f, body[f]])),
    messages: [...systemOf(body.system), ...messages],
    max_completion_tokens: body.max_tokens,
    ...(stop?.length ? { stop } : {}),
    tools: tools?.map(({ name, description, input_schema: parameters }) => ({
      type: 'function',
      function: { name, description, parameters },
    })),
    tool_choice: choiceOf(choice),
    parallel_tool_calls: !choice?.disable_parallel_tool_use,
    thinking: thinkingOf(body),
    response_format: format && { type: 'json_schema', json_schema: { schema: format.schema } },
  };
}

/** @throws LongmindError 400 for a budget that leaves nothing for the answer */
function thinkingOf({ thinking, max_tokens: most }: MessagesBody): boolean | null {
  if (!thinking || thinking.type === 'adaptive') return null;
  if (thinking.budget_tokens !== undefined && most !== undefined && thinking.budget_tokens >= most)
    throw errors.invalidRequest(
      `'thinking.budget_tokens' (${thinking.budget_tokens}) must be less than max_tokens (${most})`,
      'thinking.budget_tokens',
    );
  return thinking.type === 'enabled';
}

/** The names of its fields, for messages of errors. */
export const FIELD_NAMES = {
  stop: 'stop_sequences',
  response_format: 'output_config.format',
  max_completion_tokens: 'max_tokens',
};

const joined = (content: string | { text: string }[]): string =>
  typeof content === 'string' ? content : content.map((b) => b.text).join('\n');

function systemOf(system: MessagesBody['system']): ApiMessage[] {
  const content = joined(system ?? '');
  return content === '' ? [] : [{ role: 'system', content, at: 'system' }];
}

function choiceOf(choice: MessagesBody['tool_choice']): ChatBody['tool_choice'] {
  if (!choice) return null;
  if (choice.type === 'tool') return { type: 'function', function: { name: choice.name! } };
  return choice.type === 'any' ? 'required' : choice.type;
}

/** Results of tools are messages of their own, before what the user says beside them. */
function messagesOf({ role, content }: MessagesBody['messages'][number], at: string): ApiMessage[] {
  if (typeof content === 'string') return [{ role, content, at }];
  const results = content.filter((b) => b.type === 'tool_result');
  const calls = content.filter((b) => b.type === 'tool_use');
  const wrong = role === 'user' ? calls[0] : results[0];
  if (wrong) throw errors.invalidRequest(`'${at}' of the ${role} may not hold a block of the type '${wrong.type}'`, at);
  const thought = content.filter((b) => b.type === 'thinking' && b.thinking).map((b) => b.thinking!);
  const thinking = role === 'assistant' && thought.length > 0 ? { reasoning_content: thought.join('\n') } : {};
  const texts = content.filter((b) => b.type === 'text').map((b) => b.text!);
  const told = results.map(
    (b): ApiMessage => ({ role: 'tool', tool_call_id: b.tool_use_id, content: joined(b.content ?? ''), at }),
  );
  if (calls.length > 0) {
    const tool_calls = calls.map((b) => ({
      id: b.id!,
      type: 'function' as const,
      function: { name: b.name!, arguments: JSON.stringify(b.input) },
    }));
    return [{ role, content: texts.join('\n'), tool_calls, ...thinking, at }];
  }
  return texts.length > 0 || told.length === 0 ? [...told, { role, content: texts.join('\n'), ...thinking, at }] : told;
}

const ERROR_TYPES: Record<number, string> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
};

export function anthropicError({ status, message }: LongmindError, requestId: string | null): object {
  const type = ERROR_TYPES[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error');
  return { type: 'error', error: { type, message }, request_id: requestId };
}
