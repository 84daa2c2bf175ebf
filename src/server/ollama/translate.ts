/** Requests of Ollama's API in the fields of /v1/chat/completions. */
import type { ChatBody } from '../chat.js';
import type { ApiMessage } from '../messages.js';
import type { ApiTool } from '../tools.js';
import { OPTION_FIELDS } from './fields.js';

interface CommonBody {
  model: string;
  stream?: boolean | null;
  format?: string | object | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  priority?: number | null;
  think?: boolean | string | null;
  options?: ({ num_predict?: number | null } & Record<string, unknown>) | null;
}

/** As the schemas of fields.ts let them through. */
export interface OllamaChat extends CommonBody {
  messages: {
    role: 'system' | 'user' | 'assistant' | 'tool';
    content?: string | null;
    thinking?: string | null;
    tool_calls?: { id?: string | null; function: { name: string; arguments: object } }[] | null;
    tool_call_id?: string | null;
  }[];
  tools?: ApiTool[] | null;
}

export interface OllamaGenerate extends CommonBody {
  prompt?: string | null;
  system?: string | null;
  raw?: boolean | null;
}

/** The names of its fields, for messages of errors. */
export const FIELD_NAMES = {
  response_format: 'format',
  repetition_penalty: 'repeat_penalty',
  thinking: 'think',
  reasoning_effort: 'think',
};

export function commonFieldsOf({ format, logprobs, top_logprobs, priority, think, options }: CommonBody) {
  const { num_predict: most, ...given } = options ?? {};
  const fields: Omit<ChatBody, 'messages'> = {
    max_completion_tokens: most && most > 0 ? most : null,
    logprobs: logprobs ?? false,
    top_logprobs: logprobs ? top_logprobs : null,
    priority,
    thinking: think == null ? null : think !== false,
    reasoning_effort: typeof think === 'string' ? think : null,
    response_format: formatOf(format),
  };
  for (const [name, field] of Object.entries(OPTION_FIELDS)) fields[field] = given[name];
  return fields;
}

function formatOf(format: CommonBody['format']): ChatBody['response_format'] {
  if (!format) return null;
  if (format === 'json') return { type: 'json_object' };
  return { type: 'json_schema', json_schema: { schema: format as object } };
}

/** Ollama's calls have no ids of their own: results follow calls in order. */
export function chatBodyOf(body: OllamaChat): ChatBody {
  let calls = 0;
  let results = 0;
  const messages = body.messages.map((m): ApiMessage => {
    const { role, content } = m;
    if (role === 'tool') return { role, content: content ?? '', tool_call_id: m.tool_call_id || `call_${results++}` };
    const tool_calls = m.tool_calls?.map(({ id, function: f }) => ({
      id: id || `call_${calls++}`,
      type: 'function' as const,
      function: { name: f.name, arguments: JSON.stringify(f.arguments) },
    }));
    const thought = role === 'assistant' && m.thinking ? { reasoning_content: m.thinking } : {};
    return { role, content: content ?? '', ...thought, ...(tool_calls?.length ? { tool_calls } : {}) };
  });
  return { ...commonFieldsOf(body), messages, tools: body.tools?.map((t) => ({ ...t, type: 'function' })) };
}

export function generateBodyOf(body: OllamaGenerate): ChatBody {
  const system: ApiMessage[] = body.system ? [{ role: 'system', content: body.system, at: 'system' }] : [];
  return { ...commonFieldsOf(body), messages: [...system, { role: 'user', content: body.prompt!, at: 'prompt' }] };
}
