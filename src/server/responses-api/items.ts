/** Items of the Responses API: what a conversation is made of, and messages for the model. */
import { errors } from '../../index.js';
import type { ApiMessage } from '../messages.js';
import type { ApiCall } from '../tool-output.js';

interface Part {
  type: string;
  text: string;
}

/** As the schema of fields.ts lets it through. */
export interface InputItem {
  type?: string;
  role?: ApiMessage['role'];
  content?: string | Part[] | null;
  call_id?: string;
  name?: string;
  arguments?: string;
  output?: string | Part[];
  summary?: Part[] | null;
  id?: string | null;
}

/** What is kept of an item. */
export type Item =
  | { kind: 'message'; role: ApiMessage['role']; texts: string[] }
  | { kind: 'call'; callId: string; name: string; arguments: string }
  | { kind: 'result'; callId: string; output: string }
  | { kind: 'reasoning'; text: string };

const textsOf = (content: string | Part[]): string[] =>
  typeof content === 'string' ? [content] : content.map((p) => p.text);

/** null: an item that says nothing to the model. */
export function readItem(item: InputItem): Item | null {
  switch (item.type ?? 'message') {
    case 'message':
      return { kind: 'message', role: item.role!, texts: textsOf(item.content!) };
    case 'function_call':
      return { kind: 'call', callId: item.call_id!, name: item.name!, arguments: item.arguments! };
    case 'function_call_output':
      return { kind: 'result', callId: item.call_id!, output: textsOf(item.output!).join('\n') };
    default: {
      const text = textsOf([...((item.content as Part[] | null) ?? []), ...(item.summary ?? [])]).join('\n');
      return text === '' ? null : { kind: 'reasoning', text };
    }
  }
}

/** Calls belong to the message before them if that is the assistant's; thinking to what the assistant says or calls next. */
export function itemMessages(items: readonly Item[]): ApiMessage[] {
  const out: ApiMessage[] = [];
  let thought = '';
  const thoughtOf = (role: string): { reasoning_content?: string } => {
    const reasoning_content = thought;
    thought = '';
    return role === 'assistant' && reasoning_content !== '' ? { reasoning_content } : {};
  };
  items.forEach((item, i) => {
    const at = `input[${i}]`;
    if (item.kind === 'reasoning') thought = item.text;
    else if (item.kind === 'message')
      out.push({ role: item.role, content: item.texts.join('\n'), at, ...thoughtOf(item.role) });
    else if (item.kind === 'result') out.push({ role: 'tool', tool_call_id: item.callId, content: item.output, at });
    else {
      const last = out.at(-1);
      const message: ApiMessage =
        last?.role === 'assistant' && thought === ''
          ? last
          : { role: 'assistant', content: null, at, ...thoughtOf('assistant') };
      if (message !== last) out.push(message);
      const called = { name: item.name, arguments: item.arguments };
      message.tool_calls = [...(message.tool_calls ?? []), { id: item.callId, type: 'function', function: called }];
    }
  });
  return out;
}

/** Models' templates take one system message, at the beginning: those that stand there become one. */
export function withSystem(instructions: string | null, messages: ApiMessage[]): ApiMessage[] {
  const isSystem = (m: ApiMessage) => m.role === 'system' || m.role === 'developer';
  const first = messages.findIndex((m) => !isSystem(m));
  const count = first < 0 ? messages.length : first;
  const texts = messages.slice(0, count).map((m) => m.content as string);
  if (instructions !== null) texts.unshift(instructions);
  if (texts.length === 0) return messages;
  return [{ role: 'system', content: texts.join('\n\n') }, ...messages.slice(count)];
}

/** Ids follow from the response's, so that nothing but that need be kept. */
export interface ItemIds {
  message: string;
  reasoning: string;
  call(index: number): string;
  callId(index: number): string;
  input(kind: Item['kind'], index: number): string;
}

