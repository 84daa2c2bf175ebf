/** Numbers shared with native/cpu/abi.h: words of a compiled operation, of the sizes and of the counts. */

export const GGML_TYPES: Readonly<Record<string, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q8_0: 8,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  BF16: 30,
};

export const Kind = {
  embed: 1,
  norm: 2,
  prepare: 3,
  linear: 4,
  ropeStore: 5,
  attention: 6,
  siluMul: 7,
  gather: 8,
  sample: 9,
} as const;

export const Flag = { q8: 1, f32: 2, siluMul: 4, perLogit: 8, fine: 16 } as const;

export const MAX_OUTS = 8;
export const OP_WORDS = 40;

/** Word of each field of LmOp. */
export const Word = {
  kind: 0,
  in: 1,
  in2: 2,
  out: 3,
  weight: 4,
  rope: 5,
  layer: 6,
  flags: 7,
  panel: 8,
  panelOut: 9,
  residual: 10,
  outCount: 11,
  eps: 12,
  scale: 13,
  width: 14,
  source: 15,
  outs: 16,
} as const;

export const SIZES = 16;
export const COUNTS = 15;

/** Codes of lm_step. */
export const CANCELLED = 1;

const MESSAGES: Readonly<Record<number, string>> = {
  [-1]: 'an argument is out of range',
  [-2]: 'the operating system gives no memory',
  [-3]: 'the file cannot be read',
  [-4]: 'threads cannot be started',
  [-5]: 'called in the wrong order',
  [-10]: 'invalid step: its counts exceed the limits or its arrays are too short',
  [-11]: 'invalid step: a token id is outside the vocabulary',
  [-12]: 'invalid step: positions of a row are not consecutive or exceed the session length',
  [-13]: 'invalid step: rowStart does not divide the tokens into rows',
  [-14]: 'invalid step: a slot is out of range',
  [-15]: 'invalid step: a row needs a block that was not grown',
  [-16]: 'invalid step: logitRows are out of range or not ascending',
  [-17]: 'invalid step: a block copy is out of range',
  [-18]: 'invalid step: the token history is out of range',
  [-19]: 'invalid step: the logit bias is out of range',
  [-20]: 'invalid step: a mask row is out of range',
  [-21]: 'invalid step: a sampling parameter is out of range',
};

export function describeCode(code: number): string {
  if (code < -100) return `operation ${-code - 101} of the compiled program is malformed`;
  return MESSAGES[code] ?? `code ${code}`;
}
