/** How a model thinks, as its chat template tells. */
import { REASONING_FORMATS } from '../base/reasoning.js';
import type { ReasoningTemplate } from '../types.js';

/** Values by which templates turn thinking on and off: Qwen3, SmolLM3, GLM …; Granite, DeepSeek V3.1. */
const SWITCHES: [name: string, used: RegExp][] = [
  ['enable_thinking', /\benable_thinking\b/],
  ['thinking', /(?:\b(?:if|elif|and|or|not)\s+|\()thinking\b(?!\s*[.=]\s)/],
];

/** null: the template knows of no thinking. Older ones show only how they leave it out of the history, by its closing mark. */
export function reasoningTemplateOf(template: string | null): ReasoningTemplate | null {
  const text = template ?? '';
  const format = REASONING_FORMATS.find(
    (f) => text.includes(f.close) && (f.answer === undefined || text.includes(f.answer.open)),
  );
  if (!format) return null;
  const found = SWITCHES.find(([, used]) => used.test(text));
  return { ...format, switch: found?.[0] ?? null, effort: /\breasoning_effort\b/.test(text) };
}