const PREFIX = { message: 'msg', call: 'fc', result: 'fco', reasoning: 'rs' };

const responseHex = (id: string): string => id.slice('resp_'.length);

export function itemIds(responseId: string): ItemIds {
  const hex = responseHex(responseId);
  return {
    message: `msg_${hex}`,
    reasoning: `rs_${hex}`,
    call: (i) => `fc_${hex}_${i}`,
    callId: (i) => `call_${hex}_${i}`,
    input: (kind, i) => `${PREFIX[kind]}_${hex}_i${i}`,
  };
}

/** The response that an item belongs to, by the item's id; null: it is not one of ours. */
export function responseOf(itemId: string): string | null {
  const hex = /^(?:msg|fc|fco|rs)_([0-9a-f]{32})(?:_i?\d{1,6})?$/.exec(itemId)?.[1];
  return hex === undefined ? null : `resp_${hex}`;
}

export type ItemJson = Record<string, unknown> & { id: string };

export function inputJson(item: Item, id: string): ItemJson {
  const status = 'completed';
  if (item.kind === 'call')
    return { type: 'function_call', id, call_id: item.callId, name: item.name, arguments: item.arguments, status };
  if (item.kind === 'result')
    return { type: 'function_call_output', id, call_id: item.callId, output: item.output, status };
  if (item.kind === 'reasoning') return outputReasoning(id, status, item.text);
  const { role, texts } = item;
  const part = (text: string) =>
    role === 'assistant' ? { type: 'output_text', text, annotations: [] } : { type: 'input_text', text };
  return { type: 'message', id, role, status, content: texts.map(part) };
}

/** What a response said, as items. */
export interface Said {
  text: string;
  reasoning: string | null;
  calls: ApiCall[];
}

/** Text between calls that is nothing but space is no message. */
const speaks = ({ text, calls }: Pick<Said, 'text' | 'calls'>): boolean => calls.length === 0 || text.trim() !== '';

export function saidItems(said: Said): Item[] {
  const calls = said.calls.map(
    (c): Item => ({
      kind: 'call',
      callId: c.id,
      name: c.function.name,
      arguments: c.function.arguments,
    }),
  );
  const thought: Item[] = said.reasoning === null ? [] : [{ kind: 'reasoning', text: said.reasoning }];
  if (!speaks(said)) return [...thought, ...calls];
  return [...thought, { kind: 'message', role: 'assistant', texts: [said.text] }, ...calls];
}

/** What was thought, whole: nobody sums it up. */
export const outputReasoning = (id: string, status: string, text: string): ItemJson => ({
  id,
  type: 'reasoning',
  status,
  summary: [],
  content: text === '' ? [] : [{ type: 'reasoning_text', text }],
});

export const outputMessage = (id: string, status: string, text: string, logprobs: unknown[] = []): ItemJson => ({
  id,
  type: 'message',
  status,
  role: 'assistant',
  content: [{ type: 'output_text', text, annotations: [], logprobs }],
});

export const outputCall = (id: string, status: string, callId: string, name: string, args: string): ItemJson => ({
  id,
  type: 'function_call',
  status,
  call_id: callId,
  name,
  arguments: args,
});

export function outputJson(said: Said, ids: ItemIds, status: string, logprobs: unknown[] = []): ItemJson[] {
  const calls = said.calls.map((c, i) =>
    outputCall(ids.call(i), 'completed', c.id, c.function.name, c.function.arguments),
  );
  const thought = said.reasoning === null ? [] : [outputReasoning(ids.reasoning, 'completed', said.reasoning)];
  if (!speaks(said)) return [...thought, ...calls];
  return [...thought, outputMessage(ids.message, status, said.text, logprobs), ...calls];
}

/** @throws LongmindError 400 for an input in which nothing is said */
export function checkInput(items: readonly Item[]): void {
  if (items.length === 0) throw errors.invalidRequest("'input' says nothing: give a message", 'input');
}
