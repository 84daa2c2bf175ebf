/** Messages of the OpenAI API → messages for a chat template, calls and their results included. */
import { type ChatMessage, errors, type ToolFormat } from '../index.js';

export interface ApiMessage {
  role: 'system' | 'developer' | 'user' | 'assistant' | 'tool';
  content?: string | { text: string }[] | null;
  name?: string | null;
  tool_call_id?: string | null;
  tool_calls?: ApiCall[] | null;
  /** Where its caller wrote it, for messages of errors; default: its place in `messages`. */
  at?: string;
}

/** Of the arguments in a history. */
const MAX_DEPTH = 128;

interface ApiCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

/** How calls and results reach the model. */
export interface ToolStyle {
  format: ToolFormat;
  /** The chat template renders `tool_calls` and the role 'tool' itself. */
  known: boolean;
}

/** @throws LongmindError 400 that names the message */
export function chatMessages(messages: readonly ApiMessage[], style: ToolStyle): ChatMessage[] {
  const out: ChatMessage[] = [];
  let results: string[] = [];
  const flush = (): void => {
    if (results.length > 0) out.push(resultMessage(results, style.format));
    results = [];
  };
  messages.forEach((message, i) => {
    const at = message.at ?? `messages[${i}]`;
    const plain = checked(message, at);
    if (message.role === 'tool' && !style.known) {
      results.push(plain.content);
      return;
    }
    flush();
    if (message.role === 'assistant' && message.tool_calls?.length) out.push(callMessage(message, plain, style, at));
    else out.push(message.role === 'tool' ? { ...plain, tool_call_id: message.tool_call_id } : plain);
  });
  flush();
  return out;
}

/** What the schema cannot say: which role has which fields. */
function checked(m: ApiMessage, at: string): ChatMessage {
  const refuse = (field: string, why: string) =>
    errors.invalidRequest(`field '${at}.${field}' ${why}`, `${at}.${field}`);
  const calls = m.role === 'assistant' && (m.tool_calls?.length ?? 0) > 0;
  if (m.content === undefined || m.content === null) {
    if (!calls) throw refuse('content', 'is missing');
  }
  if (m.role === 'tool' && !m.tool_call_id) throw refuse('tool_call_id', 'is missing');
  if (m.role !== 'tool' && m.tool_call_id) throw refuse('tool_call_id', "is for messages of the role 'tool'");
  if (!calls && m.tool_calls?.length) throw refuse('tool_calls', "is for messages of the role 'assistant'");
  const content = typeof m.content === 'string' ? m.content : (m.content ?? []).map((part) => part.text).join('\n');
  // 'developer' is OpenAI's newer name of 'system'; templates know the older one
  const role = m.role === 'developer' ? 'system' : m.role;
  return m.name ? { role, content, name: m.name } : { role, content };
}

function callMessage(m: ApiMessage, plain: ChatMessage, style: ToolStyle, at: string): ChatMessage {
  const calls = m.tool_calls!.map(({ id, type, function: f }, i) => ({
    id,
    type,
    function: { name: f.name, arguments: argumentsOf(f.arguments, `${at}.tool_calls[${i}].function.arguments`) },
  }));
  if (style.known) return { ...plain, tool_calls: calls };
  const written = writeCalls(
    calls.map((c) => c.function),
    style.format,
  );
  return { ...plain, content: plain.content ? `${plain.content}\n${written}` : written };
}

/** Templates write them as JSON again, so they must be read first. */
function argumentsOf(text: string, path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = text.trim() === '' ? {} : depthOf(text) <= MAX_DEPTH ? JSON.parse(text) : null;
  } catch {
    value = null;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw errors.invalidRequest(`field '${path}' must be a JSON object, as text, of at most ${MAX_DEPTH} levels`, path);
  return value as Record<string, unknown>;
}

/** Levels of arrays and objects in a JSON text; too many would overflow whoever walks over the value. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (const [part] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[{]|[\]}]/g)) {
    if (part === '{' || part === '[') deepest = Math.max(deepest, ++depth);
    else if (part === '}' || part === ']') depth--;
  }
  return deepest;
}

/** As the grammar of that format has them written. */
function writeCalls(calls: { name: string; arguments: unknown }[], format: ToolFormat): string {
  if (format === 'llama3')
    return calls.map((c) => JSON.stringify({ name: c.name, parameters: c.arguments })).join('\n');
  if (format === 'smollm2') return `<tool_call>${JSON.stringify(calls)}</tool_call>`;
  return calls.map((c) => `<tool_call>\n${JSON.stringify(c)}\n</tool_call>`).join('\n');
}

function resultMessage(results: string[], format: ToolFormat): ChatMessage {
  if (format === 'llama3') return { role: 'ipython', content: results.join('\n') };
  return { role: 'user', content: results.map((r) => `<tool_response>\n${r}\n</tool_response>`).join('\n') };
}
