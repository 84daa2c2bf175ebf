/** Which type each tensor of a file gets: llama.cpp's presets, so that files of one name mean the same everywhere. */
import type { TensorInfo } from '../types.js';
import { FORMATS, type QuantType } from './encode.js';

/** A preset: the type of most matrices, `general.file_type`, and whether some get more bits. */
export interface Preset {
  type: QuantType;
  fileType: number;
  /** 'medium': of attn_v and ffn_down, a half gets more; 'small': the first layers'. */
  mixture?: 'small' | 'medium';
}

export const PRESETS: Readonly<Record<string, Preset>> = {
  Q4_0: { type: 'Q4_0', fileType: 2 },
  Q4_1: { type: 'Q4_1', fileType: 3 },
  Q5_0: { type: 'Q5_0', fileType: 8 },
  Q5_1: { type: 'Q5_1', fileType: 9 },
  Q8_0: { type: 'Q8_0', fileType: 7 },
  Q4_K_S: { type: 'Q4_K', fileType: 14, mixture: 'small' },
  Q4_K_M: { type: 'Q4_K', fileType: 15, mixture: 'medium' },
  Q5_K_S: { type: 'Q5_K', fileType: 16 },
  Q5_K_M: { type: 'Q5_K', fileType: 17, mixture: 'medium' },
  Q6_K: { type: 'Q6_K', fileType: 18 },
};

/** For rows that are no multiple of a superblock. */
const NARROW: Partial<Record<QuantType, QuantType>> = { Q4_K: 'Q5_0', Q5_K: 'Q5_1', Q6_K: 'Q8_0' };
/** Small, and sensitive. */
const KEPT = /(_norm|ffn_gate_inp(_shexp)?|position_embd|token_types|rope_freqs|rope_factors_(long|short))\.weight$/;

interface Shape {
  layers: number;
  /** The output matrix is the embedding matrix. */
  tied: boolean;
}

/** null: the tensor stays as it is. */
export function typeFor(
  t: Pick<TensorInfo, 'name' | 'shape'>,
  { type, mixture }: Preset,
  shape: Shape,
): QuantType | null {
  if (!t.name.endsWith('.weight') || t.shape.length < 2 || KEPT.test(t.name)) return null;
  const row = t.shape[0]!;
  const wanted = wantedFor(t.name, type, mixture, shape);
  const fits = row % FORMATS[wanted].values === 0 ? wanted : NARROW[wanted];
  return fits && row % FORMATS[fits].values === 0 ? fits : null;
}

function wantedFor(name: string, type: QuantType, mixture: Preset['mixture'], { layers, tied }: Shape): QuantType {
  if (name === 'output.weight' || (tied && name === 'token_embd.weight')) return type === 'Q8_0' ? type : 'Q6_K';
  const [, layer, role] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
  if (!mixture || layer === undefined) return type;
  if (mixture === 'medium' && role === 'attn_qkv') return type === 'Q4_K' ? 'Q5_K' : 'Q6_K';
  const down = role!.startsWith('ffn_down');
  if (role !== 'attn_v' && !down) return type;
  if (mixture === 'medium') return moreBits(Number(layer), layers) ? 'Q6_K' : type;
  return Number(layer) < (down ? Math.floor(layers / 8) : 4) ? 'Q5_K' : type;
}

/** The first and the last eighth of the layers, and every third between. */
function moreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}
