/** LLaMA (Touvron et al. 2023) with grouped-query attention, as a program of about eight operations a layer. */
import type { Program, RopeConfig } from '../device/device.js';
import type { ModelDims } from '../types.js';
import { Recorder } from './recorder.js';

export interface LlamaConfig extends ModelDims {
  rmsEps: number;
  rope: RopeConfig;
  /** The output matrix is the embedding matrix. */
  tiedOutput: boolean;
}

/** Weight names are GGUF's. */
export function llama(config: LlamaConfig): Program {
  const { layers, dim, heads, kvHeads, headDim, ffDim, vocab, contextLength } = config;
  const r = new Recorder({ layers, dim, heads, kvHeads, headDim, ffDim, vocab, contextLength });
  const x = r.buffer('x', dim); // the residual stream
  const normed = r.buffer('normed', dim);
  const q = r.buffer('q', heads * headDim);
  const k = r.buffer('k', kvHeads * headDim);
  const v = r.buffer('v', kvHeads * headDim);
  const mixed = r.buffer('mixed', heads * headDim);
  const gate = r.buffer('gate', ffDim);
  const up = r.buffer('up', ffDim);
  const hidden = r.buffer('hidden', ffDim);
  const last = r.buffer('last', dim, true);
  const lastNormed = r.buffer('lastNormed', dim, true);
  const logits = r.buffer('logits', vocab, true);

  r.embed('token_embd.weight', x);
  for (let layer = 0; layer < layers; layer++) {
    const w = (name: string) => `blk.${layer}.${name}.weight`;
    r.rmsNorm(x, w('attn_norm'), config.rmsEps, normed);
    r.linear(normed, [
      { weight: w('attn_q'), out: q },
      { weight: w('attn_k'), out: k },
      { weight: w('attn_v'), out: v },
    ]);
    r.ropeAndStore(layer, q, k, v, config.rope);
    r.attention(layer, q, mixed);
    r.linearResidual(mixed, w('attn_output'), x);
    r.rmsNorm(x, w('ffn_norm'), config.rmsEps, normed);
    r.linear(normed, [
      { weight: w('ffn_gate'), out: gate },
      { weight: w('ffn_up'), out: up },
    ]);
    r.siluMul(gate, up, hidden);
    r.linearResidual(hidden, w('ffn_down'), x);
  }
  r.gather(x, last);
  r.rmsNorm(last, 'output_norm.weight', config.rmsEps, lastNormed);
  r.keep(lastNormed);
  r.linear(lastNormed, [{ weight: config.tiedOutput ? 'token_embd.weight' : 'output.weight', out: logits }]);
  r.sample(logits);
  return r.program();
}
