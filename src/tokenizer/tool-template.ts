/** How a model writes function calls, as its chat template tells. */
import type { ToolTemplate } from '../types.js';

/** Formats by what their templates show; the first that fits is taken. */
const SHOWN: [format: ToolTemplate['format'], shown: RegExp][] = [
  [
    'deepseek-v3',
    /<｜tool▁call▁begin｜>function|function<｜tool▁sep｜>|<｜tool▁call▁begin｜>['"]\s*\+\s*\w+\[['"]type['"]\]/,
  ],
  ['deepseek-v3.1', /<｜tool▁sep｜>/],
  ['mistral-v11', /\[TOOL_CALLS\][\s\S]*\[ARGS\]/],
  ['mistral', /\[TOOL_CALLS\]/],
  ['phi4', /<\|\/tool_call\|>|<\|\/tool\|>/],
  ['granite', /<\|tool_call\|>/],
  ['qwen3-coder', /<tool_call>(?:\\n|\n)<function=\w+>(?:\\n|\n)<parameter=\w+>(?:\\n|\n)/],
  ['hermes', /<tool_call>/],
  ['pythonic', /\[func_name1\(params_name1=/],
];

/** `own`: the file's chat template; `instead`: what was taken in its place, as `ChatTemplate.instead` says. */
export function toolTemplateOf(own: string | null, instead: string | null): ToolTemplate {
  const text = instead === null ? (own ?? '') : '';
  const describes = /\btools\b/.test(text);
  const shown = SHOWN.find(([, pattern]) => pattern.test(text));
  if (shown) return shownTemplate(shown[0], text, describes);
  // the family was trained on a list of calls, which its template does not show
  if (/smollm/i.test(text)) return { format: 'smollm2', known: false };
  if (instead === 'Llama 3' || text.includes('<|start_header_id|>')) return { format: 'llama3', known: describes };
  // the tags most models have seen; other notations cannot be enforced, so the template's own is not used
  return { format: 'hermes', known: false };
}

function shownTemplate(format: ToolTemplate['format'], text: string, describes: boolean): ToolTemplate {
  // of those with a mark of their own, some take calls as text that their caller wrote
  const known = /\btool_calls\b/.test(text) || (format === 'hermes' && describes);
  return {
    format,
    known,
    ...(describes === known ? {} : { describes }),
    // put together with the marks as they are
    ...(format.startsWith('deepseek') && !/arguments['"]?\]?\s*\|\s*tojson/.test(text) ? { textArguments: true } : {}),
    ...(/length\s*!=\s*9/.test(text) ? { shortIds: true } : {}),
  };
}
