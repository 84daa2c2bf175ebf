import type { EngineRequest } from '../../../src/engine/request.js';

/** A greedy turn of four tokens in a session, for a vocabulary of 300. */
export function request(id: number, sessionId: string, said: number): EngineRequest {
  const tokens = Int32Array.from({ length: said }, (_, i) => (i * 31 + id * 7) % 300);
  return {
    ...{
      id,
      tokens,
      sessionId,
      continuation: tokens,
      stopTokens: [],
      priority: 0,
      owner: 0,
      grammar: null,
      forkOf: null,
    },
    limits: { maxTokens: 4, minTokens: 0, stop: [], stopTokens: [], ignoreEos: true },
    sampling: {
      ...{ temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 },
      ...{ seed: 1, logprobs: null, logitBias: {} },
    },
  };
}
