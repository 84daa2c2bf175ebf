/** How a model writes function calls, as its chat template tells. */

import type { ToolTemplate } from '../types.js';

/** `own`: the file's chat template; `instead`: what was taken in its place, as `ChatTemplate.instead` says. */
export function toolTemplateOf(own: string | null, instead: string | null): ToolTemplate {
  const text = instead === null ? (own ?? '') : '';
  const tools = /\btools\b/.test(text);
  if (text.includes('<tool_call>')) return { format: 'hermes', known: tools };
  // the family was trained on a list of calls, which its template does not show
  if (/smollm/i.test(text)) return { format: 'smollm2', known: false };
  if (instead === 'Llama 3' || text.includes('<|start_header_id|>')) return { format: 'llama3', known: tools };
  // the tags most models have seen; other notations cannot be enforced, so the template's own is not used
  return { format: 'hermes', known: false };
}
