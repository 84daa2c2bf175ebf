/**
 * Numbers that TypeScript and native/cpu share. The C side (`abiHeader`) is generated from the tables here when the library is
 * compiled, and their hash names the version: a library that was made from others is refused.
 */
import { hashOf, stepHeader } from '../step.js';

/** GGML's numbers of tensor types. */
export const GGML_TYPES: Readonly<Record<string, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  IQ4_NL: 20,
  IQ4_XS: 23,
  BF16: 30,
  MXFP4: 39,
};

/**
 * Families of kernels, in the order of preference. Which kernels of it a product takes is the native library's choice: `amx`
 * multiplies few rows and floats by those of `avx512`.
 */
export const ISAS = { portable: 0, avx2: 1, avxvnni: 2, avx512: 3, amx: 4, dotprod: 5, i8mm: 6 } as const;
export type Isa = keyof typeof ISAS;

/** What describes a matrix of a quantised checkpoint to the library, in this order (src/types.ts, `PackedMatrix`). */
export const PACKED_FIELDS = [
  'in',
  'rows',
  'layout',
  'bits',
  'code',
  'groupSize',
  'groupRows',
  'scaleType',
  'scalesByGroup',
  'zeroKind',
  'zeroAdd',
  'exact',
] as const;
export const PACKED_LAYOUTS = { rows: 0, gptq: 1, awq: 2 } as const;
export const PACKED_CODES = { uint: 0, int8: 1, e4m3: 2, e2m1: 3 } as const;
export const PACKED_ZEROS = { none: 0, gptq: 1, awq: 2, rows: 3, int8: 4 } as const;
/** Scales that are powers of two; the other types have GGML's numbers. */
export const E8M0 = 100;

export const Kind = {
  /** weight → out */
  embed: 1,
  /** in, weight → out */
  norm: 2,
  /** in (, weight = norm) → panel */
  prepare: 3,
  /** panel → outs */
  linear: 4,
  /** in = q, in2 = k, out = v */
  ropeStore: 5,
  /** in = q → out */
  attention: 6,
  /** in = gate, in2 = up → out */
  siluMul: 7,
  /** in → out */
  gather: 8,
  /** in = logits */
  sample: 9,
  /** in → in */
  softcap: 10,
  /** in = scores → out = choice */
  route: 11,
  /** in = choice: which rows each expert has; the next three follow it */
  group: 12,
  /** in → panel, by experts */
  expertPrepare: 13,
  /** panel → panelOut; outs are (gate, up) */
  expertUp: 14,
  /** panelOut of the last → out, added */
  expertDown: 15,
  /** in, in2 → out, added */
  addGated: 16,
  /** in → out = the adapters' A · in, of rows that have one; outs are (part, -1, out of the product); loraUp follows */
  loraDown: 17,
  /** in = out of loraDown; outs as there: out += scale · B · in */
  loraUp: 18,
} as const;

export const Flag = {
  /** prepare: int8 panels for integer dot products */
  q8: 1,
  /** prepare: f32 panels for float weights */
  f32: 2,
  /** linear: outs are (gate, up); silu(gate)·up goes to panelOut */
  siluMul: 4,
  /** rows follow logitRows */
  perLogit: 8,
  /** finer activations: two planes of int8, the second for what the first left, or 16 bits; with perLogit */
  fine: 16,
  /** siluMul: GELU (tanh approximation) instead of SiLU */
  gelu: 32,
  /** route: the weights of the chosen experts sum to 1 */
  normalise: 64,
} as const;

export const MAX_OUTS = 8;

/** Words of a compiled operation before its outs. Buffers and tensors are indexes, -1 = none. */
const OP_FIELDS = [
  'kind',
  'in',
  'in2',
  'out',
  'weight',
  'rope',
  'layer',
  'flags',
  // panel set read or written (0, 1)
  'panel',
  // linear with siluMul: panel set written
  'panelOut',
  // linear, norm: buffer added to the output
  'residual',
  'outCount',
  // norm: equal pieces of a row, each normed by itself
  'parts',
  // route, group, expert*: experts of a layer, and those of a token
  'experts',
  'used',
  // attention: the last so many tokens; 0 = all
  'window',
  'eps',
  'scale',
  // attention, softcap: bound of the values; 0 = none
  'cap',
  // values a row: of the input for prepare, norm, linear, gather; of the output otherwise
  'width',
  // index of the program's operation, for messages
  'source',
] as const;
const FLOATS: readonly string[] = ['eps', 'scale', 'cap'];

/** Word of each field of an operation; `outs` begins (weight, bias, out) of each output. */
export const Word = Object.fromEntries([...OP_FIELDS, 'outs'].map((name, i) => [name, i])) as Record<
  (typeof OP_FIELDS)[number] | 'outs',
  number
>;
export const OP_WORDS = OP_FIELDS.length + 3 * MAX_OUTS;

/** Words of `sizes` given to lm_configure and lm_workspace. */
export const SIZES = [
  'maxTokens',
  'maxRows',
  'maxBlocksPerRow',
  'maxLogits',
  'vocab',
  'layers',
  'heads',
  'kvHeads',
  'headDim',
  'blockLen',
  'kvBits',
  'maxBlocks',
  'buffers',
  'ops',
  'ropes',
  // tokens up to which spans of one token are shared out
  'context',
  // adapters, and the matrices of the program that any of them adds to
  'adapters',
  'adapterParts',
] as const;

