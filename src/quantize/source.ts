/** What is quantised or converted: a GGUF file, or a folder in the names and the order of rows that GGUF has. */
import { statSync } from 'node:fs';
import { errors } from '../errors.js';
import type { ModelDims, TensorInfo } from '../types.js';
import { openModel, readGguf } from '../weights/index.js';
import { tokenizerEntries } from './folder-tokenizer.js';
import { formOf, modelEntries, ropeFactors } from './forms.js';
import { entriesOf } from './header.js';

/** Bytes of a file. */
export interface Extent {
  file: string;
  offset: number;
  bytes: number;
}

export interface SourceTensor extends Pick<TensorInfo, 'name' | 'type' | 'shape' | 'byteLength'> {
  /** Where its rows lie, one after another. */
  extents: Extent[];
  /** Heads whose rows (of a bias: values) go from halves to neighbours; 0: none. */
  interleavedHeads: number;
  /** Added to each value. */
  add: number;
  /** In no file: made here. */
  made?: Float32Array;
}

export interface Source {
  /** Encoded metadata. */
  entries: Buffer[];
  tensors: SourceTensor[];
  layers: number;
  /** Bytes of the tensors. */
  bytes: number;
  isFolder: boolean;
}

/** @throws what `readGguf` and `openModel` throw; unsupported_model for a folder that GGUF has no form for */
export function readSource(input: string, onNote?: (note: string) => void): Source {
  const isFolder = statSync(input, { throwIfNoEntry: false })?.isDirectory() === true;
  const source = isFolder ? folderSource(input, onNote) : ggufSource(input);
  return { ...source, bytes: source.tensors.reduce((sum, t) => sum + t.byteLength, 0), isFolder };
}

function ggufSource(input: string): Omit<Source, 'bytes' | 'isFolder'> {
  const gguf = readGguf(input);
  const layers = Number(gguf.metadata.get(`${String(gguf.metadata.get('general.architecture'))}.block_count`) ?? 0);
  const tensors = [...gguf.tensors.values()].map((t) => sourceOf(t.name, t, gguf.path));
  return { entries: entriesOf(gguf.path), tensors, layers };
}

function sourceOf(name: string, t: TensorInfo, path: string): SourceTensor {
  const { type, shape, byteLength, offset, add = 0 } = t;
  const file = t.file ?? path;
  const rows = (t.runs ?? []).reduce((n, run) => n + run.rows, 0);
  const extents = t.runs?.map((run) => ({
    ...{ file: run.file ?? file, offset: run.offset },
    bytes: (byteLength / rows) * run.rows,
  })) ?? [{ file, offset, bytes: byteLength }];
  return { name, type, shape, byteLength, extents, interleavedHeads: 0, add };
}

function folderSource(folder: string, onNote?: (note: string) => void): Omit<Source, 'bytes' | 'isFolder'> {
  const model = openModel(folder, { sessionLen: 0, weights: 'file' });
  const form = formOf(model);
  const { dims, tensors: roles } = model.config;
  if ([...roles.values()].some((t) => t.packed))
    throw errors.unsupportedModel('convert and quantize cannot read the weights of a quantised checkpoint');
  const factors = ropeFactors(model, form);
  const own = [...roles].map(([name, t]) => {
    const tensor = sourceOf(name, t, folder);
    return form.interleaved ? { ...tensor, interleavedHeads: headsOf(name, dims) } : tensor;
  });
  const tensors = form.fused ? fused(own) : own;
  const entries = modelEntries(model, form, tensors.map(infoOf), factors);
  const made = factors.map(({ name, values }): SourceTensor => {
    const shape = [values.length];
    return {
      name,
      type: 'F32',
      shape,
      byteLength: values.byteLength,
      extents: [],
      interleavedHeads: 0,
      add: 0,
      made: values,
    };
  });
  const tokenizer = tokenizerEntries(model.metadata, dims.vocab, onNote);
  return { entries: [...entries, ...tokenizer], tensors: [...tensors, ...made], layers: dims.layers };
}

const infoOf = ({ name, type, shape, byteLength }: SourceTensor): TensorInfo => ({
  name,
  type,
  shape,
  offset: 0,
  byteLength,
});

function headsOf(name: string, { heads, kvHeads }: ModelDims): number {
  const [, part] = /\.attn_(q|k)\.(?:weight|bias)$/.exec(name) ?? [];
  return part === 'q' ? heads : part === 'k' ? kvHeads : 0;
}

const PARTS: Readonly<Record<string, readonly string[]>> = {
  attn_q: ['attn_qkv', 'attn_q', 'attn_k', 'attn_v'],
  ffn_gate: ['ffn_up', 'ffn_gate', 'ffn_up'],
};
const FOLLOWING = /\.(attn_k|attn_v|ffn_up)\.(weight|bias)$/;

/** q, k and v as one tensor, gate and up as another: those of a layer are of one type. */
function fused(tensors: readonly SourceTensor[]): SourceTensor[] {
  const byName = new Map(tensors.map((t) => [t.name, t]));
  return tensors.flatMap((t) => {
    if (FOLLOWING.test(t.name)) return [];
    const [, layer, first, end] = /^(blk\.\d+)\.(attn_q|ffn_gate)\.(weight|bias)$/.exec(t.name) ?? [];
    if (layer === undefined) return [t];
    const [name, ...names] = PARTS[first!]!;
    const parts = names.map((part) => byName.get(`${layer}.${part}.${end}`)!);
    const sum = (of: (part: SourceTensor) => number) => parts.reduce((n, part) => n + of(part), 0);
    if (parts.some((part) => part.type !== t.type))
      throw errors.unsupportedModel(`convert cannot put '${layer}.${name}' together from matrices of different types`);
    const shape = [...t.shape.slice(0, -1), sum((part) => part.shape.at(-1)!)];
    const extents = parts.flatMap((part) => part.extents);
    return [{ ...t, name: `${layer}.${name}.${end}`, shape, byteLength: sum((part) => part.byteLength), extents }];
  });
}
