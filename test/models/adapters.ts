/** The adapters of test/fixtures/adapters, as PEFT folders and as GGUF files (scripts/model-fixtures/adapters.py made them). */
import fs from 'node:fs';
import path from 'node:path';
import { type Value, writeGguf } from '../weights/gguf-builder.js';
import { ARCHITECTURES } from './gguf.js';
import { DTYPES, encode, type Fixture, readFixture, safetensors, temporaryFolder, valuesNamed } from './tiny.js';

export interface AdapterFixture
  extends Pick<Fixture, 'name' | 'dtype' | 'ids' | 'prompt' | 'argmax' | 'gap' | 'watched' | 'logits'> {
  /** Of the model that it is for. */
  family: string;
  /** adapter_config.json. */
  config: Record<string, unknown>;
  /** As PEFT names them, rows first. */
  tensors: Record<string, number[]>;
}

const FIXTURES = path.resolve(import.meta.dirname ?? '.', '../../../test/fixtures/adapters');

export const adapterNames = (): string[] =>
  fs
    .readdirSync(FIXTURES)
    .filter((n) => n.endsWith('.json'))
    .map((n) => n.slice(0, -5));

export function readAdapterFixture(name: string): AdapterFixture {
  const json = JSON.parse(fs.readFileSync(path.join(FIXTURES, `${name}.json`), 'utf8'));
  const bytes = new Uint8Array(Buffer.from(json.logits, 'base64'));
  const all = new Float32Array(bytes.buffer);
  const vocab = all.length / json.watched.length;
  const logits = json.watched.map((_: number, i: number) => all.subarray(i * vocab, (i + 1) * vocab));
  return { ...json, name, logits };
}

interface Changes {
  config?: Record<string, unknown>;
  /** Shapes by name; null: it is left out. */
  tensors?: Record<string, number[] | null>;
}

/** Returns the folder. */
export function writePeft(f: AdapterFixture, { config = {}, tensors = {} }: Changes = {}): string {
  const folder = temporaryFolder();
  const dtype = DTYPES[f.dtype];
  const list = Object.entries({ ...f.tensors, ...tensors }).flatMap(([name, shape]) =>
    shape ? [{ name, dtype, shape, data: encode(valuesNamed(`${f.name}/${name}`, shape), dtype) }] : [],
  );
  fs.writeFileSync(path.join(folder, 'adapter_config.json'), JSON.stringify({ ...f.config, ...config }));
  fs.writeFileSync(path.join(folder, 'adapter_model.safetensors'), safetensors(list));
  return folder;
}

const ROLES: readonly [RegExp, string][] = [
  [/^base_model\.model\.model\.layers\.(\d+)\./, 'blk.$1.'],
  [/self_attn\.(q|k|v)_proj/, 'attn_$1'],
  [/self_attn\.qkv_proj/, 'attn_qkv'],
  [/self_attn\.o_proj/, 'attn_output'],
  [/mlp\.gate_up_proj/, 'ffn_up'],
  [/mlp\.(gate|up|down)_proj/, 'ffn_$1'],
  [/lora_([AB])\.weight$/, 'weight.lora_$1'],
];

/** llama.cpp's converter has one alpha for all: not for every fixture. */
export const hasGgufAdapter = (f: AdapterFixture): boolean =>
  !f.config.use_rslora && Object.keys(f.config.alpha_pattern as object).length === 0;

export function writeGgufAdapter(f: AdapterFixture, keys: Record<string, Value> = {}): string {
  const c = readFixture(f.family).config as Record<string, number>;
  const { name, interleaved } = ARCHITECTURES[c.model_type as unknown as string]!;
  const headDim = c.head_dim ?? c.hidden_size! / c.num_attention_heads!;
  const type = DTYPES[f.dtype];
  let offset = 0;
  const tensors = Object.entries(f.tensors).map(([given, shape]) => {
    const role = ROLES.reduce((n, [from, to]) => n.replace(from, to), given).replace(/lora_[AB]$/, (x) =>
      x.toLowerCase(),
    );
    let values = valuesNamed(`${f.name}/${given}`, shape);
    if (interleaved && /attn_[qk]\.weight\.lora_b$/.test(role)) values = interleave(values, shape[1]!, headDim);
    const data = encode(values, type);
    const spec = { name: role, shape: [...shape].reverse(), type: { F32: 0, F16: 1, BF16: 30 }[type], offset, data };
    offset += Math.ceil(data.length / 32) * 32;
    return spec;
  });
  const metadata: Record<string, Value> = {
    'general.architecture': { string: name },
    'general.type': { string: 'adapter' },
    'adapter.type': { string: 'lora' },
    'adapter.lora.alpha': { f32: f.config.lora_alpha as number },
    ...keys,
  };
  return writeGguf(path.join(temporaryFolder(), `${f.name}.gguf`), { metadata, tensors });
}

/** Rows of each head from halves to neighbours. */
function interleave(values: Float32Array, width: number, headDim: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let row = 0; row * width < values.length; row++) {
    const i = row % headDim;
    const to = row - i + (i < headDim / 2 ? 2 * i : 2 * (i - headDim / 2) + 1);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}
