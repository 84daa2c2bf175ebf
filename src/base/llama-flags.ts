import type { FamilyFlags } from '../types.js';

/** What a family is that says nothing: LLaMA. */
export const llamaFlags: FamilyFlags = {
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
  experts: null,
};
