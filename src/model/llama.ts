/**
 * LLaMA (Touvron et al. 2023) with grouped-query attention, as a program of about eight operations a layer; the families
 * that grew out of it are flags.
 */
import type { Program } from '../device/device.js';
import type { FamilyFlags, LayerFlags, ModelDims, RopeConfig } from '../types.js';
import { type Buffer, Recorder } from './recorder.js';

export interface LlamaConfig extends ModelDims {
  rmsEps: number;
  rope: RopeConfig;
  /** The output matrix is the embedding matrix. */
  tiedOutput: boolean;
  /** What the model's family does otherwise than LLaMA. */
  flags?: Partial<FamilyFlags>;
}

const LLAMA: FamilyFlags = {
  norms: 'pre',
  qkNorm: 'none',
  biases: { qkv: false, output: false, gateUp: false, down: false },
  activation: 'silu',
  embeddingScale: 1,
  residualScale: 1,
  logitScale: 1,
  attentionScale: 0,
  attentionSoftcap: 0,
  logitSoftcap: 0,
  perLayer: [],
};

/** Weight names are GGUF's, whatever file the weights come from. */
export function llama(config: LlamaConfig): Program {
  return new Llama(config, { ...LLAMA, ...config.flags }).record();
}

class Llama {
  readonly #r: Recorder;
  /** The residual stream. */
  readonly #x: Buffer;
  readonly #normed: Buffer;

  constructor(
    private readonly config: LlamaConfig,
    private readonly flags: FamilyFlags,
  ) {
    const { layers, dim, heads, kvHeads, headDim, ffDim, vocab, contextLength } = config;
    this.#r = new Recorder({ layers, dim, heads, kvHeads, headDim, ffDim, vocab, contextLength });
    this.#x = this.#r.buffer('x', dim);
    this.#normed = this.#r.buffer('normed', dim);
  }

  record(): Program {
    const { config, flags } = this;
    const r = this.#r;
    const attention = this.#attention();
    const feedForward = this.#feedForward();
    const last = r.buffer('last', config.dim, true);
    const lastNormed = r.buffer('lastNormed', config.dim, true);
    const logits = r.buffer('logits', config.vocab, true);

    r.embed('token_embd.weight', this.#x, flags.embeddingScale);
    for (let layer = 0; layer < config.layers; layer++) {
      attention(layer);
      feedForward(layer);
    }
    r.gather(this.#x, last);
    r.rmsNorm(last, 'output_norm.weight', config.rmsEps, lastNormed);
    r.keep(lastNormed);
    const weight = config.tiedOutput ? 'token_embd.weight' : 'output.weight';
    r.linear(lastNormed, [{ weight, out: logits }], flags.logitScale);
    if (flags.logitSoftcap > 0) r.softcap(logits, flags.logitSoftcap);
    r.sample(logits);
    return r.program();
  }

  #attention(): (layer: number) => void {
    const { heads, kvHeads, headDim, rmsEps, rope } = this.config;
    const { biases, qkNorm, perLayer, attentionScale, attentionSoftcap } = this.flags;
    const r = this.#r;
    const q = r.buffer('q', heads * headDim);
    const k = r.buffer('k', kvHeads * headDim);
    const v = r.buffer('v', kvHeads * headDim);
    const mixed = r.buffer('mixed', heads * headDim);
    const scale = attentionScale || 1 / Math.sqrt(headDim);
    const plain: LayerFlags = { rope, window: 0 };
    return (layer) => {
      const own = perLayer[layer] ?? plain;
      const input = this.#before(layer, 'attn_norm');
      r.linear(input, [
        { ...named(layer, 'attn_q', biases.qkv), out: q },
        { ...named(layer, 'attn_k', biases.qkv), out: k },
        { ...named(layer, 'attn_v', biases.qkv), out: v },
      ]);
      if (qkNorm !== 'none') {
        const each = qkNorm === 'head';
        r.rmsNorm(q, `blk.${layer}.attn_q_norm.weight`, rmsEps, q, each ? heads : 1);
        r.rmsNorm(k, `blk.${layer}.attn_k_norm.weight`, rmsEps, k, each ? kvHeads : 1);
      }
      r.ropeAndStore(layer, q, k, v, own.rope);
      r.attention(layer, q, mixed, scale, own.window, attentionSoftcap);
      this.#add(layer, mixed, 'attn_output', biases.output, 'post_attention_norm');
    };
  }

  #feedForward(): (layer: number) => void {
    const { ffDim } = this.config;
    const { biases, activation } = this.flags;
    const r = this.#r;
    const gate = r.buffer('gate', ffDim);
    const up = r.buffer('up', ffDim);
    const hidden = r.buffer('hidden', ffDim);
    return (layer) => {
      const input = this.#before(layer, 'ffn_norm');
      r.linear(input, [
        { ...named(layer, 'ffn_gate', biases.gateUp), out: gate },
        { ...named(layer, 'ffn_up', biases.gateUp), out: up },
      ]);
      r.siluMul(gate, up, hidden, activation);
      this.#add(layer, hidden, 'ffn_down', biases.down, 'post_ffw_norm');
    };
  }

  /** What attention or feed-forward reads: the stream, normed unless norms come after. */
  #before(layer: number, norm: string): Buffer {
    if (this.flags.norms === 'post') return this.#x;
    this.#r.rmsNorm(this.#x, `blk.${layer}.${norm}.weight`, this.config.rmsEps, this.#normed);
    return this.#normed;
  }

  /** stream ← stream + weight · input, with a norm between if the family has it. */
  #add(layer: number, input: Buffer, name: string, hasBias: boolean, norm: string): void {
    const { norms, residualScale } = this.flags;
    const { weight, bias } = named(layer, name, hasBias);
    if (norms === 'pre') {
      this.#r.linearResidual(input, weight, this.#x, bias, residualScale);
      return;
    }
    this.#r.linear(input, [{ weight, bias, out: this.#normed }], residualScale);
    const at = `blk.${layer}.${norm}.weight`;
    this.#r.rmsNorm(this.#normed, at, this.config.rmsEps, this.#x, 1, this.#x);
  }
}

const named = (layer: number, name: string, hasBias: boolean) => ({
  weight: `blk.${layer}.${name}.weight`,
  bias: hasBias ? `blk.${layer}.${name}.bias` : null,
});
