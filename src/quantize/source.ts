/** What is quantised or converted: a GGUF file, or a folder in the names and the order of rows that GGUF has. */
import { statSync } from 'node:fs';
import { errors } from '../errors.js';
import type { TensorInfo } from '../types.js';
import { type ModelFiles, openModel, readGguf } from '../weights/index.js';
import { entryOf } from './entries.js';
import { tokenizerEntries } from './folder-tokenizer.js';
import { entriesOf } from './header.js';

export interface SourceTensor extends TensorInfo {
  file: string;
  /** Heads whose rows (of a bias: values) go from halves to neighbours; 0: none. */
  interleavedHeads: number;
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
export function readSource(input: string): Source {
  const isFolder = statSync(input, { throwIfNoEntry: false })?.isDirectory() === true;
  const source = isFolder ? folderSource(input) : ggufSource(input);
  return { ...source, bytes: source.tensors.reduce((sum, t) => sum + t.byteLength, 0), isFolder };
}

function ggufSource(input: string): Omit<Source, 'bytes' | 'isFolder'> {
  const gguf = readGguf(input);
  const layers = Number(gguf.metadata.get(`${String(gguf.metadata.get('general.architecture'))}.block_count`) ?? 0);
  const tensors = [...gguf.tensors.values()].map((t) => ({ ...t, file: t.file ?? gguf.path, interleavedHeads: 0 }));
  return { entries: entriesOf(gguf.path), tensors, layers };
}

/** Families whose layout is known: GGUF's architecture, and whether it rotates neighbours. */
const ARCHITECTURES: Readonly<Record<string, { name: string; interleaved: boolean }>> = {
  llama: { name: 'llama', interleaved: true },
  mistral: { name: 'llama', interleaved: true },
  qwen2: { name: 'qwen2', interleaved: false },
  qwen3: { name: 'qwen3', interleaved: false },
};

function folderSource(folder: string): Omit<Source, 'bytes' | 'isFolder'> {
  const model = openModel(folder, { sessionLen: 0, weights: 'file' });
  const { config } = model;
  const family = Object.hasOwn(ARCHITECTURES, config.architecture) ? ARCHITECTURES[config.architecture] : undefined;
  if (!family)
    throw errors.unsupportedModel(
      `convert does not know '${config.architecture}' (it knows ${Object.keys(ARCHITECTURES).join(', ')})`,
    );
  refuseUnsayable(model);
  const { dims } = config;
  const heads = { q: dims.heads, k: dims.kvHeads } as const;
  const tensors = [...config.tensors].map(([name, t]): SourceTensor => {
    const part = family.interleaved && /\.attn_(q|k)\.(weight|bias)$/.exec(name)?.[1];
    return { ...t, name, file: t.file ?? folder, interleavedHeads: part ? heads[part as 'q' | 'k'] : 0 };
  });
  if (config.rope.scaling === 'llama3') tensors.push(ropeFactors(config.rope, folder));
  const entries = [...dimensionEntries(model, family.name), ...tokenizerEntries(model.metadata, dims.vocab)];
  return { entries, tensors, layers: dims.layers };
}

/** What each frequency is divided by: so GGUF has the scaling of Llama 3. */
function ropeFactors({ dims, freqBase, inverseFrequencies }: ModelFiles['config']['rope'], file: string): SourceTensor {
  const made = inverseFrequencies.map((f, i) => freqBase ** ((-2 * i) / dims) / f);
  const shape = [made.length];
  const where = { file, offset: 0, byteLength: made.byteLength, interleavedHeads: 0 };
  return { name: 'rope_freqs.weight', type: 'F32', shape, made, ...where };
}

/** What these architectures of GGUF cannot say. */
function refuseUnsayable({ config }: ModelFiles): void {
  const { flags, rope, architecture, tensors } = config;
  if ([...tensors.values()].some((t) => t.packed))
    throw errors.unsupportedModel('convert and quantize cannot read the weights of a quantised checkpoint');
  if (flags.perLayer && flags.perLayer.length > 0) throw errors.unsupportedModel('convert cannot write its windows');
  const known = ['none', 'linear', ...(ARCHITECTURES[architecture]?.name === 'llama' ? ['llama3'] : [])];
  if (!known.includes(rope.scaling))
    throw errors.unsupportedModel(`convert cannot write its positions (${rope.scaling}) yet`);
}

function dimensionEntries({ config }: ModelFiles, name: string): Buffer[] {
  const { dims, rope } = config;
  const u32 = (key: string, value: number) => entryOf.u32(`${name}.${key}`, value);
  const f32 = (key: string, value: number) => entryOf.f32(`${name}.${key}`, value);
  return [
    entryOf.text('general.architecture', name),
    entryOf.text('general.type', 'model'),
    entryOf.text('general.name', config.name),
    u32('block_count', dims.layers),
    u32('context_length', dims.contextLength),
    u32('embedding_length', dims.dim),
    u32('feed_forward_length', dims.ffDim),
    u32('attention.head_count', dims.heads),
    u32('attention.head_count_kv', dims.kvHeads),
    u32('attention.key_length', dims.headDim),
    u32('attention.value_length', dims.headDim),
    f32('attention.layer_norm_rms_epsilon', config.rmsEps),
    f32('rope.freq_base', rope.freqBase),
    u32('rope.dimension_count', rope.dims),
    u32('vocab_size', dims.vocab),
    ...(rope.scaling === 'linear'
      ? [
          entryOf.text(`${name}.rope.scaling.type`, 'linear'),
          f32('rope.scaling.factor', 1 / rope.inverseFrequencies[0]!),
        ]
      : []),
  ];
}