/** Words of what an adapter adds to a matrix; rank 0: nothing. Offsets and sizes in bytes; types are GGML's, F32, F16 or BF16. */
export const ADAPTER_FIELDS = ['rank', 'aType', 'bType', 'aOffset', 'bOffset', 'scale'] as const;

/** What native functions return; below -100 an operation of the program is malformed. */
export const CODES = {
  ok: [0, ''],
  cancelled: [1, ''],
  eArgument: [-1, 'an argument is out of range'],
  eMemory: [-2, 'the operating system gives no memory'],
  eIo: [-3, 'the file cannot be read'],
  eThreads: [-4, 'threads cannot be started'],
  eZeros: [-6, 'the zero points are not those that quantization_config says (symmetric)'],
  eOrder: [-7, 'the group index is out of range, or not in order although quantization_config says so'],
  eState: [-5, 'called in the wrong order'],
  eCounts: [-10, 'invalid step: its counts exceed the limits or its arrays are too short'],
  eToken: [-11, 'invalid step: a token id is outside the vocabulary, or refers to a row that drew nothing'],
  ePosition: [-12, 'invalid step: positions of a row are not consecutive or exceed the session length'],
  eRows: [-13, 'invalid step: rowStart does not divide the tokens into rows'],
  eSlot: [-14, 'invalid step: a slot is out of range'],
  eBlock: [-15, 'invalid step: a row needs a block that was not grown'],
  eLogitRow: [-16, 'invalid step: logitRows are out of range or not ascending'],
  eCopy: [-17, 'invalid step: a block copy is out of range'],
  eHistory: [-18, 'invalid step: the token history is out of range'],
  eBias: [-19, 'invalid step: the logit bias is out of range'],
  eMask: [-20, 'invalid step: a mask row is out of range'],
  eSampling: [-21, 'invalid step: a sampling parameter is out of range'],
  eAdapter: [-23, 'invalid step: a row names an adapter that is not loaded'],
  eLayout: [-22, 'invalid step: its buffer is not laid out as this library expects'],
} as const;

const MESSAGES = new Map<number, string>(Object.values(CODES).map(([code, message]) => [code, message]));

export function describeCode(code: number): string {
  if (code < -100) return `operation ${-code - 101} of the compiled program is malformed`;
  return MESSAGES.get(code) || `code ${code}`;
}

// ---------------------------------------------------------------- the same in C

/** maxTokens → MAX_TOKENS, Q4_0 → Q4_0 */
const upper = (name: string) => name.replace(/([a-z])([A-Z])/g, '$1_$2').toUpperCase();
const enumOf = (name: string, prefix: string, values: readonly (readonly [string, number])[]) =>
  `enum ${name} { ${values.map(([key, value]) => `${prefix}${upper(key)} = ${value}`).join(', ')} };`;

const TABLES = [
  enumOf('LmType', 'LM_', Object.entries(GGML_TYPES)),
  enumOf('LmIsa', 'LM_', [...Object.entries(ISAS), ['lastIsa', Math.max(...Object.values(ISAS))]]),
  enumOf('LmOpKind', 'LM_OP_', Object.entries(Kind)),
  enumOf('LmFlags', 'LM_', [
    ['needQ8', Flag.q8],
    ['needF32', Flag.f32],
    ['siluMul', Flag.siluMul],
    ['perLogit', Flag.perLogit],
    ['fine', Flag.fine],
    ['gelu', Flag.gelu],
    ['normalise', Flag.normalise],
  ]),
  enumOf(
    'LmCode',
    'LM_',
    Object.entries(CODES).map(([name, [code]]) => [name, code] as const),
  ),
  enumOf('LmPackedField', 'LM_P_', [
    ...PACKED_FIELDS.map((name, i) => [name, i] as const),
    ['count', PACKED_FIELDS.length],
  ]),
  enumOf('LmPackedLayout', 'LM_PACKED_', Object.entries(PACKED_LAYOUTS)),
  enumOf('LmPackedCode', 'LM_CODE_', Object.entries(PACKED_CODES)),
  enumOf('LmPackedZero', 'LM_ZERO_', Object.entries(PACKED_ZEROS)),
  '#define LM_PACKED_E8M0 100',
  enumOf('LmSize', 'LM_S_', [...SIZES.map((name, i) => [name, i] as const), ['count', SIZES.length]]),
  `#define LM_MAX_OUTS ${MAX_OUTS}`,
  `struct LmAdapterPart { ${ADAPTER_FIELDS.map((f) => `double ${f};`).join(' ')} };`,
  `struct LmOp { ${OP_FIELDS.map((f) => `${FLOATS.includes(f) ? 'float' : 'int32_t'} ${f};`).join(' ')} struct { int32_t weight, bias, out; } outs[LM_MAX_OUTS]; };`,
].join('\n');

/** Version of the functions of exports.h; to be raised when one of them changes. */
const FUNCTIONS = 5;

/** Every number and layout that both sides share: the version of the library. */
export const ABI = hashOf(`${FUNCTIONS}\n${TABLES}\n${stepHeader()}`);

/** native/cpu includes it as "abi.gen.h". */
export function abiHeader(): string {
  return `// Generated from src/device/cpu/layout.ts.\n#pragma once\n#define LM_ABI ${ABI}\n${TABLES}\n${stepHeader()}`;
}
