/**
 * LLaMA (Touvron et al. 2023) with grouped-query attention, as a program of about eight operations a layer; the families
 * that grew out of it are flags.
 */
import { llamaFlags } from '../base/llama-flags.js';
import type { Program } from '../device/device.js';
import type { ExpertFlags, FamilyFlags, LayerFlags, ModelDims, RopeConfig } from '../types.js';
import { type Buffer, Recorder } from './recorder.js';

export interface LlamaConfig extends ModelDims {
  rmsEps: number;
  rope: RopeConfig;
  /** The output matrix is the embedding matrix. */
  tiedOutput: boolean;
  /** What the model's family does otherwise than LLaMA: always said, as a model without them is another one. */
  flags: Partial<FamilyFlags>;
}

/** Weight names are GGUF's, whatever file the weights come from. */
export function llama(config: LlamaConfig): Program {
  return new Llama(config, { ...llamaFlags, ...config.flags }).record();
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
    const feedForward = this.#blocks();
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

  /** What comes after attention: a feed-forward block, or in the layers that have experts, a mixture of them. */
  #blocks(): (layer: number) => void {
    const { experts } = this.flags;
    if (!experts) return this.#feedForward();
    const mixture = this.#mixture(experts);
    if (experts.denseLayers.length === 0) return mixture;
    const dense = this.#feedForward();
    return (layer) => (experts.denseLayers.includes(layer) ? dense(layer) : mixture(layer));
  }

  #mixture(e: ExpertFlags): (layer: number) => void {
    const { dim } = this.config;
    const { activation, residualScale } = this.flags;
    const r = this.#r;
    const scores = r.buffer('scores', e.count);
    const choice = r.buffer('choice', 2 * e.used);
    const shared = e.sharedWidth > 0 ? this.#shared(e.sharedWidth) : null;
    const gate = e.sharedGate ? r.buffer('sharedGate', 1) : null;
    const sharedOut = gate && r.buffer('sharedOut', dim);
    return (layer) => {
      const of = (name: string) => `blk.${layer}.${name}.weight`;
      const input = this.#before(layer, 'ffn_norm');
      r.linear(input, [
        { weight: of('ffn_gate_inp'), out: scores },
        ...(gate ? [{ weight: of('ffn_gate_inp_shexp'), out: gate }] : []),
      ]);
      r.route(scores, choice, e.used, e.normalise, e.scale * residualScale);
      const weights = { gate: of('ffn_gate_exps'), up: of('ffn_up_exps'), down: of('ffn_down_exps') };
      r.experts(input, choice, { ...weights, count: e.count, used: e.used, width: e.width }, this.#x, activation);
      if (!shared) return;
      const hidden = shared(layer, input);
      const down = of('ffn_down_shexp');
      if (gate && sharedOut) {
        r.linear(hidden, [{ weight: down, out: sharedOut }], residualScale);
        r.addGated(sharedOut, gate, this.#x);
      } else r.linearResidual(hidden, down, this.#x, null, residualScale);
    };
  }

  /** The expert that every token uses, up to its last matrix. */
  #shared(width: number): (layer: number, input: Buffer) => Buffer {
    const r = this.#r;
    const gate = r.buffer('sharedGateHidden', width);
    const up = r.buffer('sharedUp', width);
    const hidden = r.buffer('sharedHidden', width);
    return (layer, input) => {
      r.linear(input, [
        { ...named(layer, 'ffn_gate_shexp', false), out: gate },
        { ...named(layer, 'ffn_up_shexp', false), out: up },
      ]);
      r.siluMul(gate, up, hidden, this.flags.activation);
      return hidden;
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
