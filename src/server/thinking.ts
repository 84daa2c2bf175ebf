/** Whether a model thinks before it answers: what a request says of it, as values for the chat template. */
import { errors, type ReasoningTemplate } from '../index.js';
import type { GrammarReasoning } from './grammar-source.js';

export interface ThinkingFields {
  reasoning_effort?: string | null;
  chat_template_kwargs?: Record<string, unknown> | null;
  /** As other APIs have it; true: asked for, so a model that cannot is an error. */
  thinking?: boolean | null;
}

/** Marks for grammars. */
export const grammarReasoning = (template: ReasoningTemplate | null): GrammarReasoning =>
  template && { open: template.open, close: template.close };

/**
 * Values for the template; null: none.
 * @throws LongmindError 400 where the model cannot do what is asked
 */
export function thinkingValues(
  body: ThinkingFields,
  template: ReasoningTemplate | null,
): Record<string, unknown> | null {
  const { reasoning_effort: effort, chat_template_kwargs: given, thinking } = body;
  const wanted = thinking ?? (effort ? effort !== 'none' : null);
  const field = typeof thinking === 'boolean' ? 'thinking' : 'reasoning_effort';
  if (thinking && !template)
    throw errors.invalidRequest(`'${field}' asks for thinking, and this model does not think`, field);
  const values: Record<string, unknown> = {};
  if (template && wanted !== null) {
    if (template.switch) values[template.switch] = wanted;
    else if (!wanted)
      throw errors.invalidRequest(`'${field}' asks for no thinking, and this model always thinks`, field);
    if (template.effort && effort && effort !== 'none') values.reasoning_effort = effort;
  }
  const all = { ...values, ...given };
  return Object.keys(all).length > 0 ? all : null;
}
