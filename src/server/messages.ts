/** Messages of the OpenAI API → messages for a chat template, calls and their results included. */
import { createHash } from 'node:crypto';
import { bareValue, type ChatMessage, errors, type ToolFormat, type ToolTemplate, writeToolCalls } from '../index.js';

export interface ApiMessage {
  role: 'system' | 'developer' | 'user' | 'assistant' | 'tool';
  content?: string | { text: string }[] | null;
  name?: string | null;
  tool_call_id?: string | null;
  tool_calls?: ApiCall[] | null;
  /** What it thought before it said so. */
  reasoning_content?: string | null;
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
export type ToolStyle = ToolTemplate;

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
    else out.push(message.role === 'tool' ? { ...plain, tool_call_id: idFor(style, message.tool_call_id!) } : plain);
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
  if (m.role !== 'assistant' && m.reasoning_content)
    throw refuse('reasoning_content', "is for messages of the role 'assistant'");
  return {
    ...{ role, content },
    ...(m.name ? { name: m.name } : {}),
    // whether it is shown again, the template decides
    ...(m.reasoning_content ? { reasoning_content: m.reasoning_content } : {}),
  };
}

function callMessage(m: ApiMessage, plain: ChatMessage, style: ToolStyle, at: string): ChatMessage {
  const calls = m.tool_calls!.map(({ id, type, function: f }, i) => ({
    id: idFor(style, id),
    type,
    function: { name: f.name, arguments: argumentsOf(f.arguments, `${at}.tool_calls[${i}].function.arguments`) },
  }));
  if (style.known) {
    const asText = (c: (typeof calls)[number]) => ({
      ...c,
      function: { ...c.function, arguments: JSON.stringify(c.function.arguments) },
    });
    // what is no text, not all of these templates can write
    if (style.format === 'qwen3-coder') return { ...plain, tool_calls: calls.map(withBareValues) };
    if (!style.textArguments) return { ...plain, tool_calls: calls };
    // such a template writes a second answer for a content that is there, though empty
    const content = plain.content === '' ? (null as unknown as string) : plain.content;
    return { ...plain, content, tool_calls: calls.map(asText) };
  }
  const written = writeToolCalls(
    calls.map((c) => c.function),
    style.format,
  );
  return { ...plain, content: plain.content ? `${plain.content}\n${written}` : written };
}

function withBareValues<T extends { function: { arguments: Record<string, unknown> } }>(call: T) {
  const values = Object.entries(call.function.arguments).map(([name, value]) => [name, bareValue(value)]);
  return { ...call, function: { ...call.function, arguments: Object.fromEntries(values) } };
}

/** The same id of nine letters and digits for the same id, where the template takes no other. */
function idFor({ shortIds }: ToolStyle, id: string): string {
  if (!shortIds || /^[A-Za-z0-9]{9}$/.test(id)) return id;
  return createHash('sha256').update(id).digest('hex').slice(0, 9);
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

function resultMessage(results: string[], format: ToolFormat): ChatMessage {
  if (format === 'llama3' || format === 'pythonic') return { role: 'ipython', content: results.join('\n') };
  if (format === 'granite') return { role: 'tool', content: results.join('\n') };
  return { role: 'user', content: results.map((r) => `<tool_response>\n${r}\n</tool_response>`).join('\n') };
}
