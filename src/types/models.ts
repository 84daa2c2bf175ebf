/** What a model is, and how its text is read and written. */
import type { ToolFormat } from 'longmind-grammar';

export interface RopeConfig {
  /** Number of leading dimensions of a head that are rotated (pairs 2i, 2i+1 unless `neox`). */
  dims: number;
  freqBase: number;
  /** Pairs (i, i + dims/2) instead of (2i, 2i+1). */
  neox: boolean;
  /** Inverse frequencies already scaled (linear, llama3 …): (dims / 2) values; angle = position × inverse frequency. */
  inverseFrequencies: Float32Array;
  /** Multiplies cos and sin (YaRN); 1 otherwise. */
  magnitude: number;
}

/** 'geluTanh': GELU by its tanh approximation (Gemma). */
export type Activation = 'silu' | 'geluTanh';

/** What is a layer's own. */
export interface LayerFlags {
  /** null: its positions are not rotated (SmolLM3). */
  rope: RopeConfig | null;
  /** Attention sees the last so many tokens; 0 = all. */
  window: number;
}

/** What tells one family of models from another, beside its dimensions; each flag is LLaMA's when it is left out. */
export interface FamilyFlags {
  /** Before attention and feed-forward (LLaMA), after them (OLMo 2), or both (Gemma 2 and 3). */
  norms: 'pre' | 'post' | 'both';
  /** Norm of queries and keys: of each head (Qwen3, Gemma 3), or of all heads together (OLMo 2). */
  qkNorm: 'none' | 'head' | 'all';
  biases: { qkv: boolean; output: boolean; gateUp: boolean; down: boolean };
  activation: Activation;
  /** Multiplies embeddings (Gemma, Granite). */
  embeddingScale: number;
  /** Multiplies what attention and feed-forward add to the stream (Granite). */
  residualScale: number;
  /** Multiplies logits (Granite). */
  logitScale: number;
  /** Multiplies scores; 0 = 1 / sqrt(headDim). */
  attentionScale: number;
  /** Bounds of scores and of logits (Gemma 2); 0 = none. */
  attentionSoftcap: number;
  logitSoftcap: number;
  /** One for each layer; empty: all have the model's rope and no window. */
  perLayer: LayerFlags[];
  /** Mixtures of experts in place of feed-forward blocks; null: none. */
  experts: ExpertFlags | null;
}

/** A mixture of experts (Mixtral, Qwen MoE, OLMoE): a router chooses a few feed-forward blocks for each token. */
export interface ExpertFlags {
  /** Experts of a layer, and those of them that a token uses. */
  count: number;
  used: number;
  /** Values between an expert's matrices (a layer's without experts: ModelDims.ffDim). */
  width: number;
  /** Weights are the softmax over the chosen experts alone, so that they sum to 1; else over all. */
  normalise: boolean;
  /** Multiplies the weights. */
  scale: number;
  /** Of an expert that every token uses; 0 = none. */
  sharedWidth: number;
  /** What that expert gives is multiplied by the sigmoid of a product of its own (Qwen2-MoE). */
  sharedGate: boolean;
  /** Layers that have a feed-forward block instead. */
  denseLayers: number[];
}

export interface ModelDims {
  layers: number;
  dim: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffDim: number;
  vocab: number;
  contextLength: number;
}

/** Ids to text, piece by piece; whole characters only. */
export interface StreamDecoder {
  /** Text that became complete with this token; invalid bytes are U+FFFD. */
  push(id: number): string;
  /** What is left at the end: U+FFFD for a character that was never completed. */
  flush(): string;
}

/** How a model writes function calls, as its chat template tells. */
export interface ToolTemplate {
  format: ToolFormat;
  /** The template itself writes calls and shows results; otherwise messages must. */
  known: boolean;
  /** It describes tools to the model; otherwise the system message must. Default: as `known`. */
  describes?: boolean;
  /** It wants the arguments of calls as text; default: as JSON values. */
  textArguments?: boolean;
  /** It wants ids of nine letters and digits. */
  shortIds?: boolean;
}

/** What stands around the thinking that a model writes before its answer. */
export interface ReasoningFormat {
  open: string;
  close: string;
  /** Around the answer after it (Granite 3.3): left out. */
  answer?: { open: string; close: string };
}

/** How a model thinks, as its chat template tells. */
export interface ReasoningTemplate extends ReasoningFormat {
  /** The template's value that turns thinking on and off; null: it has none. */
  switch: string | null;
  /** The template takes `reasoning_effort`. */
  effort: boolean;
}

/** What a prompt leaves to the model: it may begin to think, it is in its thinking, or it is past it. */
export type ReasoningStart = 'before' | 'inside' | 'after';
