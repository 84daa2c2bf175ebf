/** Steps and results for native code: C++, CUDA. Generated from step-table.ts; its hash names the layout. */
import { type Fields, MAX_TOP_LOGPROBS, RESULT_COUNTS, RESULT_FIELDS, STEP_COUNTS, STEP_FIELDS } from './step-table.js';

const C_TYPES = { i32: 'int32_t', u32: 'uint32_t', f32: 'float' };

/** The table as C: what `createStep` and `createResult` lay out, and functions that check and read it. */
function describe(): string {
  const snake = (name: string) => name.replace(/([A-Z])/g, '_$1').toUpperCase();
  return [
    `#define LM_MAX_TOP ${MAX_TOP_LOGPROBS}`,
    ...RESULT_COUNTS.map((name, i) => `#define LM_RESULT_${snake(name)} ${1 + i}`),
    struct('LmStep', 'lm_read_step', STEP_COUNTS, STEP_FIELDS, 'const '),
    struct('LmResult', 'lm_read_result', RESULT_COUNTS, RESULT_FIELDS, ''),
  ].join('\n');
}

function struct(name: string, read: string, counts: readonly string[], fields: Fields, constness: string): string {
  const names = Object.keys(fields);
  const array = (n: string, i: number) =>
    `  if (!lm_array(h, words, ${1 + counts.length + 2 * i}, (const void **)&out->${n}, &out->${n}Length)) return 0;`;
  return `struct ${name} {
  ${constness}int32_t *header;
${counts.map((n) => `  int32_t ${n};`).join('\n')}
${names.map((n) => `  ${constness}${C_TYPES[fields[n]!.type]} *${n};\n  int32_t ${n}Length;`).join('\n')}
};
/** 0: the buffer is not one of this layout, or an array reaches beyond its end. */
LM_FN int ${read}(${constness}void *buffer, int64_t bytes, ${name} *out) {
  ${constness}int32_t *h = (${constness}int32_t *)buffer;
  int64_t words = bytes / 4;
  if (!h || words < ${1 + counts.length + 2 * names.length} || h[0] != LM_STEP_LAYOUT) return 0;
  out->header = h;
${counts.map((n, i) => `  out->${n} = h[${1 + i}];`).join('\n')}
${names.map(array).join('\n')}
  return 1;
}`;
}

/** Hash of a text (FNV-1a), positive. */
export function hashOf(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return (h ^ (h >>> 15)) & 0x7fffffff;
}

const DESCRIPTION = describe();

/** Names the layout; the first word of every step and result. */
export const STEP_LAYOUT = hashOf(DESCRIPTION);

/** C header (C++, CUDA) of steps and results. Include <stdint.h> before; LM_FN qualifies its functions. */
export function stepHeader(): string {
  return `// Generated from src/device/step-table.ts.
#pragma once
#ifndef LM_FN
#define LM_FN static inline
#endif
#define LM_STEP_LAYOUT ${STEP_LAYOUT}
/** Array number \`at\` of a directory, if it lies within the buffer. */
LM_FN int lm_array(const int32_t *h, int64_t words, int at, const void **data, int32_t *length) {
  int64_t offset = h[at], n = h[at + 1];
  if (offset < 0 || n < 0 || offset + n > words) return 0;
  *data = h + offset;
  *length = (int32_t)n;
  return 1;
}
${DESCRIPTION}
`;
}
