/** Tools of a request: what is asked of the model, how it hears of them, and what its grammar is made of. */
import { type ChatMessage, errors, type ToolSpec, writeToolCalls } from '../index.js';
import type { GrammarReasoning, GrammarSource } from './grammar-source.js';
import type { ToolStyle } from './messages.js';

export interface ApiTool {
  type: 'function';
  function: { name: string; description?: string | null; parameters?: object | null; strict?: boolean | null };
}

export interface ToolFields {
  tools?: ApiTool[] | null;
  tool_choice?: 'none' | 'auto' | 'required' | { type: 'function'; function: { name: string } } | null;
  parallel_tool_calls?: boolean | null;
}

/** What comes of the tools of a request; null: none may be called. */
export interface ToolPlan {
  /** As the chat template takes them. */
  described: object[];
  source: Extract<GrammarSource, { kind: 'tools' }>;
}

/** @throws LongmindError 400 for a choice that the tools do not offer */
export function planTools(body: ToolFields, style: ToolStyle, reasoning: GrammarReasoning): ToolPlan | null {
  const tools = body.tools ?? [];
  const given = body.tool_choice ?? (tools.length > 0 ? 'auto' : 'none');
  if (tools.length === 0) {
    if (given === 'none' || given === 'auto') return null;
    throw errors.invalidRequest("'tool_choice' needs tools to choose from", 'tool_choice');
  }
  if (given === 'none') return null;
  const choice = typeof given === 'string' ? given : { name: given.function.name };
  const functions = tools.map((t) => t.function);
  if (typeof choice === 'object' && !functions.some((f) => f.name === choice.name))
    throw errors.invalidRequest(`'tool_choice' names '${choice.name}', which is not among the tools`, 'tool_choice');
  const specs: ToolSpec[] = functions.map(({ name, parameters }) => (parameters ? { name, parameters } : { name }));
  const parallel = body.parallel_tool_calls ?? true;
  return {
    described: functions.map(({ name, description, parameters }) => ({
      type: 'function',
      function: { name, description: description ?? '', parameters: parameters ?? { type: 'object', properties: {} } },
    })),
    source: { kind: 'tools', tools: specs, choice, format: style.format, parallel, reasoning },
  };
}

/** Tells a model whose template knows no tools what it may call, in the system message. */
export function withToolPrompt(messages: ChatMessage[], plan: ToolPlan, style: ToolStyle): ChatMessage[] {
  if (style.describes ?? style.known) return messages;
  const [first, ...rest] = messages;
  const prompt = toolPrompt(plan, style);
  if (first?.role !== 'system') return [{ role: 'system', content: prompt }, ...messages];
  return [{ ...first, content: `${first.content}\n\n${prompt}` }, ...rest];
}

function toolPrompt({ described, source }: ToolPlan, { format }: ToolStyle): string {
  const list = described.map((d) => JSON.stringify(d));
  if (format === 'llama3') {
    return (
      'You may call one of these functions. To call it, answer with nothing but JSON of the form ' +
      '{"name": function name, "parameters": arguments by name}.\n\n' +
      list.join('\n')
    );
  }
  const example = writeToolCalls([{ name: 'function name', arguments: { argument: 'value' } }], format);
  // spaced as models write JSON
  const form = example.replaceAll('":', '": ').replaceAll('","', '", "');
  const more = source.parallel && format === 'smollm2' ? ', with more calls in the list if you need them' : '';
  const tools = format === 'smollm2' ? `<tools>[${list.join(', ')}]</tools>` : `<tools>\n${list.join('\n')}\n</tools>`;
  return (
    'You can call functions to answer a question. If one of them helps, call it; if none does, answer in words.\n\n' +
    `The functions are:\n${tools}\n\nTo call a function, write this and nothing else${more}:\n${form}`
  );
}
